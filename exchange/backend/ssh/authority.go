package ssh

import (
	"crypto/rsa"
	"errors"
	"fmt"

	cryptossh "golang.org/x/crypto/ssh"

	"github.com/stepkey/stepkey/exchange/backend/reach"
)

const minRSABits = 2048

// readAuthority reads a private key that signs certificates.
func readAuthority(path string) (cryptossh.Signer, error) {
	text, err := reach.SigningKey(path, "every host")
	if err != nil {
		return nil, err
	}
	return parseAuthority(text)
}

func parseAuthority(text []byte) (cryptossh.Signer, error) {
	key, err := cryptossh.ParseRawPrivateKey(text)
	var locked *cryptossh.PassphraseMissingError
	switch {
	case errors.As(err, &locked):
		return nil, errors.New("the signing key has a passphrase, and nobody is there to type it; ssh-keygen -p takes it off a copy")
	case err != nil:
		return nil, errors.New("this is no private key in OpenSSH or PEM form") // not err: it may quote what it read
	}
	signer, err := cryptossh.NewSignerFromKey(key)
	if err != nil {
		return nil, fmt.Errorf("taking the signing key: %w", err)
	}
	switch kind := signer.PublicKey().Type(); kind {
	case cryptossh.KeyAlgoED25519, cryptossh.KeyAlgoECDSA256, cryptossh.KeyAlgoECDSA384, cryptossh.KeyAlgoECDSA521:
		return signer, nil
	case cryptossh.KeyAlgoRSA:
		if whole, ok := key.(*rsa.PrivateKey); ok && whole.N.BitLen() < minRSABits {
			return nil, fmt.Errorf("the signing key is RSA with %d bits; want %d at least, or ed25519", whole.N.BitLen(), minRSABits)
		}
		return signer, nil
	default:
		return nil, fmt.Errorf("a key of type %s cannot sign certificates that hosts take; want ed25519, ECDSA or RSA", kind)
	}
}

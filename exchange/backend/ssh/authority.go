package ssh

import (
	"crypto/rsa"
	"errors"
	"fmt"
	"io"
	"os"

	cryptossh "golang.org/x/crypto/ssh"
)

const (
	maxKeyFile = 64 << 10
	minRSABits = 2048
)

// readAuthority reads a private key that signs certificates. A file that others can
// read is refused, as ssh does.
func readAuthority(path string) (cryptossh.Signer, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("opening the signing key: %w", err)
	}
	defer func() { _ = file.Close() }()
	about, err := file.Stat() // of what was opened, whatever the name means by now
	if err != nil {
		return nil, fmt.Errorf("looking at the signing key: %w", err)
	}
	if about.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("its mode is %04o, so that others can read what signs for every host; chmod 600 it", about.Mode().Perm())
	}
	text, err := io.ReadAll(io.LimitReader(file, maxKeyFile))
	if err != nil {
		return nil, fmt.Errorf("reading the signing key: %w", err)
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

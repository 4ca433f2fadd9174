package registry

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base32"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"github.com/go-jose/go-jose/v4"

	"github.com/stepkey/stepkey/exchange/backend/reach"
)

// How a token names its key.
const (
	libtrust   = "libtrust"   // docker-registry 2 knows no other
	thumbprint = "thumbprint" // RFC 7638
)

// A Key signs tokens, and by a secret of its own that is made from it, passwords. One file
// is enough: whoever could make tokens needs no passwords.
type Key struct {
	signing   jose.JSONWebKey
	passwords []byte // of HMAC-SHA-256
}

// readKey reads a private key.
func readKey(path, style string) (*Key, error) {
	text, err := reach.SigningKey(path, "every repository")
	if err != nil {
		return nil, err
	}
	key, err := parsePEM(text)
	if err != nil {
		return nil, err
	}
	return NewKey(key, style)
}

// parsePEM takes what openssl writes. No error quotes what was read.
func parsePEM(text []byte) (crypto.Signer, error) {
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		var key any
		var err error
		switch block.Type {
		case "PRIVATE KEY":
			key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
		case "EC PRIVATE KEY":
			key, err = x509.ParseECPrivateKey(block.Bytes)
		case "EC PARAMETERS": // openssl ecparam puts them before the key
			continue
		default:
			return nil, fmt.Errorf("this is a PEM file of the kind %q; want a private key without passphrase, ECDSA P-256 or Ed25519", block.Type)
		}
		signer, can := key.(crypto.Signer)
		if err != nil || !can {
			return nil, errors.New("the private key in it is broken, or of a kind that cannot sign; want ECDSA P-256 or Ed25519")
		}
		return signer, nil
	}
	return nil, errors.New("this is no private key in PEM form; want ECDSA P-256 or Ed25519")
}

// NewKey takes a private key, ECDSA P-256 or Ed25519. style is libtrust or thumbprint and
// says how tokens name it.
func NewKey(private crypto.Signer, style string) (*Key, error) {
	k := &Key{signing: jose.JSONWebKey{Key: private, Use: "sig"}}
	switch of := private.(type) {
	case *ecdsa.PrivateKey:
		if of.Curve != elliptic.P256() {
			return nil, fmt.Errorf("the signing key is ECDSA %s; want P-256, or Ed25519", of.Curve.Params().Name)
		}
		k.signing.Algorithm = string(jose.ES256)
	case ed25519.PrivateKey:
		if style == libtrust {
			return nil, errors.New("the signing key is Ed25519, which a registry that wants key_id: libtrust does not know; take ECDSA P-256, or for docker-registry 3 set key_id: thumbprint")
		}
		k.signing.Algorithm = string(jose.EdDSA)
	default:
		return nil, fmt.Errorf("a key of type %T does not sign here; want ECDSA P-256 or Ed25519", private)
	}
	var err error
	if k.signing.KeyID, err = keyID(private.Public(), style); err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, fmt.Errorf("writing the signing key as PKCS #8: %w", err)
	}
	if k.passwords, err = hkdf.Key(sha256.New, der, nil, "stepkey registry password, version 1", sha256.Size); err != nil {
		return nil, fmt.Errorf("making the key of passwords: %w", err)
	}
	return k, nil
}

func keyID(public crypto.PublicKey, style string) (string, error) {
	if style == libtrust {
		der, err := x509.MarshalPKIXPublicKey(public)
		if err != nil {
			return "", fmt.Errorf("writing the public key: %w", err)
		}
		return libtrustID(der), nil
	}
	sum, err := (&jose.JSONWebKey{Key: public}).Thumbprint(crypto.SHA256)
	if err != nil {
		return "", fmt.Errorf("naming the key by its thumbprint: %w", err)
	}
	return encoding.EncodeToString(sum), nil
}

// libtrustID is the key's SubjectPublicKeyInfo, hashed, the first 240 bits of it in groups
// of four letters.
func libtrustID(spki []byte) string {
	sum := sha256.Sum256(spki)
	letters := base32.StdEncoding.EncodeToString(sum[:30])
	var groups []string
	for ; letters != ""; letters = letters[4:] {
		groups = append(groups, letters[:4])
	}
	return strings.Join(groups, ":")
}

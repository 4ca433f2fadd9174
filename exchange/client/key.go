package client

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/stepkey/stepkey/internal/secret"
)

// A Key is what the exchange tells one holder from another by: who asks again with
// the same key gets a new credential in place of the old one, and who asks with
// another key in the same job is taken for a second, of whom one may be a thief.
//
// It lives in this process alone and has no form that could be stored. Safe for
// concurrent use.
type Key struct {
	private *ecdsa.PrivateKey
	public  jwk
}

// jwk is a public key as RFC 7517 writes it. The members stand in the order that RFC
// 7638 hashes them in.
type jwk struct {
	Curve string `json:"crv"`
	Type  string `json:"kty"`
	X     string `json:"x"`
	Y     string `json:"y"`
}

// NewKey makes a key on the curve P-256.
func NewKey() (*Key, error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making a holder's key: %w", err)
	}
	point, err := private.PublicKey.Bytes() // 4, x, y (SEC 1, 2.3.3)
	if err != nil {
		return nil, fmt.Errorf("making a holder's key: %w", err)
	}
	x, y := point[1:1+coordinate], point[1+coordinate:]
	return &Key{private: private, public: jwk{Curve: "P-256", Type: "EC", X: segment(x), Y: segment(y)}}, nil
}

const coordinate = 32 // bytes of each coordinate, and of each half of a signature

// Thumbprint is the key's name at the exchange (RFC 7638, SHA-256, base64url). It is
// no secret.
func (k *Key) Thumbprint() string {
	text, _ := json.Marshal(k.public) // strings cannot fail
	hash := sha256.Sum256(text)
	return segment(hash[:])
}

// String is the thumbprint, so that a printed key shows nothing else.
func (k *Key) String() string { return k.Thumbprint() }

// proof is one DPoP proof (RFC 9449 section 4.2), for one request. sth binds it to
// the subject token the way ath binds to an access token; it is an addition of ours.
type proof struct {
	Method  string `json:"htm"`
	URL     string `json:"htu"`
	Made    int64  `json:"iat"`
	ID      string `json:"jti"`
	Subject string `json:"sth"`
}

func (c *Client) prove(k *Key, path string, subjectToken secret.String) (string, error) {
	id := make([]byte, 16)
	if _, err := io.ReadFull(c.rand, id); err != nil {
		return "", fmt.Errorf("naming a DPoP proof: %w", err)
	}
	hash := sha256.Sum256([]byte(subjectToken.Reveal()))
	return k.sign(c.rand, proof{Method: http.MethodPost, URL: c.base + path, Made: c.now().Unix(), ID: segment(id), Subject: segment(hash[:])})
}

// sign makes a compact JWS with ES256 (RFC 7515 section 3.1, RFC 7518 section 3.4).
func (k *Key) sign(random io.Reader, p proof) (string, error) {
	header, headerErr := json.Marshal(struct {
		Alg  string `json:"alg"`
		Key  jwk    `json:"jwk"`
		Type string `json:"typ"`
	}{"ES256", k.public, "dpop+jwt"})
	claims, claimsErr := json.Marshal(p)
	if err := errors.Join(headerErr, claimsErr); err != nil {
		return "", fmt.Errorf("writing a DPoP proof: %w", err)
	}
	input := segment(header) + "." + segment(claims)
	hash := sha256.Sum256([]byte(input))
	r, s, err := ecdsa.Sign(random, k.private, hash[:])
	if err != nil {
		return "", fmt.Errorf("signing a DPoP proof: %w", err)
	}
	signature := make([]byte, 2*coordinate)
	r.FillBytes(signature[:coordinate])
	s.FillBytes(signature[coordinate:])
	return input + "." + segment(signature), nil
}

func segment(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

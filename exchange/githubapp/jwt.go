package githubapp

import (
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"regexp"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/cryptosigner"
	"github.com/go-jose/go-jose/v4/jwt"
	"golang.org/x/oauth2"
)

// GitHub takes an exp at most 10 minutes ahead of its own clock, and an iat that
// is not ahead of it ("Generating a JSON Web Token (JWT) for a GitHub App").
const (
	jwtBackdate = 60 * time.Second
	jwtLife     = 9 * time.Minute
	jwtReserve  = 60 * time.Second // sign anew when less is left
	minKeyBits  = 2048
)

// signer makes the App's JWT. It is an oauth2.TokenSource; safe for concurrent use.
type signer struct {
	clientID string
	sign     jose.Signer
	now      func() time.Time

	mu     sync.Mutex
	offset time.Duration // what GitHub's clock is ahead of ours, as far as it told us
	cached *oauth2.Token
}

func newSigner(clientID string, key crypto.Signer, now func() time.Time) (*signer, error) {
	if clientID == "" {
		return nil, errors.New("the App's client id is missing; it stands on the App's settings page")
	}
	if key == nil {
		return nil, errors.New("the App's private key is missing")
	}
	public, isRSA := key.Public().(*rsa.PublicKey)
	if !isRSA {
		return nil, fmt.Errorf("the App's private key: want RSA, since GitHub takes RS256 alone, have a public key of type %T", key.Public())
	}
	if public.N.BitLen() < minKeyBits {
		return nil, fmt.Errorf("the App's private key has %d bits; want at least %d", public.N.BitLen(), minKeyBits)
	}
	sign, err := jose.NewSigner(
		jose.SigningKey{Algorithm: jose.RS256, Key: cryptosigner.Opaque(key)},
		(&jose.SignerOptions{}).WithType("JWT"))
	if err != nil {
		return nil, fmt.Errorf("preparing to sign the App's JWT: %w", err)
	}
	return &signer{clientID: clientID, sign: sign, now: now}, nil
}

// Token implements oauth2.TokenSource. One JWT serves until shortly before its
// end. A key management service is asked once, whoever else waits.
func (s *signer) Token() (*oauth2.Token, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now().Add(s.offset)
	if s.cached != nil && now.Before(s.cached.Expiry.Add(-jwtReserve)) && !now.Before(s.cached.Expiry.Add(-jwtLife)) {
		return s.cached, nil
	}
	expiry := now.Add(jwtLife)
	signed, err := jwt.Signed(s.sign).Claims(jwt.Claims{
		Issuer:   s.clientID,
		IssuedAt: jwt.NewNumericDate(now.Add(-jwtBackdate)),
		Expiry:   jwt.NewNumericDate(expiry),
	}).Serialize()
	if err != nil {
		return nil, fmt.Errorf("signing the App's JWT: %w", err)
	}
	s.cached = &oauth2.Token{AccessToken: signed, Expiry: expiry}
	return s.cached, nil
}

// skewWords are how GitHub's refusal of a JWT names its times: "'Expiration time'
// claim ('exp') is too far in the future", "'Issued at' claim ('iat') must be …".
var skewWords = regexp.MustCompile(`(?i)\b(exp|iat|expiration time|issued at)\b`)

// follow takes GitHub's clock for ours where a refusal shows that they differ.
// It reports whether a JWT signed anew may fare better.
func (s *signer) follow(e *Error) bool {
	if e == nil || e.Status != 401 || e.date.IsZero() || !skewWords.MatchString(e.Message) {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.offset = e.date.Sub(s.now())
	s.cached = nil
	return true
}

// ParseKey reads the App's private key as GitHub gives it for download, PEM of
// PKCS#1, or converted to PKCS#8. Errors never quote it.
func ParseKey(file []byte) (*rsa.PrivateKey, error) {
	block, rest := pem.Decode(file)
	if block == nil {
		return nil, errors.New("the App's private key is no PEM; want the .pem file that GitHub gives for download")
	}
	if next, _ := pem.Decode(rest); next != nil {
		return nil, errors.New("the App's private key: the file holds several PEM blocks; want the key alone")
	}
	switch block.Type {
	case "RSA PRIVATE KEY":
		key, err := x509.ParsePKCS1PrivateKey(block.Bytes)
		if err != nil {
			return nil, errors.New("the App's private key: the PEM block holds no intact RSA key (PKCS#1)")
		}
		return key, nil
	case "PRIVATE KEY":
		key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
		if err != nil {
			return nil, errors.New("the App's private key: the PEM block holds no intact key (PKCS#8)")
		}
		if key, ok := key.(*rsa.PrivateKey); ok {
			return key, nil
		}
		return nil, fmt.Errorf("the App's private key: want RSA, have %T", key)
	case "ENCRYPTED PRIVATE KEY":
		return nil, errors.New("the App's private key is encrypted with a passphrase; want it plain, protected by the file's permissions")
	default:
		return nil, errors.New("the App's private key: want a PEM block RSA PRIVATE KEY or PRIVATE KEY, found another type")
	}
}

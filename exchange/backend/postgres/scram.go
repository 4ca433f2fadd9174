package postgres

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha256"
	"encoding/base32"
	"encoding/base64"
	"fmt"
	"io"
	"strings"

	"github.com/stepkey/stepkey/internal/secret"
)

const (
	passwordBytes = 20 // 160 bits, so that what the server keeps is of no use to whoever reads it
	saltBytes     = 16
	// rounds is RFC 7677's least, and PostgreSQL's own. More would slow down whoever
	// guesses passwords, and nobody guesses one of 160 random bits.
	rounds = 4096
)

// newPassword has letters and digits alone: it needs no quoting in a URL or a shell, and
// SASLprep (RFC 4013) leaves it as it is.
func newPassword(random io.Reader) (secret.String, error) {
	raw := make([]byte, passwordBytes)
	if _, err := io.ReadFull(random, raw); err != nil {
		return secret.String{}, fmt.Errorf("making a password: %w", err)
	}
	return secret.New(strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(raw))), nil
}

// verifier is what PostgreSQL keeps of a password, in the form in which it takes it from
// CREATE ROLE: SCRAM-SHA-256$<rounds>:<salt>$<StoredKey>:<ServerKey>, in base64. The keys
// are those of RFC 5802, section 3.
func verifier(password secret.String, random io.Reader) (string, error) {
	salt := make([]byte, saltBytes)
	if _, err := io.ReadFull(random, salt); err != nil {
		return "", fmt.Errorf("salting a password: %w", err)
	}
	salted, err := pbkdf2.Key(sha256.New, password.Reveal(), salt, rounds, sha256.Size)
	if err != nil {
		return "", fmt.Errorf("salting a password: %w", err)
	}
	stored := sha256.Sum256(keyed(salted, "Client Key"))
	base := base64.StdEncoding
	return fmt.Sprintf("SCRAM-SHA-256$%d:%s$%s:%s", rounds, base.EncodeToString(salt),
		base.EncodeToString(stored[:]), base.EncodeToString(keyed(salted, "Server Key"))), nil
}

func keyed(key []byte, words string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(words))
	return h.Sum(nil)
}

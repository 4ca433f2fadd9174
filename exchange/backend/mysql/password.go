package mysql

import (
	"crypto/ed25519"
	"crypto/sha1" //nolint:gosec // it is what mysql_native_password is made of
	"encoding/base32"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"strings"

	"github.com/stepkey/stepkey/internal/secret"
)

// A plugin is how a server checks passwords, by the name that the server has for it.
type plugin string

const (
	native  plugin = "mysql_native_password"
	edwards plugin = "ed25519"
	sha2    plugin = "caching_sha2_password"
)

const (
	passwordBytes = 20 // 160 bits, so that what the server keeps is of no use to whoever reads it
	saltBytes     = 20 // of caching_sha2_password, in letters
)

// newPassword has 32 letters and digits: it needs no quoting in a URL or a shell.
func newPassword(random io.Reader) (secret.String, error) {
	text, err := letters(random, passwordBytes)
	return secret.New(text), err
}

func letters(random io.Reader, bytes int) (string, error) {
	raw := make([]byte, bytes)
	if _, err := io.ReadFull(random, raw); err != nil {
		return "", fmt.Errorf("making a password: %w", err)
	}
	return strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(raw)), nil
}

// hashed is what a server keeps of a password.
type hashed struct {
	plugin plugin
	text   string
}

// hash makes of a password what the server would have made of it. So the password itself
// is in no statement.
func hash(p plugin, password secret.String, random io.Reader) (hashed, error) {
	switch p {
	case native:
		return hashed{p, nativeHash(password)}, nil
	case edwards:
		return edwardsHash(password)
	case sha2:
		salt, err := letters(random, saltBytes)
		if err != nil {
			return hashed{}, err
		}
		return hashed{p, sha2Hash(password, salt[:saltBytes])}, nil
	}
	return hashed{}, fmt.Errorf("there is no way to hash a password for %q", p)
}

// nativeHash is SHA1(SHA1(password)), in hex behind a star.
func nativeHash(password secret.String) string {
	once := sha1.Sum([]byte(password.Reveal())) //nolint:gosec // the server's own
	twice := sha1.Sum(once[:])                  //nolint:gosec // the server's own
	return "*" + strings.ToUpper(hex.EncodeToString(twice[:]))
}

// edwardsHash is the public key whose seed is the password. MariaDB takes a seed of any
// length; the standard has 32 bytes, and so has each password of ours.
func edwardsHash(password secret.String) (hashed, error) {
	seed := []byte(password.Reveal())
	if len(seed) != ed25519.SeedSize {
		return hashed{}, fmt.Errorf("a password of %d bytes is no seed of a key", len(seed))
	}
	public, ok := ed25519.NewKeyFromSeed(seed).Public().(ed25519.PublicKey)
	if !ok {
		return hashed{}, fmt.Errorf("making a key of a password: it has no public half")
	}
	return hashed{edwards, base64.RawStdEncoding.EncodeToString(public)}, nil
}

// sha2Hash is what caching_sha2_password keeps: $A$005$, the salt, and SHA-crypt's digest
// of 5,000 rounds.
func sha2Hash(password secret.String, salt string) string {
	return "$A$005$" + salt + shaCrypt([]byte(password.Reveal()), []byte(salt))
}

// identified is the clause of CREATE USER.
func (h hashed) identified(s *about) string {
	switch {
	case s.mariaDB && h.plugin == native:
		return "IDENTIFIED BY PASSWORD " + literal(h.text)
	case s.mariaDB:
		return "IDENTIFIED VIA " + string(h.plugin) + " USING " + literal(h.text)
	case h.plugin == sha2: // in hex: with a salt of others than ours it is no text
		return "IDENTIFIED WITH " + string(h.plugin) + " AS 0x" + hex.EncodeToString([]byte(h.text))
	}
	return "IDENTIFIED WITH " + string(h.plugin) + " AS " + literal(h.text)
}

// pluginFor is how a server is to check passwords: as the configuration says, or else in
// the way that every client of such a server knows.
func pluginFor(wanted plugin, s *about) (plugin, error) {
	switch {
	case wanted == "" && s.mariaDB:
		return native, nil
	case wanted == "":
		return sha2, nil
	case s.mariaDB && wanted == sha2:
		return "", fmt.Errorf("the server is MariaDB %s, and authentication is %s, which is MySQL's; use %s or %s", s.version, sha2, native, edwards)
	case !s.mariaDB && wanted == edwards:
		return "", fmt.Errorf("the server is MySQL %s, and authentication is %s, which is MariaDB's; use %s", s.version, edwards, sha2)
	}
	return wanted, nil
}

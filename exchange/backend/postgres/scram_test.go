package postgres

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"regexp"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stepkey/stepkey/internal/secret"
)

// The exchange in RFC 7677, section 3: from what a server keeps it must be able to check
// the client's proof, and to sign as the server did.
func TestAVerifierIsThatOfTheStandardsExample(t *testing.T) {
	const auth = "n=user,r=rOprNGfwEbeRWgbNEkqO,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
	salt := decoded(t, "W22ZaJ0SNY7soEsUEjb6gQ==")
	got, err := verifier(secret.New("pencil"), bytes.NewReader(salt))
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`\ASCRAM-SHA-256\$4096:W22ZaJ0SNY7soEsUEjb6gQ==\$([^:]+):(.+)\z`).FindStringSubmatch(got)
	if m == nil {
		t.Fatalf("it is %s", got)
	}
	stored, server := decoded(t, m[1]), decoded(t, m[2])
	clientKey := decoded(t, "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=")
	for i, b := range signed(stored, auth) {
		clientKey[i] ^= b
	}
	if sum := sha256.Sum256(clientKey); !bytes.Equal(sum[:], stored) {
		t.Errorf("the client's proof does not fit")
	}
	if !bytes.Equal(signed(server, auth), decoded(t, "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")) {
		t.Errorf("the server's signature is another")
	}
}

func signed(key []byte, words string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(words))
	return h.Sum(nil)
}

func decoded(t *testing.T, text string) []byte {
	t.Helper()
	raw, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestAPasswordIsOfLettersAndDigitsAndNoTwoAreAlike(t *testing.T) {
	random := bytes.NewReader([]byte(strings.Repeat("\x00", 20) + strings.Repeat("\xff", 20)))
	seen := map[string]bool{}
	for range 2 {
		p, err := newPassword(random)
		if err != nil || !regexp.MustCompile(`\A[a-z2-7]{32}\z`).MatchString(p.Reveal()) || seen[p.Reveal()] {
			t.Errorf("%q, %v", p.Reveal(), err)
		}
		seen[p.Reveal()] = true
	}
	broken := errors.New("no randomness")
	if _, err := newPassword(iotest.ErrReader(broken)); !errors.Is(err, broken) {
		t.Errorf("%v", err)
	}
	if _, err := verifier(secret.New("x"), iotest.ErrReader(broken)); !errors.Is(err, broken) {
		t.Errorf("%v", err)
	}
}

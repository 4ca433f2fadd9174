package githubapp_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stepkey/stepkey/exchange/githubapp"
	"github.com/stepkey/stepkey/internal/githubsim"
)

// service is a key in a key management service: it signs, and shows no key.
type service struct {
	crypto.Signer
	signed atomic.Int32
	down   bool
}

func (s *service) Sign(random io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	s.signed.Add(1)
	if s.down {
		return nil, errors.New("the key service is down")
	}
	return s.Signer.Sign(random, digest, opts)
}

func TestOneJWTServesUntilShortlyBeforeItsEnd(t *testing.T) {
	key := &service{Signer: appKey()}
	now := noon
	clock := func() time.Time { return now }
	s := stage(t, githubsim.Options{Now: clock})
	app := s.client(t, func(c *githubapp.Config) { c.Key, c.Now = key, clock })
	for _, c := range []struct {
		after time.Duration
		want  int32
	}{{0, 1}, {time.Minute, 1}, {7*time.Minute + 59*time.Second, 1}, {8 * time.Minute, 2}, {-time.Hour, 3}} {
		now = noon.Add(c.after)
		if _, err := app.CreateToken(t.Context(), s.installation, wants()); err != nil {
			t.Fatal(err)
		}
		if got := key.signed.Load(); got != c.want {
			t.Errorf("%v later: signed %d times, want %d", c.after, got, c.want)
		}
	}
}

func TestAKeyServiceThatIsDownSurelyMadeNothing(t *testing.T) {
	s := stage(t, githubsim.Options{})
	app := s.client(t, func(c *githubapp.Config) { c.Key = &service{Signer: appKey(), down: true} })
	_, err := app.CreateToken(t.Context(), s.installation, wants())
	var e *githubapp.Error
	if !errors.As(err, &e) || !e.NothingDone() || !e.Temporary() || !strings.Contains(err.Error(), "the key service is down") {
		t.Errorf("%v", err)
	}
}

func TestGitHubsClockIsFollowedWhereOursIsWrong(t *testing.T) {
	for _, off := range []time.Duration{-2 * time.Hour, -20 * time.Minute, -30 * time.Second, 0, 30 * time.Second, 20 * time.Minute, 2 * time.Hour} {
		s := stage(t, githubsim.Options{})
		app := s.client(t, func(c *githubapp.Config) { c.Now = at(noon.Add(off)) })
		for range 2 {
			if _, err := app.CreateToken(t.Context(), s.installation, wants()); err != nil {
				t.Errorf("our clock is off by %v: %v", off, err)
			}
		}
		want := 2
		if off.Abs() > time.Minute {
			want = 3 // refused once, then right for good
		}
		if got := len(s.hub.Requests()); got != want {
			t.Errorf("our clock is off by %v: %d requests, want %d", off, got, want)
		}
	}
}

func TestAWrongKeyIsNotTriedAgain(t *testing.T) {
	s := stage(t, githubsim.Options{})
	other, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	app := s.client(t, func(c *githubapp.Config) { c.Key = other })
	_, err = app.CreateToken(t.Context(), s.installation, wants())
	var e *githubapp.Error
	if !errors.As(err, &e) || e.Status != 401 || !e.NothingDone() || e.Temporary() || len(s.hub.Requests()) != 1 {
		t.Errorf("%d requests: %v", len(s.hub.Requests()), err)
	}
}

func TestKeysAreReadInBothForms(t *testing.T) {
	key := appKey()
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	elliptic8, err := x509.MarshalPKCS8PrivateKey(ellipticKey(t))
	if err != nil {
		t.Fatal(err)
	}
	block := func(kind string, der []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	pkcs1 := block("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(key))
	for name, c := range map[string]struct {
		file string
		says string // "" where it is good
	}{
		"PKCS#1":         {pkcs1, ""},
		"PKCS#8":         {block("PRIVATE KEY", pkcs8), ""},
		"with a comment": {"the App's key\n" + pkcs1 + "\n", ""},
		"two keys":       {pkcs1 + pkcs1, "several"},
		"no PEM":         {"secret words", "no PEM"},
		"nothing":        {"", "no PEM"},
		"a public key":   {block("PUBLIC KEY", pkcs8), "another type"},
		"elliptic":       {block("PRIVATE KEY", elliptic8), "want RSA"},
		"cut PKCS#1":     {block("RSA PRIVATE KEY", []byte("short")), "no intact RSA key"},
		"cut PKCS#8":     {block("PRIVATE KEY", []byte("short")), "no intact key"},
		"encrypted":      {block("ENCRYPTED PRIVATE KEY", pkcs8), "passphrase"},
	} {
		read, err := githubapp.ParseKey([]byte(c.file))
		switch {
		case c.says == "" && (err != nil || !read.Equal(key)):
			t.Errorf("%s: %v", name, err)
		case c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "secret words")):
			t.Errorf("%s: %v, want …%s…", name, err, c.says)
		}
	}
}

func FuzzParseKey(f *testing.F) {
	f.Add(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(appKey())}))
	f.Add([]byte("-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----\n"))
	f.Fuzz(func(t *testing.T, file []byte) {
		key, err := githubapp.ParseKey(file)
		if (key == nil) == (err == nil) {
			t.Errorf("a key and an error, or neither: %v", err)
		}
	})
}

func ellipticKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// shortKey has 1024 bits, which Go would not make any more.
func shortKey() crypto.Signer {
	n := new(big.Int).Rsh(appKey().N, 1024)
	return publicOnly{&rsa.PublicKey{N: n, E: appKey().E}}
}

type publicOnly struct{ key crypto.PublicKey }

func (p publicOnly) Public() crypto.PublicKey { return p.key }

func (publicOnly) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return nil, errors.New("no private key")
}

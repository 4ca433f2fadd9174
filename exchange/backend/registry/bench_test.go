package registry_test

import (
	"crypto"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/stepkey/stepkey/internal/secret"
)

// No registry is asked when a login is made or ends, so the floor beside each of these is
// what the libraries need for the same by themselves.

// BenchmarkIssue is a password. Its floor has the same text to code and to encode, once for
// the password and once for the clients' file.
func BenchmarkIssue(b *testing.B) {
	w := settle(b)
	o := w.order(both)
	b.Run("password", func(b *testing.B) {
		for b.Loop() {
			if _, err := w.Backend.Issue(b.Context(), o); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("floor", func(b *testing.B) {
		_, values := w.issue(both)
		body, _, _ := strings.Cut(values["password"].Reveal(), ".")
		text, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(body, "skr_"))
		if err != nil {
			b.Fatal(err)
		}
		key := make([]byte, sha256.Size)
		for b.Loop() {
			shown := base64.RawURLEncoding.EncodeToString(text)
			code := hmac.New(sha256.New, key)
			code.Write([]byte(shown))
			shown += base64.RawURLEncoding.EncodeToString(code.Sum(nil))
			if base64.StdEncoding.EncodeToString([]byte(shown)) == "" {
				b.Fatal("nothing is encoded")
			}
		}
	})
}

// BenchmarkToken is an answer of the token endpoint without network and store. Its floor is
// the same token, signed by the library alone.
func BenchmarkToken(b *testing.B) {
	for algorithm, private := range map[jose.SignatureAlgorithm]crypto.Signer{jose.ES256: newKey(b), jose.EdDSA: newEd25519(b)} {
		w := settle(b, opened(b, private, "thumbprint"))
		_, values := w.issue(both)
		b.Run(string(algorithm)+"/signed", func(b *testing.B) { w.answers(b, values, http.StatusOK) })
		b.Run(string(algorithm)+"/floor", func(b *testing.B) {
			read, header := verified(b, w, w.ask(get(values, "repository:acme/widget:pull,push")).Token)
			key := jose.JSONWebKey{Key: private, KeyID: header.KeyID}
			signer, err := jose.NewSigner(jose.SigningKey{Algorithm: algorithm, Key: key}, (&jose.SignerOptions{}).WithType("JWT"))
			if err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				if _, err := jwt.Signed(signer).Claims(read).Serialize(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("refused", func(b *testing.B) {
		w := settle(b)
		_, values := w.issue(both)
		w.answers(b, map[string]secret.String{"username": values["username"], "password": secret.New("skr_" + values["password"].Reveal())}, http.StatusUnauthorized)
	})
}

func (w *world) answers(b *testing.B, shown map[string]secret.String, want int) {
	handler := w.Handlers()["GET /registry/token"]
	r, status := get(shown, "repository:acme/widget:pull,push"), 0
	for b.Loop() {
		recorder := httptest.NewRecorder()
		handler.ServeHTTP(recorder, r)
		status = recorder.Code
	}
	if status != want {
		b.Fatalf("the answer is %d", status)
	}
}

// BenchmarkRevoke is the end of a login, which the store has already. Its floor is the look
// into the store; this one is in memory.
func BenchmarkRevoke(b *testing.B) {
	w := settle(b)
	lease, _ := w.issue(both)
	w.ledger.set(lease, false)
	b.Run("login", func(b *testing.B) {
		for b.Loop() {
			if err := w.Backend.Revoke(b.Context(), lease, secret.String{}); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("floor", func(b *testing.B) {
		for b.Loop() {
			if good, err := w.ledger.usable(b.Context(), lease); good || err != nil {
				b.Fatal(good, err)
			}
		}
	})
}

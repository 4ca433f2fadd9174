package registry_test

import (
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stepkey/stepkey/internal/secret"
)

// BenchmarkIssue is a password.
func BenchmarkIssue(b *testing.B) {
	w := settle(b)
	o := w.order(both)
	for b.Loop() {
		if _, err := w.Backend.Issue(b.Context(), o); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkToken is an answer of the token endpoint without network and store, beside the
// floor: what signing a kilobyte with ES256 costs by itself.
func BenchmarkToken(b *testing.B) {
	w := settle(b)
	_, values := w.issue(both)
	handler := w.Handlers()["GET /registry/token"]
	for name, shown := range map[string]map[string]secret.String{
		"signed":  values,
		"refused": {"username": values["username"], "password": secret.New("skr_" + values["password"].Reveal())},
	} {
		b.Run(name, func(b *testing.B) {
			r, status := get(shown, "repository:acme/widget:pull,push"), 0
			for b.Loop() {
				recorder := httptest.NewRecorder()
				handler.ServeHTTP(recorder, r)
				status = recorder.Code
			}
			if (status == http.StatusOK) != (name == "signed") {
				b.Fatalf("the answer is %d", status)
			}
		})
	}
	b.Run("floor", func(b *testing.B) {
		key, text := newKey(b), make([]byte, 1024)
		for b.Loop() {
			sum := sha256.Sum256(text)
			if _, err := key.Sign(rand.Reader, sum[:], crypto.SHA256); err != nil {
				b.Fatal(err)
			}
		}
	})
}

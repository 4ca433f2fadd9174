package reach_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stepkey/stepkey/exchange/backend/reach"
	"github.com/stepkey/stepkey/internal/secret"
)

func file(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "a.secret")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestSecretsAreOneLineOfAFile(t *testing.T) {
	token := func(path string) (secret.String, error) { return reach.Token(path, "token") }
	for _, c := range []struct {
		read             func(string) (secret.String, error)
		text, want, says string
	}{
		{reach.Password, " pass word \r\n", " pass word ", ""},
		{reach.Password, "p\n", "p", ""},
		{reach.Password, "\n", "", "the file is empty"},
		{reach.Password, strings.Repeat("a", 16<<10+1), "", "more than 16384 bytes"},
		{token, "  s.canary\n", "s.canary", ""},
		{token, "two words", "", "holds no token: want one line"},
		{token, "one\nand another", "", "holds no token"},
		{token, "", "", "holds no token"},
	} {
		got, err := c.read(file(t, c.text))
		if got.Reveal() != c.want || (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%.20q is read as %q, %v", c.text, got.Reveal(), err)
		}
	}
	if _, err := token("no-such-file"); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "the exchange's own token") {
		t.Errorf("a file that is not there: %v", err)
	}
}

func TestRootsAreCertificates(t *testing.T) {
	for _, text := range []string{"", "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n"} {
		if _, _, err := reach.Roots(file(t, text)); err == nil || !strings.Contains(err.Error(), "no certificate in PEM form") {
			t.Errorf("%q is taken: %v", text, err)
		}
	}
}

func TestItIsKnownWhetherAnythingWasSent(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/elsewhere" {
			http.Redirect(w, r, "http://127.0.0.1:1/", http.StatusTemporaryRedirect)
			return
		}
		panic(http.ErrAbortHandler)
	}))
	t.Cleanup(server.Close)
	for at, want := range map[string]bool{server.URL + "/canary": false, "http://127.0.0.1:1/canary": true} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, at, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, unsent, err := reach.Do(reach.Client(nil), req); err == nil || unsent != want || strings.Contains(err.Error(), "canary") { //nolint:bodyclose // there is none with an error
			t.Errorf("%s: unsent is %t, want %t: %v", at, unsent, want, err)
		}
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+"/elsewhere", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, _, err := reach.Do(reach.Client(nil), req)
	if err != nil || resp.StatusCode != http.StatusTemporaryRedirect {
		t.Fatalf("another server is asked: %v", err)
	}
	_ = resp.Body.Close()
}

func TestAPauseEndsWithItsTimeOrItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		if err := reach.Pause(t.Context(), time.Hour); err != nil || time.Since(began) != time.Hour {
			t.Errorf("it took %s, %v", time.Since(began), err)
		}
		over, cancel := context.WithCancel(t.Context())
		cancel()
		if err := reach.Pause(over, time.Hour); !errors.Is(err, context.Canceled) {
			t.Errorf("it ends with %v", err)
		}
	})
}

func TestOthersWordsAreOneLine(t *testing.T) {
	for text, want := range map[string]string{
		"plain": "plain", " a\r\n\tb\x00c\u202e": "a b c", "\xff": "", "äöü and more": "äöü an…", "1234567": "1234567…"[:7],
	} {
		if got := reach.OneLine(text, 6+min(1, strings.Count(text, "7"))); got != want {
			t.Errorf("%q becomes %q, want %q", text, got, want)
		}
	}
}

package vault_test

import (
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/internal/secret"
)

const task = "{policies: [deploy-web, read-artifacts]}"

// What the exchange may conclude from a failed create: that there is no token, or nothing.
func TestARefusalIsCertainAndAFaultIsNot(t *testing.T) {
	answer := func(status int, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			_, _ = w.Write([]byte(body))
		}
	}
	for name, c := range map[string]struct {
		answer               http.HandlerFunc
		says                 string
		nothing, unavailable bool
	}{
		"denied":      {answer(403, `{"errors":["1 error occurred:\n\t* permission denied\n\n"]}`), "the exchange's own token", true, false},
		"bad":         {answer(400, `{"errors":["child policies must be subset of parent"]}`), "must be subset", true, false},
		"asked often": {answer(429, `{"errors":["request path \"x\": rate limit quota exceeded"]}`), "quota exceeded", true, true},
		"sealed":      {answer(503, `{"errors":["Vault is sealed"]}`), "Vault is sealed", true, true},
		"sealed too":  {answer(503, `{"errors":["OpenBao is sealed"]}`), "is sealed", true, true},
		"on standby": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://192.0.2.1/", http.StatusTemporaryRedirect)
		}, "another one is to be asked", true, false},
		"broken":      {answer(500, `{"errors":["internal error"]}`), "internal error", false, true},
		"in between":  {answer(502, `<html>Bad Gateway</html>`), "answered 502", false, true},
		"too busy":    {answer(503, `no healthy upstream`), "answered 503", false, true},
		"too slow":    {answer(408, ``), "answered 408", false, true},
		"a login":     {answer(200, `<html>Sign in</html>`), "none of Vault's", false, true},
		"something":   {answer(200, `{"ok":true}`), "none of Vault's", false, true},
		"empty":       {answer(200, ``), "no answer with it", false, true},
		"no content":  {answer(204, ``), "no answer with it", false, true},
		"not a token": {answer(200, `{"request_id":"r","auth":null}`), "no token with an accessor", false, false},
		"cut off": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000")
			_, _ = w.Write([]byte(`{"request_id":"r"`))
		}, "cut off", false, true},
		"silence":       {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "did not answer", false, true},
		"terminal code": {answer(400, `{"errors":["\u001b[31m`+strings.Repeat("x", 5000)+`"]}`), `"[31mxxx`, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			f := start(t)
			b := f.open(t, f.config(t))
			f.set(func() { f.broken = c.answer })
			issued, err := b.Issue(t.Context(), order(t, b, f.now(), task))
			switch {
			case err == nil || !strings.Contains(err.Error(), c.says) || len(err.Error()) > 700 || strings.ContainsRune(err.Error(), 0x1b):
				t.Errorf("it ended with %v\nwant …%s…", err, c.says)
			case errors.Is(err, backend.ErrNotCreated) != c.nothing || errors.Is(err, backend.ErrUnavailable) != c.unavailable:
				t.Errorf("nothing was made: %v, waiting may help: %v; %v", !c.nothing, !c.unavailable, err)
			case strings.Contains(err.Error(), own) || len(issued.Values) > 0:
				t.Errorf("the exchange's own token is told, or values are: %v", err)
			}
		})
	}
}

func TestAServerThatIsNotThereWasAskedForNothing(t *testing.T) {
	f := start(t)
	b := f.open(t, f.config(t))
	o := order(t, b, f.now(), task)
	f.Close()
	if _, err := b.Issue(t.Context(), o); !errors.Is(err, backend.ErrNotCreated) || !errors.Is(err, backend.ErrUnavailable) {
		t.Errorf("it ended with %v", err)
	}
}

// A server that is not who it says is shown nothing.
func TestAnUnknownCertificateEndsIt(t *testing.T) {
	f := start(t)
	asked := make(chan string, 10)
	tls := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- r.Header.Get("X-Vault-Token")
		f.ServeHTTP(w, r)
	}))
	defer tls.Close()
	c := f.config(t)
	c.Address = tls.URL
	b := f.open(t, c)
	if _, err := b.Issue(t.Context(), order(t, b, f.now(), task)); !errors.Is(err, backend.ErrNotCreated) || len(asked) > 0 {
		t.Errorf("it ended with %v, and %d requests were read", err, len(asked))
	}
	c.CAFile = filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(c.CAFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: tls.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	b = f.open(t, c)
	if _, err := b.Issue(t.Context(), order(t, b, f.now(), task)); err != nil {
		t.Errorf("with ca_file: %v", err)
	}
}

// What the server made is not what was asked: nobody gets it, and it is gone.
func TestATokenThatIsNotTheOrderedOneIsRevokedAtOnce(t *testing.T) {
	auth := func(key string, value any) func(map[string]any) {
		return func(answer map[string]any) { answer["auth"].(map[string]any)[key] = value }
	}
	for name, c := range map[string]struct {
		arrange func(*fake)
		says    string
	}{
		"a policy more":          {func(f *fake) { f.change = auth("policies", []string{"admin-db", "deploy-web", "read-artifacts"}) }, "more than was asked"},
		"default":                {func(f *fake) { f.change = auth("policies", []string{"default", "deploy-web", "read-artifacts"}) }, "more than was asked"},
		"root":                   {func(f *fake) { f.change = auth("token_policies", []string{"root"}) }, "more than was asked"},
		"a policy less":          {func(f *fake) { f.change = auth("policies", []string{"deploy-web"}) }, "read-artifacts is missing"},
		"an identity's policies": {func(f *fake) { f.tokens[own].identity = []string{"admin-db"} }, "orphan=true"},
		"an identity's below": {func(f *fake) {
			f.change = auth("external_namespace_policies", map[string]any{"ns1": []string{"admin"}})
		}, "policies of an identity"},
		"renewable":      {func(f *fake) { f.change = auth("renewable", true) }, "can be renewed"},
		"a longer life":  {func(f *fake) { f.change = auth("lease_duration", 601) }, "601 seconds, and 600 were the most"},
		"an endless one": {func(f *fake) { f.change = auth("lease_duration", 0) }, "0 seconds"},
		"another type":   {func(f *fake) { f.change = auth("token_type", "default-service") }, "default-service token"},
		"a policy that is not there": {func(f *fake) {
			f.change = func(answer map[string]any) { answer["warnings"] = []string{`Policy "deploy-web" does not exist`} }
		}, "does not exist"},
	} {
		t.Run(name, func(t *testing.T) {
			f := start(t)
			b := f.open(t, f.config(t))
			c.arrange(f)
			issued, err := b.Issue(t.Context(), order(t, b, f.now(), task))
			if err == nil || !errors.Is(err, backend.ErrNotCreated) || !strings.Contains(err.Error(), c.says) || !issued.Handle.Empty() {
				t.Errorf("it ended with %v\nwant …%s…", err, c.says)
			}
			if f.creates != 1 || f.live() != 0 {
				t.Errorf("%d were made, %d are alive", f.creates, f.live())
			}
		})
	}
}

func TestARolesPeriodIsNotedAndItsUsesAreLess(t *testing.T) {
	f := start(t)
	f.roles["periodic"] = role{allowed: []string{"deploy-web", "read-artifacts"}, orphan: true, period: 86400}
	c := f.config(t)
	c.Roles = []string{"periodic"}
	b := f.open(t, c)
	_, err := b.Issue(t.Context(), order(t, b, f.now(), "{role: periodic, policies: [deploy-web]}"))
	if err == nil || !strings.Contains(err.Error(), "whether the role has a period") || f.live() != 0 {
		t.Errorf("it ended with %v, %d are alive", err, f.live())
	}
}

// A batch token has no accessor, and nobody can end it.
func TestABatchTokenIsLost(t *testing.T) {
	f := start(t)
	f.roles["batch"] = role{allowed: []string{"deploy-web"}, orphan: true, batch: true}
	c := f.config(t)
	c.Roles = []string{"batch"}
	b := f.open(t, c)
	if _, err := b.Issue(t.Context(), order(t, b, f.now(), "{role: batch, policies: [deploy-web]}")); !errors.Is(err, backend.ErrLost) || errors.Is(err, backend.ErrNotCreated) {
		t.Errorf("it ended with %v", err)
	}
}

// Where what does not fit cannot be taken back, its handle is kept.
func TestWhatDoesNotFitAndStaysIsKept(t *testing.T) {
	f := start(t)
	b := f.open(t, f.config(t))
	f.change = func(answer map[string]any) {
		answer["auth"].(map[string]any)["renewable"] = true
		f.broken = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) }
	}
	o := order(t, b, f.now(), task)
	issued, err := b.Issue(t.Context(), o)
	if err == nil || errors.Is(err, backend.ErrNotCreated) || issued.Handle.Empty() {
		t.Fatalf("it ended with %v", err)
	}
	f.set(func() { f.broken = nil })
	if err := b.Revoke(t.Context(), o.Lease, issued.Handle); err != nil || f.live() != 0 {
		t.Errorf("ending it later: %v, %d are alive", err, f.live())
	}
}

// Only the server's word about the accessor says that a token is gone: not one about the
// exchange's own token, and not a page of something in between.
func TestOnlyTheServersWordIsAnEnd(t *testing.T) {
	for answer, want := range map[string]bool{
		"204": true, `200 {"request_id":"r","warnings":["No token found with this accessor"]}`: true,
		`400 {"errors":["invalid accessor"]}`: true, `403 {"errors":["1 error occurred:\n\t* invalid accessor\n\n"]}`: true,
		`404 {"errors":["invalid accessor"]}`: true, `400 {"errors":["token not found"]}`: true,
		`403 {"errors":["2 errors occurred:\n\t* permission denied\n\t* invalid token\n\n"]}`: false,
		`403 {"errors":["permission denied"]}`:                                                false, `404 {"errors":[]}`: false, `200 <html>`: false, `200 {}`: false,
		`500 {"errors":["invalid accessor"]}`: false, `403 {"errors":["bad token"]}`: false, `307 `: false,
	} {
		f := start(t)
		b := f.open(t, f.config(t))
		status, body, _ := strings.Cut(answer, " ")
		f.set(func() {
			f.broken = func(w http.ResponseWriter, _ *http.Request) {
				var code int
				_, _ = fmt.Sscan(status, &code)
				w.WriteHeader(code)
				_, _ = w.Write([]byte(body))
			}
		})
		err := b.Revoke(t.Context(), "lease_1", secret.New("accessor-of-mine"))
		if (err == nil) != want || errors.Is(err, backend.ErrLost) {
			t.Errorf("%s: %v", answer, err)
		}
		gone, _ := b.Gone(t.Context(), "lease_1", secret.New("accessor-of-mine"))
		if gone && !want && !strings.Contains(answer, "bad token") {
			t.Errorf("%s to a look-up: gone", answer)
		}
	}
}

func TestGoneAsksForTheTokenItself(t *testing.T) {
	f := start(t)
	b := f.open(t, f.config(t))
	o := order(t, b, f.now(), task)
	issued, err := b.Issue(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if gone, err := b.Gone(t.Context(), o.Lease, issued.Handle); gone || err != nil {
		t.Errorf("a live one: %v, %v", gone, err)
	}
	if err := b.Revoke(t.Context(), o.Lease, issued.Handle); err != nil {
		t.Fatal(err)
	}
	if gone, err := b.Gone(t.Context(), o.Lease, issued.Handle); !gone || err != nil {
		t.Errorf("a revoked one: %v, %v", gone, err)
	}
	if gone, err := b.Gone(t.Context(), o.Lease, secret.String{}); gone || err == nil {
		t.Errorf("a lost one: %v, %v", gone, err)
	}
}

// An agent replaces the exchange's own token while it runs.
func TestTheExchangesOwnTokenMayBeReplaced(t *testing.T) {
	f := start(t)
	c := f.config(t)
	b := f.open(t, c)
	f.set(func() {
		next := *f.tokens[own]
		next.id = "hvs.the-next-one"
		f.tokens[next.id] = &next
		delete(f.tokens, own)
	})
	o := order(t, b, f.now(), task)
	if _, err := b.Issue(t.Context(), o); !errors.Is(err, backend.ErrNotCreated) || strings.Contains(err.Error(), own) {
		t.Fatalf("with the old one: %v", err)
	}
	if err := os.WriteFile(c.TokenFile, []byte("hvs.the-next-one"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Issue(t.Context(), o); err != nil {
		t.Fatalf("with the next one: %v", err)
	}
	if err := os.Remove(c.TokenFile); err != nil {
		t.Fatal(err)
	}
	_, err := b.Issue(t.Context(), o)
	if !errors.Is(err, backend.ErrNotCreated) || !errors.Is(err, backend.ErrUnavailable) || !strings.Contains(err.Error(), "own token") {
		t.Errorf("with none: %v", err)
	}
}

func TestATokenIsNamedAfterItsLease(t *testing.T) {
	f := start(t)
	b := f.open(t, f.config(t))
	o := order(t, b, f.now(), "{policies: [deploy-web], uses: 2}")
	o.For = "acme/widget\n\x1b[31m"
	issued, err := b.Issue(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	made := f.tokens[issued.Values["token"].Reveal()]
	if made.display != "token-lease-1" || made.meta["stepkey_lease"] != "lease_1" || made.meta["stepkey_for"] != "acme/widget [31m" {
		t.Errorf("it is called %q, %q", made.display, made.meta)
	}
	for i, want := range []bool{true, true, false} {
		if err := reads(t.Context(), issued.Values, "secret/data/deploy-web"); (err == nil) != want {
			t.Errorf("use %d: %v", i+1, err)
		}
	}
}

func TestTermsEndWithTheLeaseOrTheLimit(t *testing.T) {
	f := start(t)
	c := f.config(t)
	c.MaxTTL = 5 * time.Minute
	b := f.open(t, c)
	o := order(t, b, f.now(), task)
	if got := b.Terms(o); !got.Revocable || !got.DiesAt.Equal(o.At.Add(5*time.Minute+30*time.Second)) {
		t.Errorf("terms are %+v", got)
	}
	f.advance(20 * time.Second)
	issued, err := b.Issue(t.Context(), o)
	if err != nil || !issued.DiesAt.Equal(o.At.Add(5*time.Minute)) {
		t.Errorf("made later, it dies at %v: %v", issued.DiesAt, err)
	}
	f.advance(11 * time.Second)
	if _, err := b.Issue(t.Context(), o); !errors.Is(err, backend.ErrNotCreated) {
		t.Errorf("made half a minute later: %v", err)
	}
}

package kubernetes_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/exchange/backend/kubernetes"
	"github.com/stepkey/stepkey/internal/secret"
)

// answered is a response with another text.
func answered(resp *http.Response, status int, text string) *http.Response {
	_ = resp.Body.Close()
	resp.StatusCode, resp.Body, resp.ContentLength = status, io.NopCloser(strings.NewReader(text)), int64(len(text))
	return resp
}

func tokenAnswer(subject string, life int) string {
	payload := fmt.Sprintf(`{"sub":%q,"iat":1000000000,"exp":%d}`, subject, 1000000000+life)
	return `{"kind":"TokenRequest","apiVersion":"authentication.k8s.io/v1","status":{"token":"e30.` + base64.RawURLEncoding.EncodeToString([]byte(payload)) + `.x"}}`
}

// What the real server never does, and something between may: each answer is changed on
// its way. Nothing is handed out, and all that was made is taken away again.
func TestAnswersThatAreNotWhatWasAskedForAreNotBelieved(t *testing.T) {
	s := stage(t)
	const whose = "system:serviceaccount:web:publisher"
	replaced := func(old, by string) func(string) string {
		return func(text string) string { return strings.Replace(text, old, by, 1) }
	}
	always := func(text string) func(string) string { return func(string) string { return text } }
	for says, c := range map[string]struct {
		block, path string
		text        func(string) string
	}{
		"the cluster changed what was to be made: role": {every["rules"], "/roles", replaced(`"configmaps"`, `"*"`)},
		"the cluster changed what was to be made: verb": {every["rules"], "/roles", replaced(`"watch"`, `"delete"`)},
		"the cluster changed what was to be made: ref":  {every["role"], "/rolebindings", replaced(`"name":"deployer"`, `"name":"admin"`)},
		"the cluster changed what was to be made: whom": {every["role"], "/rolebindings", replaced(`"kind":"ServiceAccount"`, `"kind":"Group"`)},
		"something that is no token":                    {every["role"], "/token", always(`{"kind":"TokenRequest","status":{"token":"a b"}}`)},
		"a token that cannot be read":                   {every["role"], "/token", always(`{"kind":"TokenRequest","status":{"token":"a.b.c"}}`)},
		"made a token of system:serviceaccount:web:x":   {every["service account"], "/token", always(tokenAnswer("system:serviceaccount:web:x", 600))},
		"a token that lives 31536000 s":                 {every["service account"], "/token", always(tokenAnswer(whose, 31536000))},
		"a token that lives 0 s":                        {every["service account"], "/token", always(tokenAnswer(whose, 0))},
	} {
		s.line.set(func() {
			s.line.meddle = func(r *http.Request, resp *http.Response) *http.Response {
				if r.Method != http.MethodPost || !strings.HasSuffix(r.URL.Path, c.path) {
					return resp
				}
				text, _ := io.ReadAll(resp.Body)
				return answered(resp, resp.StatusCode, c.text(string(text)))
			}
		})
		o := s.order(c.block)
		issued, err := s.Issue(t.Context(), o)
		says, _, _ = strings.Cut(says, ": ")
		if !errors.Is(err, backend.ErrNotCreated) || !strings.Contains(err.Error(), says) || !issued.Handle.Empty() || len(issued.Values) > 0 {
			t.Errorf("want …%s…: %v", says, err)
		}
		s.nothingLeft(o.Lease)
	}
}

// A shorter life than was asked for is the server's right.
func TestAServerMayGiveATokenLessTime(t *testing.T) {
	s := stage(t)
	s.line.set(func() {
		s.line.meddle = func(r *http.Request, resp *http.Response) *http.Response {
			if !strings.HasSuffix(r.URL.Path, "/token") {
				return resp
			}
			return answered(resp, http.StatusCreated, tokenAnswer("system:serviceaccount:web:publisher", 300))
		}
	})
	_, issued := s.issue(every["service account"])
	if left := time.Until(issued.DiesAt); left > 375*time.Second || left < 365*time.Second {
		t.Errorf("it is said to be dead in %s", left)
	}
}

// Answers of something in between say nothing of what is there.
func TestAnswersOfSomethingElseProveNothing(t *testing.T) {
	s := stage(t)
	for name, c := range map[string]struct {
		status int
		text   string
		says   string
	}{
		"a page":                  {404, "<html>not found", "none of Kubernetes'"},
		"a path that is unknown":  {404, `{"kind":"Status","status":"Failure","message":"the server could not find the requested resource","reason":"NotFound","details":{}}`, "requested resource"},
		"another object's":        {404, `{"kind":"Status","status":"Failure","reason":"NotFound","details":{"name":"another"}}`, "answered 404"},
		"a good page":             {200, "<html>welcome", "none of Kubernetes'"},
		"the way to another":      {307, "", "another server, which is not asked"},
		"too many requests":       {429, `{"kind":"Status","message":"slow down"}`, "slow down"},
		"something went wrong":    {500, "", "answered 500"},
		"a line's end and colour": {403, "{\"kind\":\"Status\",\"message\":\"a\\nb\\u001b[31m\"}", `"a b [31m"`},
	} {
		s.line.set(func() { s.line.meddle = nil })
		id, issued := s.issue(every["role"])
		s.line.set(func() {
			s.line.meddle = func(_ *http.Request, resp *http.Response) *http.Response { return answered(resp, c.status, c.text) }
		})
		err := s.Revoke(t.Context(), id, issued.Handle)
		if err == nil || !strings.Contains(err.Error(), c.says) || strings.ContainsAny(err.Error(), "\x1b") {
			t.Errorf("%s: want …%s…: %v", name, c.says, err)
		}
		if want := c.status == 429 || c.status >= 500; errors.Is(err, backend.ErrUnavailable) != want && c.status != 404 && c.status != 200 {
			t.Errorf("%s: waiting helps: %t; %v", name, !want, err)
		}
		s.line.set(func() { s.line.meddle = nil })
		if err := s.Revoke(t.Context(), id, issued.Handle); err != nil {
			t.Error(err)
		}
	}
}

// transport answers by itself.
type transport func(*http.Request) (*http.Response, error)

func (t transport) RoundTrip(r *http.Request) (*http.Response, error) { return t(r) }

// Whatever a server answers to the request for a token: it is handed out only if it is of
// the right account and lives no longer than was promised.
func FuzzTokenAnswers(f *testing.F) {
	f.Add(201, []byte(tokenAnswer("system:serviceaccount:web:publisher", 600)))
	f.Add(201, []byte(tokenAnswer("system:serviceaccount:web:publisher", 601)))
	f.Add(201, []byte(`{"kind":"TokenRequest","status":{"token":"e30.e30.x"}}`))
	f.Add(403, []byte(`{"kind":"Status","message":"no"}`))
	f.Add(404, []byte(``))
	at := time.Date(2026, 11, 23, 15, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		if status < 200 || status > 599 {
			return
		}
		const made = `{"kind":"Secret","metadata":{"name":"stepkey-lease-1","uid":"u"}}`
		deleted := 0
		b := kubernetes.New(kubernetes.Options{
			Server: "https://kubernetes.example.com", Now: func() time.Time { return at },
			Token: func() (secret.String, error) { return secret.New("own"), nil },
			Transport: transport(func(r *http.Request) (*http.Response, error) {
				code, text := status, body
				switch {
				case r.Method == http.MethodDelete:
					deleted++
					code, text = 404, []byte(`{"kind":"Status","details":{"name":"stepkey-lease-1"}}`)
				case !strings.HasSuffix(r.URL.Path, "/token"):
					code, text = 201, []byte(made)
				}
				return &http.Response{StatusCode: code, Body: io.NopCloser(bytes.NewReader(text)), Request: r}, nil
			}),
		})
		scope, err := b.Scope(node(t, every["service account"]))
		if err != nil {
			t.Fatal(err)
		}
		o := backend.Order{Lease: "lease_1", Scope: scope, At: at, Until: at.Add(10 * time.Minute)}
		issued, err := b.Issue(t.Context(), o)
		switch {
		case err == nil && (status >= 300 || issued.DiesAt.After(b.Terms(o).DiesAt) || issued.Handle.Empty()):
			t.Fatalf("%d was handed out as %v", status, issued)
		case err != nil && (len(issued.Values) > 0 || strings.ContainsAny(err.Error(), "\n\x00\x1b")):
			t.Fatalf("it ended with %v and %q", issued, err)
		case errors.Is(err, backend.ErrNotCreated) && (deleted == 0 || !issued.Handle.Empty()):
			t.Fatalf("%d were deleted: %v", deleted, err)
		}
	})
}

package kubernetes_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
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

// claimed is a token with these claims, as an API server answers with it.
func claimed(t testing.TB, claims any) string {
	t.Helper()
	payload, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	return `{"kind":"TokenRequest","apiVersion":"authentication.k8s.io/v1","status":{"token":"e30.` + base64.RawURLEncoding.EncodeToString(payload) + `.x"}}`
}

// claimsOf are those of the token in an API server's answer.
func claimsOf(t testing.TB, answer string) (claims map[string]any) {
	t.Helper()
	var got struct{ Status struct{ Token string } }
	if err := json.Unmarshal([]byte(answer), &got); err != nil || strings.Count(got.Status.Token, ".") != 2 {
		t.Fatalf("%s has no token (%v)", answer, err)
	}
	payload, err := base64.RawURLEncoding.DecodeString(strings.Split(got.Status.Token, ".")[1])
	if err != nil || json.Unmarshal(payload, &claims) != nil {
		t.Fatalf("the token cannot be read (%v)", err)
	}
	return claims
}

// changed is an answer whose token has other claims.
func changed(t testing.TB, change func(claims, kubernetes map[string]any)) func(string) string {
	return func(text string) string {
		claims := claimsOf(t, text)
		change(claims, claims["kubernetes.io"].(map[string]any))
		return claimed(t, claims)
	}
}

// meddleWith changes the answers to creations at paths that end so.
func (s *scene) meddleWith(path string, text func(string) string) {
	s.line.set(func() {
		s.line.meddle = func(r *http.Request, resp *http.Response) *http.Response {
			if r.Method != http.MethodPost || !strings.HasSuffix(r.URL.Path, path) {
				return resp
			}
			body, _ := io.ReadAll(resp.Body)
			return answered(resp, resp.StatusCode, text(string(body)))
		}
	})
}

func replaced(old, by string) func(string) string {
	return func(text string) string { return strings.Replace(text, old, by, 1) }
}

// What the real server never does, and something between may: each answer is changed on
// its way. Nothing is handed out, and all that was made is taken away again.
func TestAnswersThatAreNotWhatWasAskedForAreNotBelieved(t *testing.T) {
	s := stage(t)
	s.Backend = s.open(func(o *kubernetes.Options) { o.Audiences = []string{"https://a.example.com", "https://b.example.com"} })
	claim := func(name string, value any) func(string) string {
		return changed(t, func(claims, _ map[string]any) { claims[name] = value })
	}
	life := func(seconds float64) func(string) string {
		return changed(t, func(claims, _ map[string]any) { claims["exp"] = claims["iat"].(float64) + seconds })
	}
	for says, c := range map[string]struct {
		block, path string
		text        func(string) string
	}{
		"the cluster changed what was to be made: role":       {every["rules"], "/roles", replaced(`"configmaps"`, `"*"`)},
		"the cluster changed what was to be made: verb":       {every["rules"], "/roles", replaced(`"watch"`, `"delete"`)},
		"the cluster changed what was to be made: ref":        {every["role"], "/rolebindings", replaced(`"name":"deployer"`, `"name":"admin"`)},
		"the cluster changed what was to be made: whom":       {every["role"], "/rolebindings", replaced(`"kind":"ServiceAccount"`, `"kind":"Group"`)},
		"a token that lives 31536000 s":                       {every["service account"], "/token", life(31536000)},
		"a token that lives 0 s":                              {every["service account"], "/token", life(0)},
		"for the audiences https://a.example.com, and":        {every["role"], "/token", claim("aud", "https://a.example.com")},
		"https://b.example.com, https://kubernetes.test, and": {every["role"], "/token", claim("aud", []string{"https://a.example.com", "https://b.example.com", "https://kubernetes.test"})},
		"for the audiences , and was asked for one":           {every["service account"], "/token", claim("aud", nil)},
	} {
		s.meddleWith(c.path, c.text)
		o := s.order(c.block)
		issued, err := s.Issue(t.Context(), o)
		says, _, _ = strings.Cut(says, ": ")
		if !errors.Is(err, backend.ErrNotCreated) || !strings.Contains(err.Error(), says) || !issued.Handle.Empty() || len(issued.Values) > 0 {
			t.Errorf("want …%s…: %v", says, err)
		}
		s.nothingLeft(o.Lease)
	}
}

// A token that hangs on nothing of the lease's lives on when all of that is deleted: it is
// not handed out, and its lease is not called over.
func TestATokenThatDoesNotDieWithItsLeaseIsLost(t *testing.T) {
	s := stage(t)
	const account, secret = "serviceaccount", "secret"
	of := func(object, name string, value any) func(string) string {
		return changed(t, func(_, its map[string]any) { its[object].(map[string]any)[name] = value })
	}
	without := func(object string) func(string) string {
		return changed(t, func(_, its map[string]any) { delete(its, object) })
	}
	always := func(text string) func(string) string { return func(string) string { return text } }
	for name, c := range map[string]struct {
		block, says string
		text        func(string) string
	}{
		"no Secret":               {"service account", "not bound to what was made", without(secret)},
		"another Secret":          {"service account", "not bound to what was made", of(secret, "name", "another")},
		"a Secret of that name":   {"service account", "not bound to what was made", of(secret, "uid", "another")},
		"another's account":       {"service account", "made a token of system:serviceaccount:web:x", changed(t, func(claims, _ map[string]any) { claims["sub"] = "system:serviceaccount:web:x" })},
		"another account":         {"role", "not bound to what was made", of(account, "name", "publisher")},
		"an account of that name": {"rules", "not bound to what was made", of(account, "uid", "another")},
		"no account":              {"cluster role", "not bound to what was made", without(account)},
		"no token":                {"role", "something that is no token", always(`{"kind":"TokenRequest","status":{"token":"a b"}}`)},
		"not to be read":          {"role", "a token that cannot be read", always(`{"kind":"TokenRequest","status":{"token":"a.b.c"}}`)},
	} {
		s.meddleWith("/token", c.text)
		s.lost(name, s.order(every[c.block]), c.says)
	}
}

// lost fails unless an order ends with a token that only its own death ends.
func (s *scene) lost(name string, o backend.Order, says string) {
	s.Helper()
	issued, err := s.Issue(s.Context(), o)
	if !errors.Is(err, backend.ErrLost) || errors.Is(err, backend.ErrNotCreated) || !strings.Contains(err.Error(), says) || len(issued.Values) > 0 {
		s.Errorf("%s: it ends with %v", name, err)
	}
	s.nothingLeft(o.Lease)
	for range 2 {
		if err := s.Revoke(s.Context(), o.Lease, issued.Handle); !errors.Is(err, backend.ErrLost) {
			s.Errorf("%s: revoking ends with %v", name, err)
		}
	}
}

// As an admission webhook may: the request for a token loses what binds it. The real server
// then makes a token that works when all that was made for the lease is gone.
func TestAWebhookThatUnbindsTokensIsSeen(t *testing.T) {
	s := stage(t)
	var token string
	s.Backend = s.open(func(o *kubernetes.Options) {
		o.Transport = transport(func(r *http.Request) (*http.Response, error) {
			if !strings.HasSuffix(r.URL.Path, "/token") {
				return s.line.RoundTrip(r)
			}
			asked := map[string]any{}
			if err := json.NewDecoder(r.Body).Decode(&asked); err != nil {
				return nil, err
			}
			delete(asked["spec"].(map[string]any), "boundObjectRef")
			text, err := json.Marshal(asked)
			if err != nil {
				return nil, err
			}
			r = r.Clone(r.Context())
			r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(text)), int64(len(text))
			resp, err := s.line.RoundTrip(r)
			if err != nil {
				return nil, err
			}
			got, _ := io.ReadAll(resp.Body)
			var made struct{ Status struct{ Token string } }
			if err := json.Unmarshal(got, &made); err != nil {
				return nil, err
			}
			token = made.Status.Token
			return answered(resp, resp.StatusCode, string(got)), nil
		})
	})
	s.lost("an unbound token", s.order(every["service account"]), "not bound to what was made")
	status, _, err := s.Do(t.Context(), token, http.MethodGet, configmaps, nil)
	if err != nil || status != http.StatusOK {
		t.Errorf("the token is answered %d (%v), so this proves nothing", status, err)
	}
}

// A shorter life than was asked for is the server's right.
func TestAServerMayGiveATokenLessTime(t *testing.T) {
	s := stage(t)
	at := time.Now()
	s.Backend = s.open(func(o *kubernetes.Options) { o.Now = func() time.Time { return at } })
	s.meddleWith("/token", changed(t, func(claims, _ map[string]any) { claims["exp"] = claims["iat"].(float64) + 300 }))
	_, issued := s.issue(every["service account"])
	if left := issued.DiesAt.Sub(at); left != 375*time.Second {
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

func issuedClaims(issued backend.Issued) string {
	payload, _ := base64.RawURLEncoding.DecodeString(strings.Split(issued.Values["token"].Reveal(), ".")[1])
	return string(payload)
}

// Whatever a server answers to the request for a token: it is handed out only if it is of
// the right account, bound to the lease's Secret, and lives no longer than was promised.
func FuzzTokenAnswers(f *testing.F) {
	for _, life := range []int{600, 601} {
		for _, uid := range []string{"u", "another"} {
			f.Add(201, []byte(claimed(f, map[string]any{
				"sub": "system:serviceaccount:web:publisher", "iat": 1000000000, "exp": 1000000000 + life,
				"kubernetes.io": map[string]any{"secret": map[string]string{"name": "stepkey-lease-1", "uid": uid}},
			})))
		}
	}
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
		case err == nil && !strings.Contains(issuedClaims(issued), `"uid":"u"`):
			t.Fatalf("what is bound to something else is handed out: %s", issuedClaims(issued))
		case errors.Is(err, backend.ErrLost) && issued.Handle.Empty():
			t.Fatalf("without a handle nobody knows that it is lost: %v", err)
		case err != nil && (len(issued.Values) > 0 || strings.ContainsAny(err.Error(), "\n\x00\x1b")):
			t.Fatalf("it ended with %v and %q", issued, err)
		case errors.Is(err, backend.ErrNotCreated) && (deleted == 0 || !issued.Handle.Empty()):
			t.Fatalf("%d were deleted: %v", deleted, err)
		}
	})
}

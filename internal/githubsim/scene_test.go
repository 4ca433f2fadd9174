package githubsim_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-github/v60/github"

	"github.com/stepkey/stepkey/internal/githubsim"
)

// scene is a GitHub with acme's private widget and gadget, its public docs, a
// foreign private repository, and an App on widget and docs.
type scene struct {
	t            *testing.T
	hub          *githubsim.GitHub
	clock        *clock
	app          githubsim.App
	installation int64
	widget       githubsim.Repository
}

type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func newScene(t *testing.T, options githubsim.Options) *scene {
	t.Helper()
	s := &scene{t: t, clock: &clock{now: time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)}}
	options.Now = s.clock.Now
	hub, err := githubsim.Start(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(hub.Close)
	s.hub = hub
	s.widget = hub.AddRepository(githubsim.Repository{Owner: "acme", Name: "widget", Private: true})
	hub.AddRepository(githubsim.Repository{Owner: "acme", Name: "gadget", Private: true})
	hub.AddRepository(githubsim.Repository{Owner: "acme", Name: "docs"})
	hub.AddRepository(githubsim.Repository{Owner: "rival", Name: "plans", Private: true})
	hub.AddRepository(githubsim.Repository{Owner: "rival", Name: "site"})
	s.app = hub.AddApp(githubsim.App{Slug: "stepkey", Permissions: map[string]string{
		"contents": "write", "issues": "read", "actions": "read",
	}})
	s.installation = hub.Install(s.app, "acme", "widget", "docs")
	return s
}

// jwt signs App claims; nil removes one of the good ones.
func (s *scene) jwt(change map[string]any) string {
	s.t.Helper()
	now := s.clock.Now().Unix()
	claims := map[string]any{"iss": s.app.ClientID, "iat": now - 60, "exp": now + 540}
	for name, value := range change {
		if claims[name] = value; value == nil {
			delete(claims, name)
		}
	}
	return signed(s.t, jose.SigningKey{Algorithm: jose.RS256, Key: s.app.Key}, claims)
}

func signed(t *testing.T, key jose.SigningKey, claims map[string]any) string {
	t.Helper()
	signer, err := jose.NewSigner(key, nil)
	if err != nil {
		t.Fatal(err)
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	jws, err := signer.Sign(payload)
	if err != nil {
		t.Fatal(err)
	}
	text, err := jws.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// reply is an answer read to its end.
type reply struct {
	status int
	header http.Header
	body   string
}

func (r reply) field(t *testing.T, name string) any {
	t.Helper()
	var object map[string]any
	if err := json.Unmarshal([]byte(r.body), &object); err != nil {
		t.Fatalf("the answer %d is no JSON object: %v: %s", r.status, err, r.body)
	}
	return object[name]
}

// call sends one request on a connection of its own and must get an answer.
func (s *scene) call(method, url, token, body string, headers ...string) reply {
	s.t.Helper()
	r, err := s.try(method, url, token, body, headers...)
	if err != nil {
		s.t.Fatalf("%s %s: %v", method, url, err)
	}
	return r
}

func (s *scene) try(method, url, token, body string, headers ...string) (reply, error) {
	if strings.HasPrefix(url, "/") {
		url = s.hub.URL() + url
	}
	request, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		return reply{}, err
	}
	request.Close = true
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return reply{}, err
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	return reply{response.StatusCode, response.Header, string(bytes.TrimSpace(content))}, err
}

// token makes an installation token with that request body.
func (s *scene) token(body string) string {
	s.t.Helper()
	r := s.call("POST", s.tokens(), s.jwt(nil), body)
	if r.status != http.StatusCreated {
		s.t.Fatalf("creating a token: %d %s", r.status, r.body)
	}
	return r.field(s.t, "token").(string)
}

func (s *scene) tokens() string { return installationPath(s.installation) + "/access_tokens" }

func (s *scene) client(token string) *github.Client {
	s.t.Helper()
	client := github.NewClient(nil).WithAuthToken(token)
	client.BaseURL = parsed(s.t, s.hub.URL()+"/")
	client.UploadURL = parsed(s.t, s.hub.UploadURL()+"/")
	return client
}

func parsed(t *testing.T, text string) *url.URL {
	t.Helper()
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

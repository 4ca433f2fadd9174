package github_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/exchange/backend/backendtest"
	"github.com/stepkey/stepkey/exchange/backend/github"
	"github.com/stepkey/stepkey/exchange/githubapp"
	"github.com/stepkey/stepkey/internal/githubsim"
	"github.com/stepkey/stepkey/internal/secret"
	"github.com/stepkey/stepkey/internal/yamlfile"
)

const (
	widgetID = 456789
	gadgetID = 456790
)

// appKey is one for all scenes: making them is slow.
var appKey = sync.OnceValue(func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
})

// clock is the one that GitHub and the backend share.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// scene is a GitHub with an App on acme's two private repositories.
type scene struct {
	testing.TB
	*clock
	hub          *githubsim.GitHub
	app          githubsim.App
	installation int64
	client       *githubapp.App
	backend      *github.Backend
}

// setting is what differs between scenes.
type setting struct {
	format    githubsim.TokenFormat
	lag       int
	probe     bool
	transport http.RoundTripper // of the backend; nil: its own
	ahead     time.Duration     // of the backend's clock
}

func stage(t testing.TB, set setting) *scene {
	t.Helper()
	s := &scene{TB: t, clock: &clock{at: time.Date(2026, 11, 23, 15, 0, 0, 0, time.UTC)}}
	hub, err := githubsim.Start(githubsim.Options{Now: s.now, TokenFormat: set.format, FirstUseLag: set.lag})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(hub.Close)
	s.hub = hub
	hub.AddRepository(githubsim.Repository{ID: widgetID, Owner: "acme", OwnerID: 123456, Name: "widget", Private: true})
	hub.AddRepository(githubsim.Repository{ID: gadgetID, Owner: "acme", OwnerID: 123456, Name: "gadget", Private: true})
	hub.AddRepository(githubsim.Repository{ID: 777, Owner: "evil", Name: "widget", Private: true})
	s.app = hub.AddApp(githubsim.App{Key: appKey(), Permissions: map[string]string{"contents": "write", "issues": "write", "members": "read"}})
	s.installation = hub.Install(s.app, "acme", "widget", "gadget")
	s.open(set)
	return s
}

func (s *scene) open(set setting) {
	s.Helper()
	now := func() time.Time { return s.now().Add(set.ahead) }
	app, err := githubapp.New(githubapp.Config{
		API: s.hub.URL(), ClientID: s.app.ClientID, Key: s.app.Key,
		Transport: set.transport, Pause: time.Millisecond, Now: now,
	})
	if err != nil {
		s.Fatal(err)
	}
	s.client = app
	s.backend = github.New(github.Options{App: app, Probe: set.probe, Pause: time.Millisecond, Now: now})
}

func (s *scene) scope(block string) backend.Scope {
	s.Helper()
	scope, err := s.backend.Scope(node(s, block))
	if err != nil {
		s.Fatal(err)
	}
	return scope
}

func node(t testing.TB, block string) backend.Block {
	t.Helper()
	root, err := yamlfile.Parse("task.yaml", []byte("credential:\n  github: "+block+"\n"))
	if err != nil {
		t.Fatal(err)
	}
	return root.Get("credential", "github")
}

func (s *scene) order(block string) backend.Order {
	s.Helper()
	return backend.Order{Lease: "lease_1", Scope: s.scope(block), At: s.now(), Until: s.now().Add(10 * time.Minute)}
}

// writes to a repository as a step would.
func (s *scene) writes(ctx context.Context, token secret.String, repository string) error {
	// Written, or refused only because another write of this test came first.
	return s.asks(ctx, token, http.MethodPut, repository+"/contents/note.txt", http.StatusCreated, http.StatusUnprocessableEntity, http.StatusConflict)
}

func (s *scene) reads(ctx context.Context, token secret.String, repository string) error {
	return s.asks(ctx, token, http.MethodGet, repository+"/contents/page.txt", http.StatusOK)
}

// asks with the token in Authorization.
func (s *scene) asks(ctx context.Context, token secret.String, method, path string, want ...int) error {
	req, err := http.NewRequestWithContext(ctx, method, s.hub.URL()+"/repos/acme/"+path,
		strings.NewReader(`{"message":"a note","content":"aGVsbG8="}`))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+token.Reveal())
	req.Header.Set("User-Agent", "a step")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	said, _ := io.ReadAll(resp.Body)
	if slices.Contains(want, resp.StatusCode) {
		return nil
	}
	return fmt.Errorf("GitHub answered %d: %s", resp.StatusCode, said)
}

func (s *scene) world() backendtest.World {
	s.hub.AddFile("acme", "widget", "page.txt", []byte("a page"))
	return backendtest.World{
		Backend: s.backend, Now: s.now, Advance: s.advance, Secrets: []string{pemOf(appKey())},
		Use: func(ctx context.Context, values map[string]secret.String) error {
			return s.writes(ctx, values["token"], "widget")
		},
		Overstep: func(ctx context.Context, values map[string]secret.String) error {
			return s.writes(ctx, values["token"], "gadget")
		},
		Live: func() int { return len(s.hub.LiveTokens()) },
		UseLess: func(ctx context.Context, values map[string]secret.String) error {
			return s.reads(ctx, values["token"], "widget")
		},
		LoseReply: func() { s.loseReply(creates) },
		LoseEnd: func() func() bool {
			return s.loseReply(func(r *http.Request) bool { return r.Method == http.MethodDelete })
		},
		Down: func() {
			s.hub.Fault(func(*http.Request) *githubsim.Fault { return &githubsim.Fault{Before: http.StatusBadGateway} })
		},
		Up: func() { s.hub.Fault(nil) },
	}
}

// loseReply loses the answer to the next such request, and says whether it was lost.
func (s *scene) loseReply(to func(*http.Request) bool) func() bool {
	var lost atomic.Bool
	s.hub.Fault(func(r *http.Request) *githubsim.Fault {
		if !to(r) {
			return nil
		}
		lost.Store(true)
		s.hub.Fault(nil)
		return &githubsim.Fault{Drop: true}
	})
	return lost.Load
}

func pemOf(key *rsa.PrivateKey) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}))
}

func creates(r *http.Request) bool {
	return r.Method == http.MethodPost && strings.HasSuffix(r.URL.Path, "/access_tokens")
}

var hostile = map[string]string{
	"no permission":      "repository_ids: [456789]\npermissions: {}",
	"permissions absent": "repository_ids: [456789]",
	"no repository":      "owner: acme\npermissions: {contents: write}",
	"every repository":   "owner: acme\nrepositories: [\"*\"]\npermissions: {contents: write}",
	"a way out of the path": "owner: acme\nrepositories: [\"../../orgs/acme\"]\n" +
		"permissions: {contents: write}",
	"another owner's repository": "owner: acme\nrepositories: [evil/widget]\npermissions: {contents: write}",
	"an unknown permission":      "repository_ids: [456789]\npermissions: {everything: write}",
	"an unknown key":             "repository_ids: [456789]\npermissions: {contents: write}\nall: true",
	"a very long name":           "owner: acme\nrepositories: [" + strings.Repeat("a", 5000) + "]\npermissions: {contents: write}",
}

func TestTokensPassTheSuite(t *testing.T) {
	for name, set := range map[string]setting{
		"stateless":                      {format: githubsim.Stateless},
		"opaque":                         {format: githubsim.Opaque},
		"with first-use lag and a probe": {lag: 3, probe: true},
	} {
		t.Run(name, func(t *testing.T) {
			backendtest.Run(t, backendtest.Harness{
				Open:     func(t testing.TB) backendtest.World { return stage(t, set).world() },
				Good:     "repository_ids: [456789]\npermissions: {contents: write}",
				Narrower: "repository_ids: [456789]\npermissions: {contents: read}",
				Wider:    "repository_ids: [456789, 456790]\npermissions: {contents: write, issues: write}",
				Says: backendtest.Phrases{
					Good:     []string{"contents: write on", "456789"},
					Narrower: []string{"contents: read on", "456789"},
					Wider:    []string{"contents: write, issues: write on", "456789", "456790"},
				},
				Hostile: hostile, Overtime: githubapp.Lifetime, Nameless: nameless, NeverHeld: neverHeld,
			})
		})
	}
}

const (
	nameless  = "GitHub has no name for a token, and takes a token's end from that token alone"
	neverHeld = "each request shows the token"
)

func TestTokensForRepositoriesByNamePassTheSuite(t *testing.T) {
	backendtest.Run(t, backendtest.Harness{
		Open:     func(t testing.TB) backendtest.World { return stage(t, setting{}).world() },
		Good:     "owner: acme\nrepositories: [widget]\npermissions: {contents: write}",
		Narrower: "owner: ACME\nrepositories: [Widget]\npermissions: {contents: read}",
		Wider:    "owner: acme\nrepositories: [gadget, widget]\npermissions: {contents: write}",
		Says: backendtest.Phrases{
			Good: []string{"contents: write"}, Narrower: []string{"contents: read"}, Wider: []string{"contents: write", "gadget"},
		},
		Hostile: hostile, Overtime: githubapp.Lifetime, Nameless: nameless, NeverHeld: neverHeld,
	})
}

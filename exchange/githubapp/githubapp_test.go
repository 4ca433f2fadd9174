package githubapp_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stepkey/stepkey/exchange/githubapp"
	"github.com/stepkey/stepkey/internal/githubsim"
	"github.com/stepkey/stepkey/internal/secret"
)

func TestATokenIsMadeUsedAndRevoked(t *testing.T) {
	for _, format := range []githubsim.TokenFormat{githubsim.Stateless, githubsim.Opaque} {
		s := stage(t, githubsim.Options{TokenFormat: format})
		app := s.client(t, nil)
		found, err := app.InstallationOfRepository(t.Context(), widgetID)
		if err != nil || found.ID != s.installation || found.Account != "acme" || found.Permissions["discussions"] != "write" {
			t.Fatalf("found %+v: %v", found, err)
		}
		token, err := app.CreateToken(t.Context(), found.ID, wants())
		if err != nil {
			t.Fatal(err)
		}
		if token.Permissions["discussions"] != "write" || !token.ExpiresAt.Equal(noon.Add(time.Hour)) || token.Selection != "selected" ||
			len(token.Repositories) != 1 || token.Repositories[0] != (githubapp.Repository{ID: widgetID, Owner: "acme", OwnerID: token.Repositories[0].OwnerID, Name: "widget", FullName: "acme/widget"}) {
			t.Errorf("the token is %+v", token)
		}
		if ok, err := app.Reachable(t.Context(), token.Value, widgetID); !ok || err != nil {
			t.Errorf("reachable %v, %v", ok, err)
		}
		for range 2 { // the second time GitHub answers 401
			if err := app.RevokeToken(t.Context(), token.Value); err != nil || len(s.hub.LiveTokens()) != 0 {
				t.Errorf("revoking: %v", err)
			}
		}
		if ok, err := app.Reachable(t.Context(), token.Value, widgetID); ok || err != nil {
			t.Errorf("reachable when revoked: %v, %v", ok, err)
		}
		for _, r := range s.hub.Requests() {
			if !strings.HasPrefix(r.Authorization, "Bearer ") {
				t.Errorf("%s %s is shown %q", r.Method, r.Path, r.Authorization)
			}
		}
	}
}

func TestInstallationsAreRememberedUntilGitHubDisagrees(t *testing.T) {
	s := stage(t, githubsim.Options{})
	app := s.client(t, nil)
	for range 3 {
		if _, err := app.InstallationOfRepository(t.Context(), widgetID); err != nil {
			t.Fatal(err)
		}
		if _, err := app.InstallationNamed(t.Context(), "Acme", "Widget"); err != nil {
			t.Fatal(err)
		}
	}
	if got := s.seen(http.MethodGet); got != 2 {
		t.Errorf("%d requests, want one by id and one by name", got)
	}
	again := s.hub.Install(s.app, "acme", "widget")
	_, err := app.CreateToken(t.Context(), s.installation, wants())
	var refused *githubapp.Error
	if !errors.As(err, &refused) || refused.Status != http.StatusNotFound || !refused.NothingDone() {
		t.Fatalf("a token of an installation that is gone: %v", err)
	}
	for name, find := range map[string]func() (githubapp.Installation, error){
		"id":   func() (githubapp.Installation, error) { return app.InstallationOfRepository(t.Context(), widgetID) },
		"name": func() (githubapp.Installation, error) { return app.InstallationNamed(t.Context(), "acme", "widget") },
	} {
		if found, err := find(); err != nil || found.ID != again {
			t.Errorf("by %s: %d, %v; want the new installation", name, found.ID, err)
		}
	}
}

func TestAnEnterprisesInstallationIsRefused(t *testing.T) {
	s := stage(t, githubsim.Options{})
	s.hub.Fault(func(*http.Request) *githubsim.Fault {
		return &githubsim.Fault{Before: 200, Body: `{"id":7,"target_type":"Enterprise"}`}
	})
	_, err := s.client(t, nil).InstallationOfRepository(t.Context(), widgetID)
	if err == nil || !strings.Contains(err.Error(), `"Enterprise"`) {
		t.Errorf("%v", err)
	}
}

// What GitHub would take for "everything" does not leave this process.
func TestWideRequestsAreRefusedHere(t *testing.T) {
	s := stage(t, githubsim.Options{})
	app := s.client(t, nil)
	many := make([]int64, 501)
	contents := map[string]string{"contents": "read"}
	for name, want := range map[string]githubapp.TokenRequest{
		"no permissions":        {RepositoryIDs: []int64{1}},
		"an empty permission":   {RepositoryIDs: []int64{1}, Permissions: map[string]string{"": "read"}},
		"an empty level":        {RepositoryIDs: []int64{1}, Permissions: map[string]string{"contents": ""}},
		"no repositories":       {Permissions: contents},
		"both ids and names":    {RepositoryIDs: []int64{1}, Repositories: []string{"widget"}, Permissions: contents},
		"too many repositories": {RepositoryIDs: many, Permissions: contents},
	} {
		_, err := app.CreateToken(t.Context(), s.installation, want)
		var refused *githubapp.Error
		if !errors.As(err, &refused) || !refused.NothingDone() || refused.Temporary() {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, name := range [][2]string{{"..", "x"}, {"acme", ".."}, {"acme", "a/b"}, {"acme", "a?b"}, {"", "x"}, {"acme", ""}, {"acme", "x.git"}, {"a%2fb", "x"}} {
		if _, err := app.InstallationNamed(t.Context(), name[0], name[1]); err == nil {
			t.Errorf("%q: accepted", name)
		}
	}
	if err := app.RevokeToken(t.Context(), secret.String{}); err == nil {
		t.Error("revoking no token: nil")
	}
	if got := len(s.hub.Requests()); got != 0 {
		t.Errorf("%d requests left this process", got)
	}
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	stranger := make(chan string, 10)
	server := &http.Server{Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		stranger <- r.Header.Get("Authorization")
	}), ReadHeaderTimeout: time.Minute}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = server.Serve(listener) }()
	defer func() { _ = server.Close() }()
	s := stage(t, githubsim.Options{})
	s.hub.Fault(func(*http.Request) *githubsim.Fault {
		return &githubsim.Fault{Before: 307, Header: http.Header{"Location": {"http://" + listener.Addr().String() + "/"}}}
	})
	app := s.client(t, nil)
	_, lookErr := app.InstallationNamed(t.Context(), "acme", "widget")
	_, createErr := app.CreateToken(t.Context(), s.installation, wants())
	revokeErr := app.RevokeToken(t.Context(), secret.New("ghs_"+strings.Repeat("x", 36)))
	if lookErr == nil || createErr == nil || revokeErr == nil {
		t.Errorf("%v, %v, %v", lookErr, createErr, revokeErr)
	}
	if len(stranger) != 0 {
		t.Errorf("another host was shown %q", <-stranger)
	}
}

func TestOnlyWhatSurelyDidNothingIsTriedAgainWhenCreating(t *testing.T) {
	refused := fmt.Errorf("dial tcp: connection refused")
	for name, c := range map[string]struct {
		fault       func(*http.Request, int) (*http.Response, error) // nil, nil: go on
		tries       int
		nothingDone bool
	}{
		"refused twice": {func(r *http.Request, n int) (*http.Response, error) {
			if n <= 2 {
				return unreachable(r, refused)
			}
			return nil, nil
		}, 3, true},
		"refused always": {func(r *http.Request, _ int) (*http.Response, error) { return unreachable(r, refused) }, 4, true},
		"a transport that does not say how far it came": {func(*http.Request, int) (*http.Response, error) {
			return nil, errors.New("broken")
		}, 1, false},
	} {
		s := stage(t, githubsim.Options{})
		tries := 0
		app := s.client(t, func(config *githubapp.Config) {
			config.Transport = transport(func(r *http.Request) (*http.Response, error) {
				tries++
				if resp, err := c.fault(r, tries); err != nil {
					return resp, err
				}
				return http.DefaultTransport.RoundTrip(r)
			})
		})
		_, err := app.CreateToken(t.Context(), s.installation, wants())
		var e *githubapp.Error
		if tries != c.tries || errors.As(err, &e) && e.NothingDone() != c.nothingDone {
			t.Errorf("%s: %d tries, %v", name, tries, err)
		}
		if name == "refused twice" && err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// unreachable fails as net/http's own transport does when nobody listens.
func unreachable(r *http.Request, err error) (*http.Response, error) {
	nobody := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return nil, err }}
	return nobody.RoundTrip(r)
}

func TestErrorsKeepSecretsAndStayShort(t *testing.T) {
	token := "ghs_123_eyJhbGciOi." + strings.Repeat("a-b_", 100)
	s := stage(t, githubsim.Options{})
	s.hub.Fault(func(*http.Request) *githubsim.Fault {
		return &githubsim.Fault{Before: 422, Body: `{"message":"no: ` + token + `\u001b[31m` + strings.Repeat("x", 4000) + `"}`}
	})
	err := s.client(t, nil).RevokeToken(t.Context(), secret.New(token))
	if err == nil || strings.Contains(err.Error(), "eyJ") || strings.Contains(err.Error(), "\x1b") || len(err.Error()) > 500 {
		t.Errorf("%q", err)
	}
}

func TestConfigurationIsChecked(t *testing.T) {
	good := githubapp.Config{ClientID: "Iv1", Key: appKey()}
	if _, err := githubapp.New(good); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*githubapp.Config){
		"plain http":      func(c *githubapp.Config) { c.API = "http://api.github.example" },
		"no host":         func(c *githubapp.Config) { c.API = "https:///api/v3" },
		"a user":          func(c *githubapp.Config) { c.API = "https://u:p@host/api/v3" },
		"a query":         func(c *githubapp.Config) { c.API = "https://host/api/v3?x=1" },
		"another scheme":  func(c *githubapp.Config) { c.API = "ftp://127.0.0.1" },
		"no client id":    func(c *githubapp.Config) { c.ClientID = "" },
		"no key":          func(c *githubapp.Config) { c.Key = nil },
		"an elliptic key": func(c *githubapp.Config) { c.Key = ellipticKey(t) },
		"a short key":     func(c *githubapp.Config) { c.Key = shortKey() },
	} {
		config := good
		change(&config)
		if _, err := githubapp.New(config); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

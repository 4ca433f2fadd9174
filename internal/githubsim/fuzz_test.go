package githubsim

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func started(t testing.TB) (*GitHub, App, int64) {
	t.Helper()
	g, err := Start(Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Close)
	g.AddRepository(Repository{Owner: "acme", Name: "widget", Private: true})
	app := g.AddApp(App{Permissions: map[string]string{"contents": "write", "issues": "read", "organization_hooks": "read"}})
	return g, app, g.Install(app, "acme")
}

// Whatever arrives, it is answered, never with GitHub's own failure.
func FuzzNoRequestBreaksGitHub(f *testing.F) {
	g, _, _ := started(f)
	for _, seed := range [][4]string{
		{"GET", "/api/v3/repos/acme/widget/contents/a/b", "Bearer ghs_x", ""},
		{"POST", "/api/v3/app/installations/1/access_tokens", "Bearer a.b.c", `{"permissions":{}}`},
		{"GET", "/api/v3/repos/acme/widget/releases/tags/v1%2Frc?page=9999999999999999999", "token ", ""},
		{"GET", "/api/v3/repositories/-1", "Basic Og==", ""},
		{"GET", "/_services/idtoken/1/2?api-version=2.0", "", ""},
	} {
		f.Add(seed[0], seed[1], seed[2], seed[3])
	}
	f.Fuzz(func(t *testing.T, method, target, authorization, body string) {
		address, err := url.ParseRequestURI(target)
		if err != nil || !strings.HasPrefix(target, "/") {
			return // no request target: a server would not call the handler
		}
		r := &http.Request{Method: method, URL: address, Header: http.Header{
			"User-Agent": {"fuzz"}, "Authorization": {authorization},
		}}
		a := g.handle(r, []byte(body))
		g.write(httptest.NewRecorder(), a)
		if a.status < 200 || a.status >= 500 {
			t.Errorf("answered %d", a.status)
		}
	})
}

// granted is never wider than asked, and never wider than the installation.
func TestNoTokenIsEverWiderThanAskedOrInstalled(t *testing.T) {
	g, app, id := started(t)
	i := g.installations[id]
	names := []string{"contents", "issues", "organization_hooks", "metadata", "checks", "nonsense", ""}
	rapid.Check(t, func(t *rapid.T) {
		asked := rapid.MapOf(rapid.SampledFrom(names),
			rapid.SampledFrom([]string{"read", "write", "admin", "none", ""})).Draw(t, "asked")
		granted, err := i.grant(asked)
		if err != nil {
			for name, level := range asked {
				if !knownLevel(name, level) || !includes(app.Permissions, name, level) {
					return
				}
			}
			t.Fatalf("refused %v: %v", asked, err)
		}
		for name, level := range granted {
			implied := name == "metadata" && slices.ContainsFunc(names[:2], func(n string) bool { return asked[n] != "" })
			if !includes(app.Permissions, name, level) || len(asked) > 0 && asked[name] != level && !implied {
				t.Fatalf("asked %v, granted %v", asked, granted)
			}
		}
	})
}

func TestEveryPermissionKnowsItsLevels(t *testing.T) {
	for _, known := range []struct{ name, levels string }{
		{"contents", readWrite}, {"organization_projects", readWriteAdmin}, {"organization_plan", readOnly},
		{"workflows", writeOnly}, {"actions_variables", readWrite}, {"", ""}, {" ", ""}, {"contents issues", ""}, {"content", ""},
	} {
		if got := levelsOf(known.name); got != known.levels {
			t.Errorf("%q has levels %q, want %q", known.name, got, known.levels)
		}
	}
}

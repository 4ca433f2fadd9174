package github_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/exchange/backend/github"
	"github.com/stepkey/stepkey/internal/githubsim"
)

const good = `{repository_ids: [456789], permissions: {contents: write}}`

func TestATokenHasExactlyWhatTheTaskNames(t *testing.T) {
	s := stage(t, setting{})
	o := s.order(`{owner: acme, repositories: [gadget, widget], permissions: {contents: read, issues: write}}`)
	issued, err := s.backend.Issue(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	made := s.hub.Issued()
	want := map[string]string{"contents": "read", "issues": "write", "metadata": "read"}
	if len(made) != 1 || !cmp.Equal(made[0].Permissions, want) || !slices.Equal(made[0].RepositoryIDs, []int64{widgetID, gadgetID}) {
		t.Errorf("GitHub made %+v", made)
	}
	if got, want := issued.Granted.String(), "contents: read, issues: write, metadata: read on acme/widget, acme/gadget"; got != want {
		t.Errorf("granted is said as %q, want %q", got, want)
	}
	if !issued.DiesAt.Equal(s.now().Add(61 * time.Minute)) {
		t.Errorf("it dies at %v, want its expiry and a minute of skew", issued.DiesAt)
	}
	if issued.Env["GH_TOKEN"] != "token" || issued.Env["GITHUB_TOKEN"] != "token" || issued.Handle.Reveal() != issued.Values["token"].Reveal() {
		t.Errorf("variables %v", issued.Env)
	}
}

// go-github's own types drop what they do not know. Here every name arrives.
func TestEveryPermissionReachesGitHubAsWritten(t *testing.T) {
	s := stage(t, setting{})
	for name, levels := range github.PermissionLevels() {
		top := strings.Fields(levels)
		s.app = s.hub.AddApp(githubsim.App{Key: appKey(), Permissions: map[string]string{name: top[len(top)-1]}})
		s.hub.Install(s.app, "acme")
		s.open(setting{})
		for _, level := range top {
			block := `{repository_ids: [456789], permissions: {` + name + `: ` + level + `}}`
			if _, err := s.backend.Issue(t.Context(), s.order(block)); err != nil {
				t.Errorf("%s: %s: %v", name, level, err)
				continue
			}
			made := s.hub.Issued()
			if got := made[len(made)-1].Permissions[name]; got != level {
				t.Errorf("%s: %s was ordered, GitHub made %q", name, level, got)
			}
		}
	}
	if got := len(github.PermissionLevels()); got != 59 {
		t.Errorf("%d permissions are known; GitHub's schema and the four beside it have 59", got)
	}
}

// rewriting changes GitHub's answer to the creation of a token on its way.
type rewriting struct{ change func(map[string]any) }

func (t rewriting) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil || !creates(r) || resp.StatusCode != http.StatusCreated {
		return resp, err
	}
	var answer map[string]any
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return nil, err
	}
	_ = resp.Body.Close()
	t.change(answer)
	body, err := json.Marshal(answer)
	resp.Body, resp.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	return resp, err
}

var otherAnswers = map[string]struct {
	change func(map[string]any)
	says   string
}{
	"a permission more": {func(a map[string]any) {
		a["permissions"].(map[string]any)["issues"] = "read"
	}, "granted more"},
	"a level more": {func(a map[string]any) {
		a["permissions"].(map[string]any)["contents"] = "admin"
	}, "granted more"},
	"more metadata than GitHub adds": {func(a map[string]any) {
		a["permissions"].(map[string]any)["metadata"] = "write"
	}, "granted more"},
	"a level nobody knows": {func(a map[string]any) {
		a["permissions"].(map[string]any)["contents"] = "maintain"
	}, "granted more"},
	"no permissions said": {func(a map[string]any) { delete(a, "permissions") }, "granted more"},
	"a repository more": {func(a map[string]any) {
		a["repositories"] = append(a["repositories"].([]any), map[string]any{"id": gadgetID, "name": "gadget", "full_name": "acme/gadget"})
	}, "granted more"},
	"all repositories":      {func(a map[string]any) { a["repository_selection"] = "all" }, "does not limit"},
	"no repositories said":  {func(a map[string]any) { delete(a, "repositories") }, "does not limit"},
	"a longer life":         {func(a map[string]any) { a["expires_at"] = "2026-11-23T18:00:00Z" }, "compare this machine's clock"},
	"no end said":           {func(a map[string]any) { delete(a, "expires_at") }, "compare this machine's clock"},
	"less than was ordered": {func(a map[string]any) { a["permissions"] = map[string]any{"metadata": "read"} }, "the App lacks contents: write"},
	"another repository of the same name": {func(a map[string]any) {
		a["repositories"].([]any)[0].(map[string]any)["id"] = 777
	}, "granted more"},
}

func TestATokenThatIsNotWhatWasOrderedIsRevokedAtOnce(t *testing.T) {
	for lag := range 4 { // a new token's own revocation meets the first-use lag
		s := stage(t, setting{lag: lag})
		for name, c := range otherAnswers {
			s.open(setting{transport: rewriting{c.change}})
			before := len(s.hub.Issued())
			issued, err := s.backend.Issue(t.Context(), s.order(good))
			if err == nil || !errors.Is(err, backend.ErrNotCreated) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%s: %v; want …%s… and ErrNotCreated", name, err, c.says)
			}
			if len(s.hub.Issued()) != before+1 || len(s.hub.LiveTokens()) != 0 || len(issued.Values) != 0 {
				t.Fatalf("%s, lag %d: %d live tokens", name, lag, len(s.hub.LiveTokens()))
			}
		}
	}
}

func TestATokenThatCannotBeRevokedIsNotCalledUncreated(t *testing.T) {
	s := stage(t, setting{transport: rewriting{otherAnswers["a permission more"].change}})
	s.hub.Fault(func(r *http.Request) *githubsim.Fault {
		if r.Method == http.MethodDelete {
			return &githubsim.Fault{Before: http.StatusBadGateway}
		}
		return nil
	})
	issued, err := s.backend.Issue(t.Context(), s.order(good))
	if err == nil || errors.Is(err, backend.ErrNotCreated) || strings.Contains(err.Error(), issued.Handle.Reveal()) {
		t.Fatalf("%v; want an error without ErrNotCreated and without the token", err)
	}
	s.hub.Fault(nil)
	if err := s.backend.Revoke(t.Context(), "lease_1", issued.Handle); err != nil || len(s.hub.LiveTokens()) != 0 {
		t.Errorf("its handle does not end it later: %v", err)
	}
}

func TestARequestThatEndsDoesNotLeaveAWrongTokenAlive(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	s := stage(t, setting{transport: rewriting{func(a map[string]any) {
		a["repository_selection"] = "all"
		cancel()
	}}})
	_, err := s.backend.Issue(ctx, s.order(good))
	if !errors.Is(err, backend.ErrNotCreated) || len(s.hub.LiveTokens()) != 0 {
		t.Errorf("%v, %d live tokens", err, len(s.hub.LiveTokens()))
	}
}

func TestTheProbeWaitsUntilATokenWorks(t *testing.T) {
	for _, probe := range []bool{false, true} {
		s := stage(t, setting{lag: 3, probe: probe})
		issued, err := s.backend.Issue(t.Context(), s.order(good))
		if err != nil {
			t.Fatal(err)
		}
		if err := s.writes(t.Context(), issued.Values["token"], "widget"); (err == nil) != probe {
			t.Errorf("with probe %v the first use says: %v", probe, err)
		}
	}
}

func TestATokenIsHandedOverAlsoWhenTheProbeCannotSeeIt(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s := stage(t, setting{lag: 1000, probe: true})
	s.hub.Fault(func(r *http.Request) *githubsim.Fault {
		if strings.HasSuffix(r.URL.Path, "/repositories/456789") {
			cancel() // the request's end, while the probe asks
		}
		return nil
	})
	issued, err := s.backend.Issue(ctx, s.order(good))
	if err != nil || issued.Handle.Empty() {
		t.Errorf("%v: a token in hand can be revoked, one thrown away cannot", err)
	}
}

func TestAnInstallationMadeAnewIsFoundAgain(t *testing.T) {
	s := stage(t, setting{})
	if _, err := s.backend.Issue(t.Context(), s.order(good)); err != nil {
		t.Fatal(err)
	}
	s.hub.Uninstall(s.installation)
	_, err := s.backend.Issue(t.Context(), s.order(good))
	if !errors.Is(err, backend.ErrNotCreated) || errors.Is(err, backend.ErrUnavailable) || !strings.Contains(err.Error(), "not installed") {
		t.Errorf("uninstalled: %v", err)
	}
	s.hub.Install(s.app, "acme", "widget")
	if _, err := s.backend.Issue(t.Context(), s.order(good)); err != nil {
		t.Errorf("installed again: %v", err)
	}
	s.hub.Install(s.app, "acme", "widget") // replaces it: the cached id is gone
	if _, err := s.backend.Issue(t.Context(), s.order(good)); err != nil {
		t.Errorf("installed again, unnoticed: %v", err)
	}
}

func TestRefusalsSayWhatToDo(t *testing.T) {
	for _, c := range []struct{ name, block, says string }{
		{"no installation", `{repository_ids: [777], permissions: {contents: write}}`, "the App is not installed on repository 777"},
		{"no such repository", `{owner: acme, repositories: [nothing], permissions: {contents: write}}`, "/organizations/acme/settings/installations"},
		{"a permission the App lacks", `{repository_ids: [456789], permissions: {contents: write, secrets: write}}`, "the App lacks secrets: write on acme"},
		{"a level the App lacks", `{repository_ids: [456789], permissions: {members: write}}`, "the App lacks members: write on acme"},
		{"two owners", `{repository_ids: [456789, 777], permissions: {contents: write}}`, "is not in the App's installation on acme"},
		{"one repository outside", `{owner: acme, repositories: [widget, other], permissions: {contents: write}}`, "is not in the App's installation on acme"},
	} {
		s := stage(t, setting{})
		_, err := s.backend.Issue(t.Context(), s.order(c.block))
		if !errors.Is(err, backend.ErrNotCreated) || errors.Is(err, backend.ErrUnavailable) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v\n  want …%s… and ErrNotCreated alone", c.name, err, c.says)
		}
	}
}

func TestAnUnknownAppIsSaidToBeUnknown(t *testing.T) {
	s := stage(t, setting{})
	s.app.ClientID = "Iv23liNobody"
	s.open(setting{})
	_, err := s.backend.Issue(t.Context(), s.order(good))
	if !errors.Is(err, backend.ErrNotCreated) || !strings.Contains(err.Error(), "no App with this client_id") {
		t.Errorf("%v", err)
	}
}

func TestASuspendedInstallationIsSaidToBeSuspended(t *testing.T) {
	for name, f := range map[string]func(*http.Request) *githubsim.Fault{
		"seen when looking": func(*http.Request) *githubsim.Fault {
			return &githubsim.Fault{Before: 200, Body: `{"id":7,"target_type":"Organization","account":{"login":"acme"},"suspended_at":"2026-11-23T14:00:00Z"}`}
		},
		"seen when asking": func(r *http.Request) *githubsim.Fault {
			if !creates(r) {
				return nil
			}
			return &githubsim.Fault{Before: 403, Body: `{"message":"This installation has been suspended"}`}
		},
	} {
		s := stage(t, setting{})
		s.hub.Fault(f)
		_, err := s.backend.Issue(t.Context(), s.order(good))
		if !errors.Is(err, backend.ErrNotCreated) || !strings.Contains(err.Error(), "on acme is suspended") {
			t.Errorf("%s: %v", name, err)
		}
		s.hub.Fault(nil)
		if _, err := s.backend.Issue(t.Context(), s.order(good)); err != nil {
			t.Errorf("%s, and lifted: %v", name, err)
		}
	}
}

func TestAClockThatIsWrongIsNoticed(t *testing.T) {
	for _, c := range []struct {
		ahead time.Duration
		good  bool
	}{{30 * time.Second, true}, {-30 * time.Second, true}, {-90 * time.Second, true}, {20 * time.Minute, true}, {-20 * time.Minute, false}} {
		s := stage(t, setting{ahead: c.ahead})
		o := s.order(good)
		o.At = o.At.Add(c.ahead)
		issued, err := s.backend.Issue(t.Context(), o)
		if (err == nil) != c.good {
			t.Errorf("%v ahead: %v", c.ahead, err)
		}
		if c.good && issued.DiesAt.After(s.backend.Terms(o).DiesAt) || !c.good && len(s.hub.LiveTokens()) != 0 {
			t.Errorf("%v ahead: dies at %v, %d live", c.ahead, issued.DiesAt, len(s.hub.LiveTokens()))
		}
	}
}

func TestAnOrderThatWaitedTooLongIsNotFilled(t *testing.T) {
	s := stage(t, setting{})
	o := s.order(good)
	s.advance(time.Minute)
	_, err := s.backend.Issue(t.Context(), o)
	if !errors.Is(err, backend.ErrNotCreated) || errors.Is(err, backend.ErrUnavailable) || len(s.hub.Requests()) != 0 {
		t.Errorf("%v, after %d requests", err, len(s.hub.Requests()))
	}
}

func TestATokenForFewerRepositoriesIsNotHandedOut(t *testing.T) {
	s := stage(t, setting{transport: rewriting{func(a map[string]any) { a["repositories"] = a["repositories"].([]any)[:1] }}})
	_, err := s.backend.Issue(t.Context(), s.order(`{repository_ids: [456789, 456790], permissions: {contents: write}}`))
	if !errors.Is(err, backend.ErrNotCreated) || !strings.Contains(err.Error(), "1 of 2 repositories") || len(s.hub.LiveTokens()) != 0 {
		t.Errorf("%v, %d live tokens", err, len(s.hub.LiveTokens()))
	}
}

func TestOpenReadsTheKeyFileAndNothingElse(t *testing.T) {
	s := stage(t, setting{})
	path := filepath.Join(t.TempDir(), "app.pem")
	if err := os.WriteFile(path, s.app.KeyPEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	config := github.Config{API: s.hub.URL(), ClientID: s.app.ClientID, PrivateKey: path, Owner: "acme"}
	b, err := config.Open(s.now)
	if err != nil {
		t.Fatal(err)
	}
	s.backend = b
	if _, err := b.Issue(t.Context(), s.order(`{repositories: [widget], permissions: {contents: write}}`)); err != nil {
		t.Error(err)
	}
	for name, spoil := range map[string]func(*github.Config){
		"no file":     func(c *github.Config) { c.PrivateKey = filepath.Join(t.TempDir(), "none.pem") },
		"no key":      func(c *github.Config) { c.PrivateKey = "" },
		"no client":   func(c *github.Config) { c.ClientID = "" },
		"plain http":  func(c *github.Config) { c.API = "http://github.example/api/v3" },
		"a bad owner": func(c *github.Config) { c.Owner = "acme/widget" },
	} {
		broken := config
		spoil(&broken)
		if _, err := broken.Open(s.now); err == nil {
			t.Errorf("%s: opened", name)
		}
	}
}

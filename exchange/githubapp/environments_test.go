package githubapp_test

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stepkey/stepkey/exchange/githubapp"
	"github.com/stepkey/stepkey/internal/githubsim"
)

// checks is a watch whose App may read Actions and contents, and a reader for it.
func (w *watch) checks(t *testing.T) *githubapp.Checks {
	t.Helper()
	checks := w.client(t, func(c *githubapp.Config) { c.Now = w.now }).Checks()
	t.Cleanup(func() { _ = checks.Close(t.Context()) })
	return checks
}

// asked counts the requests below a repository, by their answer's status.
func (w *watch) asked(part string) map[int]int {
	count := map[int]int{}
	for _, r := range w.hub.Requests() {
		if strings.Contains(r.Path, part) {
			count[r.Status]++
		}
	}
	return count
}

func TestWhatProtectsAnEnvironmentIsReadByName(t *testing.T) {
	w := watchJobs(t, githubsim.Options{})
	checks := w.checks(t)
	for name, c := range map[string]struct {
		env  githubsim.Environment
		want []string
	}{
		"nothing":                       {githubsim.Environment{}, nil},
		"a reviewer":                    {githubsim.Environment{Reviewers: 1}, []string{"required_reviewers"}},
		"a wait":                        {githubsim.Environment{WaitTimer: 30}, []string{"wait_timer"}},
		"some branches":                 {githubsim.Environment{CustomBranches: true}, []string{"custom_branch_policies"}},
		"protected branches":            {githubsim.Environment{ProtectedBranches: true}, []string{"protected_branches"}},
		"another App":                   {githubsim.Environment{CustomRules: 1}, []string{"custom_rules"}},
		"a wait and reviewers":          {githubsim.Environment{WaitTimer: 1, Reviewers: 2}, []string{"wait_timer", "required_reviewers"}},
		"a name with / and % and space": {githubsim.Environment{WaitTimer: 1}, []string{"wait_timer"}},
	} {
		c.env.Name = name
		w.hub.SetEnvironment("acme", "widget", c.env)
		got, err := checks.Protection(t.Context(), fmt.Sprint(widgetID), strings.ToUpper(name[:1])+name[1:])
		if err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	live := w.hub.LiveTokens()
	if len(live) != 1 || !slices.Equal(live[0].RepositoryIDs, []int64{widgetID}) || live[0].Permissions["actions"] != "read" || live[0].Permissions["contents"] != "" {
		t.Errorf("read with %+v", live)
	}
	if err := checks.Close(t.Context()); err != nil || len(w.hub.LiveTokens()) != 0 {
		t.Errorf("after closing: %v, %d tokens live", err, len(w.hub.LiveTokens()))
	}
	if _, err := checks.Protection(t.Context(), fmt.Sprint(widgetID), "nothing"); err == nil || len(w.hub.Issued()) != 1 {
		t.Errorf("a closed reader reads: %v", err)
	}
}

func TestAnEnvironmentIsAskedForEveryTimeAndAnUnchangedOneIsFree(t *testing.T) {
	w := watchJobs(t, githubsim.Options{})
	checks := w.checks(t)
	w.hub.SetEnvironment("acme", "widget", githubsim.Environment{Name: "release", Reviewers: 1})
	for range 3 {
		if got, err := checks.Protection(t.Context(), fmt.Sprint(widgetID), "release"); err != nil || len(got) != 1 {
			t.Fatalf("%v, %v", got, err)
		}
	}
	if got := w.asked("/environments/"); got[http.StatusOK] != 1 || got[http.StatusNotModified] != 2 {
		t.Errorf("answered %v; want one 200 and two 304, which draw on no rate limit", got)
	}
	w.hub.SetEnvironment("acme", "widget", githubsim.Environment{Name: "release"})
	if got, err := checks.Protection(t.Context(), fmt.Sprint(widgetID), "release"); err != nil || len(got) != 0 {
		t.Errorf("once the rules are gone: %v, %v", got, err)
	}
}

func TestAnEnvironmentThatOnlyAJobNamedHasNoProtection(t *testing.T) {
	w := watchJobs(t, githubsim.Options{})
	w.hub.StartJob(githubsim.JobSpec{Repository: "acme/widget", Environment: "release"})
	if got, err := w.checks(t).Protection(t.Context(), fmt.Sprint(widgetID), "release"); err != nil || len(got) != 0 {
		t.Errorf("%v, %v", got, err)
	}
}

func TestRulesOfAKindNobodyKnowsAndRulesWithoutEffectDoNotCount(t *testing.T) {
	w := watchJobs(t, githubsim.Options{})
	w.hub.Fault(func(r *http.Request) *githubsim.Fault {
		switch {
		case strings.HasSuffix(r.URL.Path, "/environments/release"):
			return &githubsim.Fault{Before: http.StatusOK, Body: `{"name":"release","protection_rules":[{"type":"branch_policy"},{"type":"wait_timer","wait_timer":0},` +
				`{"type":"required_reviewers","reviewers":[]},{"type":"moon_phase"}],"deployment_branch_policy":{"protected_branches":false,"custom_branch_policies":false}}`}
		case strings.HasSuffix(r.URL.Path, "/deployment_protection_rules"):
			return &githubsim.Fault{Before: http.StatusOK, Body: `{"total_count":1,"custom_deployment_protection_rules":[{"enabled":false}]}`}
		}
		return nil
	})
	if got, err := w.checks(t).Protection(t.Context(), fmt.Sprint(widgetID), "release"); err != nil || len(got) != 0 {
		t.Errorf("%v, %v", got, err)
	}
}

func TestNoAnswerIsNoProtection(t *testing.T) {
	w := watchJobs(t, githubsim.Options{})
	checks := w.checks(t)
	ask := func(repository, environment string) error {
		got, err := checks.Protection(t.Context(), repository, environment)
		if len(got) != 0 {
			t.Errorf("%s %q is protected by %v", repository, environment, got)
		}
		return err
	}
	for _, bad := range [][2]string{{"0", "release"}, {"acme/widget", "release"}, {"456789", ""}, {"456789", "."}, {"456789", ".."}} {
		if err := ask(bad[0], bad[1]); err == nil {
			t.Errorf("%v was asked for", bad)
		}
	}
	if n := len(w.hub.Requests()); n != 0 {
		t.Errorf("%d requests for what cannot be", n)
	}
	var refused *githubapp.Error
	if err := ask(fmt.Sprint(widgetID), "unheard-of"); !errors.As(err, &refused) || refused.Status != http.StatusNotFound {
		t.Errorf("no such environment: %v", err)
	}
	if err := ask("4", "release"); !errors.As(err, &refused) || refused.Status != http.StatusNotFound {
		t.Errorf("no such repository: %v", err)
	}
	w.hub.SetEnvironment("acme", "widget", githubsim.Environment{Name: "release", Reviewers: 1})
	for name, fault := range map[string]githubsim.Fault{
		"down":                {Before: http.StatusBadGateway},
		"cut":                 {DropBefore: true},
		"another environment": {Before: http.StatusOK, Body: `{"name":"staging","protection_rules":[{"type":"wait_timer","wait_timer":1}]}`},
		"no JSON":             {Before: http.StatusOK, Body: `<html>`},
	} {
		w.hub.Fault(func(r *http.Request) *githubsim.Fault {
			if strings.Contains(r.URL.Path, "/environments/") {
				return &fault
			}
			return nil
		})
		if err := ask(fmt.Sprint(widgetID), "release"); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestAnAppThatMayNotReadEnvironmentsSaysWhatToDo(t *testing.T) {
	w := watchJobs(t, githubsim.Options{})
	w.app = w.hub.AddApp(githubsim.App{Key: appKey(), Permissions: map[string]string{"contents": "write"}})
	w.hub.Install(w.app, "acme")
	_, err := w.checks(t).Protection(t.Context(), fmt.Sprint(widgetID), "release")
	if err == nil || !strings.Contains(err.Error(), "lacks the permission actions: read") || len(w.hub.Issued()) != 0 {
		t.Errorf("%v, %d tokens", err, len(w.hub.Issued()))
	}
}

func TestANewTokenIsGivenTimeAndADeadOneIsReplaced(t *testing.T) {
	w := watchJobs(t, githubsim.Options{FirstUseLag: 3})
	checks := w.checks(t)
	w.hub.SetEnvironment("acme", "widget", githubsim.Environment{Name: "release", Reviewers: 1})
	ask := func() error {
		_, err := checks.Protection(t.Context(), fmt.Sprint(widgetID), "release")
		return err
	}
	if err := ask(); err != nil || len(w.hub.Issued()) != 1 {
		t.Errorf("in its first seconds: %v, %d tokens", err, len(w.hub.Issued()))
	}
	w.hub.Install(w.app, "acme") // anew: what was made before is dead
	w.wait(2 * time.Minute)
	for range 4 {
		if err := ask(); err == nil {
			return
		}
	}
	t.Error("the App's new installation is not found")
}

func TestGitHubIsLeftAloneWhileItAsksForThat(t *testing.T) {
	w := watchJobs(t, githubsim.Options{})
	checks := w.checks(t)
	w.hub.SetEnvironment("acme", "widget", githubsim.Environment{Name: "release", Reviewers: 1})
	w.hub.Fault(func(r *http.Request) *githubsim.Fault {
		if strings.Contains(r.URL.Path, "/environments/") {
			return &githubsim.Fault{Before: http.StatusTooManyRequests, Header: http.Header{"Retry-After": {"900"}}}
		}
		return nil
	})
	ask := func() error {
		_, err := checks.Protection(t.Context(), fmt.Sprint(widgetID), "release")
		return err
	}
	_ = ask()
	w.hub.Fault(nil)
	before := len(w.hub.Requests())
	var waits *githubapp.Error
	if err := ask(); !errors.As(err, &waits) || !waits.RetryAt.Equal(noon.Add(15*time.Minute)) || len(w.hub.Requests()) != before {
		t.Errorf("%v, asked %d times", err, len(w.hub.Requests())-before)
	}
	w.wait(15 * time.Minute)
	if err := ask(); err != nil {
		t.Errorf("once it is over: %v", err)
	}
}

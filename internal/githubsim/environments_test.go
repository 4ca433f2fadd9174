package githubsim_test

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/stepkey/stepkey/internal/githubsim"
)

func TestAnEnvironmentIsShownWithItsRules(t *testing.T) {
	s := newScene(t, githubsim.Options{})
	token := s.token(fmt.Sprintf(`{"repository_ids":[%d],"permissions":{"actions":"read"}}`, s.widget.ID))
	s.hub.SetEnvironment("acme", "widget", githubsim.Environment{Name: "Release/eu", Reviewers: 2, WaitTimer: 30, CustomBranches: true, CustomRules: 1})
	s.hub.StartJob(githubsim.JobSpec{Repository: "acme/widget", Environment: "staging"})
	path := "/repos/acme/widget/environments/"
	got := s.call("GET", path+"release%2Feu", token, "")
	for _, part := range []string{
		`"name":"Release/eu"`, `"type":"wait_timer","wait_timer":30`, `"login":"reviewer-2"`, `"type":"branch_policy"`,
		`"deployment_branch_policy":{"custom_branch_policies":true,"protected_branches":false}`,
	} {
		if !strings.Contains(got.body, part) {
			t.Errorf("%s is not in %d %s", part, got.status, got.body)
		}
	}
	if got := s.call("GET", path+"release%2Feu/deployment_protection_rules", token, ""); got.field(t, "total_count") != 1.0 || !strings.Contains(got.body, `"enabled":true`) {
		t.Errorf("custom rules: %d %s", got.status, got.body)
	}
	if got := s.call("GET", path+"staging", token, ""); got.status != http.StatusOK || got.field(t, "deployment_branch_policy") != nil || len(got.field(t, "protection_rules").([]any)) != 0 {
		t.Errorf("one that only a job named: %d %s", got.status, got.body)
	}
}

func TestAnEnvironmentIsShownToNobodyElse(t *testing.T) {
	s := newScene(t, githubsim.Options{})
	s.hub.SetEnvironment("acme", "widget", githubsim.Environment{Name: "release", Reviewers: 1})
	s.hub.SetEnvironment("acme", "gadget", githubsim.Environment{Name: "release", Reviewers: 1})
	s.hub.SetEnvironment("acme", "docs", githubsim.Environment{Name: "release", Reviewers: 1})
	actions := s.token(fmt.Sprintf(`{"repository_ids":[%d],"permissions":{"actions":"read"}}`, s.widget.ID))
	contents := s.token(fmt.Sprintf(`{"repository_ids":[%d],"permissions":{"contents":"read"}}`, s.widget.ID))
	for _, c := range []struct {
		path, token string
		want        int
	}{
		{"/repos/acme/widget/environments/release", actions, http.StatusOK},
		{"/repos/acme/widget/environments/release", contents, http.StatusForbidden},
		{"/repos/acme/widget/environments/release", "", http.StatusNotFound},
		{"/repos/acme/widget/environments/other", actions, http.StatusNotFound},
		{"/repos/acme/gadget/environments/release", actions, http.StatusNotFound},
		{"/repos/acme/docs/environments/release", "", http.StatusOK}, // public
	} {
		if got := s.call("GET", c.path, c.token, ""); got.status != c.want {
			t.Errorf("%s: %d, want %d", c.path, got.status, c.want)
		}
	}
}

func TestACommitHoldsForEverWhatItHeld(t *testing.T) {
	s := newScene(t, githubsim.Options{})
	token := s.token(fmt.Sprintf(`{"repository_ids":[%d],"permissions":{"contents":"read"}}`, s.widget.ID))
	s.hub.AddFile("acme", "widget", "a/b.txt", []byte("first"))
	first := s.hub.Head("acme", "widget")
	s.hub.AddFile("acme", "widget", "a/b.txt", []byte("second"))
	s.hub.AddFile("acme", "widget", "large", make([]byte, 1<<20+1))
	read := func(path, ref string) reply {
		return s.call("GET", "/repos/acme/widget/contents/"+path+"?ref="+ref, token, "")
	}
	for ref, want := range map[string]string{first: "first", s.hub.Head("acme", "widget"): "second", "main": "second"} {
		got := read("a/b.txt", ref)
		if text, err := base64.StdEncoding.DecodeString(fmt.Sprint(got.field(t, "content"))); err != nil || string(text) != want {
			t.Errorf("at %s: %d %s", ref, got.status, got.body)
		}
	}
	if got := read("large", first); got.status != http.StatusNotFound {
		t.Errorf("a file that came later: %d", got.status)
	}
	if got := read("large", "main"); got.field(t, "encoding") != "none" || got.field(t, "content") != "" {
		t.Errorf("a large file: %d %s", got.status, got.field(t, "encoding"))
	}
	if got := read("a/b.txt", strings.Repeat("0", 40)); got.status != http.StatusNotFound || !strings.Contains(got.body, "No commit found for the ref") {
		t.Errorf("a commit that never was: %d %s", got.status, got.body)
	}
}

package policy_test

import (
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stepkey/stepkey/exchange/policy"
	"github.com/stepkey/stepkey/internal/yamlfile"
)

// requiring is a task file that requires this, whose second entry of allow matches these
// claims as well.
func requiring(require, second string) fstest.MapFS {
	return fstest.MapFS{"t.yaml": {Data: []byte(`task: t
purpose: Upload.
allow:
  - issuer: github
    claims: {repository_id: "456789", event_name: push, environment: release}
  - issuer: github
    claims: {repository_id: "456789", event_name: release` + second + `}
credential:
  github: {owner: acme, repositories: [widget], permissions: {contents: write}}
limits: {ttl: 10m}
` + require)}}
}

func TestATaskSaysWhatItRequiresOfGitHub(t *testing.T) {
	for require, want := range map[string]policy.Required{
		"":                                   {},
		"require: [protected_environment]\n": {ProtectedEnvironment: true},
		"require: [pinned_workflow]\n":       {PinnedWorkflow: true},
		"require:\n  - pinned_workflow\n  - protected_environment\n": {ProtectedEnvironment: true, PinnedWorkflow: true},
	} {
		set, err := policy.Load(requiring(require, ", environment: release"), check())
		if err != nil {
			t.Errorf("%q: %v", require, err)
			continue
		}
		grant, err := set.Authorize(release(nil), policy.Asked{Task: "t"})
		if err != nil || grant.Require != want || set.Tasks()[0].Require != want {
			t.Errorf("%q: granted with %+v, %v", require, grant.Require, err)
		}
	}
	if got := (policy.Required{ProtectedEnvironment: true, PinnedWorkflow: true}).Words(); !slices.Equal(got, []string{"protected_environment", "pinned_workflow"}) {
		t.Errorf("in words: %v", got)
	}
}

func TestWhatNobodyCanRequireIsRefusedWithItsPlace(t *testing.T) {
	const named = ", environment: release"
	for name, c := range map[string]struct{ require, second, says string }{
		"another word":         {"require: [signed_commits]", named, `t.yaml:11:11: "signed_commits" is nothing that can be required (there is: protected_environment, pinned_workflow)`},
		"a word in capitals":   {"require: [Pinned_Workflow]", named, `t.yaml:11:11: "Pinned_Workflow" is nothing that can be required`},
		"a word twice":         {"require: [pinned_workflow, pinned_workflow]", named, `t.yaml:11:28: "pinned_workflow" is listed twice`},
		"no word":              {"require: []", named, "t.yaml:11:10: the list is empty"},
		"no list":              {"require: pinned_workflow", named, "t.yaml:11:10: want a list"},
		"nothing":              {"require:", named, "t.yaml:11:"},
		"no environment named": {"require: [protected_environment]", "", "t.yaml:11:11: protected_environment needs the claim environment in every entry of allow; t.yaml:6 has none"},
	} {
		set, err := policy.Load(requiring(c.require+"\n", c.second), check())
		faults := yamlfile.Faults(err)
		if set != nil || len(faults) != 1 || !strings.HasPrefix(faults[0].Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

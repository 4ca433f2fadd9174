package policy_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/exchange/identity"
	"github.com/stepkey/stepkey/exchange/policy"
)

var widget = policy.Repository{ID: 456789, Owner: "acme", Name: "widget"}

// homely reads blocks whose scopes can tell where they reach.
type homely struct{}

type homelyScope struct{ fakeScope }

func (homely) Scope(b backend.Block) (backend.Scope, error) {
	s, err := fakeGitHub{}.Scope(b)
	if err != nil {
		return nil, err
	}
	return homelyScope{s.(fakeScope)}, nil
}

func (s homelyScope) Covers(other backend.Scope) bool {
	o, ok := other.(homelyScope)
	return ok && s.fakeScope.Covers(o.fakeScope)
}

func (s homelyScope) OnlyRepository(id int64, owner, name string) bool {
	for _, r := range s.Repositories {
		if r != name || s.Owner != owner {
			return false
		}
	}
	for _, r := range s.IDs {
		if r != id {
			return false
		}
	}
	return true
}

func ownCheck(b policy.Scoper) policy.Check {
	return policy.Check{Issuers: []identity.Issuer{{Name: "github", Kind: "github"}}, Backends: map[string]policy.Scoper{"github": b}}
}

// reaching is a task file with this credential.
func reaching(task, credential string) []byte {
	return fmt.Appendf(nil, "task: %s\npurpose: Something.\nallow:\n  - issuer: github\n    claims: {repository_id: \"1\", event_name: push}\ncredential:\n  github: %s\nlimits: {ttl: 10m}\n", task, credential)
}

func pushed() identity.Workload {
	return identity.Workload{Issuer: "github", Claims: identity.Claims{"repository_id": "1", "event_name": "push"}}
}

func TestARepositoryCanGrantAccessToItself(t *testing.T) {
	for name, credential := range map[string]string{
		"by name": "{owner: acme, repositories: [widget], permissions: {contents: write}}",
		"by id":   "{owner: acme, repository_ids: [456789], permissions: {contents: write}}",
	} {
		t.Run(name, func(t *testing.T) {
			own, err := policy.LoadOwn(map[string][]byte{"release.yaml": reaching("release", credential)}, widget, ownCheck(homely{}))
			if err != nil {
				t.Fatal(err)
			}
			grant, err := own.Authorize(pushed(), policy.Asked{Task: "acme/widget:release"})
			if err != nil || grant.Task != "acme/widget:release" || grant.Rule != "acme/widget/release.yaml:4" || grant.TTL != 10*time.Minute {
				t.Errorf("%+v, %v", grant, err)
			}
		})
	}
}

func TestARepositoryCanGrantAccessToNothingElse(t *testing.T) {
	good := "{owner: acme, repositories: [widget], permissions: {contents: write}}"
	for name, c := range map[string]struct {
		credential string
		scoper     policy.Scoper
	}{
		"another by name":                 {"{owner: acme, repositories: [gadget], permissions: {contents: read}}", homely{}},
		"another owner's of its name":     {"{owner: example, repositories: [widget], permissions: {contents: read}}", homely{}},
		"another by id":                   {"{owner: acme, repository_ids: [1], permissions: {contents: read}}", homely{}},
		"itself and another":              {"{owner: acme, repositories: [widget, gadget], permissions: {contents: read}}", homely{}},
		"a scope that cannot tell":        {good, fakeGitHub{}},
		"a backend that it may not name":  {good, nil},
		"nothing that a backend can read": {"{owner: acme}", homely{}},
	} {
		t.Run(name, func(t *testing.T) {
			check := ownCheck(c.scoper)
			if c.scoper == nil {
				check.Backends = map[string]policy.Scoper{"vault": homely{}}
			}
			files := map[string][]byte{"good.yaml": reaching("good", good), "bad.yaml": reaching("bad", c.credential)}
			own, err := policy.LoadOwn(files, widget, check)
			var broken *policy.Broken
			if own != nil || !errors.As(err, &broken) || broken.Repository != "acme/widget" {
				t.Fatalf("%v, %v", own, err)
			}
			if !strings.Contains(err.Error(), "bad.yaml:7:") || strings.Contains(err.Error(), "\n") {
				t.Errorf("it says %s", err)
			}
		})
	}
}

// Where the credential depends on who asks, the file alone does not tell where it reaches.
func TestWhatATemplateReachesIsLookedAtWhenItIsAskedFor(t *testing.T) {
	text := strings.Replace(string(reaching("release", `{owner: acme, repositories: ["${inputs.where}"], permissions: {contents: write}}`)),
		"allow:\n", "inputs:\n  where: {enum: [gadget, widget]}\nallow:\n", 1)
	own, err := policy.LoadOwn(map[string][]byte{"release.yaml": []byte(text)}, widget, ownCheck(homely{}))
	if err != nil {
		t.Fatal(err)
	}
	for where, good := range map[string]bool{"widget": true, "gadget": false} {
		grant, err := own.Authorize(pushed(), policy.Asked{Task: "acme/widget:release", Inputs: map[string]string{"where": where}})
		var broken *policy.Broken
		if good && (err != nil || grant.Scope == nil) || !good && (!errors.As(err, &broken) || grant.Scope != nil || !strings.Contains(err.Error(), "gadget")) {
			t.Errorf("%s: %+v, %v", where, grant, err)
		}
	}
}

func TestARepositorysTaskHasOneNameAndItsDenialsTellIt(t *testing.T) {
	own, err := policy.LoadOwn(map[string][]byte{"release.yaml": reaching("release", "{owner: acme, repositories: [widget], permissions: {contents: write}}")}, widget, ownCheck(homely{}))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"release", "Acme/widget:release", "acme/Widget:release", "acme/widget:deploy", "acme/widget:acme/widget:release", "acme/widget/release"} {
		_, err := own.Authorize(pushed(), policy.Asked{Task: name})
		var unknown *policy.UnknownTask
		if !errors.As(err, &unknown) || unknown.Task != name {
			t.Errorf("%s: %v", name, err)
		}
	}
	stranger := pushed()
	stranger.Claims["repository_id"] = "2"
	_, err = own.Authorize(stranger, policy.Asked{Task: "acme/widget:release"})
	var denial *policy.Denial
	if !errors.As(err, &denial) || denial.Task != "acme/widget:release" {
		t.Errorf("a stranger: %v", err)
	}
}

func TestWhatIsGoneIsToldByItsWholeName(t *testing.T) {
	file := func(name string) []byte {
		return reaching(name, "{owner: acme, repositories: [widget], permissions: {contents: write}}")
	}
	before, err1 := policy.LoadOwn(map[string][]byte{"a.yaml": file("a"), "b.yaml": file("b")}, widget, ownCheck(homely{}))
	later, err2 := policy.LoadOwn(map[string][]byte{"b.yaml": file("b"), "c.yaml": file("c")}, widget, ownCheck(homely{}))
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	if got := before.Gone(later); len(got) != 1 || got[0] != "acme/widget:a" {
		t.Errorf("%v", got)
	}
}

func TestARepositorysTaskIsToldFromTheFoldersByItsName(t *testing.T) {
	if owner, name, own := policy.RepositoryOf("acme/widget:release"); owner != "acme" || name != "widget" || !own {
		t.Errorf("%q %q %v", owner, name, own)
	}
	for _, task := range []string{"publish-release", "acme:release", "acme/widget", ""} {
		if _, _, own := policy.RepositoryOf(task); own {
			t.Errorf("%q is taken for a repository's", task)
		}
	}
}

package policy_test

import (
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/stepkey/stepkey/exchange/identity"
	"github.com/stepkey/stepkey/exchange/policy"
)

func good(t testing.TB) *policy.Set {
	t.Helper()
	set, err := policy.Load(os.DirFS(corpus+"good"), check())
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// release is a workload that may have publish-release; change makes it another,
// nil takes a claim away.
func release(change identity.Claims) identity.Workload {
	c := identity.Claims{
		"repository_id": "456789", "repository_owner_id": "123456", "repository": "acme/widget",
		"environment": "release", "event_name": "push", "ref": "refs/tags/v1.2.3",
		"sub": "repo:acme/widget:environment:release", "actor": "octocat",
	}
	for name, value := range change {
		if c[name] = value; value == nil {
			delete(c, name)
		}
	}
	return identity.Workload{Issuer: "github", TokenID: "jti", Claims: c}
}

func TestAWorkloadThatHoldsEverythingGetsTheWholeTask(t *testing.T) {
	grant, err := good(t).Authorize(release(nil), policy.Asked{Task: "publish-release"})
	if err != nil {
		t.Fatal(err)
	}
	scope := grant.Scope.String()
	grant.Scope = nil
	want := policy.Grant{
		Task: "publish-release", Purpose: "Upload the assets of a tagged release of acme/widget.",
		Backend: "github", TTL: 10 * time.Minute, PerJob: 1, Until: policy.UntilJob, Rule: "publish-release.yaml:4",
	}
	if diff := cmp.Diff(want, grant); diff != "" || scope != "contents: write on acme/widget" {
		t.Errorf("%s%s", scope, diff)
	}
}

func TestWhoeverMissesOneClaimIsDeniedWithItsNameAndPlace(t *testing.T) {
	const (
		issuer = "publish-release.yaml:4: issuer is "
		owner  = "publish-release.yaml:6: repository_owner_id is "
		repo   = "publish-release.yaml:7: repository_id is "
		env    = "publish-release.yaml:8: environment is "
		event  = "publish-release.yaml:9: event_name is "
	)
	for name, c := range map[string]struct {
		change identity.Claims
		reason string
	}{
		"another repository of the same name": {identity.Claims{"repository_id": "999"}, repo + `"999", wanted "456789"`},
		"an owner who took the name over":     {identity.Claims{"repository_owner_id": "999"}, owner + `"999", wanted "123456"`},
		"no owner":                            {identity.Claims{"repository_owner_id": nil}, owner + `absent, wanted "123456"`},
		"an owner as a list":                  {identity.Claims{"repository_owner_id": []any{"123456"}}, owner + `absent, wanted "123456"`},
		"an owner as an object":               {identity.Claims{"repository_owner_id": map[string]any{"id": "123456"}}, owner + `absent, wanted "123456"`},
		"an owner in another spelling":        {identity.Claims{"repository_owner_id": json.Number("123456.0")}, owner + `"123456.0", wanted "123456"`},
		"an owner with a space":               {identity.Claims{"repository_owner_id": " 123456"}, owner + `" 123456", wanted "123456"`},
		"another case":                        {identity.Claims{"environment": "Release"}, env + `"Release", wanted "release"`},
		"a longer value":                      {identity.Claims{"environment": "release-evil"}, env + `"release-evil", wanted "release"`},
		"a value that clears the terminal":    {identity.Claims{"environment": "\x1b[2J"}, env + `"\x1b[2J", wanted "release"`},
		"a pull request of a stranger":        {identity.Claims{"event_name": "pull_request_target"}, event + `"pull_request_target", wanted "push" or "workflow_dispatch"`},
		"values joined with a comma":          {identity.Claims{"event_name": "push,workflow_dispatch"}, event + `"push,workflow_dispatch", wanted "push" or "workflow_dispatch"`},
		"another issuer":                      {identity.Claims{"issuer": "ghes"}, issuer + `"ghes", wanted "github"`},
		"no issuer":                           {identity.Claims{"issuer": ""}, issuer + `absent, wanted "github"`},
	} {
		t.Run(name, func(t *testing.T) {
			who := release(c.change)
			if issuer, other := c.change["issuer"]; other {
				who.Issuer = issuer.(string)
			}
			grant, err := good(t).Authorize(who, policy.Asked{Task: "publish-release"})
			var denial *policy.Denial
			if !errors.As(err, &denial) || grant != (policy.Grant{}) {
				t.Fatalf("got %v, %v; want a denial", grant, err)
			}
			if want := `task "publish-release" denied: ` + c.reason; err.Error() != want || denial.Reason() != c.reason {
				t.Errorf("got  %s\nwant %s", err, want)
			}
		})
	}
}

func TestADenialSaysForEveryEntryWhatDidNotHold(t *testing.T) {
	_, err := good(t).Authorize(release(nil), policy.Asked{Task: "read-packages"})
	var denial *policy.Denial
	if !errors.As(err, &denial) {
		t.Fatal(err)
	}
	want := []policy.Miss{
		{Entry: "read-packages.yaml:6", Place: "read-packages.yaml:7", Claim: "ref", Wanted: []string{"refs/heads/main"}, Saw: "refs/tags/v1.2.3", Present: true},
		{Entry: "read-packages.yaml:8", Place: "read-packages.yaml:8", Claim: "issuer", Wanted: []string{"ghes"}, Saw: "github", Present: true},
	}
	if diff := cmp.Diff(want, denial.Misses); diff != "" {
		t.Error(diff)
	}
}

func TestTheSecondEntryLetsInWhomTheFirstDoesNot(t *testing.T) {
	who := identity.Workload{Issuer: "ghes", Claims: identity.Claims{
		"repository_owner_id": "7", "event_name": "push", "runner_environment": "self-hosted"}}
	grant, err := good(t).Authorize(who, policy.Asked{Task: "read-packages"})
	if err != nil || grant.Rule != "read-packages.yaml:8" {
		t.Errorf("got rule %q, %v", grant.Rule, err)
	}
}

func TestSubInAnyShapeDecidesNothing(t *testing.T) {
	for _, sub := range []any{
		nil, "", "repo:acme/widget:environment:release", "repo:acme@123456/widget@456789:environment:release", "repo:evil/widget:pull_request",
	} {
		if _, err := good(t).Authorize(release(identity.Claims{"sub": sub}), policy.Asked{Task: "publish-release"}); err != nil {
			t.Errorf("with sub %v: %v", sub, err)
		}
		if _, err := good(t).Authorize(release(identity.Claims{"sub": sub, "repository_id": "1"}), policy.Asked{Task: "publish-release"}); err == nil {
			t.Errorf("with sub %v another repository is let in", sub)
		}
	}
}

func TestAPropertyMatchesByWholeElements(t *testing.T) {
	for tier, let := range map[string]bool{
		"prod": true, "canary": true, "prod,internal": true, "internal,prod": true, "x,canary,y": true,
		"": false, "nonprod": false, "nonprod,x": false, "x, prod": false, "prod-eu": false, "PROD": false, ",": false, "prod;x": false,
	} {
		who := release(identity.Claims{
			"event_name": "workflow_dispatch", "ref_protected": true, "repo_property_tier": tier,
			"job_workflow_ref": "acme/ci/.github/workflows/deploy.yml@refs/heads/main",
			"workflow_ref":     "acme/widget/.github/workflows/release.yml@refs/heads/main",
		})
		if _, err := good(t).Authorize(who, policy.Asked{Task: "deploy-prod"}); (err == nil) != let {
			t.Errorf("tier %q: %v", tier, err)
		}
	}
}

func TestAskingMayOnlyNarrow(t *testing.T) {
	const most = " was asked for; the task gives at most 10m, and asking may only narrow"
	for asked, want := range map[time.Duration]any{
		0:                             10 * time.Minute,
		time.Second:                   time.Second,
		5 * time.Minute:               5 * time.Minute,
		10 * time.Minute:              10 * time.Minute,
		10*time.Minute + 1:            "a lifetime of 10m0.000000001s" + most,
		time.Hour:                     "a lifetime of 1h" + most,
		1<<63 - 1:                     "a lifetime of 2562047h47m16.854775807s" + most,
		time.Second - time.Nanosecond: "a lifetime of 999.999999ms was asked for; the least is 1s",
		-time.Minute:                  "a lifetime of -1m was asked for; the least is 1s",
	} {
		grant, err := good(t).Authorize(release(nil), policy.Asked{Task: "publish-release", TTL: asked})
		var denial *policy.Denial
		switch want := want.(type) {
		case time.Duration:
			if err != nil || grant.TTL != want {
				t.Errorf("asked %s: got %s, %v", asked, grant.TTL, err)
			}
		case string:
			if !errors.As(err, &denial) || denial.Asked != want || grant != (policy.Grant{}) {
				t.Errorf("asked %s: got %v, want %s", asked, err, want)
			}
		}
	}
}

func TestWhoIsNotLetInIsNotToldTheLimits(t *testing.T) {
	_, err := good(t).Authorize(release(identity.Claims{"repository_id": "1"}), policy.Asked{Task: "publish-release", TTL: time.Hour})
	var denial *policy.Denial
	if !errors.As(err, &denial) || denial.Asked != "" || strings.Contains(err.Error(), "10m") {
		t.Error(err)
	}
}

func TestAnUnknownTaskIsNamedAndNoOther(t *testing.T) {
	for name, set := range map[string]*policy.Set{"of four tasks": good(t), "zero": {}} {
		for _, task := range []string{"", "publish-releas", "PUBLISH-RELEASE", "publish-release ", "../publish-release", strings.Repeat("x", 10_000)} {
			grant, err := set.Authorize(release(nil), policy.Asked{Task: task})
			var unknown *policy.UnknownTask
			if !errors.As(err, &unknown) || unknown.Task != task || grant != (policy.Grant{}) {
				t.Errorf("%s: %v", name, err)
				continue
			}
			if near := map[string]string{"publish-releas": "publish-release", "PUBLISH-RELEASE": "publish-release", "publish-release ": "publish-release"}[task]; name != "zero" && task != "../publish-release" && unknown.Near != near { //nolint:gocritic // mapKey: the space is meant
				t.Errorf("%q is near %q, want %q", task, unknown.Near, near)
			}
			if len(err.Error()) > 100 || strings.Contains(err.Error(), "deploy") {
				t.Errorf("%s: says too much: %v", name, err)
			}
		}
	}
}

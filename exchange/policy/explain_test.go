package policy_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/stepkey/stepkey/exchange/identity"
	"github.com/stepkey/stepkey/exchange/policy"
	"github.com/stepkey/stepkey/internal/yamlfile"
)

// twoWays lets a release in from GitHub by tag, and from GHES by input alone.
const twoWays = `task: publish-release
purpose: Upload the assets of a tagged release.
inputs:
  version: {pattern: "v[0-9]+", example: v1, about: the version}
allow:
  - issuer: github
    claims:
      repository_id: "456789"
      event_name: [push, release]
    when:
      - claims.ref == "refs/tags/" + inputs.version
      - size(claims.environment) > 0
  - issuer: ghes
    claims: {repository_id: "456789", event_name: push}
require: [pinned_workflow]
credential:
  github: {owner: acme, repositories: ["${inputs.version}"], repository_ids: [456789], permissions: {contents: write}}
limits: {ttl: 10m}
`

// publishing is the set of one task, publish-release.
func publishing(t testing.TB, task string) *policy.Set {
	t.Helper()
	set, err := policy.Load(fstest.MapFS{"publish-release.yaml": {Data: []byte(task)}}, check())
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func TestAnExplanationTellsOfEveryRuleWhatItWantedAndSaw(t *testing.T) {
	who := identity.Workload{Issuer: "github", Claims: identity.Claims{
		"repository_id": "456789", "event_name": "pull_request", "ref": "refs/heads/main"}}
	e := publishing(t, twoWays).Explain(who, policy.Asked{Task: "publish-release", TTL: time.Hour, Inputs: map[string]string{"version": "v1"}})
	const want = `✗ task "publish-release" is denied: publish-release.yaml:9: event_name is "pull_request", wanted "push" or "release"; publish-release.yaml:13: issuer is "github", wanted "ghes"
  ✗ entry publish-release.yaml:6
    ✓ publish-release.yaml:6: issuer is "github", wanted "github"
    ✓ publish-release.yaml:8: repository_id is "456789", wanted "456789"
    ✗ publish-release.yaml:9: event_name is "pull_request", wanted "push" or "release"
    ✗ publish-release.yaml:11: when: claims.ref == "refs/tags/" + inputs.version is false (ref is "refs/heads/main", inputs.version is "v1")
    ✗ publish-release.yaml:12: when: size(claims.environment) > 0 cannot be decided: no such claim: environment (environment is absent)
  ✗ entry publish-release.yaml:13
    ✗ publish-release.yaml:13: issuer is "github", wanted "ghes"
    ✓ publish-release.yaml:14: repository_id is "456789", wanted "456789"
    ✗ publish-release.yaml:14: event_name is "pull_request", wanted "push"
  ✓ inputs: version is "v1"
  ✗ ttl: a lifetime of 1h was asked for; the task gives at most 10m, and asking may only narrow
  ✓ credential: contents: write on acme/v1
  – require: pinned_workflow (only the exchange asks, at each request)
`
	if diff := cmp.Diff(want, e.Tree()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestWhatComesAfterAFaultIsNotPassedOffAsDecided(t *testing.T) {
	who := identity.Workload{Issuer: "github", Claims: identity.Claims{
		"repository_id": "456789", "event_name": "push", "ref": "refs/tags/v1", "environment": "release"}}
	e := publishing(t, twoWays).Explain(who, policy.Asked{Task: "publish-release", Inputs: map[string]string{"version": "latest"}})
	if got := e.Entries[0].Rules[3].Verdict; got != policy.Unasked {
		t.Errorf("a condition on a wrong input %s", got)
	}
	verdicts := map[string]policy.Verdict{}
	for _, c := range e.Checks {
		verdicts[c.What] = c.Verdict
	}
	want := map[string]policy.Verdict{"inputs": policy.Fails, "ttl": policy.Holds, "credential": policy.Unasked, "require": policy.Unasked}
	if diff := cmp.Diff(want, verdicts); diff != "" {
		t.Error(diff)
	}
}

func TestAnUnknownTaskHasNothingToExplain(t *testing.T) {
	e := good(t).Explain(release(nil), policy.Asked{Task: "publish-releas"})
	if e.Granted() || len(e.Entries)+len(e.Checks) > 0 || e.Tree() != "✗ task \"publish-releas\" is denied: there is no task \"publish-releas\"; did you mean \"publish-release\"?\n" {
		t.Errorf("%+v\n%s", e, e.Tree())
	}
}

// Whoever asks for whatever, the tree adds up to what Authorize says, and shows what a
// denial names, in the same words.
func TestAnExplanationAddsUpToTheDecision(t *testing.T) {
	set := publishing(t, twoWays)
	verdicts := map[bool]int{}
	rapid.Check(t, func(t *rapid.T) {
		who, asked := drawAsker(t)
		grant, err := set.Authorize(who, asked)

		e := set.Explain(who, asked)

		if diff := cmp.Diff(grant, e.Grant); diff != "" || (err == nil) != e.Granted() || fmt.Sprint(err) != fmt.Sprint(e.Denied) {
			t.Fatalf("Authorize says %v, Explain %v%s", err, e.Denied, diff)
		}
		admitted := slices.ContainsFunc(e.Entries, holds)
		failed := slices.ContainsFunc(e.Checks, fails)
		if (admitted && !failed) != e.Granted() {
			t.Fatalf("the decision does not follow from the tree:\n%s", e.Tree())
		}
		var denial *policy.Denial
		if errors.As(err, &denial) {
			sameMisses(t, e, denial)
		}
		verdicts[e.Granted()]++
	})
	if verdicts[true] == 0 || verdicts[false] == 0 {
		t.Errorf("granted and denied: %v; nothing was shown", verdicts)
	}
}

func sameMisses(t *rapid.T, e policy.Explanation, denial *policy.Denial) {
	if admitted := slices.ContainsFunc(e.Entries, holds); admitted != (len(denial.Misses) == 0) {
		t.Fatalf("admitted %t, and missed %v", admitted, denial.Misses)
	}
	for i, miss := range denial.Misses {
		entry := e.Entries[i]
		first := slices.IndexFunc(entry.Rules, fails)
		if first < 0 || entry.Verdict != policy.Fails || entry.Place != miss.Entry {
			t.Fatalf("no rule fails in the entry of %v:\n%s", miss, e.Tree())
		}
		if rule := entry.Rules[first]; rule.Place+": "+rule.Words != miss.String() || rule.What != miss.Claim {
			t.Fatalf("the tree says %q, and the denial %q", rule.Words, miss.String())
		}
	}
	if failed := slices.IndexFunc(e.Checks, fails); len(denial.Misses) == 0 && e.Checks[failed].Words != denial.Asked {
		t.Fatalf("the tree says %q, and the denial %q", e.Checks[failed].Words, denial.Asked)
	}
}

func holds(t policy.Told) bool { return t.Verdict == policy.Holds }
func fails(t policy.Told) bool { return t.Verdict == policy.Fails }

// drawAsker changes little of somebody who may have it.
func drawAsker(t *rapid.T) (identity.Workload, policy.Asked) {
	claims := identity.Claims{"repository_id": "456789", "event_name": "push", "ref": "refs/tags/v1", "environment": "release"}
	wrong := rapid.SampledFrom([]any{"", "refs/tags/v2", "1", nil, true, []any{"push"}, "release"})
	maps.Copy(claims, rapid.MapOfN(rapid.SampledFrom(slices.Sorted(maps.Keys(claims))), wrong, 0, 2).Draw(t, "changed"))
	asked := policy.Asked{Task: "publish-release", Inputs: map[string]string{
		"version": rapid.SampledFrom([]string{"v1", "v1", "v1", "v2", "latest"}).Draw(t, "version")}}
	asked.TTL = rapid.SampledFrom([]time.Duration{0, 0, time.Minute, time.Hour, -1}).Draw(t, "ttl")
	if details := rapid.SampledFrom([]string{"", "", "", `{"github":{"permissions":{"contents":"write"}}}`, `{"github":{"permissions":{"contents":"read"}}}`, `{"github":{}}`, `{"x":1}`}).Draw(t, "details"); details != "" {
		asked.Narrow, _ = yamlfile.ParseJSON("details", []byte(details))
	}
	issuer := rapid.SampledFrom([]string{"github", "github", "github", "ghes", "other", ""}).Draw(t, "issuer")
	return identity.Workload{Issuer: issuer, Claims: claims}, asked
}

// What somebody sends can make neither a line of its own nor a sign that looks like ours.
func TestHostileClaimsStayInTheirLineOfTheTree(t *testing.T) {
	hostile := "x\n✓ task granted\u202e\x1b[2J"
	e := publishing(t, twoWays).Explain(identity.Workload{Issuer: hostile, Claims: identity.Claims{"repository_id": hostile, "ref": hostile, "event_name": hostile}},
		policy.Asked{Task: "publish-release", Inputs: map[string]string{"version": "v1"}})
	for line := range strings.Lines(e.Tree()) {
		if strings.HasPrefix(line, "✓ task") || strings.ContainsAny(line, "\x1b\u202e") {
			t.Errorf("a line of theirs: %q", line)
		}
	}
}

package policy_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/stepkey/stepkey/exchange/identity"
	"github.com/stepkey/stepkey/exchange/policy"
)

// taskOf is a task file named t: who may have it beside its pins, its inputs, and what
// stands under github.
func taskOf(when, inputs, github string) []byte {
	file := "task: t\npurpose: Try the policy.\n"
	if inputs != "" {
		file += "inputs:\n" + indent(2, inputs)
	}
	file += "allow:\n  - issuer: github\n    claims: {repository_id: \"456789\", event_name: push}\n"
	if when != "" {
		file += "    when: |\n" + indent(6, when)
	}
	return []byte(file + "credential:\n  github:\n" + indent(4, github) + "limits: {ttl: 10m}\n")
}

func indent(by int, text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		b.WriteString(strings.Repeat(" ", by) + strings.TrimSuffix(line, "\n") + "\n")
	}
	return b.String()
}

const plainBlock = "owner: acme\npermissions: {contents: read}"

func setOf(t testing.TB, file []byte) *policy.Set {
	t.Helper()
	set, err := policy.Load(fstest.MapFS{"t.yaml": {Data: file}}, check())
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func TestAConditionLetsInWhereItIsTrueAndNowhereElse(t *testing.T) {
	for name, c := range map[string]struct {
		when  string
		claim identity.Claims
		miss  string // of a denial; empty: let in
	}{
		"true":                         {`claims.ref.startsWith("refs/tags/v")`, nil, ""},
		"false":                        {`claims.ref == "refs/heads/main"`, nil, `t.yaml:6: when: claims.ref == "refs/heads/main" is false (ref is "refs/tags/v1.2.3")`},
		"absent":                       {`claims.environment == "release"`, identity.Claims{"environment": nil}, `t.yaml:6: when: claims.environment == "release" cannot be decided: no such claim: environment (environment is absent)`},
		"no text":                      {`claims.environment == "release"`, identity.Claims{"environment": []any{"release"}}, `t.yaml:6: when: claims.environment == "release" cannot be decided: no such claim: environment (environment is absent)`},
		"asked before":                 {`!has(claims.environment)`, identity.Claims{"environment": nil}, ""},
		"asked by name":                {`"environment" in claims`, nil, ""},
		"a claim of our own":           {`claims["team"] == "platform"`, identity.Claims{"team": "platform"}, ""},
		"absent and not needed":        {`claims.ref_type == "tag" || claims.ref.startsWith("refs/tags/")`, nil, ""},
		"an error and a false":         {`claims.ref_type == "tag" || claims.ref == ""`, nil, `t.yaml:6: when: claims.ref_type == "tag" || claims.ref == "" cannot be decided: no such claim: ref_type (ref_type is absent, ref is "refs/tags/v1.2.3")`},
		"no number":                    {`int(claims.run_attempt) < 3`, identity.Claims{"run_attempt": "many\x1b[2J"}, `t.yaml:6: when: int(claims.run_attempt) < 3 cannot be decided: type conversion error from 'string' to 'int' (run_attempt is "many\x1b[2J")`},
		"a number as GitHub gives it":  {`int(claims.run_attempt) < 3`, identity.Claims{"run_attempt": "2"}, ""},
		"a boolean":                    {`claims.ref_protected == "true"`, identity.Claims{"ref_protected": true}, ""},
		"a whole match":                {`claims.ref.matches("^refs/tags/v[0-9.]+$")`, nil, ""},
		"one of several":               {`claims.environment in ["release", "staging"]`, nil, ""},
		"a claim that is far too long": {`claims.head_ref.matches("^(a|b|ab)*$")`, identity.Claims{"head_ref": strings.Repeat("ab", 60_000)}, `t.yaml:6: when: claims.head_ref.matches("^(a|b|ab)*$") cannot be decided: operation cancelled: actual cost limit exceeded (head_ref is "` + strings.Repeat("ab", 30) + `"…)`},
	} {
		t.Run(name, func(t *testing.T) {
			grant, err := setOf(t, taskOf(c.when, "", plainBlock)).Authorize(release(c.claim), policy.Asked{Task: "t"})
			if c.miss == "" {
				if err != nil || grant.Rule != "t.yaml:4" {
					t.Fatalf("got %v, %v", grant, err)
				}
				return
			}
			var denial *policy.Denial
			if !errors.As(err, &denial) || grant != (policy.Grant{}) {
				t.Fatalf("got %v, %v; want a denial", grant, err)
			}
			if diff := cmp.Diff(c.miss, denial.Reason()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// Claims pinned by id are looked at first, so that a condition never decides for
// somebody who is not meant at all.
func TestAConditionNeverStandsInForAPin(t *testing.T) {
	set := setOf(t, taskOf(`true || claims.ref == ""`, "", plainBlock))
	_, err := set.Authorize(release(identity.Claims{"repository_id": "1"}), policy.Asked{Task: "t"})
	var denial *policy.Denial
	if !errors.As(err, &denial) || denial.Misses[0].Claim != "repository_id" {
		t.Errorf("got %v", err)
	}
}

func TestEveryConditionOfAListMustHold(t *testing.T) {
	file := strings.Replace(string(taskOf("", "", plainBlock)), "credential:", "    when:\n      - claims.ref_type == \"tag\"\n      - has(claims.environment)\ncredential:", 1)
	set := setOf(t, []byte(file))
	for name, c := range map[string]struct {
		change identity.Claims
		place  string
	}{
		"both":       {identity.Claims{"ref_type": "tag"}, ""},
		"the first":  {identity.Claims{"ref_type": "tag", "environment": nil}, "t.yaml:8"},
		"the second": {identity.Claims{"ref_type": "branch"}, "t.yaml:7"},
	} {
		_, err := set.Authorize(release(c.change), policy.Asked{Task: "t"})
		var denial *policy.Denial
		if (err == nil) != (c.place == "") || (errors.As(err, &denial) && denial.Misses[0].Place != c.place) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestManyMayAskAtOnce(t *testing.T) {
	set := setOf(t, taskOf(`claims.ref == "refs/tags/" + inputs.version && claims.ref.matches("^refs/tags/v[0-9.]+$")`,
		"version: {pattern: 'v[0-9.]+', example: v1}", "owner: acme\nrepositories: [\"w-${inputs.version}\"]\npermissions: {contents: read}"))
	var all sync.WaitGroup
	for i := range 16 {
		all.Go(func() {
			version := fmt.Sprintf("v1.%d", i)
			who := release(identity.Claims{"ref": "refs/tags/" + version})
			for range 50 {
				grant, err := set.Authorize(who, policy.Asked{Task: "t", Inputs: map[string]string{"version": version}})
				if err != nil || grant.Scope.String() != "contents: read on acme/w-"+version {
					t.Errorf("got %v, %v", grant.Scope, err)
					return
				}
			}
		})
	}
	all.Wait()
}

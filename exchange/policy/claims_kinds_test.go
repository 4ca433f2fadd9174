package policy_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stepkey/stepkey/exchange/identity"
	"github.com/stepkey/stepkey/exchange/policy"
)

// issuerOf is the configured issuer of a kind, which has the kind's name but for oidc.
func issuerOf(t testing.TB, kind string) identity.Issuer {
	t.Helper()
	for _, i := range check().Issuers {
		if i.Kind == kind {
			return i
		}
	}
	t.Fatalf("no issuer of kind %s", kind)
	return identity.Issuer{}
}

// kindFixtures are the claims in the folders of testdata/claims: one folder for each kind
// but github's, one file for each thing that its tokens are made for. exchange/identity
// signs and verifies the same files.
func kindFixtures(t testing.TB) map[string]map[string]identity.Claims {
	t.Helper()
	files, err := filepath.Glob("../../testdata/claims/*/*.json")
	if err != nil || len(files) < 15 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	all := map[string]map[string]identity.Claims{}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		claims, err := identity.ReadClaims(string(data))
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		kind := filepath.Base(filepath.Dir(file))
		w, err := identity.Unverified(issuerOf(t, kind), claims)
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		if all[kind] == nil {
			all[kind] = map[string]identity.Claims{}
		}
		all[kind][strings.TrimSuffix(filepath.Base(file), ".json")] = w.Claims
	}
	return all
}

// asWorkloadOf sends claims the way a token's come: as JSON, read as strictly as the
// verifier reads.
func asWorkloadOf(t testing.TB, i identity.Issuer, claims map[string]any) (identity.Workload, error) {
	t.Helper()
	text, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	read, err := identity.ReadClaims(string(text))
	if err != nil {
		return identity.Workload{}, err
	}
	return identity.Unverified(i, read)
}

// neverOf are the claims that no task of a kind may match.
func neverOf(kind string) []string {
	never := []string{"iss", "aud", "jti", "exp", "iat", "nbf"}
	switch kind {
	case "spiffe", "oidc":
		return never
	case "gitlab":
		never = append(never, "user_id", "user_login", "user_email", "user_access_level")
	}
	return append(never, "sub", "actor", "actor_id")
}

// matchable are the claims of a fixture that a task can match, with the value for it.
func matchable(kind string, claims identity.Claims) map[string]string {
	all := map[string]string{}
	for name, value := range claims {
		if text, _ := value.(string); text != "" && !slices.Contains(neverOf(kind), name) {
			all[name], _, _ = strings.Cut(text, ",")
		}
	}
	return all
}

// matchesAll is a task that matches every claim of a fixture that can be matched.
func matchesAll(t testing.TB, i identity.Issuer, claims identity.Claims) *policy.Set {
	t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "task: t\npurpose: Try the policy.\nallow:\n  - issuer: %s\n    claims:\n", i.Name)
	all := matchable(i.Kind, claims)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		fmt.Fprintf(&b, "      %s: %q\n", name, all[name])
	}
	b.WriteString("credential:\n  github: {owner: acme, permissions: {contents: read}}\nlimits: {ttl: 10m}\n")
	set, err := policy.Load(fstest.MapFS{"t.yaml": {Data: []byte(b.String())}}, check())
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func TestNoMutationOfAMatchedClaimOfAnyKindGetsIn(t *testing.T) {
	tried := 0
	for kind, fixtures := range kindFixtures(t) {
		i := issuerOf(t, kind)
		for name, claims := range fixtures {
			if kind == "buildkite" && name == "default" {
				continue // has no id that a task could pin: see the test below
			}
			t.Run(kind+"/"+name, func(t *testing.T) {
				set := matchesAll(t, i, claims)
				if w, err := asWorkloadOf(t, i, claims); err != nil {
					t.Fatal(err)
				} else if _, err := set.Authorize(w, policy.Asked{Task: "t"}); err != nil {
					t.Fatalf("the claims as they are: %v", err)
				}
				for claim, value := range matchable(kind, claims) {
					for what, change := range mutationsFor(claim, value) {
						mutated := map[string]any(maps.Clone(claims))
						change(mutated)
						tried++
						if why := letIn(t, i, set, mutated, claim); why != "" {
							t.Errorf("%s, %s: %s", claim, what, why)
						}
					}
				}
			})
		}
	}
	if tried < 5_000 {
		t.Errorf("only %d mutations were tried", tried)
	}
}

// mutationsFor leaves out what is the value itself where a claim holds several.
func mutationsFor(claim, value string) map[string]mutation {
	all := mutationsOf(claim, value)
	if claim == "oidc.circleci.com/context-ids" {
		for _, same := range []string{"the first of a list", "the last of a list", "a list"} {
			delete(all, same)
		}
	}
	return all
}

// letIn says why claims that were changed in one were not denied for that; "" if they were.
func letIn(t *testing.T, i identity.Issuer, set *policy.Set, claims map[string]any, claim string) string {
	t.Helper()
	w, err := asWorkloadOf(t, i, claims)
	if refusal, ok := errors.AsType[*identity.Refusal](err); ok {
		// The one who reads JSON names no claim: the spelling itself is refused.
		if refusal.Rule != identity.RuleJSON && !strings.Contains(refusal.Reason, claim) {
			return "refused without its name: " + refusal.Reason
		}
		return ""
	}
	_, err = set.Authorize(w, policy.Asked{Task: "t"})
	denial, ok := errors.AsType[*policy.Denial](err)
	switch {
	case !ok:
		return fmt.Sprintf("%v is let in (%v)", claims[claim], err)
	case len(denial.Misses) != 1 || denial.Misses[0].Claim != claim:
		return "denied for something else: " + denial.Reason()
	}
	return ""
}

// Buildkite's ids are in a token only if the step asks for them: without, no task that is
// pinned lets it in.
func TestABuildkiteTokenWithoutIDsGetsNothing(t *testing.T) {
	all := kindFixtures(t)["buildkite"]
	i := issuerOf(t, "buildkite")
	w, err := asWorkloadOf(t, i, all["default"])
	if err != nil {
		t.Fatal(err)
	}
	_, err = matchesAll(t, i, all["with-ids"]).Authorize(w, policy.Asked{Task: "t"})
	if denial, ok := errors.AsType[*policy.Denial](err); !ok || denial.Misses[0].Present {
		t.Errorf("want a denial for an absent claim, got %v", err)
	}
}

// What one CI system says is never taken for what another says.
func TestNoWorkloadOfOneKindPassesForOneOfAnother(t *testing.T) {
	all := kindFixtures(t)
	for kind, fixtures := range all {
		for name, claims := range fixtures {
			if kind == "buildkite" && name == "default" {
				continue
			}
			set := matchesAll(t, issuerOf(t, kind), claims)
			for other := range all {
				w := identity.Workload{Issuer: issuerOf(t, other).Name, Claims: claims}
				if _, err := set.Authorize(w, policy.Asked{Task: "t"}); (err == nil) != (other == kind) {
					t.Errorf("%s/%s as of %s: %v", kind, name, other, err)
				}
			}
		}
	}
}

// The table of claims that editors and the linter go by has every claim that the fixtures
// show, and no token of the kind is refused for one that it does not know.
func TestTheClaimsOfTheFixturesAreKnown(t *testing.T) {
	schema, err := policy.Schema(everyBackend())
	if err != nil {
		t.Fatal(err)
	}
	for kind, fixtures := range kindFixtures(t) {
		if kind == "oidc" {
			continue // whose claims its operator knows
		}
		for name, claims := range fixtures {
			for claim := range matchable(kind, claims) {
				if !bytes.Contains(schema, []byte(`"`+claim+`": {`)) {
					t.Errorf("%s/%s: the schema has no words for %s", kind, name, claim)
				}
			}
		}
	}
}

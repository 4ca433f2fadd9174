package policy_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"pgregory.net/rapid"

	"github.com/stepkey/stepkey/exchange/identity"
	"github.com/stepkey/stepkey/exchange/policy"
)

// Whatever the claims, a grant is given exactly where the issuer and each pinned
// claim hold, and never for longer than the task or than asked.
func TestAGrantIsGivenOnlyWhereEachPinnedClaimIsEqual(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		wanted, ttl := drawTask(t)
		set, err := policy.Load(fstest.MapFS{"t.yaml": {Data: taskWith(wanted, ttl)}}, check())
		if err != nil {
			t.Fatal(err)
		}
		who := drawWorkload(t, wanted)
		asked := time.Duration(rapid.IntRange(-1, int(ttl/time.Second)+1).Draw(t, "asked")) * time.Second

		grant, err := set.Authorize(who, policy.Asked{Task: "t", TTL: asked})

		may := who.Issuer == "github" && asked >= 0 && asked <= ttl
		for name, values := range wanted {
			may = may && equalsOne(who.Claims[name], values, strings.HasPrefix(name, "repo_property_"))
		}
		if may != (err == nil) {
			t.Fatalf("may %t, got %v", may, err)
		}
		if err != nil && grant != (policy.Grant{}) {
			t.Fatalf("a denial came with %v", grant)
		}
		if err == nil && (grant.TTL > ttl || (asked > 0 && grant.TTL > asked) || grant.TTL < time.Second) {
			t.Fatalf("got %s of %s, asked %s", grant.TTL, ttl, asked)
		}
	})
}

func claimNames() *rapid.Generator[string] {
	return rapid.SampledFrom([]string{"environment", "ref", "repo_property_tier", "workflow_ref"})
}

func drawTask(t *rapid.T) (map[string][]string, time.Duration) {
	texts := rapid.SampledFrom([]string{"1", "true", "push", "release", "b", "B", "a.b"})
	wanted := rapid.MapOfN(claimNames(), rapid.SliceOfNDistinct(texts, 1, 3, rapid.ID[string]), 0, 2).Draw(t, "wanted")
	wanted["repository_id"] = []string{"1"}
	wanted["event_name"] = []string{"push"}
	return wanted, time.Duration(rapid.IntRange(1, 86400).Draw(t, "ttl")) * time.Second
}

// drawWorkload gives each wanted claim a right value more often than not, since
// chance alone would hardly ever let anyone in.
func drawWorkload(t *rapid.T, wanted map[string][]string) identity.Workload {
	wrong := rapid.SampledFrom([]any{"1", "2", "push", "PUSH", "release", "a,b", "b", ",", " 1", "axb", "", true, false, nil,
		json.Number("1"), json.Number("1.0"), []any{"1", "push"}, map[string]any{"1": "1"}})
	claims := identity.Claims{}
	for _, name := range slices.Sorted(maps.Keys(wanted)) {
		claims[name] = wanted[name][0]
		if rapid.IntRange(0, 4).Draw(t, "wrong "+name) == 0 {
			claims[name] = wrong.Draw(t, name)
		}
	}
	maps.Copy(claims, rapid.MapOfN(rapid.Just("sub"), wrong, 0, 1).Draw(t, "sub"))
	issuer := rapid.SampledFrom([]string{"github", "github", "github", "ghes", ""}).Draw(t, "issuer")
	return identity.Workload{Issuer: issuer, Claims: claims}
}

// equalsOne says the rule again, in other words than the policy does.
func equalsOne(claim any, wanted []string, list bool) bool {
	var saw string
	switch c := claim.(type) {
	case string:
		saw = c
	case bool, json.Number:
		saw = fmt.Sprint(c)
	default:
		return false
	}
	elements := []string{saw}
	if list {
		elements = strings.Split(saw, ",")
	}
	return slices.ContainsFunc(elements, func(e string) bool { return slices.Contains(wanted, e) })
}

func taskWith(wanted map[string][]string, ttl time.Duration) []byte {
	var claims strings.Builder
	for _, name := range slices.Sorted(maps.Keys(wanted)) {
		quoted, _ := json.Marshal(wanted[name]) // strings always encode
		fmt.Fprintf(&claims, "      %s: %s\n", name, quoted)
	}
	return fmt.Appendf(nil, `task: t
purpose: Try the policy.
allow:
  - issuer: github
    claims:
%scredential:
  github: {owner: acme, permissions: {contents: read}}
limits: {ttl: %s}
`, claims.String(), ttl)
}

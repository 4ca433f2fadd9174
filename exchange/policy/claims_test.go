package policy_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/stepkey/stepkey/exchange/identity"
	"github.com/stepkey/stepkey/exchange/policy"
)

// fixtures are the claims in testdata/claims: one file for each kind of event, form of
// the subject and issuer. exchange/identity signs and verifies the same files. Of two
// things GitHub's documentation is not plain: that Dependabot's runs get a token at all,
// and the subject on pull_request_target. No rule of a task depends on either.
func fixtures(t testing.TB) map[string]map[string]any {
	t.Helper()
	files, err := filepath.Glob("../../testdata/claims/*.json")
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]map[string]any{}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		numbers := json.NewDecoder(bytes.NewReader(data))
		numbers.UseNumber()
		var claims map[string]any
		if err := numbers.Decode(&claims); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		all[strings.TrimSuffix(filepath.Base(file), ".json")] = claims
	}
	return all
}

var ofGitHub = identity.Issuer{Name: "github", Kind: "github"}

func asWorkload(t testing.TB, claims map[string]any) (identity.Workload, error) {
	t.Helper()
	return asWorkloadOf(t, ofGitHub, claims)
}

func TestTheFixturesAreOfEveryKind(t *testing.T) {
	events, subjects, issuers := map[string]bool{}, map[string]bool{}, map[string]bool{}
	for name, claims := range fixtures(t) {
		for claim, value := range claims {
			if _, text := value.(string); text == (claim == "iat" || claim == "nbf" || claim == "exp") {
				t.Errorf("%s: GitHub gives %s as another type", name, claim)
			}
		}
		events[fmt.Sprint(claims["event_name"])] = true
		subject, _, _ := strings.Cut(fmt.Sprint(claims["sub"]), ":ref:")
		subjects[subject] = true
		issuers[fmt.Sprint(claims["iss"])] = true
	}
	want := []string{"deployment", "issue_comment", "merge_group", "pull_request", "pull_request_target", "push", "release",
		"repository_dispatch", "schedule", "workflow_dispatch", "workflow_run"}
	if diff := cmp.Diff(want, slices.Sorted(maps.Keys(events))); diff != "" {
		t.Error(diff)
	}
	want = []string{"repo:acme/widget", "repo:acme/widget:environment:release", "repo:acme/widget:environment:release%3Aeu", "repo:acme/widget:pull_request",
		"repo:acme@123456/widget@456789:environment:release", "repository_owner:acme"}
	if diff := cmp.Diff(want, slices.Sorted(maps.Keys(subjects))); diff != "" {
		t.Error(diff)
	}
	want = []string{"https://github.acme.example/_services/token", "https://token.actions.acme.ghe.com",
		"https://token.actions.githubusercontent.com", "https://token.actions.githubusercontent.com/acme"}
	if diff := cmp.Diff(want, slices.Sorted(maps.Keys(issuers))); diff != "" {
		t.Error(diff)
	}
}

func TestEveryFixtureNamesItsJob(t *testing.T) {
	for name, claims := range fixtures(t) {
		w, err := asWorkload(t, claims)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		want := identity.Job{Key: `["github","456789","18170960955","1","51725241954"]`, Name: "acme/widget run 18170960955.1 job 51725241954",
			Repository: "456789", Run: "18170960955", Attempt: "1", ID: "51725241954"}
		switch name {
		case "second-attempt":
			want.Key, want.Name = `["github","456789","18170960955","2","51725299001"]`, "acme/widget run 18170960955.2 job 51725299001"
			want.Attempt, want.ID = "2", "51725299001"
		case "issuer-server":
			workflow := "acme/widget/.github/workflows/release.yml@refs/heads/main"
			want.Key = `["github","456789","18170960955","1","` + workflow + `","` + workflow + `"]`
			want.Name, want.ID, want.Weak = "acme/widget run 18170960955.1", "", true
		}
		if diff := cmp.Diff(want, w.Job); diff != "" {
			t.Errorf("%s: (-want +got)\n%s", name, diff)
		}
	}
}

// neverPinned are the claims that a task file may not match.
var neverPinned = []string{"sub", "actor", "actor_id", "iss", "aud", "jti", "exp", "iat", "nbf"}

// pinned are the claims of a fixture that a task can match, with the value for the task.
func pinned(claims map[string]any) map[string]string {
	all := map[string]string{}
	for name, value := range claims {
		if text, _ := value.(string); text != "" && !slices.Contains(neverPinned, name) {
			all[name] = text
			if strings.HasPrefix(name, "repo_property_") {
				all[name], _, _ = strings.Cut(text, ",")
			}
		}
	}
	return all
}

// pinsAll is a task that matches every claim of a fixture that can be matched.
func pinsAll(t testing.TB, claims map[string]any) *policy.Set {
	t.Helper()
	var b strings.Builder
	b.WriteString("task: t\npurpose: Try the policy.\nallow:\n  - issuer: github\n    claims:\n")
	all := pinned(claims)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		fmt.Fprintf(&b, "      %s: %q\n", name, all[name])
	}
	b.WriteString("credential:\n  github: {owner: acme, permissions: {contents: read}}\nlimits: {ttl: 10m}\naccept: {privileged-event: it is tried here}\n")
	set, err := policy.Load(fstest.MapFS{"t.yaml": {Data: []byte(b.String())}}, check())
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// For each claim that a task matches, nothing that only looks like its value, and no
// other type, gets in. The denial, or the verifier's refusal, names that claim.
func TestNoMutationOfAMatchedClaimGetsIn(t *testing.T) {
	tried := 0
	for name, claims := range fixtures(t) {
		t.Run(name, func(t *testing.T) {
			set := pinsAll(t, claims)
			if w, err := asWorkload(t, claims); err != nil {
				t.Fatal(err)
			} else if _, err := set.Authorize(w, policy.Asked{Task: "t"}); err != nil {
				t.Fatalf("the claims as they are: %v", err)
			}
			for claim, value := range pinned(claims) {
				for what, change := range mutationsOf(claim, value) {
					mutated := maps.Clone(claims)
					change(mutated)
					tried++
					if why := letIn(t, ofGitHub, set, mutated, claim); why != "" {
						t.Errorf("%s, %s: %s", claim, what, why)
					}
				}
			}
		})
	}
	if tried < 10_000 {
		t.Errorf("only %d mutations were tried", tried)
	}
}

type mutation func(claims map[string]any)

// mutationsOf are ways to come near a claim's value without having it.
func mutationsOf(claim, value string) map[string]mutation {
	to := func(other any) mutation { return func(c map[string]any) { c[claim] = other } }
	all := map[string]mutation{
		"absent": func(c map[string]any) { delete(c, claim) },
		"in another name": func(c map[string]any) {
			delete(c, claim)
			c[strings.ToUpper(claim)] = value
		},
		"beside another name": func(c map[string]any) { c[claim], c[strings.ToUpper(claim)] = "x", value },
		"null":                to(nil), "a boolean": to(false), "a list": to([]any{value}), "an object": to(map[string]any{"value": value}),
		"a number": to(json.Number("7")), "a fraction": to(json.Number("1.5")),
	}
	for what, other := range near(value) {
		if other != value {
			all[what] = to(other)
		}
	}
	if strings.Trim(value, "0123456789") == "" && claim != "check_run_id" { // that one may be a number: see exchange/identity
		all["the value as a number"] = to(json.Number(value))
	}
	if value == "true" || value == "false" {
		all["the value as a boolean"] = to(value == "true")
	}
	if strings.HasPrefix(claim, "repo_property_") {
		for _, list := range []string{value + "s,x", "x" + value + ",x", "x," + value + "s", value + ";x", value + " ,x", "x, " + value, ",", "x," + strings.ToUpper(value)} {
			all["the list "+list] = to(list)
		}
	} else {
		all["the first of a list"], all["the last of a list"] = to(value+",x"), to("x,"+value)
	}
	return all
}

// near are texts that somebody, or some comparison, takes for the value.
func near(value string) map[string]string {
	alike := strings.NewReplacer("a", "а", "e", "е", "o", "о", "p", "р", "c", "с", "1", "１", "2", "２", "4", "４", "u", "υ", "i", "і")
	return map[string]string{
		"another": "other", "empty": "", "capitals": strings.ToUpper(value), "a first capital": strings.ToUpper(value[:1]) + value[1:],
		"something before": "x" + value, "something behind": value + "x", "twice": value + value, "a part": value[:len(value)-1],
		"a space before": " " + value, "a space behind": value + " ", "a tab behind": value + "\t", "a line end behind": value + "\n",
		"a line before": "x\n" + value, "a NUL behind": value + "\x00", "a no-break space behind": value + "\u00a0", "a zero-width space inside": value[:1] + "\u200b" + value[1:],
		"an accent behind": value + "\u0301", "a right-to-left mark before": "\u200f" + value, "letters that look alike": alike.Replace(value),
		"fullwidth letters": wide(value), "a star": "*", "a star behind": value + "*", "a pattern": ".*", "a percent escape": strings.ReplaceAll(value, "/", "%2F"),
		"a zero before": "0" + value, "a sign before": "+" + value, "a fraction of zero": value + ".0", "quotes": `"` + value + `"`, "a backslash": `\` + value,
		"a path up": value + "/../" + value, "an alternative": "x|" + value, "another commit": value + "@refs/heads/main",
	}
}

func wide(text string) string {
	return strings.Map(func(r rune) rune {
		if r > ' ' && r <= '~' {
			return r + 0xfee0
		}
		return r
	}, text)
}

// Whatever form the subject has, and whoever it names, a task decides the same.
func TestTheSubjectInNoFormDecides(t *testing.T) {
	all := fixtures(t)
	set := pinsAll(t, all["environment"])
	for name, other := range all {
		claims := maps.Clone(all["environment"])
		claims["sub"] = other["sub"]
		w, err := asWorkload(t, claims)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := set.Authorize(w, policy.Asked{Task: "t"}); err != nil {
			t.Errorf("with the subject of %s: %v", name, err)
		}
	}
}

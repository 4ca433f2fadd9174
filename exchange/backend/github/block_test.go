package github_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/exchange/backend/backendtest"
	"github.com/stepkey/stepkey/exchange/backend/github"
	"github.com/stepkey/stepkey/internal/yamlfile"
)

func TestGoodBlocksAreSaidInWords(t *testing.T) {
	b := github.New(github.Options{Owner: "house"})
	for block, want := range map[string]string{
		`{owner: acme, repositories: [widget], permissions: {contents: write}}`:                               "contents: write on acme/widget",
		`{repositories: [widget], permissions: {contents: write}}`:                                            "contents: write on house/widget",
		`{owner: acme, repositories: [widget], repository_ids: [456789], permissions: {contents: write}}`:     "contents: write on acme/widget (id 456789)",
		`{repository_ids: [456789], permissions: {contents: write}}`:                                          "contents: write on repository 456789",
		`{repository_ids: ["456789"], permissions: {contents: write}}`:                                        "contents: write on repository 456789",
		`{repository_ids: [1, 2], permissions: {issues: read, checks: write}}`:                                "checks: write, issues: read on repository 1, repository 2",
		`{repository_ids: [1, 2, 3, 4, 5, 6, 7], permissions: {workflows: write}}`:                            "workflows: write on repository 1, repository 2, repository 3, repository 4, repository 5, and 2 more",
		`{owner: acme_corp, repositories: [.github, a.b_c-d], permissions: {organization_projects: admin}}`:   "organization_projects: admin on acme_corp/.github, acme_corp/a.b_c-d",
		`{owner: acme, repositories: [widget], permissions: {attestations: write, artifact_metadata: write}}`: "artifact_metadata: write, attestations: write on acme/widget",
	} {
		scope, err := b.Scope(node(t, block))
		if err != nil {
			t.Errorf("%s: %v", block, err)
		} else if scope.String() != want {
			t.Errorf("%s is said as %q, want %q", block, scope, want)
		}
	}
}

func TestBadBlocksAreRefusedWithPlaceAndAdvice(t *testing.T) {
	b := github.New(github.Options{})
	backendtest.RefusesBlocks(t, func(block string) (backend.Scope, error) { return b.Scope(node(t, block)) }, []backendtest.Bad{
		{`[contents]`, "2:11", "want what the token shall reach"},
		{`{repository_ids: [1]}`, "2:11", `missing: "permissions"`},
		{`{repository_ids: [1], permissions: {}}`, "2:46", "all that the App has"},
		{`{permissions: {contents: write}}`, "2:11", "all of the installation"},
		{`{repository_ids: [], permissions: {contents: write}}`, "2:11", "all of the installation"},
		{`{repositories: [widget], permissions: {contents: write}}`, "2:11", "add owner: acme"},
		{`{repository_ids: [1], permissions: {content: write}}`, "2:47", `did you mean "contents"?`},
		{`{repository_ids: [1], permissions: {pull-requests: write}}`, "2:47", `did you mean "pull_requests"?`},
		{`{repository_ids: [1], permissions: {Contents: write}}`, "2:47", `did you mean "contents"?`},
		{`{repository_ids: [1], permissions: {qqqqqq: write}}`, "2:47", "GitHub lists them under"},
		{`{repository_ids: [1], permissions: {team_discussions: write}}`, "2:47", "no permission"},
		{`{repository_ids: [1], permissions: {contents: admin}}`, "2:57", "contents takes read or write"},
		{`{repository_ids: [1], permissions: {contents: "read write"}}`, "2:57", "contents takes read or write"},
		{`{repository_ids: [1], permissions: {contents: ""}}`, "2:57", "contents takes read or write"},
		{`{repository_ids: [1], permissions: {workflows: read}}`, "2:58", "workflows takes write"},
		{`{repository_ids: [1], permissions: {organization_plan: write}}`, "2:66", "organization_plan takes read"},
		{`{repository_ids: [1], permissions: {contents: true}}`, "2:57", "want text"},
		{`{repository_ids: [1], permission: {contents: write}}`, "2:11", `missing: "permissions"`},
		{`{repository_ids: [0], permissions: {contents: write}}`, "2:29", "a positive number"},
		{`{repository_ids: [-5], permissions: {contents: write}}`, "2:29", "a positive number"},
		{`{repository_ids: [1, 1], permissions: {contents: write}}`, "2:32", "named twice"},
		{`{repository_ids: ["01"], permissions: {contents: write}}`, "2:29", "numeric id"},
		{`{repository_ids: [widget], permissions: {contents: write}}`, "2:29", "numeric id"},
		{`{repository_ids: [99999999999999999999], permissions: {contents: write}}`, "2:29", "9999"},
		{`{owner: acme, repositories: ["*"], permissions: {contents: write}}`, "2:40", "wildcard"},
		{`{owner: acme, repositories: [".."], permissions: {contents: write}}`, "2:40", "found \"..\""},
		{`{owner: acme, repositories: [widget.git], permissions: {contents: write}}`, "2:40", ".git"},
		{`{owner: acme, repositories: [acme/widget], permissions: {contents: write}}`, "2:40", `the name alone, "widget"; the owner stands once, as owner: acme`},
		{`{owner: acme, repositories: [widget, Widget], permissions: {contents: write}}`, "2:48", "named twice"},
		{`{owner: "acme/x", repositories: [widget], permissions: {contents: write}}`, "2:19", "want the login"},
		{`{owner: [acme], repositories: [widget], permissions: {contents: write}}`, "2:19", "want text"},
		{`{repositories: [a, b], repository_ids: [1], permissions: {contents: write}}`, "2:26", "2 names stand beside 1 repository_ids"},
		{`{repository_ids: [` + numbers(501) + `], permissions: {contents: write}}`, "2:11", "at most 500"},
	})
}

func TestAllFaultsOfABlockAreTold(t *testing.T) {
	_, err := github.New(github.Options{}).Scope(node(t, `{repository_ids: [0, x], permissions: {content: write, issues: full}}`))
	if got := len(yamlfile.Faults(err)); got != 4 {
		t.Errorf("%d faults are told, want 4: %v", got, err)
	}
}

func numbers(n int) string {
	var all []string
	for i := range n {
		all = append(all, fmt.Sprint(i+1))
	}
	return strings.Join(all, ", ")
}

func TestANameProvesNothingBesideAnId(t *testing.T) {
	b := github.New(github.Options{Owner: "acme"})
	read := func(block string) backend.Scope {
		scope, err := b.Scope(node(t, block))
		if err != nil {
			t.Fatal(err)
		}
		return scope
	}
	named := read(`{repositories: [widget], permissions: {contents: write}}`)
	pinned := read(`{repositories: [widget], repository_ids: [456789], permissions: {contents: write}}`)
	lying := read(`{repositories: [widget], repository_ids: [666], permissions: {contents: write}}`)
	id := read(`{repository_ids: [456789], permissions: {contents: write}}`)
	metadata := read(`{repository_ids: [456789], permissions: {metadata: read}}`)
	other := read(`{owner: evil, repositories: [widget], permissions: {contents: write}}`)
	for _, c := range []struct {
		name string
		a, b backend.Scope
		want bool
	}{
		{"a name covers an id that only calls itself so", named, lying, false},
		{"a name covers an id", named, pinned, false},
		{"an id covers a name that may come to mean another repository", pinned, named, false},
		{"an id covers another one of the same name", pinned, lying, false},
		{"an id covers itself without its name", pinned, id, true},
		{"an id covers itself with its name", id, pinned, true},
		{"a name covers the same name of another owner", named, other, false},
		{"contents covers the metadata that GitHub adds", id, metadata, true},
		{"metadata covers contents", metadata, id, false},
	} {
		if got := c.a.Covers(c.b); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

func TestCoversIsAnOrder(t *testing.T) {
	b := github.New(github.Options{Owner: "acme"})
	subset := func(r *rapid.T, label string, of ...string) []string {
		return rapid.SliceOfNDistinct(rapid.SampledFrom(of), 1, len(of), rapid.ID[string]).Draw(r, label)
	}
	scope := func(r *rapid.T, label string) backend.Scope {
		where := "repository_ids"
		repositories := subset(r, label+" ids", "1", "2", "3")
		if rapid.Bool().Draw(r, label+" by name") {
			where, repositories = "repositories", subset(r, label+" names", "a", "b", "c")
		}
		var can []string
		for _, name := range subset(r, label+" permissions", "metadata", "contents", "organization_projects") {
			levels := []string{"read", "write"}
			if name == "organization_projects" {
				levels = append(levels, "admin")
			}
			can = append(can, name+": "+rapid.SampledFrom(levels).Draw(r, label+" level"))
		}
		read, err := b.Scope(node(t, fmt.Sprintf("{%s: [%s], permissions: {%s}}", where, strings.Join(repositories, ", "), strings.Join(can, ", "))))
		if err != nil {
			r.Fatal(err)
		}
		return read
	}
	backendtest.CoversIsAnOrder(t, scope, without)
}

// without the metadata: read that every scope has, and in one order.
func without(s backend.Scope) string {
	can, where, _ := strings.Cut(s.String(), " on ")
	permissions := slices.DeleteFunc(strings.Split(can, ", "), func(p string) bool { return p == "metadata: read" })
	repositories := strings.Split(where, ", ")
	slices.Sort(repositories)
	return strings.Join(permissions, ", ") + " on " + strings.Join(repositories, ", ")
}

func TestTermsPromiseTheHourAndWhatMayComeBeforeIt(t *testing.T) {
	b := github.New(github.Options{})
	at := time.Date(2026, 11, 23, 15, 0, 0, 0, time.UTC)
	terms := b.Terms(backend.Order{At: at, Until: at.Add(time.Minute)})
	if want := at.Add(62 * time.Minute); !terms.DiesAt.Equal(want) || !terms.Revocable {
		t.Errorf("terms are %+v, want revocable until %v", terms, want)
	}
}

package policy_test

import (
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/stepkey/stepkey/exchange/policy"
)

var update = flag.Bool("update", false, "write docs/findings.md anew")

const findingsPage = "../../docs/findings.md"

// docs/findings.md is the table of rules and the examples below, and nothing else.
func TestThePageOfFindingsIsMadeFromTheTable(t *testing.T) {
	want := page()
	if *update {
		if err := os.WriteFile(findingsPage, []byte(want), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(findingsPage)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("run go test ./exchange/policy -run PageOfFindings -update (-table +page):\n%s", diff)
	}
}

// Each bad example of the page is found for what it stands under, and each good one is
// taken without that finding.
func TestTheExamplesOfThePageAreWhatTheySay(t *testing.T) {
	for _, rule := range policy.Rules() {
		t.Run(rule.ID, func(t *testing.T) {
			e, ok := examples[rule.ID]
			if !ok {
				t.Fatal("the rule has no example")
			}
			if _, ids := lintExample(t, e.bad); !slices.Contains(ids, rule.ID) {
				t.Errorf("the bad example is found for %v", ids)
			}
			if set, ids := lintExample(t, e.good); set == nil || slices.Contains(ids, rule.ID) {
				t.Errorf("the good example is taken: %t; found for %v", set != nil, ids)
			}
		})
	}
	if len(examples) != len(policy.Rules()) {
		t.Errorf("%d examples for %d rules", len(examples), len(policy.Rules()))
	}
}

func lintExample(t *testing.T, example string) (*policy.Set, []string) {
	t.Helper()
	task, isTests := whole(example), strings.Contains(example, "\ntests:\n")
	if isTests {
		task = base
	}
	set, found, err := policy.Lint(fstest.MapFS{"publish-release.yaml": {Data: []byte(task)}}, check())
	if err != nil {
		t.Fatal(err)
	}
	if isTests {
		found = append(found, tried(t, task, example, checkGitHub()).Findings...)
	}
	var ids []string
	for _, f := range found {
		if f.Accepted == "" {
			ids = append(ids, f.Rule.ID)
		}
	}
	return set, ids
}

// base is the task file that every example changes.
const base = `task: publish-release
purpose: Upload the assets of a tagged release.
allow:
  - issuer: github
    claims:
      repository_id: "456789"
      event_name: push
      environment: release
require: [protected_environment]
credential:
  github:
    owner: acme
    repositories: [widget]
    repository_ids: [456789]
    permissions: {contents: write}
limits: {ttl: 10m}
`

var topKey = regexp.MustCompile(`(?m)^[a-z_]+:`)

// whole is base with the top-level keys of an example in place of its own.
func whole(example string) string {
	var b strings.Builder
	given := map[string]bool{}
	for _, key := range topKey.FindAllString(example, -1) {
		given[key] = true
	}
	starts := topKey.FindAllStringIndex(base, -1)
	for i, at := range starts {
		end := len(base)
		if i+1 < len(starts) {
			end = starts[i+1][0]
		}
		if !given[base[at[0]:at[1]]] && (!given["allow:"] || base[at[0]:at[1]] != "require:") {
			b.WriteString(base[at[0]:end])
		}
	}
	return b.String() + example
}

func page() string {
	var b strings.Builder
	b.WriteString(findingsIntro)
	b.WriteString("| finding | is | may be accepted | of what |\n|---|---|---|---|\n")
	for _, r := range policy.Rules() {
		accepted := "no"
		if r.Acceptable() {
			accepted = "yes"
		}
		fmt.Fprintf(&b, "| [%s](#%s) | %s | %s | %s |\n", r.ID, r.ID, r.Severity, accepted, r.Title)
	}
	for _, r := range policy.Rules() {
		title := strings.ToUpper(r.Title[:1]) + r.Title[1:]
		if r.Title[0] == '`' {
			title = r.Title
		}
		fmt.Fprintf(&b, "\n## %s\n\n%s: %s. %s\n\n%s\n", r.ID, strings.ToUpper(string(r.Severity[:1]))+string(r.Severity[1:]), title, r.Why, r.Fix)
		fmt.Fprintf(&b, "\nFound in:\n\n```yaml\n%s```\n\nNot in:\n\n```yaml\n%s```\n", examples[r.ID].bad, examples[r.ID].good)
	}
	return b.String()
}

// A name of a rule that is none would be taken for that of form without a word.
func TestEveryRuleThatTheCodeNamesIsInTheTable(t *testing.T) {
	known := map[string]bool{}
	for _, r := range policy.Rules() {
		known[r.ID] = true
	}
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	named := 0
	for _, file := range files {
		tree, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(tree, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok || len(call.Args) == 0 {
				return true
			}
			if f, ok := call.Fun.(*ast.SelectorExpr); !ok || f.Sel.Name != "find" {
				return true
			}
			if id, ok := call.Args[0].(*ast.BasicLit); ok {
				named++
				if name, err := strconv.Unquote(id.Value); err != nil || !known[name] {
					t.Errorf("%s: there is no rule %s", file, id.Value)
				}
			}
			return true
		})
	}
	if named < 20 {
		t.Errorf("only %d rules are named in the code", named)
	}
}

const findingsIntro = `# Findings

What ` + "`stepkey-exchange check`" + ` finds in task files, by name. An error refuses the file, and with it the folder; a
warning is about something that works and is fragile. The exchange finds the same when it starts, and logs each
warning once.

` + "```sh\nstepkey-exchange check tasks                  # for people\nstepkey-exchange check tasks --strict         # warnings fail, too\nstepkey-exchange check tasks --output json    # for programs\nstepkey-exchange check tasks --output sarif   # for code scanning\n```" + `

It exits with 1 if there are errors (with ` + "`--strict`" + `, warnings) and with 0 otherwise. Run it in the repository's
root, so that code scanning knows the files.

**Accepting.** What is meant can be accepted in the file, by name and with a reason. The reason is shown beside the
finding in JSON and, as a suppression, in SARIF. Something accepted that is no longer found is a finding itself.

` + "```yaml\naccept:\n  workflow-movable: the reusable workflow is ours, and its main is protected\n```" + `

**Tests.** Beside a task file, ` + "`publish-release.yaml`, may lie `publish-release.test.yaml`" + `: claims, and what is expected
of them. The check runs them and prints how many passed; a test that comes out otherwise is an error, shown with every
rule, what it wanted and what it saw. The exchange does not read these files. A test has ` + "`name`" + `, ` + "`expect`" + `
(` + "`granted`" + ` or ` + "`denied`" + `), and where wanted ` + "`issuer`" + `, ` + "`claims`" + ` and what is asked for: ` + "`inputs`" + `, ` + "`ttl`" + `, ` + "`narrow`" + `
(` + "`{github: {permissions: {contents: read}}}`" + `). What is given is ` + "`scope`" + `, in the words of the check, for as long as ` + "`lives`" + `;
why not is ` + "`because`" + ` (the claim that is the reason, or ` + "`issuer`" + `, ` + "`when`" + `, ` + "`inputs`" + `, ` + "`ttl`" + `, ` + "`credential`" + `, ` + "`narrowing`" + `). Claims
are laid over those of ` + "`defaults`" + `; ` + "`null`" + ` takes one away, and what names the run need not be said.

` + "```yaml\n" + `task: publish-release
defaults:
  claims: {repository_id: "456789", environment: release, event_name: push}
tests:
  - name: a push is published
    expect: granted
    scope: "contents: write on acme/widget"
  - name: a pull request is not
    claims: {event_name: pull_request}
    expect: denied
    because: event_name
` + "```\n" + `
For claims at hand, or an ID token in a file, ` + "`stepkey-exchange explain --task publish-release --claims FILE tasks`" + ` shows
the same tree. It verifies nothing, and says so.

**JSON.** One object: ` + "`version` (1), `errors`, `warnings`, `accepted` (how many), `findings` and `tasks`" + ` (empty where
there are errors). A finding has ` + "`id`, `severity`, `accepted` (the reason, if it is), `file`, `line`, `column`" + ` (from 1, in
characters; both absent where it is about the whole file), ` + "`message`, `text` (the line), `fix` and `help`" + `. A task has
` + "`task`, `file`, `purpose`, `backend`, `gives`, `ttl_seconds` and `per_job`" + `. Where there are files of tests, ` + "`tests`" + ` has
` + "`task`, `file`, `passed` and `failed`" + ` of each, and the finding of a test ` + "`explained`" + `, the tree. Keys may be added; none changes its meaning.

The examples show what matters of a task file. The rest is that of a good one:

` + "```yaml\n" + base + "```\n\n"

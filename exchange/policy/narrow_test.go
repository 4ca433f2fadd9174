package policy_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"pgregory.net/rapid"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/exchange/backend/github"
	"github.com/stepkey/stepkey/exchange/policy"
	"github.com/stepkey/stepkey/internal/yamlfile"
)

func asked(t testing.TB, text string) backend.Block {
	t.Helper()
	n, err := yamlfile.ParseJSON("authorization_details", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// realGitHub reads blocks as the service does.
func realGitHub() policy.Check {
	against := check()
	against.Backends = map[string]policy.Scoper{"github": github.New(github.Options{Owner: "acme"})}
	return against
}

func TestLessOfACredentialCanBeHadAndNoMore(t *testing.T) {
	file := taskOf("", "", "owner: acme\nrepositories: [widget, gadget]\npermissions: {contents: write, issues: read}")
	set, err := policy.Load(fstest.MapFS{"t.yaml": {Data: file}}, realGitHub())
	if err != nil {
		t.Fatal(err)
	}
	const all = "contents: write, issues: read on acme/widget, acme/gadget"
	for name, c := range map[string]struct{ asked, scope, why string }{
		"one repository":           {`{"github":{"repositories":["widget"]}}`, "contents: write, issues: read on acme/widget", ""},
		"one permission":           {`{"github":{"permissions":{"contents":"read"}}}`, "contents: read on acme/widget, acme/gadget", ""},
		"less of both":             {`{"github":{"repositories":["gadget"],"permissions":{"issues":"read"}}}`, "issues: read on acme/gadget", ""},
		"the same":                 {`{"github":{"owner":"acme"}}`, all, ""},
		"a higher level":           {`{"github":{"permissions":{"issues":"write"}}}`, "", "asked for issues: write on acme/widget, acme/gadget; the task gives " + all + ", and asking may only narrow"},
		"another repository":       {`{"github":{"repositories":["widget","secrets"]}}`, "", "asking may only narrow"},
		"another owner":            {`{"github":{"owner":"evil"}}`, "", "asking may only narrow"},
		"an id beside the names":   {`{"github":{"repository_ids":[1,2]}}`, "", "asking may only narrow"},
		"no permission at all":     {`{"github":{"permissions":{}}}`, "", "is not taken: no permission is named"},
		"no repository at all":     {`{"github":{"repositories":[]}}`, "", "is not taken: no repository is named"},
		"nothing for permissions":  {`{"github":{"permissions":null}}`, "", "is not taken: no value is given"},
		"an unknown permission":    {`{"github":{"permissions":{"content":"read"}}}`, "", `is not taken: GitHub Apps have no permission "content" (did you mean "contents"?)`},
		"an unknown key":           {`{"github":{"repos":["widget"]}}`, "", "is not taken: unknown key"},
		"a key in capitals":        {`{"github":{"Permissions":{"contents":"read"}}}`, "", "is not taken: unknown key"},
		"a star":                   {`{"github":{"repositories":["*"]}}`, "", "is not taken: want the name of one repository"},
		"an expression":            {`{"github":{"repositories":["${claims.repository}"]}}`, "", "expressions are for task files"},
		"an expression as a key":   {`{"github":{"permissions":{"${x}":"read"}}}`, "", "expressions are for task files"},
		"another kind":             {`{"postgres":{"role":"x"}}`, "", "must stand under the task's one kind, github"},
		"two kinds":                {`{"github":{"repositories":["widget"]},"postgres":{}}`, "", "must stand under the task's one kind, github"},
		"no kind":                  {`{}`, "", "must stand under the task's one kind, github"},
		"a kind with nothing":      {`{"github":{}}`, "", "nothing is asked of the credential under github"},
		"a kind that is no object": {`{"github":["widget"]}`, "", "nothing is asked of the credential under github"},
	} {
		t.Run(name, func(t *testing.T) {
			grant, err := set.Authorize(release(nil), policy.Asked{Task: "t", Narrow: asked(t, c.asked)})
			var denial *policy.Denial
			switch errors.As(err, &denial); {
			case c.why == "" && (err != nil || grant.Scope.String() != c.scope):
				t.Errorf("got %v, %v", grant.Scope, err)
			case c.why != "" && (denial == nil || !strings.Contains(denial.Asked, c.why)):
				t.Errorf("got %v, %v; want %s", grant.Scope, err, c.why)
			}
		})
	}
}

// What comes of claims and inputs is the task's own; only less of that can be had.
func TestWhatWasFilledInIsNarrowedAsItIs(t *testing.T) {
	file := taskOf("", "name: {pattern: '[a-z]+', example: widget}", "owner: acme\nrepositories: ['${inputs.name}']\npermissions: {contents: write}")
	set, err := policy.Load(fstest.MapFS{"t.yaml": {Data: file}}, realGitHub())
	if err != nil {
		t.Fatal(err)
	}
	for repository, let := range map[string]bool{"gadget": true, "widget": false} { // widget is the example alone
		grant, err := set.Authorize(release(nil), policy.Asked{Task: "t", Inputs: map[string]string{"name": "gadget"},
			Narrow: asked(t, fmt.Sprintf(`{"github":{"repositories":[%q],"permissions":{"contents":"read"}}}`, repository))})
		if (err == nil) != let || (let && grant.Scope.String() != "contents: read on acme/gadget") {
			t.Errorf("%s: got %v, %v", repository, grant.Scope, err)
		}
	}
}

// github's names, levels and owners, of which a task and whoever asks take some.
var (
	someRepositories = []string{"widget", "gadget", "gizmo"}
	somePermissions  = []string{"contents", "issues", "statuses"}
	levels           = map[string]int{"read": 1, "write": 2}
)

type reach struct {
	Repositories []string          `json:"repositories,omitempty"`
	Permissions  map[string]string `json:"permissions,omitempty"`
}

func drawReach(t *rapid.T, least int, label string) reach {
	return reach{
		rapid.SliceOfNDistinct(rapid.SampledFrom(someRepositories), least, 3, rapid.ID[string]).Draw(t, label+" repositories"),
		rapid.MapOfN(rapid.SampledFrom(somePermissions), rapid.SampledFrom([]string{"read", "write"}), least, 3).Draw(t, label+" permissions"),
	}
}

func (r reach) within(o reach) bool {
	for _, name := range r.Repositories {
		if !slices.Contains(o.Repositories, name) {
			return false
		}
	}
	for name, level := range r.Permissions {
		if levels[o.Permissions[name]] < levels[level] {
			return false
		}
	}
	return true
}

// Whatever a task gives and whoever asks for what: a grant is there exactly where what
// was asked for lies within the task, and is then exactly that.
func TestAGrantLiesWithinTheTaskAndWhatWasAskedFor(t *testing.T) {
	for name, against := range map[string]policy.Check{"the real backend": realGitHub(), "the fake": check()} {
		t.Run(name, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				task, want := drawReach(t, 1, "task"), drawReach(t, 0, "asked")
				filled := rapid.IntRange(0, len(task.Repositories)-1).Draw(t, "filled in")
				set, given := setOfReach(t, task, filled, against)
				asks := policy.Asked{Task: "t", Inputs: given}
				if len(want.Repositories)+len(want.Permissions) > 0 {
					text, _ := json.Marshal(map[string]reach{"github": want}) // texts always encode
					asks.Narrow, _ = yamlfile.ParseJSON("authorization_details", text)
				}
				expected := overlaid(task, want)

				grant, err := set.Authorize(release(nil), asks)

				if name == "the fake" { // whose Covers knows the same and nothing else
					if err == nil && !expected.within(task) {
						t.Fatalf("%v was given of %v", grant.Scope, task)
					}
					return
				}
				if (err == nil) != expected.within(task) {
					t.Fatalf("task %v, asked %v: got %v, %v", task, want, grant.Scope, err)
				}
				if err == nil && !sameScope(grant.Scope, expected, against) {
					t.Fatalf("task %v, asked %v: got %v", task, want, grant.Scope)
				}
			})
		})
	}
}

// setOfReach writes the task so that one of its repositories comes out of an input.
func setOfReach(t *rapid.T, task reach, filled int, against policy.Check) (*policy.Set, map[string]string) {
	written := slices.Clone(task.Repositories)
	written[filled] = "${inputs.name}"
	repositories, _ := json.Marshal(written)
	permissions, _ := json.Marshal(task.Permissions)
	block := fmt.Sprintf("owner: acme\nrepositories: %s\npermissions: %s", spaced(repositories), spaced(permissions))
	set, err := policy.Load(fstest.MapFS{"t.yaml": {Data: taskOf("", "name: {pattern: '[a-z]+', example: example}", block)}}, against)
	if err != nil {
		t.Fatal(err)
	}
	return set, map[string]string{"name": task.Repositories[filled]}
}

func spaced(text []byte) string {
	return strings.ReplaceAll(string(text), ":", ": ")
}

func overlaid(task, want reach) reach {
	if len(want.Repositories) > 0 {
		task.Repositories = want.Repositories
	}
	if len(want.Permissions) > 0 {
		task.Permissions = want.Permissions
	}
	return task
}

// sameScope holds a scope against one that is written down without policy.
func sameScope(got backend.Scope, want reach, against policy.Check) bool {
	text, _ := json.Marshal(struct {
		Owner string `json:"owner"`
		reach
	}{"acme", want})
	block, err := yamlfile.ParseJSON("want", text)
	if err != nil {
		return false
	}
	scope, err := against.Backends["github"].Scope(block)
	return err == nil && got.Covers(scope) && scope.Covers(got)
}

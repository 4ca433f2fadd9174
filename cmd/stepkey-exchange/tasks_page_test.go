package main

import (
	"encoding/json"
	"errors"
	"io"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rhysd/actionlint"

	"github.com/stepkey/stepkey/exchange/backend/github"
	"github.com/stepkey/stepkey/exchange/client"
	"github.com/stepkey/stepkey/exchange/identity"
	"github.com/stepkey/stepkey/exchange/policy"
	"github.com/stepkey/stepkey/internal/githubsim"
	"github.com/stepkey/stepkey/internal/yamlfile"
)

const tasksPage = "../../docs/tasks.md"

// against is what the page's task files are held against: the real backend.
func against() policy.Check {
	return policy.Check{
		Issuers:  []identity.Issuer{{Name: "github", Kind: "github"}},
		Backends: map[string]policy.Scoper{"github": github.New(github.Options{})},
	}
}

// pageFiles are the blocks of docs/tasks.md that begin with a file's name, by folder.
func pageFiles(t *testing.T, folder string) map[string]string {
	t.Helper()
	files := map[string]string{}
	for _, b := range blocks(t, tasksPage) {
		first, _, _ := strings.Cut(b.text, "\n")
		name, ours := strings.CutPrefix(first, "# "+folder+"/")
		if b.kind != "yaml" || !ours {
			continue
		}
		if files[name] != "" {
			t.Errorf("%s is on the page twice", name)
		}
		files[name] = b.text
	}
	return files
}

func pageTasks(t *testing.T) *policy.Set {
	t.Helper()
	folder := fstest.MapFS{}
	for name, text := range pageFiles(t, "tasks") {
		folder[name] = &fstest.MapFile{Data: []byte(text)}
	}
	set, err := policy.Load(folder, against())
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func TestTheTaskFilesOfThePageHaveNoFaultAndNothingFragile(t *testing.T) {
	for _, f := range pageTasks(t).Findings() {
		if f.Accepted == "" {
			t.Errorf("%s:%d: %s: %s", f.File, f.Line, f.Rule.ID, f.Message)
		}
	}
}

// A key that the table lacks is one that nobody finds; one that the code lacks is refused.
func TestTheTableHasEveryKeyOfATaskFileAndNoOther(t *testing.T) {
	page, err := os.ReadFile(tasksPage)
	if err != nil {
		t.Fatal(err)
	}
	var told []string
	for _, row := range regexp.MustCompile("(?m)^\\| `([^`]+)` \\|").FindAllStringSubmatch(string(page), -1) {
		told = append(told, row[1])
	}
	text, err := policy.Schema(against().Backends)
	if err != nil {
		t.Fatal(err)
	}
	var schema map[string]any
	if err := json.Unmarshal(text, &schema); err != nil {
		t.Fatal(err)
	}
	known := keysOf(schema, "")
	slices.Sort(told)
	slices.Sort(known)
	if diff := cmp.Diff(known, told); diff != "" {
		t.Errorf("keys of the code (-) and of the page (+):\n%s", diff)
	}
}

// keysOf lists the keys below a schema's place. Keys that are not of the form, as those
// of claims, are not gone into.
func keysOf(schema map[string]any, at string) (keys []string) {
	free := []string{"accept", "allow[].claims", "credential.github.permissions"}
	if slices.Contains(free, at) {
		return nil
	}
	if items, ok := schema["items"].(map[string]any); ok {
		return keysOf(items, at+"[]")
	}
	if each, ok := schema["additionalProperties"].(map[string]any); ok {
		return keysOf(each, at+".*")
	}
	properties, _ := schema["properties"].(map[string]any)
	for key, below := range properties {
		place := strings.TrimPrefix(at+"."+key, ".")
		if place != "credential.github" { // named with each of its keys
			keys = append(keys, place)
		}
		if deeper, ok := below.(map[string]any); ok {
			keys = append(keys, keysOf(deeper, place)...)
		}
	}
	return keys
}

func TestEveryWorkflowOfThePageIsGoodAndNamesATaskOfIt(t *testing.T) {
	set := pageTasks(t)
	asks := regexp.MustCompile(`(?m)^ *task: (\S+)$`)
	linter, err := actionlint.NewLinter(io.Discard, &actionlint.LinterOptions{})
	if err != nil {
		t.Fatal(err)
	}
	asked := map[string]bool{}
	for name, text := range pageFiles(t, ".github/workflows") {
		problems, err := linter.Lint(name, []byte(text), nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range problems {
			t.Errorf("%s:%d:%d: %s", name, p.Line, p.Column, p.Message)
		}
		for _, task := range asks.FindAllStringSubmatch(text, -1) {
			asked[task[1]] = true
			if !set.Has(task[1]) {
				t.Errorf("%s asks for %s, which the page does not have", name, task[1])
			}
		}
	}
	for _, r := range recipes() {
		for task := range r.gives {
			if !asked[task] {
				t.Errorf("%s: no workflow of the page asks for %s", r.name, task)
			}
		}
	}
}

func TestEachRecipeGivesWhatItSaysToItsJobAndNothingToWhoeverComesNear(t *testing.T) {
	set := pageTasks(t)
	gh := pageGitHub(t)
	told := map[string]bool{"tidy-fleet": true}
	for _, r := range recipes() {
		t.Run(r.name, func(t *testing.T) {
			if len(r.nearMisses) < 3 {
				t.Errorf("only %d near misses", len(r.nearMisses))
			}
			for task, gives := range r.gives {
				told[task] = true
				grant, err := set.Authorize(r.workload(gh, nil), policy.Asked{Task: task, Inputs: r.inputs})
				if err != nil || grant.Scope.String() != gives {
					t.Errorf("its own job gets %v, want %s: %v", grant.Scope, gives, err)
				}
				for name, miss := range r.nearMisses {
					inputs := maps.Clone(r.inputs)
					if miss.inputs != nil {
						inputs = miss.inputs
					}
					grant, err := set.Authorize(r.workload(gh, miss.claims), policy.Asked{Task: task, Inputs: inputs, TTL: miss.ttl})
					var denial *policy.Denial
					if !errors.As(err, &denial) {
						t.Errorf("%s: gets %v of %s: %v", name, grant.Scope, task, err)
					}
				}
			}
		})
	}
	for _, task := range set.Tasks() {
		if !told[task.Name] {
			t.Errorf("%s is in no recipe of the table", task.Name)
		}
	}
}

// The example of every key does what the text beside it says.
func TestTheExamplesOfAskingForLessAreTaken(t *testing.T) {
	set := pageTasks(t)
	w := workloadOf(pageGitHub(t), githubsim.JobSpec{Repository: "acme/widget", Environment: "staging", IDToken: true}, nil)
	for _, b := range blocks(t, tasksPage) {
		if b.kind != "json" {
			continue
		}
		root, err := yamlfile.ParseJSON("the page", []byte(b.text))
		if err != nil {
			t.Fatal(err)
		}
		var details []struct {
			Type       string
			TTL        string
			Inputs     map[string]string
			Credential map[string]any
		}
		if err := json.Unmarshal([]byte(b.text), &details); err != nil || details[0].Type != client.DetailsTypeTask {
			t.Fatalf("%+v: %v", details, err)
		}
		ttl, err := time.ParseDuration(details[0].TTL)
		if err != nil {
			t.Fatal(err)
		}
		asked := policy.Asked{Task: "tidy-fleet", TTL: ttl, Inputs: details[0].Inputs, Narrow: root.Items()[0].Get("credential")}
		grant, err := set.Authorize(w, asked)
		if err != nil || grant.TTL != ttl || grant.Scope.String() != "contents: read on acme/fleet-staging (id 456795)" {
			t.Errorf("%s gives %v for %s: %v", b.text, grant.Scope, grant.TTL, err)
		}
		return
	}
	t.Error("the page shows no authorization_details")
}

// workload is the recipe's job, with some claims changed; nil takes one away.
func (r recipe) workload(gh *githubsim.GitHub, change map[string]any) identity.Workload {
	return workloadOf(gh, r.jobs[0].spec, change)
}

func workloadOf(gh *githubsim.GitHub, spec githubsim.JobSpec, change map[string]any) identity.Workload {
	claims := identity.Claims{}
	for name, value := range gh.StartJob(spec).Claims("") {
		if text, isText := value.(string); isText {
			claims[name] = text
		}
	}
	for name, value := range change {
		if claims[name] = value; value == nil {
			delete(claims, name)
		}
	}
	return identity.Workload{Issuer: "github", TokenID: "jti", Claims: claims}
}

package policy_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/stepkey/stepkey/exchange/backend/github"
	"github.com/stepkey/stepkey/exchange/identity"
	"github.com/stepkey/stepkey/exchange/policy"
)

const testsCorpus = corpus + "../tasktests/"

// github alone, so that tests need not name their issuer.
func checkGitHub() policy.Check {
	c := check()
	c.Issuers = c.Issuers[:1]
	return c
}

// tried runs one file of tests beside the task file of the corpus, or of the test.
func tried(t testing.TB, task, tests string, c policy.Check) policy.Tested {
	t.Helper()
	files := fstest.MapFS{"publish-release.yaml": {Data: []byte(task)}, "publish-release.test.yaml": {Data: []byte(tests)}}
	set, err := policy.Load(files, c)
	if err != nil {
		t.Fatal(err)
	}
	all, err := set.Test(files, c)
	if err != nil || len(all) != 1 {
		t.Fatalf("%d files of tests, %v", len(all), err)
	}
	return all[0]
}

func publishRelease(t testing.TB) string {
	t.Helper()
	data, err := os.ReadFile(corpus + "good/publish-release.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return strings.ReplaceAll(string(data), "# warn", "# it warns")
}

// Every bad file of tests says in its comments what is found in it, and no more is.
func TestEveryBadFileOfTestsIsFoundForWhatItSays(t *testing.T) {
	for file, data := range corpusOf(t, "../tasktests/bad", 20) {
		t.Run(file, func(t *testing.T) {
			issuers := checkGitHub()
			if strings.HasPrefix(file, "issuer-") {
				issuers = check()
			}
			got := tried(t, publishRelease(t), string(data), issuers)
			if diff := cmp.Diff(wants(data), told(got.Findings, policy.Error)); diff != "" {
				t.Errorf("findings (-want +got):\n%s", diff)
			}
			for _, f := range got.Findings {
				if f.File != "publish-release.test.yaml" || f.Rule.ID != policy.TaskTest || len([]rune(f.Message)) > 400 {
					t.Errorf("%s, %s, %d characters", f.File, f.Rule.ID, len(f.Message))
				}
			}
		})
	}
}

func TestAGoodFileOfTestsPasses(t *testing.T) {
	for file, data := range corpusOf(t, "../tasktests/good", 1) {
		got := tried(t, publishRelease(t), string(data), checkGitHub())
		if got.Failed != 0 || got.Passed < 5 || len(got.Findings) > 0 {
			t.Errorf("%s: %d passed, %d failed: %v", file, got.Passed, got.Failed, told(got.Findings, policy.Error))
		}
	}
}

// A test that fails carries the tree of its decision, and the others go on.
func TestATestThatFailsIsExplainedAndTheOthersGoOn(t *testing.T) {
	got := tried(t, publishRelease(t), `task: publish-release
defaults:
  claims: {repository_owner_id: "123456", repository_id: "456789", environment: release}
tests:
  - {name: a schedule is published, claims: {event_name: schedule}, expect: granted}
  - {name: a push is published, claims: {event_name: push}, expect: granted}
`, checkGitHub())
	if got.Passed != 1 || got.Failed != 1 || len(got.Findings) != 1 {
		t.Fatalf("%d passed, %d failed, found %v", got.Passed, got.Failed, told(got.Findings, policy.Error))
	}
	f := got.Findings[0]
	if f.Line != 5 || !strings.Contains(f.Explained, `✗ publish-release.yaml:9: event_name is "schedule", wanted "push" or "workflow_dispatch"`) {
		t.Errorf("line %d:\n%s", f.Line, f.Explained)
	}
}

// What is asked for is decided by the backend of the task, as it is in earnest.
func TestATestAsksForLessThanTheTaskGives(t *testing.T) {
	c := checkGitHub()
	c.Backends = map[string]policy.Scoper{"github": github.New(github.Options{})}
	const tests = `task: publish-release
defaults:
  claims: {repository_owner_id: "123456", repository_id: "456789", environment: release, event_name: push}
tests:
  - {name: reading is enough, ttl: 90s, narrow: {github: {permissions: {contents: %s}}}, expect: granted, scope: "contents: read on acme/widget (id 456789)", lives: %s}
`
	if got := tried(t, publishRelease(t), fmt.Sprintf(tests, "read", "90s"), c); got.Passed != 1 || got.Failed != 0 {
		t.Errorf("%v", told(got.Findings, policy.Error))
	}
	for _, wrong := range [][2]string{{"write", "90s"}, {"read", "10m"}, {"admin", "90s"}} {
		if got := tried(t, publishRelease(t), fmt.Sprintf(tests, wrong[0], wrong[1]), c); got.Failed != 1 || len(got.Findings) != 1 {
			t.Errorf("%v: %v", wrong, told(got.Findings, policy.Error))
		}
	}
}

// A test of a task with several issuers must say whom it speaks of.
func TestATestNamesItsIssuerWhereThereAreSeveral(t *testing.T) {
	const tests = `task: publish-release
tests:
  - name: a push is published
    %s
    claims: {repository_id: "456789", event_name: push, ref: refs/tags/v1, environment: release}
    inputs: {version: v1}
    expect: %s
`
	for issuer, expect := range map[string]string{"issuer: github": "granted", "issuer: ghes": "granted"} {
		if got := tried(t, twoWays, fmt.Sprintf(tests, issuer, expect), check()); got.Passed != 1 {
			t.Errorf("%s: %v", issuer, told(got.Findings, policy.Error))
		}
	}
	got := tried(t, twoWays, fmt.Sprintf(tests, "because: issuer", "denied"), check())
	if want := []string{`3:11 task-test several issuers are configured; name one as issuer: "buildhost", "buildkite", "circleci", "forgejo", "ghes", "github", "gitlab", "kubernetes", "semaphore", "spiffe"`}; !slices.Equal(told(got.Findings, policy.Error), want) {
		t.Errorf("found %v", told(got.Findings, policy.Error))
	}
}

// The tests of a task that was renamed or removed would go on passing, and test nothing.
func TestTestsOfNoTaskAreFound(t *testing.T) {
	files := fstest.MapFS{"publish-release.yaml": {Data: []byte(publishRelease(t))},
		"publish-releas.test.yaml": {Data: []byte("task: publish-releas\ntests:\n  - {name: nobody is let in, expect: denied}\n")}}
	set, err := policy.Load(files, checkGitHub())
	if err != nil {
		t.Fatal(err)
	}
	all, err := set.Test(files, checkGitHub())
	if err != nil || len(all) != 1 || all[0].Passed != 0 {
		t.Fatalf("%v, %v", all, err)
	}
	want := []string{`1:7 task-test there is no task "publish-releas" beside this file (did you mean "publish-release"?)`}
	if diff := cmp.Diff(want, told(all[0].Findings, policy.Error)); diff != "" {
		t.Error(diff)
	}
}

// Only tests are run: a service that loads the folder reads none of them.
func TestTheSetDoesNotReadTests(t *testing.T) {
	set, err := policy.Load(fstest.MapFS{"publish-release.yaml": {Data: []byte(publishRelease(t))},
		"publish-release.test.yaml": {Data: []byte("neither YAML: nor: a test")}}, checkGitHub())
	if err != nil || len(set.Tasks()) != 1 {
		t.Error(err)
	}
}

// However a file of tests is written: no panic, and what passes was decided so.
func FuzzTests(f *testing.F) {
	files, _ := filepath.Glob(testsCorpus + "*/*")
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(data))
	}
	task := publishRelease(f)
	f.Fuzz(func(t *testing.T, tests string) {
		got := tried(t, task, tests, checkGitHub())
		if got.Passed == 0 && len(got.Findings) == 0 {
			t.Error("nothing passed, and nothing is wrong")
		}
		if got.Failed > len(got.Findings) {
			t.Errorf("%d failed, and %d are told", got.Failed, len(got.Findings))
		}
		for _, one := range got.Findings {
			if one.Rule.ID != policy.TaskTest || strings.ContainsAny(one.Message, "\x1b\n") {
				t.Errorf("%s %q", one.Rule.ID, one.Message)
			}
		}
	})
}

// A workload of a test is what the verifier would make of the same claims.
func TestTheClaimsOfATestAreHeldToTheVerifiersRules(t *testing.T) {
	_, err := identity.Unverified(identity.Issuer{Name: "github", Kind: "github"}, identity.Claims{"repository_id": "0456789"})
	if err == nil || !strings.Contains(err.Error(), "repository_id") {
		t.Error(err)
	}
}

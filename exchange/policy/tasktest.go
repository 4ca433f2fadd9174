package policy

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/stepkey/stepkey/exchange/identity"
	"github.com/stepkey/stepkey/internal/yamlfile"
)

// TaskTest is the rule of tests that lie beside task files.
const TaskTest = "task-test"

// testFiles ends the names of files of tests: publish-release.test.yaml holds those of
// the task publish-release.
const testFiles = ".test.yaml"

// Tested is what came of one file of tests.
type Tested struct {
	File, Task     string
	Passed, Failed int
	// Findings are the tests that came out otherwise, and what cannot be read, all of
	// the rule TaskTest. There is one where nothing Failed, too, if it is about the file.
	Findings []Finding
}

// Test runs the tests that lie beside the task files of the set, in file order. c is
// what those were checked against. Nothing outside is asked, so that what a task
// requires of the CI system is not tested. err: the folder cannot be read.
func (s *Set) Test(fsys fs.FS, c Check) ([]Tested, error) {
	listed, err := fs.ReadDir(fsys, ".")
	if err != nil {
		return nil, fmt.Errorf("reading the folder of task files: %w", err)
	}
	var all []Tested
	for _, f := range listed {
		if name := f.Name(); strings.HasSuffix(name, testFiles) && !strings.HasPrefix(name, ".") && !f.IsDir() {
			t := tester{set: s, check: c, Tested: Tested{File: name, Task: strings.TrimSuffix(name, testFiles)}}
			t.file(fsys)
			all = append(all, t.Tested)
		}
	}
	return all, nil
}

// testFile is the shape of a file of tests.
type testFile struct {
	Task     yamlfile.Node `yaml:"task,required"`
	Defaults yamlfile.Node `yaml:"defaults"`
	Tests    yamlfile.Node `yaml:"tests,required"`
}

type testDefaults struct {
	Claims yamlfile.Node `yaml:"claims"`
}

type testBlock struct {
	Name    yamlfile.Node `yaml:"name,required"`
	Issuer  yamlfile.Node `yaml:"issuer"`
	Claims  yamlfile.Node `yaml:"claims"`
	Inputs  yamlfile.Node `yaml:"inputs"`
	TTL     yamlfile.Node `yaml:"ttl"`    // asked for
	Narrow  yamlfile.Node `yaml:"narrow"` // asked for
	Expect  yamlfile.Node `yaml:"expect,required"`
	Scope   yamlfile.Node `yaml:"scope"`
	Lives   yamlfile.Node `yaml:"lives"`
	Because yamlfile.Node `yaml:"because"`
}

// tester runs the tests of one file and collects what is wrong.
type tester struct {
	Tested
	set      *Set
	check    Check
	names    []string
	defaults yamlfile.Node // claims under those of each test
}

func (t *tester) refuse(n yamlfile.Node, format string, args ...any) {
	t.found(n.Errorf(format, args...), "")
}

func (t *tester) found(fault *yamlfile.Error, explained string) {
	fault.Rule = TaskTest
	f := findingOf(fault, "")
	f.Explained = explained
	t.Findings = append(t.Findings, f)
}

// decode reports whether v could be read; an absent node leaves v as it is.
func (t *tester) decode(n yamlfile.Node, v any) bool {
	err := n.Decode(v)
	for _, fault := range yamlfile.Faults(err) {
		t.found(fault, "")
	}
	return err == nil
}

func (t *tester) file(fsys fs.FS) {
	data, err := fs.ReadFile(fsys, t.File)
	if err != nil {
		t.found(&yamlfile.Error{File: t.File, Message: fmt.Sprintf("reading the file of tests: %v", err)}, "")
		return
	}
	root, err := yamlfile.Parse(t.File, data)
	for _, fault := range yamlfile.Faults(err) {
		t.found(fault, "")
	}
	var f testFile
	if err != nil || !t.decode(root, &f) || !t.ofTask(f.Task) {
		return
	}
	var defaults testDefaults
	if !t.decode(f.Defaults, &defaults) || !t.claimsReadable(defaults.Claims, t.kind()) {
		return
	}
	t.defaults = defaults.Claims
	if len(f.Tests.Items()) == 0 {
		t.refuse(f.Tests, "tests must be a list of at least one test: - name: …")
	}
	for _, item := range f.Tests.Items() {
		t.test(item)
	}
}

// ofTask demands that the file is named after its task and that there is such a task:
// tests of what was renamed or removed would test nothing.
func (t *tester) ofTask(n yamlfile.Node) bool {
	var name string
	if !t.decode(n, &name) {
		return false
	}
	if name != t.Task {
		t.refuse(n, "task is %s, but the file is named %s; tests of a task are in <task>%s", yamlfile.Quote(name), yamlfile.Quote(t.File), testFiles)
		return false
	}
	if _, there := t.set.tasks[name]; !there {
		names := slices.Sorted(maps.Keys(t.set.tasks))
		if near := yamlfile.Nearest(name, names); near != "" {
			t.refuse(n, "there is no task %s beside this file (did you mean %q?)", yamlfile.Quote(name), near)
		} else {
			t.refuse(n, "there is no task %s beside this file", yamlfile.Quote(name))
		}
		return false
	}
	return true
}

// test runs one test. What cannot be read has failed.
func (t *tester) test(n yamlfile.Node) {
	before := len(t.Findings)
	var b testBlock
	if t.decode(n, &b) {
		if one, ok := t.read(b); ok {
			t.judge(one)
		}
	}
	if len(t.Findings) == before {
		t.Passed++
	} else {
		t.Failed++
	}
}

// taskTest is a test that was read.
type taskTest struct {
	testBlock
	name, expect, scope, because string
	issuer                       identity.Issuer
	claims                       identity.Claims
	inputs                       map[string]string
	ttl, lives                   time.Duration
}

func (t *tester) read(b testBlock) (taskTest, bool) {
	one := taskTest{testBlock: b}
	readable := t.decode(b.Name, &one.name)
	readable = t.decode(b.Inputs, &one.inputs) && readable
	readable = t.decode(b.TTL, &one.ttl) && readable
	readable = t.decode(b.Expect, &one.expect) && readable
	readable = t.decode(b.Scope, &one.scope) && readable
	readable = t.decode(b.Lives, &one.lives) && readable
	readable = t.decode(b.Because, &one.because) && readable
	if !readable || !t.named(one) || !t.asking(one) || !t.expectation(one) {
		return one, false
	}
	var ok bool
	if one.issuer, ok = t.issuer(b); !ok || !t.claimsReadable(b.Claims, one.issuer.Kind) {
		return one, false
	}
	one.claims = t.claims(b.Claims, one.issuer.Kind)
	return one, true
}

func (t *tester) named(one taskTest) bool {
	switch {
	case strings.TrimSpace(one.name) == "" || !printable(one.name):
		t.refuse(one.Name, "name says in a line what the test shows")
	case slices.Contains(t.names, one.name):
		t.refuse(one.Name, "two tests are named %s", yamlfile.Quote(one.name))
	default:
		t.names = append(t.names, one.name)
		return true
	}
	return false
}

// asking demands that what is asked for is something: what is absent asks for all.
func (t *tester) asking(one taskTest) bool {
	switch {
	case one.TTL.Exists() && one.ttl <= 0:
		t.refuse(one.TTL, "ttl is the lifetime that is asked for, as 5m; leave it out to ask for the task's")
	case one.Narrow.Exists() && !one.Narrow.IsMapping():
		t.refuse(one.Narrow, "narrow is what is asked of the credential, as {github: {permissions: {contents: read}}}")
	default:
		return true
	}
	return false
}

const (
	granted = "granted"
	denied  = "denied"
)

func (t *tester) expectation(one taskTest) bool {
	switch {
	case one.expect != granted && one.expect != denied:
		t.refuse(one.Expect, "expect is %s; it is granted or denied", yamlfile.Quote(one.expect))
	case one.expect == denied && one.Scope.Exists():
		t.refuse(one.Scope, "scope is what is given, and nothing is where denied is expected")
	case one.expect == denied && one.Lives.Exists():
		t.refuse(one.Lives, "lives is how long that lives which is given, and nothing is where denied is expected")
	case one.Lives.Exists() && one.lives <= 0:
		t.refuse(one.Lives, "lives is how long the credential lives at most, as 5m; leave it out if any time will do")
	case one.expect == granted && one.Because.Exists():
		t.refuse(one.Because, "because says why something is denied, and granted is expected")
	case one.Scope.Exists() && one.scope == "" || one.Because.Exists() && one.because == "":
		t.refuse(one.Expect, "scope or because is empty; leave it out if any will do")
	default:
		return true
	}
	return false
}

// issuer is the one that the test names, or the only one.
func (t *tester) issuer(b testBlock) (identity.Issuer, bool) {
	n := b.Issuer
	if !n.Exists() && len(t.check.Issuers) == 1 {
		return t.check.Issuers[0], true
	}
	names := map[string]bool{}
	var name string
	if !t.decode(n, &name) {
		return identity.Issuer{}, false
	}
	for _, i := range t.check.Issuers {
		if names[i.Name] = true; n.Exists() && i.Name == name {
			return i, true
		}
	}
	if !n.Exists() {
		t.refuse(b.Name, "several issuers are configured; name one as issuer: %s", listed(names))
	} else {
		t.refuse(n, "no issuer %s is configured (configured: %s)", yamlfile.Quote(name), listed(names))
	}
	return identity.Issuer{}, false
}

// kind is that of all issuers, if they are of one kind.
func (t *tester) kind() string {
	kind := ""
	for n, i := range t.check.Issuers {
		if kind = i.Kind; kind != t.check.Issuers[max(n-1, 0)].Kind {
			return ""
		}
	}
	return kind
}

// claimsReadable demands text, as all claims are that tasks speak of, or null. A name
// that looks like that of a claim and is none would be a test of nothing.
func (t *tester) claimsReadable(n yamlfile.Node, kind string) bool {
	before := len(t.Findings)
	if n.Exists() && !n.IsMapping() {
		t.refuse(n, "claims is a mapping, as {event_name: push}")
	}
	for _, claim := range n.Keys() {
		var text string
		if value := n.Get(claim); !value.IsNull() {
			t.decode(value, &text)
		}
		if why := unknownClaim(kind, claim); forbidden(kind, claim) == "" && strings.Contains(why, "did you mean") {
			t.refuse(n.Key(claim), "%s", why)
		}
	}
	return len(t.Findings) == before
}

// namesRun are the claims that name a run or a job and that no task matches.
var namesRun = map[string][]string{
	"github":    {"run_id", "run_attempt", "check_run_id"},
	"forgejo":   {"run_id", "run_attempt"},
	"gitlab":    {"pipeline_id", "job_id"},
	"buildkite": {"job_id"},
	"circleci":  {ofCircleCI + "pipeline-id", ofCircleCI + "job-id"},
}

// SomeRun are claims that name a run of an issuer of this kind, for claims that are written
// by hand: whoever asks what a task says of them need not think of one.
func SomeRun(kind string) identity.Claims {
	claims := identity.Claims{}
	for _, name := range namesRun[kind] {
		if example, ok := givenClaims[kind][name]; ok {
			claims[name] = example
		}
	}
	return claims
}

// claims lays those of the test over the defaults, and these over what names a run,
// which tests need not say. null takes a claim away.
func (t *tester) claims(of yamlfile.Node, kind string) identity.Claims {
	claims := SomeRun(kind)
	for _, layer := range []yamlfile.Node{t.defaults, of} {
		for _, name := range layer.Keys() {
			delete(claims, name)
			var text string
			if value := layer.Get(name); !value.IsNull() && value.Decode(&text) == nil {
				claims[name] = text
			}
		}
	}
	return claims
}

// judge runs the test. Claims that no token of the issuer could have are denied, too,
// since the exchange refuses such a token.
func (t *tester) judge(one taskTest) {
	w, err := identity.Unverified(one.issuer, one.claims)
	if err != nil {
		t.judgeRefused(one, err)
		return
	}
	e := t.set.Explain(w, Asked{Task: t.Task, TTL: one.ttl, Inputs: one.inputs, Narrow: one.Narrow})
	test := yamlfile.Quote(one.name)
	switch {
	case !e.Granted() && one.expect == granted:
		t.found(one.Expect.Errorf("%s is denied: %s", test, cutShort(e.Reason())), e.Tree())
	case e.Granted() && one.expect == denied:
		t.found(one.Expect.Errorf("%s is granted by %s: %s", test, e.Grant.Rule, cutShort(e.Grant.Scope.String())), e.Tree())
	case e.Granted() && one.scope != "" && one.scope != e.Grant.Scope.String():
		t.found(one.Scope.Errorf("%s is given %s, and the test says %s", test, yamlfile.Quote(e.Grant.Scope.String()), yamlfile.Quote(one.scope)), e.Tree())
	case e.Granted() && one.lives != 0 && one.lives != e.Grant.TTL:
		t.found(one.Lives.Errorf("%s is given for %s, and the test says %s", test, span(e.Grant.TTL), span(one.lives)), e.Tree())
	case !e.Granted() && one.because != "" && !slices.Contains(e.because(), one.because):
		t.found(one.Because.Errorf("%s is denied because of %s and not of %s: %s", test,
			strings.Join(e.because(), ", "), yamlfile.Quote(one.because), cutShort(e.Reason())), e.Tree())
	}
}

// judgeRefused demands that a test which means such a token says so: one that forgot a
// claim would be denied for it, and show nothing of the task.
func (t *tester) judgeRefused(one taskTest, err error) {
	why := err.Error()
	if refusal, ok := errors.AsType[*identity.Refusal](err); ok {
		why = refusal.Reason
	}
	named := one.because != "" && slices.Contains(strings.FieldsFunc(why, func(r rune) bool { return r == ' ' || r == ',' }), one.because)
	switch {
	case one.expect == granted:
		t.found(one.Expect.Errorf("%s is refused before any task is looked at: %s", yamlfile.Quote(one.name), cutShort(why)), "")
	case one.because == "":
		t.found(one.Expect.Errorf("%s is refused before any task is looked at: %s; if that is meant, name the claim under because", yamlfile.Quote(one.name), cutShort(why)), "")
	case !named:
		t.found(one.Because.Errorf("%s is refused before any task is looked at, and not because of %s: %s",
			yamlfile.Quote(one.name), yamlfile.Quote(one.because), cutShort(why)), "")
	}
}

// because names what decided: of each entry the first rule that did not hold, or, where
// one let the workload in, the first check.
func (e Explanation) because() []string {
	var names []string
	if denial, ok := errors.AsType[*Denial](e.Denied); ok {
		for _, m := range denial.Misses {
			if !slices.Contains(names, m.Claim) {
				names = append(names, m.Claim)
			}
		}
	}
	for _, c := range e.Checks {
		if len(names) == 0 && c.Verdict == Fails {
			names = append(names, c.What)
		}
	}
	return names
}

// cutShort keeps a reason of many entries within a line; the tree has all of it.
func cutShort(reason string) string {
	const most = 160
	if runes := []rune(reason); len(runes) > most {
		return string(runes[:most]) + "…"
	}
	return reason
}

package policy_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rhysd/actionlint"

	"github.com/stepkey/stepkey/exchange/policy"
	"github.com/stepkey/stepkey/internal/yamlfile"
)

const (
	commit = "11bd71901bbe5b1630ceea73d27597364c9af683"
	digest = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
)

// steps is a workflow with one job of these steps; each is the lines of one.
func steps(each ...string) []byte {
	text := "on: push\njobs:\n  release:\n    runs-on: ubuntu-latest\n    steps:\n"
	for _, step := range each {
		text += "      - " + strings.ReplaceAll(step, "\n", "\n        ") + "\n"
	}
	return []byte(text)
}

func said(found []policy.Looseness) []string {
	var words []string
	for _, l := range found {
		words = append(words, l.String())
	}
	return words
}

func TestAWorkflowWhoseEveryUseIsPinnedPasses(t *testing.T) {
	for name, data := range map[string][]byte{
		"actions and parts of them":  steps("uses: actions/checkout@"+commit, "uses: github/codeql-action/init@"+commit+" # v3"),
		"nothing but scripts":        steps("run: |\n  uses: actions/checkout@v4\n  make"),
		"actions of the workspace":   steps("uses: ./", "uses: ./.github/actions/build"),
		"an image":                   steps("uses: docker://ghcr.io/acme/tool:v1@"+digest, "uses: docker://tool@"+digest),
		"a setup that caches not":    steps("uses: actions/setup-go@" + commit + "\nwith:\n  go-version: stable\n  cache: false"),
		"caches switched off":        steps("uses: golangci/golangci-lint-action@"+commit+"\nwith: {skip-cache: 'true'}", "uses: actions/setup-python@"+commit+"\nwith: {cache: ''}"),
		"a cache that is only saved": steps("uses: actions/cache/save@" + commit),
		"keys that are names":        steps("run: make\nwith: {uses: a}\nenv:\n  uses: actions/cache@v4"),
		"a reusable workflow": []byte("on: push\njobs:\n  call:\n    uses: acme/ci/.github/workflows/release.yml@" + commit +
			"\n  local:\n    uses: ./.github/workflows/other.yml\n"),
		"a container": []byte("on: push\njobs:\n  a:\n    container: node@" + digest + "\n    services: {db: {image: postgres}}\n" +
			"  b:\n    container: {image: 'node:20@" + digest + "'}\n"),
	} {
		if found := policy.Shape("release.yml", data); len(found) > 0 {
			t.Errorf("%s: %v", name, said(found))
		}
	}
}

func TestWhatCanBeMovedIsFoundWithItsPlace(t *testing.T) {
	const (
		tail  = `, which is not pinned by digest (owner/repository@ and the 40 digits of a commit)`
		image = `, which is not pinned by digest (docker://image@sha256:…)`
	)
	for used, why := range map[string]string{
		"actions/checkout@v4":                         tail,
		"actions/checkout@main":                       tail,
		"actions/checkout":                            tail,
		"actions/checkout@" + commit[:39]:             tail,
		"actions/checkout@" + commit[:7]:              tail,
		"actions/checkout@" + commit + "0":            tail,
		"actions/checkout@" + strings.ToUpper(commit): tail,
		"actions/checkout@v4@" + commit:               tail,
		"checkout@" + commit:                          tail,
		"../elsewhere":                                tail,
		"docker://node:20":                            image,
		"docker://node@sha256:abc":                    image,
		"docker://node@" + digest + "0":               image,
		"DOCKER://node@" + digest:                     tail,
		"acme/${{ matrix.action }}@" + commit:         ", which is not known before it runs",
		"./${{ inputs.path }}":                        ", which is not known before it runs",
	} {
		got := said(policy.Shape("release.yml", steps("run: make", fmt.Sprintf("name: second\nuses: %q", used))))
		want := []string{fmt.Sprintf(`line 8: step 2 of job "release" uses %s%s`, yamlfile.Quote(used), why)}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", used, diff)
		}
	}
}

func TestACacheThatOthersFillIsFound(t *testing.T) {
	for name, c := range map[string]struct{ step, says string }{
		"the cache itself":         {"actions/cache@", "restores a cache"},
		"its half":                 {"actions/cache/restore@", "restores a cache"},
		"in another case":          {"Actions/Cache@", "restores a cache"},
		"asked for":                {"actions/setup-python@ with: {cache: pip}", "leave out cache"},
		"asked for in capitals":    {"actions/setup-python@ with: {Cache: pip}", "leave out cache"},
		"asked for, perhaps":       {"actions/setup-java@ with: {cache: '${{ inputs.cache }}'}", "leave out cache"},
		"by default":               {"actions/setup-go@", "unless cache: false"},
		"by default, with inputs":  {"actions/setup-go@ with: {go-version: '1.26'}", "unless cache: false"},
		"perhaps not":              {"actions/setup-go@ with: {cache: '${{ false }}'}", "unless cache: false"},
		"by default, from v5":      {"actions/setup-node@", "unless package-manager-cache: false"},
		"not switched off":         {"golangci/golangci-lint-action@ with: {skip-cache: false}", "unless skip-cache: true"},
		"of gems":                  {"ruby/setup-ruby@ with: {bundler-cache: true}", "leave out bundler-cache"},
		"of an image's layers":     {"docker/build-push-action@ with: {cache-from: type=gha}", "leave out cache-from"},
		"as a list nobody expects": {"actions/setup-python@ with: {cache: [pip]}", "leave out cache"},
	} {
		used, with, _ := strings.Cut(c.step, " with")
		step := "uses: " + used + commit
		if with != "" {
			step += "\nwith" + with
		}
		got := said(policy.Shape("release.yml", steps(step)))
		if len(got) != 1 || !strings.Contains(got[0], c.says) || !strings.Contains(got[0], `step 1 of job "release" restores a cache: "`) {
			t.Errorf("%s: %q", name, got)
		}
	}
}

func TestEveryJobOfTheFileIsExamined(t *testing.T) {
	got := said(policy.Shape("release.yml", []byte(`on: push
jobs:
  test:
    container: {image: "node:20"}
    steps:
      - parallel:
          steps:
            - Uses: actions/checkout@v4
  reuse:
    uses: acme/ci/.github/workflows/release.yml@main
  odd:
    steps:
      - uses: [actions/checkout]
      - uses:
`)))
	want := []string{
		`line 8: step 1 of step 1 of job "test" uses "actions/checkout@v4", which is not pinned by digest (owner/repository@ and the 40 digits of a commit)`,
		`line 4: job "test" runs in the image "node:20", which is not pinned by digest (image@sha256:…)`,
		`line 10: job "reuse" uses "acme/ci/.github/workflows/release.yml@main", which is not pinned by digest (owner/repository@ and the 40 digits of a commit)`,
		`line 13: step 1 of job "odd" has a uses that is no text`,
		`line 14: step 2 of job "odd" has a uses that is no text`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestAFileThatCanBeReadInTwoWaysDoesNotPass(t *testing.T) {
	for name, c := range map[string]struct{ data, says string }{
		"nothing":         {"", "line 1: it cannot be read without doubt: the file is empty"},
		"no workflow":     {"a: b", "it has no jobs, so it is no workflow"},
		"jobs as a list":  {"jobs: [a]", "it has no jobs, so it is no workflow"},
		"an alias":        {"on: push\njobs: &j\n  a: {}\nb: *j\n", "line 2: it cannot be read without doubt: anchors"},
		"two documents":   {"jobs: {a: {}}\n---\njobs: {a: {}}\n", "line 2: it cannot be read without doubt: a file holds one document"},
		"a key twice":     {"jobs: {a: {uses: ./a, uses: ./b}}\n", "line 1: it cannot be read without doubt: "},
		"a tag":           {"jobs: {a: {uses: !!str ./a}}\n", "line 1: it cannot be read without doubt: tags"},
		"a merge":         {"jobs:\n  a:\n    <<: {uses: ./a}\n", "line 3: it cannot be read without doubt: merge keys"},
		"too much of it":  {"jobs: {a: {}} #" + strings.Repeat("\n# x", 1<<20), "it cannot be read without doubt: the file has"},
		"no text at all":  {"\x00\x01", "line 1: it cannot be read without doubt: "},
		"a hidden letter": {"jobs: {a: {u\u200bses: x}}", "line 1: it cannot be read without doubt: invisible character U+200B"},
	} {
		if got := said(policy.Shape("release.yml", []byte(c.data))); len(got) == 0 || !strings.HasPrefix(got[0], c.says) {
			t.Errorf("%s: %q", name, got)
		}
	}
}

func TestTheWorkflowToCopyIsLooseOnlyWhereItSaysSo(t *testing.T) {
	data, err := os.ReadFile("../../workflows/release.yml")
	if err != nil {
		t.Fatal(err)
	}
	got := said(policy.Shape("release.yml", data))
	if len(got) != 1 || !strings.Contains(got[0], `"stepkey/stepkey@v1"`) {
		t.Errorf("%q", got)
	}
}

// Whatever a file holds: no panic, words fit for a terminal, and no `uses` that another
// reader of workflows sees and this one passes over.
func FuzzShape(f *testing.F) {
	f.Add(steps("uses: actions/checkout@v4", "run: |\n  make\n  uses: x"))
	f.Add(steps("uses: actions/cache@" + commit))
	f.Add([]byte("on: push\njobs:\n  a: {uses: acme/ci/.github/workflows/x.yml@main}\n"))
	f.Add([]byte("jobs: {a: {steps: [{uses: \"docker://x\"}], container: node}}"))
	if data, err := os.ReadFile("../../workflows/release.yml"); err == nil {
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		found := policy.Shape("release.yml", data)
		for _, l := range found {
			if strings.ContainsFunc(l.String(), func(r rune) bool { return r < ' ' || r == 0x7f }) {
				t.Errorf("%q", l)
			}
		}
		if len(found) > 0 || len(data) > 64<<10 {
			return
		}
		for _, used := range usesOf(data) {
			if _, ref, _ := strings.Cut(used, "@"); !strings.HasPrefix(used, "./") && len(ref) < 40 {
				t.Errorf("passed over %q", used)
			}
		}
	})
}

// usesOf is every `uses` that actionlint's parser sees.
func usesOf(data []byte) (all []string) {
	workflow, faults := actionlint.Parse(data)
	if workflow == nil || len(faults) > 0 {
		return nil
	}
	for _, job := range workflow.Jobs {
		if job.WorkflowCall != nil && job.WorkflowCall.Uses != nil {
			all = append(all, job.WorkflowCall.Uses.Value)
		}
		for _, step := range job.Steps {
			if action, ok := step.Exec.(*actionlint.ExecAction); ok && action.Uses != nil {
				all = append(all, action.Uses.Value)
			}
		}
	}
	return all
}

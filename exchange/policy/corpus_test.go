package policy_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"unicode"

	"github.com/google/go-cmp/cmp"

	"github.com/stepkey/stepkey/exchange/policy"
	"github.com/stepkey/stepkey/internal/yamlfile"
)

const corpus = "../../testdata/tasks/"

// Every hostile task file says, in its comments, what it is refused for: each fault's
// line, column, rule and whole message, and no fault more. Of faults of form, which most
// are, the rule is not named.
func TestEveryHostileTaskFileIsRefusedForWhatItSays(t *testing.T) {
	for file, data := range corpusOf(t, "bad", 100) {
		t.Run(file, func(t *testing.T) {
			set, err := policy.Load(fstest.MapFS{file: {Data: data}}, check())
			if set != nil || err == nil {
				t.Error("a faulty file gave a set of tasks")
			}
			fitForTerminal(t, err)
			if diff := cmp.Diff(wants(data), faultsOf(err)); diff != "" {
				t.Errorf("faults (-want +got):\n%s", diff)
			}
		})
	}
}

// Every other file is taken, and says in its comments which warnings it gets. A good one
// shows work as it is; a fragile one is there for its warnings.
func TestEveryOtherTaskFileIsTakenWithTheWarningsThatItSays(t *testing.T) {
	for folder, least := range map[string]int{"good": 100, "fragile": 15} {
		for file, data := range corpusOf(t, folder, least) {
			t.Run(folder+"/"+file, func(t *testing.T) {
				set, found, err := policy.Lint(fstest.MapFS{file: {Data: data}}, check())
				if set == nil || err != nil {
					t.Fatalf("it is refused: %v %v", err, told(found, policy.Error))
				}
				if diff := cmp.Diff(says(data, "# warn: "), told(found, policy.Warning)); diff != "" {
					t.Errorf("warnings (-want +got):\n%s", diff)
				}
				if folder == "fragile" && len(told(found, policy.Warning)) == 0 {
					t.Error("a fragile file gets no warning")
				}
			})
		}
	}
}

// A rule that no file of the corpus breaks is one that nobody has seen work.
func TestEveryRuleIsBrokenBySomeFileOfTheCorpus(t *testing.T) {
	broken := map[string]bool{}
	for _, folder := range []string{"bad", "fragile"} {
		for file, data := range corpusOf(t, folder, 1) {
			_, found, err := policy.Lint(fstest.MapFS{file: {Data: data}}, check())
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range found {
				broken[f.Rule.ID] = true
			}
		}
	}
	for _, data := range corpusOf(t, "../tasktests/bad", 20) {
		for _, f := range tried(t, publishRelease(t), string(data), check()).Findings {
			broken[f.Rule.ID] = true
		}
	}
	for _, rule := range policy.Rules() {
		if !broken[rule.ID] {
			t.Errorf("no file breaks %s", rule.ID)
		}
	}
}

// corpusOf returns the files of one folder, by name.
func corpusOf(t *testing.T, folder string, least int) map[string][]byte {
	t.Helper()
	paths, err := filepath.Glob(corpus + folder + "/*.y*ml")
	if err != nil || len(paths) < least {
		t.Fatalf("found %d files in %s (%v), want at least %d", len(paths), folder, err, least)
	}
	all := map[string][]byte{}
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		all[filepath.Base(path)] = data
	}
	return all
}

func says(data []byte, mark string) (all []string) {
	for line := range strings.Lines(string(data)) {
		if words, ok := strings.CutPrefix(strings.TrimSpace(line), mark); ok {
			all = append(all, words)
		}
	}
	return all
}

func wants(data []byte) []string { return says(data, "# want: ") }

func faultsOf(err error) (all []string) {
	for _, f := range yamlfile.Faults(err) {
		all = append(all, inWords(f.Line, f.Column, f.Rule, f.Message))
	}
	return all
}

// told are the findings of one severity that are not accepted.
func told(found []policy.Finding, s policy.Severity) (all []string) {
	for _, f := range found {
		if f.Is(s) {
			all = append(all, inWords(f.Line, f.Column, f.Rule.ID, f.Message))
		}
	}
	return all
}

func inWords(line, column int, rule, message string) string {
	if rule == "" || rule == policy.Form {
		return fmt.Sprintf("%d:%d %s", line, column, message)
	}
	return fmt.Sprintf("%d:%d %s %s", line, column, rule, message)
}

// fitForTerminal demands that an error names a file and a line, quotes little, and
// holds nothing that a terminal obeys.
func fitForTerminal(t *testing.T, err error) {
	t.Helper()
	for _, f := range yamlfile.Faults(err) {
		if f.File == "" || (f.Line == 0 && !strings.Contains(f.Message, "bytes")) {
			t.Errorf("no place in %q", f.Error())
		}
		if n := len([]rune(f.Text)); n > 121 { // and one … at its end
			t.Errorf("the error shows %d characters of a line", n)
		}
		if n := len([]rune(f.Message)); n > 300 {
			t.Errorf("the message has %d characters: %q", n, f.Message)
		}
		for _, r := range f.Error() {
			if r != '\n' && !unicode.IsPrint(r) {
				t.Errorf("the error holds %U: %q", r, f.Error())
			}
		}
	}
}

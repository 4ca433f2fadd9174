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

// Every hostile task file says, in its first comments, what it is refused for:
// each fault's line, column and whole message, and no fault more.
func TestEveryHostileTaskFileIsRefusedForWhatItSays(t *testing.T) {
	files, err := filepath.Glob(corpus + "bad/*.yaml")
	if err != nil || len(files) < 40 {
		t.Fatalf("found %d hostile task files (%v), want at least 40", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			set, err := policy.Load(fstest.MapFS{filepath.Base(file): {Data: data}}, check())
			if set != nil {
				t.Error("a faulty file gave a set of tasks")
			}
			if diff := cmp.Diff(wants(data), faultsOf(err)); diff != "" {
				t.Errorf("faults (-want +got):\n%s", diff)
			}
			fitForTerminal(t, err)
		})
	}
}

func wants(data []byte) []string {
	var all []string
	for line := range strings.Lines(string(data)) {
		want, ok := strings.CutPrefix(strings.TrimSpace(line), "# want: ")
		if !ok {
			break
		}
		all = append(all, want)
	}
	return all
}

func faultsOf(err error) []string {
	var all []string
	for _, f := range yamlfile.Faults(err) {
		all = append(all, fmt.Sprintf("%d:%d %s", f.Line, f.Column, f.Message))
	}
	return all
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

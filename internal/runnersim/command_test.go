package runnersim

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var commandCases = map[string]struct {
	line string
	want *command // nil: ordinary output
}{
	"ordinary output":                {"hello", nil},
	"colons that are no command":     {"a::b::c", nil},
	"no closing colons":              {"::add-mask", nil},
	"no name":                        {"::::data", nil},
	"a command":                      {"::add-mask::s3cret", &command{"add-mask", map[string]string{}, "s3cret"}},
	"upper case and leading blanks":  {" \t::ADD-MASK::x", &command{"add-mask", map[string]string{}, "x"}},
	"colons in the data":             {"::notice::a::b", &command{"notice", map[string]string{}, "a::b"}},
	"properties":                     {"::error file=a.go,line=3::bad", &command{"error", map[string]string{"file": "a.go", "line": "3"}, "bad"}},
	"escapes in data":                {"::error::a%0Ab%0Dc%25d", &command{"error", map[string]string{}, "a\nb\rc%d"}},
	"an escaped escape stays":        {"::error::%250A", &command{"error", map[string]string{}, "%0A"}},
	"escapes in properties":          {"::error title=a%2Cb%3Ac::", &command{"error", map[string]string{"title": "a,b:c"}, ""}},
	"a comma escape is no data rule": {"::error::a%2Cb", &command{"error", map[string]string{}, "a%2Cb"}},
}

func TestWorkflowCommandsAreReadAsGitHubReadsThem(t *testing.T) {
	for name, c := range commandCases {
		t.Run(name, func(t *testing.T) {
			got, ok := parseCommand(c.line)
			if ok != (c.want != nil) {
				t.Fatalf("a command: %v", ok)
			}
			if c.want == nil {
				return
			}
			if diff := cmp.Diff(*c.want, got, cmp.AllowUnexported(command{})); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func FuzzWorkflowCommands(f *testing.F) {
	for _, c := range commandCases {
		f.Add(c.line)
	}
	escape := strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A")
	f.Fuzz(func(t *testing.T, line string) {
		first, ok := parseCommand(line)
		if !ok {
			return
		}
		// Written with the documented escapes, name and data come back as they were.
		again, ok := parseCommand("::" + first.name + " ::" + escape.Replace(first.data))
		if !ok || again.name != first.name || again.data != first.data {
			t.Errorf("%q was read as %+v, and written again as %+v, %v", line, first, again, ok)
		}
	})
}

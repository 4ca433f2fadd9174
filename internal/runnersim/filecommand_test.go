package runnersim

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var fileCommandCases = map[string]struct {
	text string
	want []pair
	err  string
}{
	"nothing":                                {"", nil, ""},
	"a name and a value":                     {"a=b\n", []pair{{"a", "b"}}, ""},
	"no line feed at the end":                {"a=b", []pair{{"a", "b"}}, ""},
	"a value with equals signs":              {"a=b=c==\n", []pair{{"a", "b=c=="}}, ""},
	"an empty value":                         {"a=\n", []pair{{"a", ""}}, ""},
	"spaces belong to name and value":        {" a = b \n", []pair{{" a ", " b "}}, ""},
	"a carriage return belongs to the value": {"a=b\r\n", []pair{{"a", "b\r"}}, ""},
	"empty lines between entries":            {"\n\na=b\n\nc=d\n\n", []pair{{"a", "b"}, {"c", "d"}}, ""},
	"a name twice, the later one wins later": {"a=1\na=2\n", []pair{{"a", "1"}, {"a", "2"}}, ""},
	"a heredoc of one line":                  {"a<<E\nb\nE\n", []pair{{"a", "b"}}, ""},
	"a heredoc of three lines":               {"a<<E\n1\n\n3\nE\n", []pair{{"a", "1\n\n3"}}, ""},
	"an empty heredoc":                       {"a<<E\nE\n", []pair{{"a", ""}}, ""},
	"a heredoc that ends the file":           {"a<<E\nb\nE", []pair{{"a", "b"}}, ""},
	"a delimiter inside a longer line":       {"a<<E\nE \n E\nEE\nE\n", []pair{{"a", "E \n E\nEE"}}, ""},
	"an equals sign before the heredoc sign": {"a=b<<E\n", []pair{{"a", "b<<E"}}, ""},
	"an equals sign in the delimiter":        {"a<<E=F\nb\nE=F\n", []pair{{"a", "b"}}, ""},
	"assignments inside a heredoc":           {"a<<E\nb=c\nd<<F\nE\n", []pair{{"a", "b=c\nd<<F"}}, ""},
	"an entry after a heredoc":               {"a<<E\nb\nE\nc=d\n", []pair{{"a", "b"}, {"c", "d"}}, ""},
	"no name":                                {"=b\n", nil, "line 1: the name must not be empty"},
	"no name before a heredoc":               {"<<E\nb\nE\n", nil, "line 1: neither name nor delimiter"},
	"no delimiter":                           {"a<<\nb\n", nil, "line 1: neither name nor delimiter"},
	"a delimiter that never comes":           {"x=y\na<<E\nb\n", nil, "line 2: the matching delimiter was not found"},
	"neither form":                           {"a=b\njust text\n", nil, "line 2: want name=value or name<<delimiter"},
}

func TestFileCommandsAreReadAsGitHubReadsThem(t *testing.T) {
	for name, c := range fileCommandCases {
		t.Run(name, func(t *testing.T) {
			got, err := parsePairs(c.text)
			if c.err == "" && err != nil || c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
				t.Fatalf("error %v, want %q", err, c.err)
			}
			if diff := cmp.Diff(c.want, got, cmp.AllowUnexported(pair{})); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func FuzzFileCommands(f *testing.F) {
	for _, c := range fileCommandCases {
		f.Add(c.text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		pairs, err := parsePairs(text)
		if err != nil {
			if len(pairs) > 0 {
				t.Fatal("entries beside an error")
			}
			return
		}
		// Written in the other form, every entry comes back as it was. (A name that ends
		// in "<" cannot be written in that form.)
		var again strings.Builder
		for _, p := range pairs {
			if p.name == "" || strings.ContainsAny(p.name, "=\n") {
				t.Fatalf("the name %q", p.name)
			}
			if strings.HasSuffix(p.name, "<") {
				return
			}
			delimiter := "E" + strings.ReplaceAll(p.value, "\n", "")
			again.WriteString(p.name + "<<" + delimiter + "\n" + p.value + "\n" + delimiter + "\n")
		}
		back, err := parsePairs(again.String())
		if err != nil {
			t.Fatalf("what was read is refused when written again: %v", err)
		}
		if diff := cmp.Diff(pairs, back, cmp.AllowUnexported(pair{})); diff != "" {
			t.Errorf("(-first +again):\n%s", diff)
		}
	})
}

func TestPathsAreTakenAsTheyAre(t *testing.T) {
	if diff := cmp.Diff([]string{"/a b", "c/../d "}, parsePaths("/a b\n\nc/../d \n")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

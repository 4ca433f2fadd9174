package yamlfile_test

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/stepkey/stepkey/internal/yamlfile"
)

func faults(err error) []string {
	var all []string
	for _, f := range yamlfile.Faults(err) {
		all = append(all, fmt.Sprintf("%d:%d %s", f.Line, f.Column, f.Message))
	}
	return all
}

func parse(t testing.TB, text string) yamlfile.Node {
	t.Helper()
	n, err := yamlfile.Parse("f.yaml", []byte(text))
	if err != nil {
		t.Fatalf("parsing %q: %v", text, err)
	}
	return n
}

// refusals are files that no part of the exchange reads, and why.
var refusals = map[string]string{
	"":                         "1:1 the file is empty",
	"# only this\n":            "1:1 the file is empty",
	"---\n":                    "1:1 the file is empty",
	"a: 1\n---\nb: 2\n":        "2:1 a file holds one document; put the second in a file of its own",
	"a: 1\n---\n":              "2:1 a file holds one document; put the second in a file of its own",
	"---\n---\na: 1\n":         "2:1 a file holds one document; put the second in a file of its own",
	"a: 1\n...\n":              "2:1 document ends (...) are not used here",
	"%YAML 1.2\n---\na: 1\n":   "1:1 directives (%) are not used here; put text that begins with % in quotes",
	"a: &x 1\nb: 2\n":          "1:4 anchors (&) are not used here; write the value out, or put text that begins with & in quotes",
	"a: 1\nb: *a\n":            "2:4 aliases (*) are not used here; write the value out, or put text that begins with * in quotes",
	"a: {<<: {b: 1}}\n":        "1:5 merge keys (<<) are not used here; write the values out",
	"a: !!str 1\n":             "1:4 tags (!) are not used here; put text that begins with ! in quotes",
	"a: !ruby/object:Gem {}\n": "1:4 tags (!) are not used here; put text that begins with ! in quotes",
	"? a\n: b\n":               "1:1 explicit keys (?) are not used here; write key: value",
	"a: 1\nb: 2\na: 3\n":       `3:1 key "a" is already given in line 1`,
	"a: {b: 1, \"b\": 2}\n":    `1:11 key "b" is already given in line 1`,
	"1: a\n":                   "1:1 a key must be text; write it in quotes",
	"true: a\n":                "1:1 a key must be text; write it in quotes",
	"~: a\n":                   "1:1 a key must be text; write it in quotes",
	"a: b: c\n":                `1:4 mapping value is not allowed in this context; put text that holds ": " in quotes`,
	"a: [1, 2\n":               "1:4 sequence end token ']' not found",
	"a:\n\tb: 1\n":             `2:1 a tab; indent with spaces, and write \t in double quotes where text needs one`,
	"a: \xff\n":                "1:4 this is not UTF-8",
	"a: x\nb: \u00e9\xc3\n":    "2:5 this is not UTF-8",
	"# a\x1b[2J\na: 1\n":       "1:4 invisible character U+001B; if it is meant, write it as an escape in double quotes",
	"a: 1 # x\rb: 2\n":         "1:9 invisible character U+000D; if it is meant, write it as an escape in double quotes",
	"a: b\u2028c: d\n":         "1:5 invisible character U+2028; if it is meant, write it as an escape in double quotes",
	"a: b\u202ec\n":            "1:5 invisible character U+202E; if it is meant, write it as an escape in double quotes",
	"a: b\ufeffc\n":            "1:5 invisible character U+FEFF; if it is meant, write it as an escape in double quotes",
	// What the library would read, and other readers otherwise or not at all.
	"a: b # x\n c\n":                       "2:2 value is not allowed in this context. map key-value is pre-defined",
	"a: b\n  c\n":                          "1:4 this text runs on in the next line; put it in quotes in one line, or write it with | or >",
	"a:\n    b\n  - c: d\n":                "3:9 this text runs on in the next line; put it in quotes in one line, or write it with | or >",
	"- \nb\n":                              "2:1 indent this, or it does not belong to the list",
	"a:\nb\n":                              `2:1 indent this, or it does not belong to "a"`,
	"a: \"b\n  c\"\n":                      "1:4 quoted text must end in its line; write long text with | or >",
	`a: "\q"`:                              "1:6 found unknown escape character 'q'",
	`a: "\u12g4"`:                          `1:4 unknown escape after a backslash; write \\ for a backslash, or use single quotes`,
	"a: {b: : c}\n":                        "1:8 put this text in quotes; it holds signs of YAML",
	"a: }]\n":                              "1:4 put this text in quotes; it holds signs of YAML",
	"a: {b]c: d}\n":                        "1:5 put this text in quotes; it holds signs of YAML",
	"a: {b:c}\n":                           "1:6 put a space after the colon, or the whole in quotes if it is text",
	"a: {b:- c}\n":                         "1:6 put a space after the colon, or the whole in quotes if it is text",
	"a: {b: - c}\n":                        "1:8 inside brackets, write a list as [a, b]; put text that begins with - in quotes",
	"a: {b: >-\n}\n":                       "1:8 inside brackets, write text in quotes",
	"a: [b: c]\n":                          "1:5 inside brackets, write a mapping as {a: b} and a list as [a, b]",
	"{\"a\": # {\n \"b\": {\"c\": \"d\"}}": "2:2 inside brackets, write a mapping as {a: b} and a list as [a, b]",
	"{\"a\"\n: b}\n":                       "2:1 a key and its colon stand in one line",
	"a: " + strings.Repeat("[", 21):        "1:23 nested more than 20 deep",
}

func TestWhatASmallFileDoesNotNeedIsRefusedWithItsPlace(t *testing.T) {
	for text, want := range refusals {
		t.Run(strconv.Quote(text), func(t *testing.T) {
			n, err := yamlfile.Parse("f.yaml", []byte(text))
			if n.Exists() {
				t.Error("a refused file gave a value")
			}
			if diff := cmp.Diff([]string{want}, faults(err)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// The library's scanner and parser take seconds to minutes for each of these.
// Without the limits this test does not end in time.
func TestFilesMadeToExhaustTheReaderAreRefusedBeforeTheyDo(t *testing.T) {
	keys := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "k%d: v\n", i)
		}
		return b.String()
	}
	for name, text := range map[string]string{
		"too large":                    strings.Repeat("a", 256<<10+1),
		"brackets":                     strings.Repeat("[", 250_000),
		"brackets after closing ones":  strings.Repeat("]", 30_000) + strings.Repeat("[", 200_000),
		"braces":                       strings.Repeat("{a: ", 60_000),
		"dashes":                       strings.Repeat("- ", 16_000),
		"empty lines in text":          "a: |\n  x\n" + strings.Repeat("\n", 250_000),
		"lines of spaces in text":      "a: |\n  x\n" + strings.Repeat(" \n", 120_000),
		"commas":                       "{" + strings.Repeat("a,", 120_000) + "}",
		"keys":                         keys(25_000),
		"indentation":                  indented(400),
		"aliases of aliases of alises": "a: &a [x]\nb: &b [*a, *a]\nc: [*b, *b]\n",
	} {
		t.Run(name, func(t *testing.T) {
			_, err := yamlfile.Parse("f.yaml", []byte(text))
			if len(yamlfile.Faults(err)) != 1 {
				t.Errorf("got %v, want one fault", err)
			}
		})
	}
}

func indented(levels int) string {
	var b strings.Builder
	for i := range levels {
		b.WriteString(strings.Repeat(" ", i) + "a:\n")
	}
	return b.String()
}

func TestTwentyLevelsAndALeadingDocumentMarkAreRead(t *testing.T) {
	for _, text := range []string{
		strings.Repeat("[", 20) + strings.Repeat("]", 20),
		indented(20),
		"---\na: 1\n",
		"\ufeffa: 1\n",
		"a: 1\r\nb:\r\n  - c\r\n",
		"a: 1 # with *, &, ! and << in a comment\n",
	} {
		if _, err := yamlfile.Parse("f.yaml", []byte(text)); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestNodesKnowTheirPlacesAndAbsentOnesTheNearest(t *testing.T) {
	n := parse(t, "# é\nb: {ü: [x, yy], a: {}}\na:\n  - k: v\n  - w\n")
	if diff := cmp.Diff([]string{"b", "a"}, n.Keys()); diff != "" {
		t.Errorf("keys in the order of the file: %s", diff)
	}
	for _, c := range []struct {
		node   yamlfile.Node
		exists bool
		place  string
	}{
		{n, true, "2:1"},
		{n.Get("b"), true, "2:4"},
		{n.Key("b"), true, "2:1"},
		{n.Get("b", "ü").Items()[1], true, "2:12"},
		{n.Get("b", "a"), true, "2:20"},
		{n.Get("b").Key("a"), true, "2:17"},
		{n.Get("b", "a", "gone", "further"), false, "2:20"},
		{n.Get("b").Key("gone"), false, "2:4"},
		{n.Get("a"), true, "4:3"},
		{n.Get("a").Items()[0].Get("k"), true, "4:8"},
		{n.Get("gone"), false, "2:1"},
		{yamlfile.Node{}.Get("gone"), false, "0:0"},
	} {
		if got := fmt.Sprintf("%d:%d", c.node.Line(), c.node.Column()); got != c.place || c.node.Exists() != c.exists {
			t.Errorf("got %s (exists %t), want %s (%t)", got, c.node.Exists(), c.place, c.exists)
		}
	}
}

func TestAnErrorShowsTheLineAndACaret(t *testing.T) {
	n := parse(t, "limits:\n  ttl: 10m\n")
	got := n.Get("limits", "ttl").Errorf("ttl is %s", "too short").Error()
	want := "f.yaml:2:8: ttl is too short\n      ttl: 10m\n           ^"
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if got := (yamlfile.Node{}).Errorf("nothing there").Error(); got != "nothing there" {
		t.Errorf("of no file: %q", got)
	}
}

// Whatever stands in a file, in its name or in a message, an error stays small and
// moves no cursor.
func TestErrorsQuoteLittleAndNothingThatATerminalObeys(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.String().Draw(t, "text") + rapid.StringOfN(rapid.Rune(), 0, 300, -1).Draw(t, "more")
		err := yamlfile.Node{}.Errorf("found %s, %s", yamlfile.Quote(text), text)
		fitForTerminal(t, err)
		name := rapid.String().Draw(t, "name")
		if n, err := yamlfile.Parse(name, []byte(text)); err != nil {
			fitForTerminal(t, err)
		} else {
			fitForTerminal(t, n.Errorf("here"))
			var s struct{}
			fitForTerminal(t, n.Decode(&s))
		}
	})
}

func fitForTerminal(t rapid.TB, err error) {
	t.Helper()
	for _, f := range yamlfile.Faults(err) {
		if n := len([]rune(f.Text)); n > 121 { // and one … at its end
			t.Errorf("the error shows %d characters of a line", n)
		}
		if n := len([]rune(f.Message)); n > 301 {
			t.Errorf("the message has %d characters", n)
		}
		if lines := strings.Count(f.Error(), "\n"); lines > 2 {
			t.Errorf("the error has %d lines: %q", lines, f.Error())
		}
		for _, r := range f.Error() {
			if r != '\n' && !unicode.IsPrint(r) {
				t.Errorf("the error holds %U: %q", r, f.Error())
			}
		}
	}
}

func TestTheCaretStandsBelowTheFaultHoweverLongTheLine(t *testing.T) {
	for _, before := range []int{0, 10, 79, 81, 119, 120, 121, 500, 2000} {
		n := parse(t, "["+strings.Repeat("x, ", before)+"HERE, "+strings.Repeat("y, ", 200)+"]")
		lines := strings.Split(n.Items()[before].Errorf("this").Error(), "\n")
		at := slices.Index([]rune(lines[2]), '^')
		if got := string([]rune(lines[1])[at : at+4]); got != "HERE" {
			t.Errorf("after %d values the caret is below %q", before, got)
		}
	}
}

func TestFaultsFindsThemAllHoweverJoinedOrWrapped(t *testing.T) {
	n := parse(t, "a: 1\n")
	one, two := n.Errorf("one"), n.Errorf("two")
	err := fmt.Errorf("loading: %w", errors.Join(one, errors.New("another error"), fmt.Errorf("more: %w", two)))
	if diff := cmp.Diff([]string{"1:1 one", "1:1 two"}, faults(err)); diff != "" {
		t.Error(diff)
	}
	if yamlfile.Faults(nil) != nil {
		t.Error("faults of no error")
	}
}

// What a writer puts in double quotes is what a reader gets.
func TestQuotedTextComesOutAsItWentIn(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := rapid.MapOfN(rapid.StringN(1, 20, -1), rapid.String(), 1, 5).Draw(t, "values")
		var b strings.Builder
		for key, text := range want {
			fmt.Fprintf(&b, "%s: %s\n", strconv.QuoteToASCII(key), strconv.QuoteToASCII(text))
		}
		n, err := yamlfile.Parse("f.yaml", []byte(b.String()))
		if err != nil {
			t.Fatalf("%s\n%v", b.String(), err)
		}
		var got map[string]string
		if err := n.Decode(&got); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	})
}

func FuzzParse(f *testing.F) {
	for text := range refusals {
		f.Add(text)
	}
	f.Add("a: {b: [c, \"d\"], e: |\n  f\n}\n")
	f.Fuzz(func(t *testing.T, text string) {
		n, err := yamlfile.Parse("f.yaml", []byte(text))
		if err == nil {
			var v struct {
				A string            `yaml:"a"`
				B map[string]string `yaml:"b"`
				C []int             `yaml:"c"`
				D time.Duration     `yaml:"d,required"`
			}
			err = n.Decode(&v)
		}
		all := yamlfile.Faults(err)
		if err != nil && len(all) == 0 {
			t.Errorf("no fault with a place in %v", err)
		}
		for _, fault := range all {
			if fault.File != "f.yaml" || (fault.Line < 1 && len(text) <= 256<<10) {
				t.Errorf("no place: %v", fault)
			}
		}
	})
}

func BenchmarkParse(b *testing.B) {
	text := []byte("task: t\npurpose: p\nallow:\n  - issuer: github\n    claims: {repository_id: \"1\", event_name: [push, release]}\nlimits: {ttl: 10m}\n")
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		if _, err := yamlfile.Parse("t.yaml", text); err != nil {
			b.Fatal(err)
		}
	}
}

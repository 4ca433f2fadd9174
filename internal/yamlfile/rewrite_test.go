package yamlfile_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/stepkey/stepkey/internal/yamlfile"
)

func TestATextThatIsRewrittenStaysTextInItsPlace(t *testing.T) {
	n := parse(t, "a: x\nb: [x, {c: yes, d: 5}]\n")
	got, err := n.Rewrite(func(_ yamlfile.Node, text string) (string, error) {
		if text == "x" {
			return "7", nil
		}
		return text, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	var first, listed string
	if err := errors.Join(got.Get("a").Decode(&first), got.Get("b").Items()[0].Decode(&listed)); err != nil || first != "7" || listed != "7" {
		t.Errorf("got %q, %q, %v", first, listed, err)
	}
	if item := got.Get("b").Items()[0]; item.Line() != 2 || item.Column() != 5 {
		t.Errorf("the text moved to %d:%d", item.Line(), item.Column())
	}
	var yes string
	if got.Get("b").Items()[1].Get("c").Decode(&yes) == nil {
		t.Error("a text that was left alone lost that it had no quotes")
	}
	var before string
	if err := n.Get("a").Decode(&before); err != nil || before != "x" {
		t.Errorf("the original became %q, %v", before, err)
	}
	failed := errors.New("no")
	if _, err := n.Rewrite(func(yamlfile.Node, string) (string, error) { return "", failed }); !errors.Is(err, failed) {
		t.Errorf("got %v", err)
	}
}

func TestAnOverlayTakesWholeKeysAndKeepsPlaces(t *testing.T) {
	n := parse(t, "a: 1\nb: {c: 1, d: 2}\n")
	over, err := yamlfile.ParseJSON("asked", []byte("{\"b\": {\"c\": \"x\"},\n \"e\": [true]}"))
	if err != nil {
		t.Fatal(err)
	}
	got := n.Overlay(over)
	if diff := cmp.Diff([]string{"a", "b", "e"}, got.Keys()); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"c"}, got.Get("b").Keys()); diff != "" {
		t.Error(diff)
	}
	places := ""
	for _, at := range []yamlfile.Node{got.Get("a"), got.Get("b", "c"), got.Get("b").Key("c"), got.Key("e"), got.Get("e").Items()[0]} {
		places += fmt.Sprintf("%s:%d:%d ", at.File(), at.Line(), at.Column())
	}
	if places != "f.yaml:1:4 asked:1:13 asked:1:8 asked:2:2 asked:2:8 " {
		t.Error(places)
	}
	if len(n.Keys()) != 2 || len(n.Get("b").Keys()) != 2 {
		t.Error("the original changed")
	}
}

func TestACharacterOfATextHasItsPlace(t *testing.T) {
	for text, want := range map[string]string{
		"a: xyz Q\n":                    "1:8",
		"a: 'xyz Q'\n":                  "1:9",
		"a: \"é yz Q\"\n":               "1:10",
		"a: |\n  xyz\n    Q here\n":     "3:5",
		"a: |\n  xyz\n\n  Q\nb: 1\n":    "4:3",
		"a: |-\n    é xyz Q\n":          "2:11",
		"a: 'it''s Q'\n":                "1:4", // after an escape: that of the text
		"a: >\n  xyz\n  Q\n":            "1:4", // folded
		"a:\n  - b\n  - c: \"\\t Q\"\n": "3:8",
	} {
		n := parse(t, text).Get("a")
		if n.IsList() {
			n = n.Items()[1].Get("c")
		}
		var value string
		if err := n.Decode(&value); err != nil {
			t.Fatal(err)
		}
		before, _, _ := strings.Cut(value, "Q")
		at := n.At(len([]rune(before)))
		if got := fmt.Sprintf("%d:%d", at.Line(), at.Column()); got != want {
			t.Errorf("%q: got %s, want %s", text, got, want)
		}
	}
}

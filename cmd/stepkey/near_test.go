package main

import (
	"maps"
	"os"
	"slices"
	"testing"

	"github.com/goccy/go-yaml"
	"pgregory.net/rapid"
)

func TestTheNearestNameIsSuggestedAndNoFarOne(t *testing.T) {
	for word, want := range map[string]string{
		"taks": "task", "tasks": "task", "ttk": "ttl", "export-envs": "export-env", "exchnage": "exchange", "summmary": "summary",
		"input": "inputs", "audiance": "audience", "lease-id": "", "token": "", "x": "", "": "", "timeout": "",
	} {
		if got := nearest(word, inputNames); got != want {
			t.Errorf("%q is near %q, want %q", word, got, want)
		}
	}
}

func TestTheInputsThatAreKnownAreTheActions(t *testing.T) {
	text, err := os.ReadFile("../../action.yml")
	if err != nil {
		t.Fatal(err)
	}
	var described struct{ Inputs map[string]any }
	if err := yaml.Unmarshal(text, &described); err != nil {
		t.Fatal(err)
	}
	if want := slices.Sorted(maps.Keys(described.Inputs)); !slices.Equal(inputNames, want) {
		t.Errorf("known are %q, action.yml has %q", inputNames, want)
	}
}

// Zero edits for the same, as many both ways, and one for each of the slips of a finger.
func TestEditsAreCounted(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		word := rapid.StringMatching(`[a-d-]{0,8}`)
		a, b := word.Draw(t, "a"), word.Draw(t, "b")
		d := edits(a, b)
		if (d == 0) != (a == b) || d != edits(b, a) || d > max(len(a), len(b)) || d < max(len(a), len(b))-min(len(a), len(b)) {
			t.Fatalf("%q and %q are %d apart", a, b, d)
		}
		at := rapid.IntRange(0, len(b)).Draw(t, "at")
		if d := edits(b, b[:at]+"e"+b[at:]); d != 1 {
			t.Fatalf("one letter more in %q are %d edits", b, d)
		}
		if len(a) > 1 {
			at := rapid.IntRange(0, len(a)-2).Draw(t, "swap")
			swapped := a[:at] + a[at+1:at+2] + a[at:at+1] + a[at+2:]
			if d := edits(a, swapped); d > 1 {
				t.Fatalf("%q and %q are %d apart", a, swapped, d)
			}
		}
	})
}

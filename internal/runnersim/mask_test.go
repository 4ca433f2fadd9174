package runnersim

import (
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestMasksHideOverlappingValuesWhole(t *testing.T) {
	m := newMasks()
	m.add("abcd")
	m.add("cdef")
	m.add("zz")
	for text, want := range map[string]string{
		"xabcdefx": "x***x", "abcd cdef": "*** ***", "zzzz": "***", "abcabcd": "abc***", "none": "none", "": "",
	} {
		if got := m.hide(text); got != want {
			t.Errorf("%q shows as %q, want %q", text, got, want)
		}
	}
}

func TestNoMaskedValueEverShows(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := newMasks()
		// Without the star: text that is left over may touch a *** and spell a value.
		values := rapid.SliceOfN(rapid.StringMatching(`[ab]{1,4}(\n[ab]{1,3})?`), 0, 4).Draw(t, "values")
		for _, v := range values {
			m.add(v)
		}
		shown := m.hide(rapid.StringMatching(`[abc\n]{0,30}`).Draw(t, "text"))
		for _, v := range values {
			for line := range strings.SplitSeq(v, "\n") {
				if strings.Contains(shown, line) {
					t.Fatalf("%q shows in %q", line, shown)
				}
			}
		}
	})
}

func TestBlankMasksHideNothing(t *testing.T) {
	m := newMasks()
	for _, v := range []string{"", " ", "\n", "\r\n"} {
		m.add(v)
	}
	if got := m.hide("a b\nc"); got != "a b\nc" {
		t.Errorf("shows %q", got)
	}
}

package backendtest

import (
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/internal/yamlfile"
)

func blocksAreRead(s *stage) {
	for name, block := range map[string]string{
		"good": s.harness.Good, "narrower": s.harness.Narrower, "wider": s.harness.Wider,
	} {
		words := s.scope(block).String()
		s.silent("the scope's words", words)
		if strings.TrimSpace(words) == "" || strings.ContainsFunc(words, func(r rune) bool { return !unicode.IsPrint(r) }) {
			s.Errorf("the scope of the %s block is said in words that people cannot read: %q", name, words)
		}
		if again := s.scope(block).String(); again != words {
			s.Errorf("the %s block is said as %q and then as %q", name, words, again)
		}
	}
}

// tellingWords: people decide by these words, so that two scopes which differ in what they
// allow must differ in them, too, and by the right words.
func tellingWords(s *stage) {
	h := s.harness
	all := []struct {
		name, block string
		phrases     []string
	}{{"good", h.Good, h.Says.Good}, {"narrower", h.Narrower, h.Says.Narrower}, {"wider", h.Wider, h.Says.Wider}}
	for _, one := range all {
		words := s.scope(one.block).String()
		for _, phrase := range one.phrases {
			if !strings.Contains(words, phrase) {
				s.Errorf("the %s block is said without %q: %s", one.name, phrase, words)
			}
		}
		for _, other := range all {
			for _, phrase := range other.phrases {
				if !slices.Contains(one.phrases, phrase) && strings.Contains(words, phrase) {
					s.Errorf("the %s block is said with %q, which is only true of the %s one: %s", one.name, phrase, other.name, words)
				}
			}
			if other.name != one.name && !slices.ContainsFunc(one.phrases, func(phrase string) bool { return !slices.Contains(other.phrases, phrase) }) &&
				!slices.ContainsFunc(other.phrases, func(phrase string) bool { return !slices.Contains(one.phrases, phrase) }) {
				s.Errorf("the harness's phrases do not tell the %s block from the %s one", one.name, other.name)
			}
		}
	}
}

const longestFault = 2000 // characters: what was refused, not all of it

func hostileBlocks(s *stage) {
	if len(s.harness.Hostile) == 0 {
		s.Fatalf("the harness brings no hostile blocks")
	}
	for name, block := range s.harness.Hostile {
		scope, err := s.Backend.Scope(s.node(block))
		if err == nil {
			s.Errorf("%s: accepted as %v:\n%s", name, scope, block)
			continue
		}
		faults := yamlfile.Faults(err)
		if len(faults) == 0 {
			s.Errorf("%s: refused without a place in the file: %v", name, err)
		}
		for _, fault := range faults {
			if fault.File != "task.yaml" || fault.Line < firstLine || fault.Column < 1 {
				s.Errorf("%s: refused at %s:%d:%d, which is not in the block: %s", name, fault.File, fault.Line, fault.Column, fault.Message)
			}
			if len(fault.Error()) > longestFault {
				s.Errorf("%s: the refusal has %d characters", name, len(fault.Error()))
			}
		}
	}
}

// foreign is a scope of no backend.
type foreign struct{}

func (foreign) Covers(backend.Scope) bool { return true }
func (foreign) String() string            { return "everything, everywhere" }

func covering(s *stage) {
	good, narrower, wider := s.scope(s.harness.Good), s.scope(s.harness.Narrower), s.scope(s.harness.Wider)
	for _, c := range []struct {
		a, b backend.Scope
		want bool
		why  string
	}{
		{good, good, true, "a scope covers itself"},
		{good, s.scope(s.harness.Good), true, "the same block read twice is the same scope"},
		{narrower, narrower, true, "a scope covers itself"},
		{wider, wider, true, "a scope covers itself"},
		{good, narrower, true, "a scope covers a narrower one"},
		{wider, good, true, "a wider scope covers it"},
		{wider, narrower, true, "what covers it covers what it covers"},
		{narrower, good, false, "a narrower scope does not cover it"},
		{good, wider, false, "a scope does not cover a wider one"},
		{narrower, wider, false, "a narrower scope does not cover a wider one"},
		{good, foreign{}, false, "a scope of another backend is never covered"},
		{good, nil, false, "no scope at all is never covered"},
	} {
		if got := c.a.Covers(c.b); got != c.want {
			s.Errorf("%q covers %q: %v; but %s", c.a, words(c.b), got, c.why)
		}
	}
}

func words(scope backend.Scope) string {
	if scope == nil {
		return "nothing"
	}
	return scope.String()
}

func termsAreKnown(s *stage) {
	o := s.order(s.scope(s.harness.Good))
	before := s.Live()
	terms := s.Backend.Terms(o)
	if !terms.DiesAt.After(o.At) {
		s.Errorf("the order is of %v, and its credential would be gone at %v: before it can be used", o.At, terms.DiesAt)
	}
	if s.Advance != nil {
		s.Advance(time.Second)
	}
	if again := s.Backend.Terms(o); !again.DiesAt.Equal(terms.DiesAt) || again.Revocable != terms.Revocable || again.Remains != terms.Remains {
		s.Errorf("the terms of one order were %+v and are %+v", terms, again)
	}
	s.silent("what remains of it", terms.Remains)
	if strings.TrimRight(terms.Remains, ".;\n ") != terms.Remains || strings.Contains(terms.Remains, "\n") {
		s.Errorf("%q does not go on in the line that says how a lease ended", terms.Remains)
	}
	s.live(before, "after asking for terms")
}

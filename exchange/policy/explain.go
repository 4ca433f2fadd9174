package policy

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/stepkey/stepkey/exchange/identity"
	"github.com/stepkey/stepkey/internal/yamlfile"
)

// An Explanation is a decision with everything that was looked at on the way, and not
// only the first thing that did not hold. Like a Denial, it gives the rules of the task
// away.
type Explanation struct {
	Task    string
	Entries []Told // of allow, in file order; none where there is no such task
	// Checks are what comes after an entry has let the workload in: the inputs, the
	// lifetime, the credential, what was asked of it, and what the task requires.
	Checks []Told
	Grant  Grant // what Authorize gives
	Denied error // or what it says instead: *UnknownTask or *Denial
}

// Granted reports whether the decision is yes.
func (e Explanation) Granted() bool { return e.Denied == nil }

// Told is one thing that was looked at, and what came of it.
type Told struct {
	Verdict Verdict
	What    string // "entry", "issuer", a claim's name, "when", or the name of a check
	Place   string // "publish-release.yaml:9"; empty of checks
	Words   string // what was wanted and seen, in the words of a Denial
	Rules   []Told // of an entry: its conditions, in the order in which they are looked at
}

// A Verdict is what came of one thing.
type Verdict string

const (
	Holds   Verdict = "holds"
	Fails   Verdict = "fails"
	Unasked Verdict = "not asked" // it cannot be told here, or something before it failed
)

func verdictOf(holds bool) Verdict {
	if holds {
		return Holds
	}
	return Fails
}

// The names of checks, which tests of tasks say as well.
const (
	checkInputs     = "inputs"
	checkTTL        = "ttl"
	checkCredential = "credential"
	checkNarrowing  = "narrowing"
	checkRequire    = "require"
	checkBind       = "bind"
)

// Explain decides as Authorize does, and tells of every rule what it wanted and saw.
func (s *Set) Explain(w identity.Workload, asked Asked) Explanation {
	e := Explanation{Task: asked.Task}
	e.Grant, e.Denied = s.Authorize(w, asked)
	task, ok := s.tasks[asked.Task]
	if !ok {
		return e
	}
	f := facts{Workload: w}
	inputs, wrong := task.read(asked.Inputs)
	f.inputs, f.wrongInputs = inputs, wrong != ""
	for _, one := range task.allow {
		e.Entries = append(e.Entries, one.explain(f))
	}
	e.Checks = append(e.Checks, task.explainInputs(f, wrong), task.explainTTL(asked))
	e.Checks = append(e.Checks, task.explainScope(f, asked)...)
	if required := task.Require.Words(); len(required) > 0 {
		e.Checks = append(e.Checks, Told{Verdict: Unasked, What: checkRequire,
			Words: strings.Join(required, ", ") + " (only the exchange asks, at each request)"})
	}
	e.Checks = append(e.Checks, task.explainBind()...)
	return e
}

func (e entry) explain(f facts) Told {
	t := Told{Verdict: Holds, What: "entry", Place: e.rule}
	for _, c := range e.conditions {
		rule := explained(c, f)
		if rule.Verdict == Fails {
			t.Verdict = Fails
		}
		t.Rules = append(t.Rules, rule)
	}
	return t
}

// explained asks unmet, and not what is told, whether the condition holds: nothing is
// decided here a second time.
func explained(c condition, f facts) Told {
	if miss := c.unmet(f); miss != nil {
		return Told{Verdict: Fails, What: miss.Claim, Place: miss.Place, Words: miss.words()}
	}
	seen := c.told(f)
	t := Told{Verdict: Holds, What: seen.Claim, Place: seen.Place, Words: seen.words()}
	if expression, ok := c.(when); ok {
		if f.wrongInputs && len(expression.inputs) > 0 {
			t.Verdict, t.Words = Unasked, "when: "+seen.expression()+" is not asked, since the inputs are wrong"
		} else {
			t.Words = seen.whenWords(" is true")
		}
	}
	return t
}

func (t *Task) explainInputs(f facts, wrong string) Told {
	switch {
	case wrong != "":
		return Told{Verdict: Fails, What: checkInputs, Words: wrong}
	case len(f.inputs) == 0:
		return Told{Verdict: Holds, What: checkInputs, Words: "the task has none"}
	}
	var words []string
	for _, name := range slices.Sorted(maps.Keys(f.inputs)) {
		words = append(words, inputWords(name, f.inputs[name]))
	}
	return Told{Verdict: Holds, What: checkInputs, Words: strings.Join(words, ", ")}
}

func (t *Task) explainTTL(asked Asked) Told {
	ttl, why := t.life(asked.TTL)
	return Told{Verdict: verdictOf(why == ""), What: checkTTL, Words: cmp.Or(why, fmt.Sprintf("%s of at most %s", span(ttl), span(t.TTL)))}
}

// explainScope tells of the task's own credential and, where less was asked for, of what
// is left of it.
func (t *Task) explainScope(f facts, asked Asked) []Told {
	if f.wrongInputs {
		return []Told{{Verdict: Unasked, What: checkCredential, Words: "not made, since the inputs are wrong"}}
	}
	_, own, why := t.own(f)
	if why != "" {
		return []Told{{Verdict: Fails, What: checkCredential, Words: why}}
	}
	all := []Told{{Verdict: Holds, What: checkCredential, Words: own.String()}}
	if asked.Narrow.Exists() {
		scope, why := t.granted(f, asked.Narrow)
		narrowed := Told{Verdict: verdictOf(why == ""), What: checkNarrowing, Words: why}
		if why == "" {
			narrowed.Words = scope.String()
		}
		all = append(all, narrowed)
	}
	return all
}

// Reason is why not, in the words of Authorize; empty of what is granted.
func (e Explanation) Reason() string {
	if denial, ok := errors.AsType[*Denial](e.Denied); ok {
		return denial.Reason()
	}
	if unknown, ok := errors.AsType[*UnknownTask](e.Denied); ok && unknown.Near != "" {
		return unknown.Error() + "; did you mean " + yamlfile.Quote(unknown.Near) + "?"
	}
	if e.Denied != nil {
		return e.Denied.Error()
	}
	return ""
}

// Tree is the explanation as lines, each of them ended: what was looked at is indented
// under what it decides.
func (e Explanation) Tree() string {
	var b strings.Builder
	if e.Granted() {
		fmt.Fprintf(&b, "✓ task %s is granted by %s: %s, for %s\n", yamlfile.Quote(e.Task), e.Grant.Rule, e.Grant.Scope, span(e.Grant.TTL))
	} else {
		fmt.Fprintf(&b, "✗ task %s is denied: %s\n", yamlfile.Quote(e.Task), e.Reason())
	}
	for _, entry := range e.Entries {
		fmt.Fprintf(&b, "  %s entry %s\n", entry.Verdict.sign(), entry.Place)
		for _, rule := range entry.Rules {
			fmt.Fprintf(&b, "    %s %s: %s\n", rule.Verdict.sign(), rule.Place, rule.Words)
		}
	}
	for _, c := range e.Checks {
		fmt.Fprintf(&b, "  %s %s: %s\n", c.Verdict.sign(), c.What, c.Words)
	}
	return b.String()
}

func (v Verdict) sign() string {
	switch v {
	case Holds:
		return "✓"
	case Fails:
		return "✗"
	}
	return "–"
}

package policy

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"strings"

	"github.com/stepkey/stepkey/internal/yamlfile"
)

// A Severity says what becomes of a task file with a finding.
type Severity string

const (
	Error   Severity = "error"   // the file is refused
	Warning Severity = "warning" // the file is taken, and is fragile
)

// A Rule is something that the linter knows to be wrong with task files. Its ID never
// changes its meaning: people accept findings by it, and look it up.
type Rule struct {
	ID       string
	Severity Severity
	Title    string // what is wrong, in a few words
	Why      string // what could happen
	Fix      string // what to do
}

// Acceptable reports whether a task file may say, with a reason, that it means what was
// found. Of errors, only that about events may be meant.
func (r Rule) Acceptable() bool {
	switch r.ID {
	case "privileged-event":
		return true
	case "when-constant", "accept-unused":
		return false
	}
	return r.Severity == Warning
}

// Form is the rule of whatever is not written as a task file is.
const Form = "form"

// Rules returns all rules, sorted by ID.
func Rules() []Rule {
	all := slices.Clone(rules)
	slices.SortFunc(all, func(a, b Rule) int { return cmp.Compare(a.ID, b.ID) })
	return all
}

// ruleNamed returns a rule, and the one of form for a name that is none.
func ruleNamed(id string) Rule {
	for _, r := range rules {
		if r.ID == id {
			return r
		}
	}
	return rules[0]
}

// A Finding is one place in a task file that breaks a rule.
type Finding struct {
	Rule    Rule
	File    string
	Line    int // from 1; 0 where it is about the whole file
	Column  int // from 1, in characters
	Message string
	Text    string // the offending line
	Excerpt string // Text with a caret in a line below; empty where there is no text
	// Accepted is the reason for which the task file accepts it; then it is neither
	// error nor warning. Empty of all others.
	Accepted string
	// Explained is how the decision came about, as Explanation.Tree has it: of a test of
	// a task that came out otherwise. Empty of all others.
	Explained string
}

// Is reports whether the finding is of that severity and not accepted.
func (f Finding) Is(s Severity) bool { return f.Accepted == "" && f.Rule.Severity == s }

// findingOf makes a finding of a fault.
func findingOf(f *yamlfile.Error, accepted string) Finding {
	_, excerpt, _ := strings.Cut(f.Error(), f.Message+"\n")
	return Finding{
		Rule: ruleNamed(f.Rule), File: f.File, Line: f.Line, Column: f.Column, Message: f.Message,
		Text: f.Text, Excerpt: excerpt, Accepted: accepted,
	}
}

// findings are all of one file, by their place.
func (r *reader) findings() []Finding {
	all := slices.Clone(r.accepted)
	for _, f := range slices.Concat(r.faults, r.doubts) {
		all = append(all, findingOf(f, ""))
	}
	slices.SortStableFunc(all, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	return all
}

// Warn logs each warning about the set's files, one line each. What is accepted is not
// told again.
func (s *Set) Warn(ctx context.Context, log *slog.Logger) {
	for _, f := range s.found {
		if f.Is(Warning) {
			log.WarnContext(ctx, "a task file is fragile", "rule", f.Rule.ID, "file", f.File, "line", f.Line, "column", f.Column, "finding", f.Message)
		}
	}
}

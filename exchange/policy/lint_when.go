package policy

import (
	"slices"

	"github.com/stepkey/stepkey/internal/yamlfile"
)

// condExpr is what the linter sees in a condition.
type condExpr struct {
	node     yamlfile.Node
	claims   []string     // that it reads
	asked    []string     // claims that it asks for, as "ref" in claims
	inputs   bool         // it reads inputs
	compared []comparison // each with a text that the file holds
}

// comparison is a claim, or something else, held against a text.
type comparison struct {
	at      yamlfile.Node // the text's place
	claim   string        // empty: of something else
	call    string        // ==, in, startsWith, endsWith, contains, matches
	text    string        // empty where it is computed
	negated bool          // it is to be false
}

func (c comparison) subject() string {
	if c.claim == "" {
		return "what is compared"
	}
	return c.claim
}

// whens reports whether a condition reads a claim.
func (d door) whens(claim string) bool {
	return slices.ContainsFunc(d.when, func(c *condExpr) bool { return slices.Contains(c.claims, claim) })
}

// comparisons are those that let workloads in by what a claim is or begins with.
func (d door) comparisons(claim string) (all []comparison) {
	for _, c := range d.when {
		for _, one := range c.compared {
			if one.claim == claim && !one.negated && one.call != "matches" {
				all = append(all, one)
			}
		}
	}
	return all
}

// asks reports whether the condition demands that a claim is there, or reads it: to read
// one that is absent is a denial.
func (c *condExpr) asks(claim string) bool {
	return slices.Contains(c.claims, claim) || slices.Contains(c.asked, claim)
}

// lintWhen looks at what a condition compares, and how.
func (r *reader) lintWhen(_ *view, d door) {
	for _, c := range d.when {
		if len(c.claims) == 0 && len(c.asked) == 0 && !c.inputs {
			r.find("when-constant", c.node, "the condition reads neither claims nor inputs")
		}
		for _, one := range c.compared {
			r.lintComparison(one)
		}
	}
}

func (r *reader) lintComparison(c comparison) {
	switch {
	case c.negated && c.text != "":
		r.find("refuses-by-name", c.at, "%s is let in unless it is a known one (%s); name what is let in", c.subject(), yamlfile.Quote(c.text))
	case c.negated:
	case c.call == "matches":
		r.lintPattern(c)
	case c.claim != "" && (c.call == "contains" || c.call == "endsWith"):
		r.find("unanchored-match", c.at, "%s(%s) leaves the rest of %s to whoever names it; compare the whole", c.call, yamlfile.Quote(c.text), c.subject())
	case c.call == "startsWith":
		if other := passesPrefix(c.claim, c.text); other != "" {
			r.find("prefix-too-wide", c.at, "%s begins with %s, and so does %s; go on to where the names differ", c.subject(), yamlfile.Quote(c.text), other)
		}
	}
}

func (r *reader) lintPattern(c comparison) {
	switch {
	case anchored(c.text):
		if other := passesPattern(c.text); other != "" {
			r.find("prefix-too-wide", c.at, "%s matches %s, and so does %s", c.subject(), yamlfile.Quote(c.text), other)
		}
	case alternates(c.text):
		r.find("alternation-unbound", c.at, "^ and $ do not hold all alternatives of %s; write ^(…|…)$", yamlfile.Quote(c.text))
	default:
		r.find("unanchored-match", c.at, "%s is looked for anywhere in %s; write ^…$ around the whole of it", yamlfile.Quote(c.text), c.subject())
	}
}

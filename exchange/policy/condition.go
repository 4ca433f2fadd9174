package policy

import (
	"slices"
	"strings"

	"github.com/stepkey/stepkey/exchange/identity"
)

// A condition is one thing that must hold in an entry of allow. Another way to
// say things about a workload is another implementation and another key of the
// task file, and nothing else changes.
type condition interface {
	// unmet returns nil where the condition holds, else what was missed. What cannot be
	// decided is unmet.
	unmet(facts) *Miss
	// told says what the condition wants and what it sees, whether it holds or not: where
	// it does not, it is what unmet returns.
	told(facts) Miss
}

// facts are what conditions and expressions speak of: who asks, and what was given with
// the request.
type facts struct {
	identity.Workload
	inputs map[string]any // string or int64, by name, defaults included
	// wrongInputs: they do not fit the task, and whatever holds, nothing is given.
	wrongInputs bool
}

// entry is one entry of allow: everything in it must hold.
type entry struct {
	rule       string // its place: "publish-release.yaml:5"
	kind       string // of its issuer
	conditions []condition
}

func (e entry) unmet(f facts) *Miss {
	for _, c := range e.conditions {
		if miss := c.unmet(f); miss != nil {
			miss.Entry = e.rule
			return miss
		}
	}
	return nil
}

// issuedBy holds for workloads of one configured issuer.
type issuedBy struct {
	issuer string
	place  string
}

func (c issuedBy) unmet(f facts) *Miss {
	if f.Issuer == c.issuer {
		return nil
	}
	miss := c.told(f)
	return &miss
}

func (c issuedBy) told(f facts) Miss {
	return Miss{Claim: "issuer", Wanted: []string{c.issuer}, Saw: f.Issuer, Present: f.Issuer != "", Place: c.place}
}

// claimIs holds where a claim equals one of some values.
type claimIs struct {
	claim  string
	wanted []string
	place  string
}

func (c claimIs) unmet(f facts) *Miss {
	saw, present := f.Claims.Text(c.claim)
	if present && c.matches(saw) {
		return nil
	}
	miss := c.told(f)
	return &miss
}

func (c claimIs) told(f facts) Miss {
	saw, present := f.Claims.Text(c.claim)
	return Miss{Claim: c.claim, Wanted: c.wanted, Saw: saw, Present: present, Place: c.place}
}

// listPrefix begins the names of claims that may hold several values, joined with
// commas: GitHub's custom properties of a repository. See isList for others.
const listPrefix = "repo_property_"

func (c claimIs) matches(saw string) bool {
	if !isList(c.claim) {
		return slices.Contains(c.wanted, saw)
	}
	for element := range strings.SplitSeq(saw, ",") {
		if slices.Contains(c.wanted, element) {
			return true
		}
	}
	return false
}

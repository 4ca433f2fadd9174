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
	// unmet returns nil where the condition holds for w, else what was missed. What
	// cannot be decided is unmet.
	unmet(w identity.Workload) *Miss
}

// entry is one entry of allow: everything in it must hold.
type entry struct {
	rule       string // its place: "publish-release.yaml:5"
	conditions []condition
}

func (e entry) unmet(w identity.Workload) *Miss {
	for _, c := range e.conditions {
		if miss := c.unmet(w); miss != nil {
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

func (c issuedBy) unmet(w identity.Workload) *Miss {
	if w.Issuer == c.issuer {
		return nil
	}
	return &Miss{Claim: "issuer", Wanted: []string{c.issuer}, Saw: w.Issuer, Present: w.Issuer != "", Place: c.place}
}

// claimIs holds where a claim equals one of some values.
type claimIs struct {
	claim  string
	wanted []string
	place  string
}

func (c claimIs) unmet(w identity.Workload) *Miss {
	saw, present := w.Claims.Text(c.claim)
	if present && c.matches(saw) {
		return nil
	}
	return &Miss{Claim: c.claim, Wanted: c.wanted, Saw: saw, Present: present, Place: c.place}
}

// listPrefix begins the names of claims that may hold several values, joined with
// commas: GitHub's custom properties of a repository.
const listPrefix = "repo_property_"

func (c claimIs) matches(saw string) bool {
	if !strings.HasPrefix(c.claim, listPrefix) {
		return slices.Contains(c.wanted, saw)
	}
	for element := range strings.SplitSeq(saw, ",") {
		if slices.Contains(c.wanted, element) {
			return true
		}
	}
	return false
}

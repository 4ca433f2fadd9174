package policy

import (
	"strings"

	"github.com/stepkey/stepkey/internal/yamlfile"
)

// accept takes out of the findings what the file says it means, each by a rule's id and
// a reason. It comes last: what is accepted and not found is a finding, too.
func (r *reader) accept(n yamlfile.Node) {
	if !n.Exists() {
		return
	}
	if len(n.Keys()) == 0 {
		r.refuse(n, "accept must name what is accepted and why, as privileged-event: only labels, runs no code of the pull request")
		return
	}
	for _, id := range n.Keys() {
		rule, reason := ruleNamed(id), r.reason(n.Get(id))
		switch {
		case rule.ID != id:
			r.refuseRule(n.Key(id), id)
		case !rule.Acceptable():
			r.refuse(n.Key(id), "%s cannot be accepted; change what it finds", id)
		case reason != "" && !r.settle(id, reason):
			r.find("accept-unused", n.Key(id), "nothing in this file is %s any more; remove the line", id)
		}
	}
}

func (r *reader) refuseRule(n yamlfile.Node, id string) {
	var ids []string
	for _, rule := range Rules() {
		ids = append(ids, rule.ID)
	}
	if near := yamlfile.Nearest(id, ids); near != "" {
		r.refuse(n, "there is no rule %s (did you mean %q?)", yamlfile.Quote(id), near)
		return
	}
	r.refuse(n, "there is no rule %s; docs/findings.md lists them", yamlfile.Quote(id))
}

func (r *reader) reason(n yamlfile.Node) string {
	var reason string
	if !r.decode(n, &reason) {
		return ""
	}
	if strings.TrimSpace(reason) == "" || !printable(reason) {
		r.refuse(n, "say in one line why this is meant")
		return ""
	}
	return reason
}

// settle moves the findings of a rule to those that are accepted.
func (r *reader) settle(id, reason string) (found bool) {
	keep := func(faults []*yamlfile.Error) []*yamlfile.Error {
		var left []*yamlfile.Error
		for _, f := range faults {
			if f.Rule != id {
				left = append(left, f)
				continue
			}
			found = true
			r.accepted = append(r.accepted, findingOf(f, reason))
		}
		return left
	}
	r.faults, r.doubts = keep(r.faults), keep(r.doubts)
	return found
}

package policy

import (
	"slices"

	"github.com/stepkey/stepkey/internal/yamlfile"
)

// Required is what a task demands beyond its claims. Each part is asked of the
// workload's CI system at every exchange, after the policy has let the workload in.
type Required struct {
	// ProtectedEnvironment: the environment that the job names has a protection rule. A
	// job gets the claim for an environment without any, too, and GitHub makes the
	// environment for whoever names it.
	ProtectedEnvironment bool
	// PinnedWorkflow: nothing is loose in the workflow files that the job comes from;
	// see Shape.
	PinnedWorkflow bool
}

// The words of a task file for what it requires.
const (
	protectedEnvironment = "protected_environment"
	pinnedWorkflow       = "pinned_workflow"
)

// Words are what is required, as the task file has it.
func (q Required) Words() []string {
	var words []string
	if q.ProtectedEnvironment {
		words = append(words, protectedEnvironment)
	}
	if q.PinnedWorkflow {
		words = append(words, pinnedWorkflow)
	}
	return words
}

// require reads the list of what a task requires. A task that wants its environment to
// be protected must say which one it means: any protected one of the repository would
// do otherwise.
func (r *reader) require(n yamlfile.Node, allow []entry) Required {
	var q Required
	var words []string
	if n.IsList() && len(n.Items()) == 0 {
		r.refuse(n, "the list is empty; remove the key, or name what is required: %s, %s", protectedEnvironment, pinnedWorkflow)
	}
	if !r.decode(n, &words) {
		return q
	}
	for i, word := range words {
		at := n.Items()[i]
		if slices.Contains(words[:i], word) {
			r.refuse(at, "%s is listed twice", yamlfile.Quote(word))
			continue
		}
		if r.unasked(at, allow) {
			return q
		}
		switch word {
		case protectedEnvironment:
			q.ProtectedEnvironment = true
			r.environmentsNamed(at, allow)
		case pinnedWorkflow:
			q.PinnedWorkflow = true
		default:
			r.refuse(at, "%s is nothing that can be required (there is: %s, %s)", yamlfile.Quote(word), protectedEnvironment, pinnedWorkflow)
		}
	}
	return q
}

func (r *reader) environmentsNamed(n yamlfile.Node, allow []entry) {
	for _, e := range allow {
		if !slices.ContainsFunc(e.conditions, func(c condition) bool { is, ok := c.(claimIs); return ok && is.claim == "environment" }) {
			r.refuse(n, "%s needs the claim environment in every entry of allow; %s has none", protectedEnvironment, e.rule)
		}
	}
}

// unasked refuses what only issuers of some kinds can be asked for: everybody else would
// be denied, always.
func (r *reader) unasked(n yamlfile.Node, allow []entry) bool {
	for _, e := range allow {
		if e.kind != "" && !watched(e.kind) {
			r.refuse(n, "only GitHub can be asked for what a task requires; the entry %s is for an issuer of kind %s", e.rule, e.kind)
			return true
		}
	}
	return false
}

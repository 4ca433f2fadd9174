package policy

import (
	"regexp"
	"slices"
	"strings"

	"github.com/stepkey/stepkey/internal/yamlfile"
)

var octoClaimName = regexp.MustCompile(`\A[A-Za-z_][A-Za-z0-9_]{0,127}\z`)

// claimPatterns reads claim_pattern: what each demands of an entry. Patterns that mean
// texts that can be listed become exact claims.
func (i *octoImport) claimPatterns() (all []func(*octoEntry)) {
	n := i.policy.ClaimPattern
	if n.Exists() && !n.IsMapping() {
		i.find(octoForm, n, "want claims and their patterns, as {ref: refs/tags/v.*}")
	}
	for _, claim := range n.Keys() {
		at, text := n.Get(claim), i.text(n.Get(claim))
		if why := never(claim); why != "" {
			i.refuse(n.Key(claim), "%s cannot be matched here: %s", claim, why)
			continue
		}
		if !octoClaimName.MatchString(claim) {
			i.refuse(n.Key(claim), "%s is no name of a claim that can be taken over", yamlfile.Quote(claim))
			continue
		}
		if text == "" {
			continue
		}
		if p, ok := i.pattern(at, text); ok {
			all = append(all, i.claimPattern(n.Key(claim), claim, p))
		}
	}
	return all
}

// claimPattern leaves a property of the repository a pattern: as an exact claim it
// would match one of its elements, and not the whole.
func (i *octoImport) claimPattern(n yamlfile.Node, claim string, p octoPattern) func(*octoEntry) {
	if values, ok := p.literals(); ok && !strings.HasPrefix(claim, listPrefix) {
		return func(e *octoEntry) { i.require(e, n, claim, values...) }
	}
	i.find(octoDiffers, n, "the pattern of %s stands under when, and matches the whole of the claim", claim)
	return func(e *octoEntry) {
		e.when = append(e.when, octoMatches(claim, strings.Join(p.alternatives, "|")))
	}
}

// pin demands the numbers that stay with an owner and a repository.
func (i *octoImport) pin(e *octoEntry, n yamlfile.Node) {
	for _, given := range []octoClaim{{"repository_owner_id", []string{i.OwnerID}, ""}, {"repository_id", []string{i.RepositoryID}, ""}} {
		id := given.values[0]
		switch {
		case id == "":
		case !isID(id):
			i.refuse(n, "%s is a number that GitHub gave, as 456789; found %s", given.name, yamlfile.Quote(id))
		default:
			i.require(e, n, given.name, id)
		}
	}
	if len(e.values("repository_id")) > 0 || len(e.values("repository_owner_id")) > 0 && len(e.values("repository")) == 0 {
		return
	}
	if of := e.values("repository"); len(of) == 1 {
		e.claims = append(e.claims, octoClaim{"repository_id", nil, "the number of " + of[0] + ": id in the answer of GET /repos/" + of[0]})
		i.find(octoDecide, n, "the subject names a repository by its name, which can be given to others; fill in its number, or give --repository-id")
		return
	}
	e.claims = append(e.claims, octoClaim{"repository_owner_id", nil, "the number of the owner: owner.id in the answer of GET /repos/OWNER/NAME"})
	i.find(octoDecide, n, "the subject names an owner by its name, which can be given to others; fill in its number, or give --owner-id")
}

// events demands that the event is named: some run on what strangers send.
func (i *octoImport) events(e *octoEntry, n yamlfile.Node) {
	if slices.Contains(e.when, octoNoEnvironment) && !slices.Equal(e.values("event_name"), []string{"pull_request"}) {
		defer i.withoutPullRequest(e, n)
	}
	if len(e.values("event_name")) > 0 {
		if len(i.Events) > 0 && !slices.Equal(e.values("event_name"), []string{"pull_request"}) {
			i.require(e, n, "event_name", i.Events...)
		}
		return
	}
	say := ""
	if len(i.Events) == 0 {
		say = "such as [push, workflow_dispatch]; pull_request_target, workflow_run and issue_comment run on what strangers send"
		i.find(octoDecide, n, "the events are not said; fill them in, or give --event push")
	}
	e.claims = append(e.claims, octoClaim{"event_name", slices.Clone(i.Events), say})
}

// withoutPullRequest takes pull_request away from a subject that names a ref: such
// jobs have the other subject.
func (i *octoImport) withoutPullRequest(e *octoEntry, n yamlfile.Node) {
	for k, c := range e.claims {
		if c.name != "event_name" || len(c.values) == 0 {
			continue
		}
		e.claims[k].values = slices.DeleteFunc(slices.Clone(c.values), func(v string) bool { return v == "pull_request" })
		if len(e.claims[k].values) == 0 {
			i.refuse(n, "jobs of pull_request have the subject …:pull_request and never one with a ref, so that nobody is let in")
		}
	}
}

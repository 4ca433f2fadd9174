package policy

import (
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/stepkey/stepkey/exchange/identity"
	"github.com/stepkey/stepkey/internal/yamlfile"
)

// kind is what an entry of allow must hold for issuers of one make to let only
// those in who are meant.
type kind struct {
	pins     []string // one of these at least: ids that are never given to another owner
	required []string // each of these
	numbers  []string // claims whose values are numbers, written as text
	uuids    []string // and those that are UUIDs
	people   []string // who started the run, which says nothing of the code
	look     []looks  // what the linter looks at
	// watched: the exchange can be told, or ask, when a job or a step is over, and what
	// protects an environment.
	watched bool
}

// looks is one way in which the linter looks at an entry.
type looks func(*reader, *view, door)

const ofCircleCI, ofKubernetes = "oidc.circleci.com/", "kubernetes.io/"

// kinds is the table. GitHub gives the names of owners and repositories, and with
// them sub, to others once they are free; ids never. event_name must be said
// because pull_request_target, workflow_run and issue_comment run with the base
// repository's identity on what strangers send. Elsewhere, too, names are free again
// once their owner is gone or renamed; a service account that is made again under its
// name has another uid. A SPIFFE ID is a name by design: who gets it is decided by whoever
// runs the trust domain, and by nobody else.
func kinds() map[string]kind {
	return map[string]kind{
		"github": {
			pins: []string{"repository_id", "repository_owner_id"}, required: []string{"event_name"},
			numbers: []string{"repository_id", "repository_owner_id", "enterprise_id", "run_id", "check_run_id"},
			look: []looks{(*reader).lintEvents, (*reader).lintRunner, (*reader).lintWorkflow, (*reader).lintRepository,
				(*reader).lintEnvironment, (*reader).lintWhen},
			watched: true,
		},
		"forgejo": {
			pins: []string{"repository_id", "repository_owner_id"}, required: []string{"event_name"},
			numbers: []string{"repository_id", "repository_owner_id", "run_id"},
			look:    []looks{(*reader).lintEvents, (*reader).lintForgejo, (*reader).lintRepository, (*reader).lintWhen},
		},
		"gitlab": {
			pins:    []string{"project_id", "namespace_id"},
			numbers: []string{"project_id", "namespace_id", "job_project_id", "job_namespace_id", "pipeline_id", "job_id"},
			people:  []string{"user_id", "user_login", "user_email", "user_access_level", "user_identities"},
			look:    []looks{ownerOnly("namespace_id", "project_id", "group"), (*reader).lintGitLab, (*reader).lintWhen},
		},
		"buildkite": {
			pins:  []string{"pipeline_id", "organization_id"},
			uuids: []string{"organization_id", "pipeline_id", "build_id", "job_id", "cluster_id", "queue_id", "agent_id"},
			look:  []looks{ownerOnly("organization_id", "pipeline_id", "organization"), refOpen("build_branch", "build_tag", "build_commit"), (*reader).lintWhen},
		},
		"circleci": {
			pins: []string{ofCircleCI + "project-id", ofCircleCI + "org-id"},
			uuids: []string{ofCircleCI + "project-id", ofCircleCI + "org-id", ofCircleCI + "pipeline-id", ofCircleCI + "pipeline-definition-id",
				ofCircleCI + "workflow-id", ofCircleCI + "job-id", ofCircleCI + "context-ids"},
			look: []looks{ownerOnly(ofCircleCI+"org-id", ofCircleCI+"project-id", "organization"), refOpen(ofCircleCI + "vcs-ref"),
				(*reader).lintCircleCI, (*reader).lintWhen},
		},
		"kubernetes": {pins: []string{ofKubernetes + "serviceaccount/uid"}, look: []looks{(*reader).lintKubernetes, (*reader).lintWhen}},
		"spiffe":     {pins: []string{"sub"}, look: []looks{(*reader).lintWhen}},
		"oidc":       {look: []looks{(*reader).lintWhen}},
	}
}

// kindOf is the row of an issuer. What pins workloads of the kind oidc its operator says.
func kindOf(i identity.Issuer) (kind, bool) {
	k, ok := kinds()[i.Kind]
	if ok && i.Kind == "oidc" && i.Job != nil {
		k.pins = i.Job.Pin
	}
	return k, ok
}

// watched reports whether anybody sees when jobs of a kind are over.
func watched(kind string) bool { return kinds()[kind].watched }

// forbidden says why a claim may not be matched of issuers of a kind; of most it says
// nothing.
func forbidden(kind, claim string) (why string) {
	row, known := kinds()[kind]
	switch {
	case slices.Contains(row.people, claim):
		return "it says who started the pipeline and not which code runs; match the project and the branch"
	case kind == "github" || kind == "forgejo" || !known:
		return never(claim)
	case claim == "actor" || claim == "actor_id", claim == "sub" && (kind == "spiffe" || kind == "oidc"):
		return ""
	case claim == "sub":
		return "it is made of names, which can be given to others; match " + strings.Join(row.pins, " or ") + " and the claims you mean"
	}
	return never(claim)
}

var uuidText = regexp.MustCompile(`\A[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\z`)

// badForm says why a value could never be that of a claim of the issuer.
func badForm(i identity.Issuer, claim, value string) string {
	k := kinds()[i.Kind]
	switch {
	case slices.Contains(k.numbers, claim) && !isID(value):
		return claim + " is a number that " + makers[i.Kind] + " gave, digits alone, as \"456789\"; found " + yamlfile.Quote(value)
	case slices.Contains(k.uuids, claim) && !uuidText.MatchString(value):
		return claim + " is a UUID in lower case, as 01945ecf-80f0-41e8-9b83-a2970a9305a1; found " + yamlfile.Quote(value)
	case i.Kind == "spiffe" && claim == "sub":
		if why := identity.NotInTrustDomain(value, i.TrustDomain); why != "" {
			return "sub " + why + "; found " + yamlfile.Quote(value)
		}
	}
	return ""
}

// makers are who gives the numbers.
var makers = map[string]string{"github": "GitHub", "forgejo": "Forgejo", "gitlab": "GitLab"}

// isList reports whether a claim may hold several values, joined with commas.
func isList(claim string) bool {
	return strings.HasPrefix(claim, listPrefix) || claim == ofCircleCI+"context-ids"
}

// kindNames are all kinds, sorted.
func kindNames() []string { return slices.Sorted(maps.Keys(kinds())) }

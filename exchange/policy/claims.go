package policy

import (
	"maps"
	"slices"
	"strings"

	"github.com/stepkey/stepkey/internal/yamlfile"
)

// givenClaims are the claims that issuers of a kind give, each with a value as an
// example. Source of github's: its "OpenID Connect reference", and the claims of runs
// since 2025. Custom properties, whose names begin with listPrefix, come on top.
var givenClaims = map[string]map[string]string{
	"github": {
		"repository": "acme/widget", "repository_id": "456789", "repository_visibility": "private",
		"repository_owner": "acme", "repository_owner_id": "123456",
		"actor": "octocat", "actor_id": "12", "enterprise": "acme", "enterprise_id": "2",
		"ref": "refs/heads/main", "ref_type": "branch", "ref_protected": "true", "sha": "8b42c7c1f0f3d1a5b6e7d8c9a0b1c2d3e4f50617",
		"head_ref": "topic", "base_ref": "main", "event_name": "push",
		"environment": "release", "environment_node_id": "EN_kwDOA",
		"workflow": "release", "workflow_sha": "8b42c7c1f0f3d1a5b6e7d8c9a0b1c2d3e4f50617",
		"workflow_ref":     "acme/widget/.github/workflows/release.yml@refs/heads/main",
		"job_workflow_ref": "acme/widget/.github/workflows/release.yml@refs/heads/main",
		"job_workflow_sha": "8b42c7c1f0f3d1a5b6e7d8c9a0b1c2d3e4f50617",
		"run_id":           "18170960955", "run_number": "10", "run_attempt": "1", "check_run_id": "51725241954",
		"runner_environment": "github-hosted",
	},
	"forgejo": examplesOf(forgejoClaims), "gitlab": examplesOf(gitLabClaims), "buildkite": examplesOf(buildkiteClaims),
	"circleci": examplesOf(circleCIClaims), "kubernetes": examplesOf(kubernetesClaims), "spiffe": examplesOf(spiffeClaims),
}

// sampleText stands for what nothing gives an example of.
const sampleText = "sample"

// unknownClaim says of a claim that no issuer of the kind gives what may have been
// meant; of the others, and of kinds whose claims are not listed, it says nothing.
func unknownClaim(kind, claim string) (why string) {
	given, listed := givenClaims[kind]
	if _, ok := given[claim]; ok || !listed || (kind == "github" && strings.HasPrefix(claim, listPrefix)) {
		return ""
	}
	if near := yamlfile.Nearest(claim, slices.Sorted(maps.Keys(given))); near != "" {
		return "issuers of kind " + kind + " give no claim " + yamlfile.Quote(claim) + " (did you mean " + yamlfile.Quote(near) + "?)"
	}
	return "issuers of kind " + kind + " give no claim " + yamlfile.Quote(claim) + `; one of their own making is read as claims["name"]`
}

// sampleClaim is a value that a claim may have in whoever an entry lets in.
func (e entry) sampleClaim(claim string) string {
	for _, c := range e.conditions {
		if is, ok := c.(claimIs); ok && is.claim == claim && len(is.wanted) > 0 {
			return is.wanted[0]
		}
	}
	if given := givenClaims[e.kind][claim]; given != "" {
		return given
	}
	return sampleText
}

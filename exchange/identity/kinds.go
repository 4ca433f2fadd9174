package identity

import (
	"time"
)

// A kind is what issuers of one make have in common: which claims name the job, and
// what its tokens are like. Another make is another row here, never another package.
type kind struct {
	// forms are what claims must be where they are there, in the order of checking.
	forms []formed
	// key must be there and not be empty. Together with single it names the job.
	key []string
	// single names the one job among those that share key. Where the issuer has no such
	// claim, instead (the first must be there) takes its place, and the job is Weak.
	single  string
	instead []string
	// shared: where neither is there, key names all that run under one name, at once and
	// over time, and the job is Weak and Shared. Without it such a token is refused.
	shared bool
	// name is what a job is called for people; repository, run and attempt are what the
	// issuer calls these itself.
	name                     []part
	repository, run, attempt string

	// inside is a claim whose members, and theirs, are claims of their own: see flatten.
	inside string
	// lists are claims that are lists of texts; they are read as one text, with commas.
	lists []string
	// nulls: null is how the issuer says that it does not give a claim.
	nulls bool
	// audienceList: aud may be a list, of which ours must be the only entry.
	audienceList bool
	// tokenIDs: every token has a jti. Of others, see signedID.
	tokenIDs bool
	// maxAge is for issuers whose tokens wait in a variable or a file until they are used;
	// defaultMaxAge if zero.
	maxAge time.Duration
	// keyUses is what a key's use may be; sig if nil.
	keyUses []string
	// slash: the issuer's URL may end in one.
	slash bool
	// subject: sub is the identity, a SPIFFE ID of the issuer's trust domain.
	subject bool
}

// part is a part of a job's name: words and a claim, left out where the claim is absent,
// or where unless is not.
type part struct{ before, claim, unless string }

// formed are claims of one form.
type formed struct {
	form  form
	names []string
}

func as(f form, names ...string) formed { return formed{f, names} }

// waits is how long tokens are taken that are made beforehand, and not when they are
// asked for: at the start of a job, or when a file is renewed. exp ends them all the same.
const waits = time.Hour

// kinds is the table. Sources: GitHub's "OpenID Connect reference" (all claims but the
// times are strings, ids and booleans too), and that check_run_id exists on github.com
// and GHE.com but not on GitHub Enterprise Server, which has no claim for a job at all:
// jobs of one run that the same workflow file defines, such as those of a matrix, are one
// job there. Of the other rows, see each.
//
// sub is in no row but that of SPIFFE: elsewhere it holds names, and its shape can be
// changed. Names are in no key: they can be given to others.
func kinds() map[string]kind {
	return map[string]kind{
		"github":     gitHub(),
		"forgejo":    forgejo(),
		"gitlab":     gitLab(),
		"buildkite":  buildkite(),
		"circleci":   circleCI(),
		"kubernetes": kubernetes(),
		"spiffe":     spiffe(),
		"oidc":       generic(),
	}
}

func kindNamed(name string) (kind, bool) {
	k, ok := kinds()[name]
	return k, ok
}

// kindOf is the row of an issuer's kind, completed by what the operator says of it.
func kindOf(i Issuer) (kind, bool) {
	k, ok := kindNamed(i.Kind)
	if ok && i.Kind == "oidc" && i.Job != nil {
		k = i.Job.complete(k)
	}
	return k, ok
}

func gitHub() kind {
	return kind{
		forms: []formed{
			as(idText, "repository_id", "run_id", "run_attempt", "repository_owner_id", "actor_id", "enterprise_id", "run_number"),
			as(id, "check_run_id"),
			as(text, "repository", "repository_owner", "repository_visibility", "actor", "enterprise",
				"ref", "ref_type", "ref_protected", "base_ref", "head_ref", "sha",
				"event_name", "environment", "environment_node_id", "runner_environment",
				"workflow", "workflow_ref", "workflow_sha", "job_workflow_ref", "job_workflow_sha"),
		},
		key:     []string{"repository_id", "run_id", "run_attempt"},
		single:  "check_run_id",
		instead: []string{"workflow_ref", "job_workflow_ref"},
		name: []part{
			{claim: "repository"}, {before: "repository ", claim: "repository_id", unless: "repository"},
			{before: " run ", claim: "run_id"}, {before: ".", claim: "run_attempt"}, {before: " job ", claim: "check_run_id"},
		},
		repository: "repository_id", run: "run_id", attempt: "run_attempt",
		tokenIDs: true,
	}
}

// forgejo is Forgejo Actions. Source: its code (the claims of its ID tokens, which have
// repository_id since that was added to keep renamed repositories apart) and its page
// "Security OpenID Connect". There is no jti and no claim for a job, so that jobs that one
// workflow file defines are one job, as on GitHub Enterprise Server. Gitea has proposed
// the same; no release of it is known to give such tokens (unverified).
func forgejo() kind {
	return kind{
		forms: []formed{
			as(idText, "repository_id", "run_id", "run_attempt", "repository_owner_id", "actor_id", "run_number"),
			as(text, "repository", "repository_owner", "actor", "ref", "ref_type", "ref_protected", "base_ref", "head_ref", "sha",
				"event_name", "workflow", "workflow_ref"),
		},
		key:     []string{"repository_id", "run_id", "run_attempt"},
		instead: []string{"workflow_ref"},
		name: []part{
			{claim: "repository"}, {before: "repository ", claim: "repository_id", unless: "repository"},
			{before: " run ", claim: "run_id"}, {before: ".", claim: "run_attempt"},
		},
		repository: "repository_id", run: "run_id", attempt: "run_attempt",
	}
}

// gitLab is GitLab CI. Source: "OpenID Connect (OIDC) Authentication Using ID Tokens".
// A job that is run again has another job_id. Tokens are made when the job starts. Of a
// merge request from a fork, project_id is the fork's, and job_project_id (newer) is
// that of the project in which the job runs.
func gitLab() kind {
	return kind{
		forms: []formed{
			as(idText, "project_id", "pipeline_id", "job_id", "namespace_id", "user_id", "job_project_id", "job_namespace_id"),
			as(number, "runner_id"),
			as(text, "project_path", "namespace_path", "project_visibility", "job_project_path", "job_namespace_path",
				"pipeline_source", "ref", "ref_type", "ref_path", "ref_protected",
				"environment", "environment_protected", "environment_action", "deployment_tier", "runner_environment", "sha", "ci_config_ref_uri", "ci_config_sha",
				"user_login", "user_email", "user_access_level", "job_source", "job_policy_ref_uri", "job_policy_ref_sha"),
		},
		key:    []string{"project_id", "pipeline_id"},
		single: "job_id",
		name: []part{
			{claim: "project_path"}, {before: "project ", claim: "project_id", unless: "project_path"},
			{before: " pipeline ", claim: "pipeline_id"}, {before: " job ", claim: "job_id"},
		},
		repository: "project_id", run: "pipeline_id",
		nulls: true, tokenIDs: true, maxAge: waits,
	}
}

// buildkite is Buildkite. Sources: its page "buildkite-agent oidc", and a token that its
// staff have shown (jti, build_number as a number, build_tag and step_key null where there
// is none). The ids of organization and pipeline are there where the step asks for them,
// with --claim organization_id,pipeline_id.
func buildkite() kind {
	return kind{
		forms: []formed{
			as(uuid, "job_id", "organization_id", "pipeline_id", "build_id", "cluster_id", "queue_id", "agent_id"),
			as(number, "build_number"),
			as(text, "organization_slug", "pipeline_slug", "build_branch", "build_tag", "build_commit", "build_source", "step_key",
				"runner_environment", "cluster_name", "queue_key"),
		},
		single: "job_id",
		name: []part{
			{claim: "organization_slug"}, {before: "/", claim: "pipeline_slug"},
			{before: " build ", claim: "build_number"}, {before: " job ", claim: "job_id"},
		},
		repository: "pipeline_id", run: "build_id",
		nulls: true, tokenIDs: true,
	}
}

// circleCI is CircleCI. Sources: its pages "Using OpenID Connect tokens in jobs" and "OIDC
// tokens with custom claims"; that job-id and workflow-id are there is from services that
// take its tokens (unverified). Without job-id, jobs of one pipeline are one job. There is
// no jti. The claims of a pipeline that a custom webhook starts have no vcs-.
func circleCI() kind {
	const of = "oidc.circleci.com/"
	return kind{
		forms: []formed{
			as(uuid, of+"project-id", of+"org-id", of+"pipeline-id", of+"pipeline-definition-id", of+"workflow-id", of+"job-id"),
			as(text, of+"vcs-origin", of+"vcs-ref"),
			as(truth, of+"ssh-rerun"),
		},
		key:     []string{of + "project-id"},
		single:  of + "job-id",
		instead: []string{of + "pipeline-id"},
		name: []part{
			{claim: of + "vcs-origin"}, {before: "project ", claim: of + "project-id", unless: of + "vcs-origin"},
			{before: " pipeline ", claim: of + "pipeline-id"}, {before: " job ", claim: of + "job-id"},
		},
		repository: of + "project-id", run: of + "pipeline-id",
		lists: []string{of + "context-ids"}, audienceList: true,
	}
}

// kubernetes is a cluster's issuer of service account tokens. Source: Kubernetes' code
// (pkg/serviceaccount/claims.go). Tokens have a jti and a node since 1.30 or so
// (unverified), aud is always a list, and a token that is bound to no pod, as kubectl
// create token makes it, names its service account alone.
func kubernetes() kind {
	const of = "kubernetes.io/"
	return kind{
		forms: []formed{
			as(text, of+"namespace", of+"serviceaccount/name", of+"serviceaccount/uid", of+"pod/name", of+"pod/uid",
				of+"node/name", of+"node/uid", of+"secret/name", of+"secret/uid"),
			as(number, of+"warnafter"),
		},
		key:    []string{of + "serviceaccount/uid"},
		single: of + "pod/uid",
		shared: true,
		name: []part{
			{claim: of + "namespace"}, {before: "/", claim: of + "serviceaccount/name"},
			{before: " pod ", claim: of + "pod/name"},
		},
		inside: "kubernetes.io", audienceList: true, maxAge: waits, slash: true,
	}
}

// spiffe is an issuer of JWT-SVIDs. Source: the SPIFFE standard "JWT-SVID", which demands
// sub, aud and exp; we need iss and iat on top, which SPIRE gives where jwt_issuer is set
// (unverified). Keys of a bundle say jwt-svid; those of SPIRE's OIDC discovery provider sig,
// or nothing.
func spiffe() kind {
	return kind{
		key: []string{"sub"}, shared: true, subject: true,
		name:         []part{{claim: "sub"}},
		audienceList: true, maxAge: waits, keyUses: []string{"jwt-svid", "sig"},
	}
}

// generic is any other issuer. Which claims name the job, its operator says.
func generic() kind {
	return kind{audienceList: true, slash: true}
}

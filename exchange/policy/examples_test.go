package policy_test

import "strings"

type example struct{ bad, good string }

// examples are, for each rule, what of a task file breaks it, and what does not. An
// example with an allow of its own requires what it says itself.
var examples = map[string]example{
	"form":                    {"limits: {ttl: 10m, per_jobs: 1}\n", "limits: {ttl: 10m, per_job: 1}\n"},
	"unpinned":                {claims("repository: acme/widget\nevent_name: push"), claims("repository_id: \"456789\"\nevent_name: push")},
	"sub-matched":             {claims("sub: repo:acme/widget:environment:release\nrepository_id: \"456789\"\nevent_name: push"), claims("repository_id: \"456789\"\nenvironment: release\nevent_name: push")},
	"identity-by-actor":       {claims("repository_id: \"456789\"\nevent_name: workflow_dispatch\nactor: octocat"), claims("repository_id: \"456789\"\nevent_name: workflow_dispatch\nenvironment: release")},
	"already-checked":         {claims("repository_id: \"456789\"\nevent_name: push\naud: https://lease.example.com"), claims("repository_id: \"456789\"\nevent_name: push")},
	"owner-only":              {claims("repository_owner_id: \"123456\"\nevent_name: push\nref: refs/heads/main"), claims("repository_owner_id: \"123456\"\nrepository_id: [\"456789\", \"456790\"]\nevent_name: push\nref: refs/heads/main")},
	"property-as-identity":    {claims("repository_owner_id: \"123456\"\nrepo_property_tier: prod\nevent_name: push"), claims("repository_id: \"456789\"\nrepo_property_tier: prod\nevent_name: push")},
	"events-open":             {claims("repository_id: \"456789\"\nref: refs/heads/main"), claims("repository_id: \"456789\"\nref: refs/heads/main\nevent_name: [push, workflow_dispatch]")},
	"privileged-event":        {claims("repository_id: \"456789\"\nevent_name: pull_request_target"), claims("repository_id: \"456789\"\nevent_name: push")},
	"stranger-event":          {claims("repository_id: \"456789\"\nevent_name: issues\nenvironment: triage"), claims("repository_id: \"456789\"\nevent_name: schedule\nenvironment: triage")},
	"unreviewed-code":         {claims("repository_id: \"456789\"\nevent_name: [push, pull_request]\nrunner_environment: github-hosted"), claims("repository_id: \"456789\"\nevent_name: push\nref: refs/heads/main")},
	"self-hosted-open":        {claims("repository_id: \"456789\"\nevent_name: pull_request"), claims("repository_id: \"456789\"\nevent_name: pull_request\nrunner_environment: github-hosted")},
	"workflow-unnamed":        {claims("repository_id: \"456789\"\nevent_name: push"), claims("repository_id: \"456789\"\nevent_name: push\nworkflow_ref: acme/widget/.github/workflows/release.yml@refs/heads/main\nref_protected: \"true\"")},
	"workflow-movable":        {claims("repository_id: \"456789\"\nevent_name: push\njob_workflow_ref: acme/ci/.github/workflows/deploy.yml@refs/tags/v3"), claims("repository_id: \"456789\"\nevent_name: push\njob_workflow_ref: acme/ci/.github/workflows/deploy.yml@refs/tags/v3\njob_workflow_sha: d06e8b42d06e8b42d06e8b42d06e8b42d06e8b42")},
	"one-workflow-claim":      {claims("repository_owner_id: \"123456\"\nevent_name: push\njob_workflow_ref: acme/ci/.github/workflows/deploy.yml@refs/tags/v3"), claims("repository_id: \"456789\"\nevent_name: push\njob_workflow_ref: acme/ci/.github/workflows/deploy.yml@refs/tags/v3")},
	"environment-unprotected": {claims("repository_id: \"456789\"\nevent_name: push\nenvironment: release"), claims("repository_id: \"456789\"\nevent_name: push\nenvironment: release") + "require: [protected_environment]\n"},
	"ref-open":                {of("gitlab", "project_id: \"456789\""), of("gitlab", "project_id: \"456789\"\nref_protected: \"true\"")},
	"ref-unprotected":         {of("gitlab", "project_id: \"456789\"\nref_path: refs/heads/main"), of("gitlab", "project_id: \"456789\"\nref_path: refs/heads/main\nref_protected: \"true\"")},
	"fork-origin":             {of("circleci", circleCI), of("circleci", circleCI+"\noidc.circleci.com/vcs-origin: github.com/acme/widget")},
	"ssh-rerun":               {of("circleci", circleCI), of("circleci", circleCI+"\noidc.circleci.com/ssh-rerun: \"false\"")},
	"token-without-pod":       {of("kubernetes", servicePod), of("kubernetes", servicePod) + "    when: '\"kubernetes.io/pod/uid\" in claims'\n"},
	"until-unwatched":         {of("kubernetes", servicePod) + "limits: {ttl: 10m, until: job}\n", of("kubernetes", servicePod) + "limits: {ttl: 10m}\n"},
	"bind-beforehand": {
		"allow:\n  - issuer: gitlab\n    claims: {project_id: \"456789\", ref_protected: \"true\", ref_path: refs/heads/main}\nbind: request\n",
		"bind: request\n",
	},
	"unanchored-match":    {when(`claims.ref.matches("refs/tags/v[0-9.]+")`), when(`claims.ref.matches("^refs/tags/v[0-9.]+$")`)},
	"alternation-unbound": {when(`claims.ref.matches("^refs/heads/main|refs/heads/release/[0-9.]+$")`), when(`claims.ref.matches("^(refs/heads/main|refs/heads/release/[0-9.]+)$")`)},
	"prefix-too-wide":     {when(`claims.ref.startsWith("refs/heads/")`), when(`claims.ref.startsWith("refs/heads/release/")`)},
	"refuses-by-name":     {when(`claims.ref != "refs/heads/experiments"`), when(`claims.ref in ["refs/heads/main", "refs/heads/next"]`)},
	"when-constant":       {when(`size("release") > 0`), when(`size(claims.ref) > 0`)},
	"permissions-wide": {
		"purpose: Read the packages that builds depend on.\ncredential:\n  github: {owner: acme, repository_ids: [456789], permissions: {packages: write}}\n",
		"purpose: Read the packages that builds depend on.\ncredential:\n  github: {owner: acme, repository_ids: [456789], permissions: {packages: read}}\n",
	},
	"names-in-block": {
		"credential:\n  github: {owner: acme, repositories: [widget], permissions: {contents: write}}\n",
		"credential:\n  github: {owner: acme, repositories: [widget], repository_ids: [456789], permissions: {contents: write}}\n",
	},
	"ttl-long":      {"limits: {ttl: 45m}\n", "limits: {ttl: 10m}\n"},
	"accept-unused": {"limits: {ttl: 10m}\naccept:\n  ttl-long: signing takes half an hour\n", "limits: {ttl: 45m}\naccept:\n  ttl-long: signing takes half an hour\n"},
	"task-test": {
		test("{name: a pull request is kept out, claims: {event_name: push}, expect: denied}"),
		test("{name: a pull request is kept out, claims: {event_name: pull_request}, expect: denied, because: event_name}"),
	},
}

// test is a file of tests beside the task, publish-release.test.yaml, with one test.
func test(one string) string {
	return "task: publish-release\ndefaults:\n  claims: {repository_id: \"456789\", environment: release}\ntests:\n  - " + one + "\n"
}

const (
	circleCI   = "oidc.circleci.com/project-id: 3a2f5b1c-7d4e-4f6a-9b8c-0d1e2f3a4b5c\noidc.circleci.com/vcs-ref: refs/heads/main"
	servicePod = "kubernetes.io/serviceaccount/uid: e6a8680e-d103-4cce-80ea-03acbbeacf7d"
)

// claims is an allow of GitHub's with those claims, one a line.
func claims(lines string) string { return of("github", lines) }

// of is an allow of an issuer with those claims.
func of(issuer, lines string) string {
	text := "allow:\n  - issuer: " + issuer + "\n    claims:\n"
	for line := range strings.Lines(lines) {
		text += "      " + strings.TrimSuffix(line, "\n") + "\n"
	}
	return text
}

// when is an allow with that condition.
func when(condition string) string {
	return claims("repository_id: \"456789\"\nevent_name: push") + "    when: " + condition + "\n"
}

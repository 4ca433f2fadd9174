package policy

// given is a claim that issuers of a kind give: an example of it, and what it is. A claim
// that may not be matched has no words.
type given struct{ claim, example, words string }

func examplesOf(list []given) map[string]string {
	all := map[string]string{}
	for _, g := range list {
		all[g.claim] = g.example
	}
	return all
}

func wordsOf(list []given) map[string]string {
	all := map[string]string{}
	for _, g := range list {
		if g.words != "" {
			all[g.claim] = g.words
		}
	}
	return all
}

const (
	exampleSHA  = "714a629c0b401fdce83e847fc9589983fc6f46bc"
	exampleUUID = "01945ecf-80f0-41e8-9b83-a2970a9305a1"
)

// The sources are those of the rows in exchange/identity.
var gitLabClaims = []given{
	{"project_id", "456789", "The project's number, in quotes. Of a merge request from a fork it is the fork's."},
	{"project_path", "acme/widget", "The project's path. Paths can be given to others; project_id cannot."},
	{"project_visibility", "private", "internal, private or public."},
	{"namespace_id", "72", "The group's or user's number, in quotes."},
	{"namespace_path", "acme", "The group's or user's path. Paths can be given to others; namespace_id cannot."},
	{"job_project_id", "456789", "The number of the project in which the job runs, in quotes. Newer GitLab alone gives it."},
	{"job_project_path", "acme/widget", "The path of the project in which the job runs."},
	{"job_namespace_id", "72", "The number of the group in which the job runs, in quotes."},
	{"job_namespace_path", "acme", "The path of the group in which the job runs."},
	{"pipeline_source", "push", "What the pipeline began on, as push, web, schedule or merge_request_event."},
	{"pipeline_id", "574", "The pipeline's number, in quotes."},
	{"job_id", "302", "The job's number, in quotes."},
	{"ref", "main", "The branch or tag, by its name alone."},
	{"ref_type", "branch", "branch or tag."},
	{"ref_path", "refs/heads/main", "The branch or tag, as refs/heads/main or refs/tags/v1.2.3."},
	{"ref_protected", "true", "\"true\" if the branch or tag is protected."},
	{"environment", "production", "The environment that the job names."},
	{"environment_protected", "true", "\"true\" if that environment is protected."},
	{"environment_action", "start", "What the job does to the environment."},
	{"deployment_tier", "production", "The tier of the environment."},
	{"runner_environment", "gitlab-hosted", "gitlab-hosted or self-hosted."},
	{"runner_id", "1", "The runner's number, in quotes."},
	{"sha", exampleSHA, "The commit of the job."},
	{"ci_config_ref_uri", "gitlab.com/acme/widget//.gitlab-ci.yml@refs/heads/main", "The file that defines the pipeline, and its ref."},
	{"ci_config_sha", exampleSHA, "The commit of the file that defines the pipeline."},
	{"job_source", "pipeline", "What added the job to the pipeline."},
	{"job_policy_ref_uri", "gitlab.com/acme/policies//.gitlab-ci.yml@refs/heads/main", "The security policy that added the job."},
	{"job_policy_ref_sha", exampleSHA, "The commit of that policy."},
	{"user_id", "12", ""}, {"user_login", "octocat", ""}, {"user_email", "octocat@example.com", ""}, {"user_access_level", "developer", ""},
}

var buildkiteClaims = []given{
	{"organization_id", exampleUUID, "The organization's id. The step must ask for it: --claim organization_id."},
	{"organization_slug", "acme", "The organization's name. Names can be given to others; organization_id cannot."},
	{"pipeline_id", exampleUUID, "The pipeline's id. The step must ask for it: --claim pipeline_id."},
	{"pipeline_slug", "widget", "The pipeline's name. Names can be given to others; pipeline_id cannot."},
	{"build_number", "5", "The build's number in its pipeline, in quotes."},
	{"build_id", exampleUUID, "The build's id. The step must ask for it."},
	{"build_branch", "main", "The branch, as whoever started the build says."},
	{"build_tag", "v1.2.3", "The tag, where there is one."},
	{"build_commit", exampleSHA, "The commit of the build."},
	{"build_source", "webhook", "What started the build, as webhook, ui, api or schedule."},
	{"step_key", "release", "The key of the step, which the pipeline file chooses itself."},
	{"job_id", exampleUUID, "The job's id."},
	{"agent_id", exampleUUID, "The agent's id."},
	{"runner_environment", "buildkite-hosted", "buildkite-hosted or self-hosted."},
	{"cluster_id", exampleUUID, "The cluster's id. The step must ask for it."},
	{"cluster_name", "default", "The cluster's name."},
	{"queue_id", exampleUUID, "The queue's id. The step must ask for it."},
	{"queue_key", "release", "The queue's name."},
}

var circleCIClaims = []given{
	{ofCircleCI + "org-id", exampleUUID, "The organization's id, which is in the issuer's URL, too."},
	{ofCircleCI + "project-id", exampleUUID, "The project's id, from its settings."},
	{ofCircleCI + "pipeline-definition-id", exampleUUID, "The id of the pipeline's definition."},
	{ofCircleCI + "pipeline-id", exampleUUID, "The pipeline's id, another for each run."},
	{ofCircleCI + "workflow-id", exampleUUID, "The workflow's id, another for each run."},
	{ofCircleCI + "job-id", exampleUUID, "The job's id, another for each run."},
	{ofCircleCI + "vcs-origin", "github.com/acme/widget", "The repository that the change is in. Of a fork's build it is the fork."},
	{ofCircleCI + "vcs-ref", "refs/heads/main", "The branch or tag."},
	{ofCircleCI + "context-ids", exampleUUID, "The contexts of the job; one that is listed is enough."},
	{ofCircleCI + "ssh-rerun", "false", "\"true\" if somebody runs the job again with a shell in it."},
}

var forgejoClaims = []given{
	{"repository", "acme/widget", "The repository's owner and name. Names can be given to others; repository_id cannot."},
	{"repository_id", "42", "The repository's number, in quotes."},
	{"repository_owner", "acme", "The owner's name. Names can be given to others; repository_owner_id cannot."},
	{"repository_owner_id", "7", "The owner's number, in quotes."},
	{"ref", "refs/heads/main", "The branch or tag of the run, as refs/heads/main or refs/tags/v1.2.3."},
	{"ref_type", "branch", "branch or tag."},
	{"ref_protected", "true", "\"true\" if the run's branch or tag is protected."},
	{"sha", exampleSHA, "The commit of the run."},
	{"head_ref", "topic", "The branch that a pull request comes from. Empty for other events."},
	{"base_ref", "main", "The branch that a pull request goes to. Empty for other events."},
	{"event_name", "push", "What the run began on, as push. List every event that may use the task."},
	{"workflow", "release.yaml", "The workflow's name."},
	{"workflow_ref", "acme/widget/.forgejo/workflows/release.yaml@refs/heads/main", "The workflow file of the run and the ref it is taken from."},
	{"run_id", "18", "The run's number, in quotes."},
	{"run_number", "10", "The run's number in its repository, in quotes."},
	{"run_attempt", "1", "Which attempt of the run this is, in quotes."},
	{"actor", "octocat", ""}, {"actor_id", "12", ""},
}

var kubernetesClaims = []given{
	{ofKubernetes + "namespace", "release", "The namespace of the service account."},
	{ofKubernetes + "serviceaccount/name", "publisher", "The service account's name. Made again, it is another account with another uid."},
	{ofKubernetes + "serviceaccount/uid", "e6a8680e-d103-4cce-80ea-03acbbeacf7d", "The service account's uid: kubectl get serviceaccount NAME --output jsonpath={.metadata.uid}."},
	{ofKubernetes + "pod/name", "publish-7d9f", "The pod's name, where the token is bound to a pod."},
	{ofKubernetes + "pod/uid", "0d8b260e-ef0e-45fb-be8e-ff44f97722e8", "The pod's uid, where the token is bound to a pod."},
	{ofKubernetes + "node/name", "worker-1", "The node that the pod runs on. Newer clusters alone give it."},
	{ofKubernetes + "node/uid", "517eb86e-b863-451b-bf70-86cb61439a3a", "The uid of the node."},
	{ofKubernetes + "secret/name", "token", "The secret that the token is bound to."},
	{ofKubernetes + "secret/uid", "517eb86e-b863-451b-bf70-86cb61439a3a", "The uid of that secret."},
}

var spiffeClaims = []given{
	{"sub", "spiffe://example.org/build/release", "The SPIFFE ID, whole: it is matched exactly."},
}

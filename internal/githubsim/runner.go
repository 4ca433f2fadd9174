package githubsim

import (
	"fmt"
	"strconv"
	"strings"
)

// Env is what the runner sets for the job's steps, as far as GitHub decides it:
// GITHUB_* without paths and files, RUNNER_ENVIRONMENT, and, only if the job may
// have ID tokens, where and with what to ask for them.
func (j *Job) Env() map[string]string {
	j.g.mu.Lock()
	defer j.g.mu.Unlock()
	env := map[string]string{
		"CI":                         "true",
		"GITHUB_ACTIONS":             "true",
		"GITHUB_ACTOR":               j.spec.Actor,
		"GITHUB_ACTOR_ID":            j.actorID(),
		"GITHUB_TRIGGERING_ACTOR":    j.spec.Actor,
		"GITHUB_API_URL":             j.g.URL(),
		"GITHUB_SERVER_URL":          j.g.base,
		"GITHUB_GRAPHQL_URL":         j.g.base + "/api/graphql",
		"GITHUB_EVENT_NAME":          j.spec.Event,
		"GITHUB_JOB":                 strings.ReplaceAll(j.spec.JobName, " ", "-"),
		"GITHUB_REF":                 j.spec.Ref,
		"GITHUB_REF_NAME":            refName(j.spec.Ref),
		"GITHUB_REF_TYPE":            j.refType(),
		"GITHUB_REF_PROTECTED":       strconv.FormatBool(j.refProtected()),
		"GITHUB_HEAD_REF":            j.spec.HeadRef,
		"GITHUB_BASE_REF":            j.spec.BaseRef,
		"GITHUB_SHA":                 j.spec.SHA,
		"GITHUB_REPOSITORY":          j.repo.fullName(),
		"GITHUB_REPOSITORY_ID":       strconv.FormatInt(j.repo.ID, 10),
		"GITHUB_REPOSITORY_OWNER":    j.repo.Owner,
		"GITHUB_REPOSITORY_OWNER_ID": strconv.FormatInt(j.repo.OwnerID, 10),
		"GITHUB_RETENTION_DAYS":      "90",
		"GITHUB_RUN_ID":              strconv.FormatInt(j.runID, 10),
		"GITHUB_RUN_NUMBER":          strconv.FormatInt(j.runNumber, 10),
		"GITHUB_RUN_ATTEMPT":         strconv.Itoa(j.spec.RunAttempt),
		"GITHUB_WORKFLOW":            j.spec.WorkflowName,
		"GITHUB_WORKFLOW_REF":        j.workflowRef(),
		"GITHUB_WORKFLOW_SHA":        j.spec.SHA,
		"RUNNER_ENVIRONMENT":         j.spec.RunnerEnvironment,
	}
	if j.spec.IDToken && !j.spec.ForkPullRequest {
		env["ACTIONS_ID_TOKEN_REQUEST_URL"] = fmt.Sprintf("%s%s/%d/%d?api-version=2.0",
			j.g.base, idTokenPrefix, j.runID, j.id)
		env["ACTIONS_ID_TOKEN_REQUEST_TOKEN"] = j.runtimeToken
		env["ACTIONS_RUNTIME_TOKEN"] = j.runtimeToken
	}
	return env
}

// refName is the short form that GITHUB_REF_NAME has.
func refName(ref string) string {
	for _, prefix := range []string{"refs/heads/", "refs/tags/", "refs/pull/"} {
		if short, found := strings.CutPrefix(ref, prefix); found {
			return short
		}
	}
	return ref
}

package githubsim

import (
	"fmt"
	"maps"
	"slices"
)

// The events that an App can be told.
const (
	eventWorkflowJob              = "workflow_job"
	EventWorkflowRun              = "workflow_run"
	eventInstallation             = "installation"
	eventInstallationRepositories = "installation_repositories"
)

// tell makes the deliveries that follow from a job's new state: its own, and that of
// its run when it was the last job of the attempt. The caller holds g.mu.
func (j *Job) tell() {
	j.tellApps(eventWorkflowJob, j.status, map[string]any{"workflow_job": j.json()})
	if j.status == completed && j.runOver() {
		j.tellApps(EventWorkflowRun, completed, map[string]any{"workflow_run": j.runJSON(), "workflow": j.workflowJSON()})
	}
}

// tellApps tells those who subscribed to the event and may read the repository's
// actions. A suspended installation is told nothing.
func (j *Job) tellApps(event, action string, about map[string]any) {
	for _, w := range j.g.webhooks {
		for _, i := range j.g.installationsOf(w.app) {
			if !slices.Contains(w.events, event) || !i.suspended.IsZero() ||
				!includes(i.permissions, "actions", "read") || !slices.Contains(j.g.repositoriesOf(i), j.repo) {
				continue
			}
			body := map[string]any{
				"repository":   j.g.repositoryJSON(j.repo),
				"sender":       j.g.account(j.spec.Actor, true, 0).json(),
				"installation": map[string]any{"id": i.id, "node_id": fmt.Sprintf("MDIzOkludGVncmF0aW9u%d", i.id)},
			}
			maps.Copy(body, about)
			id := j.id
			if event != eventWorkflowJob {
				id = 0
			}
			w.tell(event, action, id, body)
		}
	}
}

// runOver: all jobs of the attempt that were begun are completed, and none is to come.
func (j *Job) runOver() bool {
	goesOn := false
	for _, other := range j.g.jobs {
		if other.repo != j.repo || other.runID != j.runID || other.spec.RunAttempt != j.spec.RunAttempt {
			continue
		}
		if other.status != completed {
			return false
		}
		if other.spec.RunGoesOn && other.last() {
			goesOn = true
		}
	}
	return !goesOn
}

// last: no job of the attempt was begun after this one.
func (j *Job) last() bool {
	for _, other := range j.g.jobs {
		if other.runID == j.runID && other.spec.RunAttempt == j.spec.RunAttempt && other.id > j.id {
			return false
		}
	}
	return true
}

func (j *Job) runJSON() map[string]any {
	api := fmt.Sprintf("%s/repos/%s/actions/runs/%d", j.g.URL(), j.repo.fullName(), j.runID)
	actor := j.g.account(j.spec.Actor, true, 0).json()
	return map[string]any{
		"id": j.runID, "run_number": j.runNumber, "run_attempt": j.spec.RunAttempt,
		"node_id": fmt.Sprintf("WFR_kwLO%d", j.runID), "check_suite_id": j.runID,
		"name": j.spec.WorkflowName, "display_title": j.spec.WorkflowName, "path": j.spec.Workflow,
		"event": j.spec.Event, "head_sha": j.spec.SHA, "head_branch": refName(j.spec.Ref),
		"status": completed, "conclusion": j.runConclusion(),
		"created_at": stamp(j.created), "run_started_at": stamp(j.created), "updated_at": stamp(j.completed),
		"workflow_id": j.workflowID(), "actor": actor, "triggering_actor": actor,
		"pull_requests": []any{}, "referenced_workflows": []any{},
		"repository": j.g.repositoryJSON(j.repo), "head_repository": j.g.repositoryJSON(j.repo),
		"url": api, "jobs_url": api + "/jobs", "logs_url": api + "/logs",
		"html_url": fmt.Sprintf("%s/%s/actions/runs/%d", j.g.base, j.repo.fullName(), j.runID),
	}
}

// runConclusion is success only if every job of the attempt was one.
func (j *Job) runConclusion() string {
	for _, other := range j.g.jobs {
		if other.runID == j.runID && other.spec.RunAttempt == j.spec.RunAttempt && other.conclusion != "success" && other.conclusion != "skipped" {
			return other.conclusion
		}
	}
	return "success"
}

func (j *Job) workflowJSON() map[string]any {
	return map[string]any{
		"id": j.workflowID(), "node_id": fmt.Sprintf("W_kwDO%d", j.workflowID()),
		"name": j.spec.WorkflowName, "path": j.spec.Workflow, "state": "active",
		"created_at": stamp(j.created), "updated_at": stamp(j.created),
		"url":      fmt.Sprintf("%s/repos/%s/actions/workflows/%d", j.g.URL(), j.repo.fullName(), j.workflowID()),
		"html_url": fmt.Sprintf("%s/%s/blob/main/%s", j.g.base, j.repo.fullName(), j.spec.Workflow),
	}
}

// workflowID is any number that stays the workflow's: events are all that shows it.
func (j *Job) workflowID() int64 { return j.repo.ID }

package githubsim

import (
	"fmt"
	"slices"
	"strconv"
	"time"
)

func (g *GitHub) jobRoutes() []route {
	const actions = apiPrefix + "/repos/{owner}/{repo}/actions"
	return []route{
		{"GET", actions + "/jobs/{job}", reads("actions"), getJob},
		{"GET", actions + "/runs/{run}/attempts/{attempt}/jobs", reads("actions"), listAttempt},
	}
}

func getJob(c *call) (answer, error) {
	id, err := c.id("job")
	if err != nil {
		return answer{}, err
	}
	j := c.g.jobs[id]
	if j == nil || j.repo != c.repo {
		return answer{}, notFound()
	}
	return ok(j.json()), nil
}

func listAttempt(c *call) (answer, error) {
	run, err := c.id("run")
	if err != nil {
		return answer{}, err
	}
	var found []*Job
	for _, j := range c.g.jobs {
		if j.repo == c.repo && j.runID == run && strconv.Itoa(j.spec.RunAttempt) == c.vars["attempt"] {
			found = append(found, j)
		}
	}
	if len(found) == 0 {
		return answer{}, notFound()
	}
	slices.SortFunc(found, func(a, b *Job) int { return int(a.id - b.id) })
	return paged(c, found, func(page []*Job) any {
		jobs := []any{}
		for _, j := range page {
			jobs = append(jobs, j.json())
		}
		return map[string]any{"total_count": len(found), "jobs": jobs}
	})
}

func (j *Job) json() map[string]any {
	api := j.g.URL() + "/repos/" + j.repo.fullName()
	page := fmt.Sprintf("%s/%s/actions/runs/%d/job/%d", j.g.base, j.repo.fullName(), j.runID, j.id)
	steps := []any{}
	for _, s := range j.steps {
		steps = append(steps, map[string]any{
			"name": s.name, "number": s.number, "status": s.status, "conclusion": orNull(s.conclusion),
			"started_at": stamp(s.started), "completed_at": stampOrNull(s.completed),
		})
	}
	return map[string]any{
		"id": j.id, "run_id": j.runID, "run_attempt": j.spec.RunAttempt,
		"node_id": fmt.Sprintf("CR_kwDO%d", j.id),
		"name":    j.spec.JobName, "workflow_name": j.spec.WorkflowName,
		"head_sha": j.spec.SHA, "head_branch": refName(j.spec.Ref),
		"status": j.status, "conclusion": orNull(j.conclusion),
		"created_at": stamp(j.created), "started_at": stamp(j.created), "completed_at": stampOrNull(j.completed),
		"steps": steps, "labels": []string{"ubuntu-latest"},
		"runner_id": j.id, "runner_name": "GitHub Actions 1", "runner_group_id": 0, "runner_group_name": "GitHub Actions",
		"url":           fmt.Sprintf("%s/actions/jobs/%d", api, j.id),
		"run_url":       fmt.Sprintf("%s/actions/runs/%d", api, j.runID),
		"check_run_url": fmt.Sprintf("%s/check-runs/%d", api, j.id),
		"html_url":      page,
	}
}

func orNull(text string) any {
	if text == "" {
		return nil
	}
	return text
}

func stampOrNull(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return stamp(t)
}

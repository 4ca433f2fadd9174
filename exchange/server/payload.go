package server

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"strconv"

	"github.com/stepkey/stepkey/exchange"
)

// told is what an event says that we act on; one of the three.
type told struct {
	job    *exchange.Job
	run    *exchange.Run
	access *accessLoss
}

type accessLoss struct {
	installation int64
	repositories []string
}

func (t told) String() string {
	switch {
	case t.job != nil:
		return fmt.Sprintf("job %s of run %s.%d of repository %s", t.job.ID, t.job.Run, t.job.Attempt, t.job.Repository)
	case t.run != nil:
		return fmt.Sprintf("run %s.%d of repository %s", t.run.ID, t.run.Attempt, t.run.Repository)
	}
	return fmt.Sprintf("access of installation %d to %d repositories", t.access.installation, len(t.access.repositories))
}

// act does what follows.
func (t told) act(ctx context.Context, x *exchange.Exchange, g GitHubWebhook) (err error) {
	switch {
	case t.job != nil:
		_, err = x.JobCompleted(ctx, *t.job)
	case t.run != nil:
		_, err = x.RunCompleted(ctx, g.Issuer, *t.run)
	case t.access != nil:
		if g.Forget != nil {
			g.Forget(t.access.installation) // before anybody asks
		}
		_, err = x.AccessGone(ctx, exchange.AccessLoss{Issuer: g.Issuer, Repositories: t.access.repositories, Reaches: g.Reaches})
	}
	return err
}

// payload is what of an event we go by; GitHub's is far larger. Its source is
// "Webhook events and payloads".
type payload struct {
	Action string `json:"action"`
	Job    *struct {
		ID      int64  `json:"id"`
		RunID   int64  `json:"run_id"`
		Attempt int64  `json:"run_attempt"`
		Status  string `json:"status"`
	} `json:"workflow_job"`
	Run *struct {
		ID      int64  `json:"id"`
		Attempt int64  `json:"run_attempt"`
		Status  string `json:"status"`
	} `json:"workflow_run"`
	Repository   *repository `json:"repository"`
	Installation *struct {
		ID    int64 `json:"id"`
		AppID int64 `json:"app_id"`
	} `json:"installation"`
	Repositories []repository  `json:"repositories"`
	Removed      *[]repository `json:"repositories_removed"`
}

type repository struct {
	ID int64 `json:"id"`
}

// The events that say something to us.
const (
	workflowJob              = "workflow_job"
	workflowRun              = "workflow_run"
	installation             = "installation"
	installationRepositories = "installation_repositories"
)

func heeded(event string) bool {
	return event == workflowJob || event == workflowRun || event == installation || event == installationRepositories
}

// event is which event the body is, by the members that stand in it, "" for none that
// we heed. The name in the header is not signed, so it can only take an event's effect
// away: a body that was signed as one event is never read as another.
//
// Every event to an App has an installation, but in others than the two about
// installations it is an id alone; and those two are about no single repository. What
// users may name (the inputs of a dispatch, custom properties) stands deeper and in
// members of its own.
func (p payload) event() string {
	has := 0
	for _, there := range []bool{p.Job != nil, p.Run != nil, p.Removed != nil} {
		if there {
			has++
		}
	}
	whole := p.Installation != nil && p.Installation.AppID != 0 && p.Repository == nil
	switch {
	case has > 1:
		return ""
	case p.Job != nil:
		return workflowJob
	case p.Run != nil:
		return workflowRun
	case p.Removed != nil && whole:
		return installationRepositories
	case whole:
		return installation
	}
	return ""
}

// heed reads a body that is signed; nil when nothing follows from it.
func (g GitHubWebhook) heed(body []byte, event string) (*told, error) {
	var p payload
	if err := json.Unmarshal(body, &p); err != nil {
		return nil, bad("the body is no %s event in JSON", event)
	}
	if p.event() != event {
		return nil, nil
	}
	switch {
	case event == workflowJob && p.Action == "completed" && p.Job.Status == "completed":
		return g.job(p)
	case event == workflowRun && p.Action == "completed" && p.Run.Status == "completed":
		return g.run(p)
	case event == installation && (p.Action == "deleted" || p.Action == "suspend"):
		return accessLost(p.Installation.ID, p.Repositories)
	case event == installationRepositories && p.Action == "removed":
		return accessLost(p.Installation.ID, *p.Removed)
	}
	return nil, nil
}

func (g GitHubWebhook) job(p payload) (*told, error) {
	if !ids(p.Job.ID, p.Job.RunID) || !attempt(p.Job.Attempt) || p.Repository == nil || !ids(p.Repository.ID) {
		return nil, bad("the event does not name its repository, run, attempt and job by positive numbers")
	}
	return &told{job: &exchange.Job{
		Issuer: g.Issuer, Repository: decimal(p.Repository.ID),
		Run: decimal(p.Job.RunID), Attempt: int(p.Job.Attempt), ID: decimal(p.Job.ID),
	}}, nil
}

func (g GitHubWebhook) run(p payload) (*told, error) {
	if !ids(p.Run.ID) || !attempt(p.Run.Attempt) || p.Repository == nil || !ids(p.Repository.ID) {
		return nil, bad("the event does not name its repository, run and attempt by positive numbers")
	}
	return &told{run: &exchange.Run{Repository: decimal(p.Repository.ID), ID: decimal(p.Run.ID), Attempt: int(p.Run.Attempt)}}, nil
}

func accessLost(installation int64, repositories []repository) (*told, error) {
	lost := &accessLoss{installation: installation}
	for _, r := range repositories {
		if !ids(r.ID) {
			return nil, bad("the event does not name its repositories by positive numbers")
		}
		lost.repositories = append(lost.repositories, decimal(r.ID))
	}
	if !ids(installation) {
		return nil, bad("the event does not name its installation by a positive number")
	}
	return &told{access: lost}, nil
}

func ids(all ...int64) bool {
	for _, id := range all {
		if id <= 0 {
			return false
		}
	}
	return true
}

// attempt: GitHub runs nothing more than some fifty times.
func attempt(n int64) bool { return 0 < n && n <= math.MaxInt32 }

func decimal(id int64) string { return strconv.FormatInt(id, 10) }

package githubsim

import (
	"fmt"
	"net/http"
	"path"
	"strings"
	"time"
)

// JobSpec describes a job that is about to run. Only Repository is required.
type JobSpec struct {
	Repository        string // owner/name
	Workflow          string // default .github/workflows/release.yml
	WorkflowName      string // default: the file's name without extension
	JobName           string // default: the workflow's name
	Ref               string // default refs/heads/main; refs/pull/1/merge on pull_request
	SHA               string // default: one that nothing else has
	Event             string // default push
	Environment       string // default: none, and then no claim
	Actor             string // default octocat
	RunnerEnvironment string // default github-hosted
	HeadRef, BaseRef  string // default "", on pull requests "feature" and "main"
	RunID             int64  // default: a new run; else one more job or attempt of that run
	RunAttempt        int    // default 1
	RunGoesOn         bool   // jobs of this attempt follow that are not begun yet: the run is not over with this one
	IDToken           bool   // the job has the permission id-token: write
	ForkPullRequest   bool   // from a fork: no ID token, whatever the permission
	// Claims overrides claims of the ID token one by one; nil removes a claim.
	// Others do not follow: an overridden ref leaves sub as it was.
	Claims map[string]any
}

// Job is a running job. Its methods are safe for concurrent use.
type Job struct {
	g            *GitHub
	spec         JobSpec
	repo         *repository
	id, runID    int64
	runNumber    int64
	runtimeToken string

	// Below: guarded by g.mu.
	status, conclusion string
	created            time.Time
	completed          time.Time
	steps              []*step
}

type step struct {
	name, status, conclusion string
	number                   int
	started, completed       time.Time
}

// The states a job and a step go through.
const (
	queued     = "queued"
	inProgress = "in_progress"
	completed  = "completed"
)

// StartJob begins a job: from now on it is in progress.
func (g *GitHub) StartJob(spec JobSpec) *Job {
	g.mu.Lock()
	defer g.mu.Unlock()
	owner, name, _ := strings.Cut(spec.Repository, "/")
	j := &Job{
		g: g, repo: g.mustRepository(owner, name), spec: spec.withDefaults(),
		id: g.newID(), runID: spec.RunID, runtimeToken: "rt_" + randomHex(32),
		created: g.opts.Now(),
	}
	g.account(j.spec.Actor, true, 0)
	j.joinRun()
	g.jobs[j.id] = j
	j.move(queued, "")
	j.move(inProgress, "")
	return j
}

// joinRun makes the job one of its run's, or starts the workflow's next run.
func (j *Job) joinRun() {
	for _, other := range j.g.jobs {
		if other.runID == j.runID {
			j.runNumber = other.runNumber
			return
		}
	}
	if j.runID == 0 {
		j.runID = j.g.newID()
	}
	workflow := j.repo.fullName() + "/" + j.spec.Workflow
	j.g.runNumbers[workflow]++
	j.runNumber = j.g.runNumbers[workflow]
}

func (s JobSpec) withDefaults() JobSpec {
	fill := func(field *string, value string) {
		if *field == "" {
			*field = value
		}
	}
	fill(&s.Workflow, ".github/workflows/release.yml")
	fill(&s.WorkflowName, strings.TrimSuffix(path.Base(s.Workflow), path.Ext(s.Workflow)))
	fill(&s.JobName, s.WorkflowName)
	fill(&s.Event, "push")
	if s.ForkPullRequest || s.Event == "pull_request" {
		s.Event = "pull_request"
		fill(&s.Ref, "refs/pull/1/merge")
	}
	if strings.HasPrefix(s.Event, "pull_request") {
		fill(&s.HeadRef, "feature")
		fill(&s.BaseRef, defaultBranch)
	}
	fill(&s.Ref, "refs/heads/"+defaultBranch)
	fill(&s.SHA, randomHex(20))
	fill(&s.Actor, "octocat")
	fill(&s.RunnerEnvironment, "github-hosted")
	s.RunAttempt = max(1, s.RunAttempt)
	return s
}

// move is the one place where a job's state changes: what has to be told of a
// change (the events workflow_job and workflow_run) is told from here. The caller
// holds g.mu.
func (j *Job) move(status, conclusion string) {
	j.status, j.conclusion = status, conclusion
	if status == completed {
		j.completed = j.g.opts.Now()
		for _, s := range j.steps {
			if s.status != completed {
				s.status, s.conclusion, s.completed = completed, conclusion, j.completed
			}
		}
	}
	j.tell()
}

// ID is the job's id: the claim check_run_id and the Jobs API's id.
func (j *Job) ID() int64 { return j.id }

// RunID is the run's id; the attempt is in the spec.
func (j *Job) RunID() int64 { return j.runID }

// Complete ends the job. After that it gets no ID token. Completing a completed
// job does nothing.
func (j *Job) Complete(conclusion string) {
	j.g.mu.Lock()
	defer j.g.mu.Unlock()
	if j.status != completed {
		j.move(completed, conclusion)
	}
}

// BeginStep starts the job's next step and gives its number.
func (j *Job) BeginStep(name string) int {
	j.g.mu.Lock()
	defer j.g.mu.Unlock()
	s := &step{name: name, status: inProgress, number: len(j.steps) + 1, started: j.g.opts.Now()}
	j.steps = append(j.steps, s)
	return s.number
}

// SkipStep shows the job's next step as one whose condition did not hold, and gives its
// number.
func (j *Job) SkipStep(name string) int {
	number := j.BeginStep(name)
	j.EndStep(number, "skipped")
	return number
}

// EndStep ends the step of that number.
func (j *Job) EndStep(number int, conclusion string) {
	j.g.mu.Lock()
	defer j.g.mu.Unlock()
	if number < 1 || number > len(j.steps) {
		panic(fmt.Sprintf("githubsim: job %d has no step %d", j.id, number))
	}
	s := j.steps[number-1]
	s.status, s.conclusion, s.completed = completed, conclusion, j.g.opts.Now()
}

// mayHaveIDToken says whether the endpoint would answer this job now. The
// statuses are assumed; the facts are not: no permission, a fork or a job that
// is over means no token.
func (j *Job) mayHaveIDToken() error {
	switch {
	case !j.spec.IDToken:
		return refuse(http.StatusForbidden, "The job does not have the permission id-token: write")
	case j.spec.ForkPullRequest:
		return refuse(http.StatusForbidden, "Pull requests from forks get no ID token")
	case j.status != inProgress:
		return refuse(http.StatusForbidden, "The job is not in progress")
	}
	return nil
}

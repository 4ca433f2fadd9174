package githubapp

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// Jobs reads what became of the jobs of a run. It makes tokens of its own for that,
// each for one repository and with actions: read alone, keeps them until shortly
// before they expire, and revokes them on Close. Safe for concurrent use; it asks
// one thing at a time of one repository.
//
// It takes no more than its share of an installation's rate limit, which the tokens
// of tasks draw on, too: when a fifth is left, it rests until the limit is reset.
type Jobs struct {
	app   *App
	share share

	mu     sync.Mutex
	repos  map[int64]*jobsOfRepository // by id
	closed bool
}

// Jobs returns a reader of jobs. Close it.
func (a *App) Jobs() *Jobs {
	return &Jobs{app: a, share: share{app: a, part: jobsLeave}, repos: map[int64]*jobsOfRepository{}}
}

// Job is one job of a run, as GitHub saw it last. GitHub's view lags behind the
// runner by seconds.
type Job struct {
	ID      int64  `json:"id"`
	RunID   int64  `json:"run_id"`
	Attempt int    `json:"run_attempt"`
	Status  string `json:"status"` // queued, in_progress, completed, waiting, requested, pending
	Steps   Steps  `json:"steps"`  // in no order to rely on; their numbers have gaps
}

// Over reports whether the job has ended. A status that GitHub adds one day is not
// taken for an end.
func (j Job) Over() bool { return j.Status == "completed" }

const (
	jobsLeave    = 5 // one part in so many of an installation's rate limit
	perPage      = 100
	maxPages     = 20 // 2,000 jobs of one attempt; GitHub's matrices have 256 each
	maxPagesKept = 500
	tokenReserve = 5 * time.Minute // make another token when less is left
	tokenSettles = time.Minute     // as long a new token may be unknown to GitHub
)

// OfRun lists all jobs of one attempt of a run, in one request for each hundred of
// them; an unchanged hundred costs nothing. Status 404 means that GitHub shows no
// such run to us: it was deleted, or the repository was, or the App was removed.
// That says nothing about whether its jobs are over.
//
// The request is the documented one, which wants the repository by name. The name
// comes with the token and is asked for anew, by the repository's id, where GitHub
// does not find it any more.
func (j *Jobs) OfRun(ctx context.Context, repository, run int64, attempt int) ([]Job, error) {
	doing := fmt.Sprintf("listing the jobs of run %d.%d of repository %d", run, attempt, repository)
	if repository <= 0 || run <= 0 || attempt <= 0 {
		return nil, refuse(doing, "a repository, a run and an attempt are positive numbers")
	}
	r, err := j.of(repository)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.authorize(ctx, doing); err != nil {
		return nil, err
	}
	q := runQuery{doing, run, attempt}
	jobs, err := r.list(ctx, q)
	if e := of(err); e != nil && (e.Status == http.StatusNotFound || e.Status == http.StatusMovedPermanently) && r.renamed(ctx) {
		jobs, err = r.list(ctx, q)
	}
	return jobs, err
}

// ByClaims lists the jobs of one attempt of a run by their ids, with ids as they stand
// in the claims of a subject token.
func (j *Jobs) ByClaims(ctx context.Context, repository, run string, attempt int) (map[string]Job, error) {
	repositoryID, err1 := strconv.ParseInt(repository, 10, 64)
	runID, err2 := strconv.ParseInt(run, 10, 64)
	if err1 != nil || err2 != nil {
		return nil, refuse("listing the jobs of a run", "GitHub's ids of repositories and runs are numbers")
	}
	jobs, err := j.OfRun(ctx, repositoryID, runID, attempt)
	if err != nil {
		return nil, err
	}
	byID := map[string]Job{}
	for _, job := range jobs {
		byID[strconv.FormatInt(job.ID, 10)] = job
	}
	return byID, nil
}

// Permitted reports whether the App as it is set up may read jobs at all, asking
// once. An installation may still have to accept that.
func (j *Jobs) Permitted(ctx context.Context) (bool, error) {
	var answer struct {
		Permissions map[string]string `json:"permissions"`
	}
	err := j.app.asApp(ctx, idempotent, call{
		doing: "reading the App's permissions", method: http.MethodGet, path: "app", want: http.StatusOK, into: &answer,
	})
	return mayReadActions(answer.Permissions), err
}

func mayReadActions(permissions map[string]string) bool {
	return permissions["actions"] == "read" || permissions["actions"] == "write"
}

// Close revokes the tokens and reads no more.
func (j *Jobs) Close(ctx context.Context) error {
	j.mu.Lock()
	j.closed = true
	repos := j.repos
	j.repos = nil
	j.mu.Unlock()
	faults := make(chan error, len(repos))
	for _, r := range repos {
		go func() {
			faults <- r.token.close(ctx)
		}()
	}
	var all error
	for range repos {
		all = errors.Join(all, <-faults)
	}
	return all
}

// of finds or makes the place for a repository, and forgets those whose token is over.
func (j *Jobs) of(id int64) (*jobsOfRepository, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		return nil, refuse("reading jobs", "this exchange is stopping")
	}
	r := j.repos[id]
	if r != nil {
		return r, nil
	}
	for other, known := range j.repos {
		if known.token.over() {
			delete(j.repos, other)
		}
	}
	r = j.repository(id)
	j.repos[id] = r
	return r, nil
}

// page is an answer that is asked for again only if it changed.
type page struct {
	etag  string
	total int
	jobs  []Job
}

package githubapp

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// jobsOfRepository is what Jobs has of one repository: its own token, the name that
// goes with it, and answers. All but id and jobs is guarded by mu.
type jobsOfRepository struct {
	jobs *Jobs
	id   int64

	mu           sync.Mutex
	installation int64
	token        Token
	made         time.Time
	name         string // owner/name
	pages        map[string]page
}

// authorize sees to a token that is good for a while.
func (r *jobsOfRepository) authorize(ctx context.Context) error {
	app := r.jobs.app
	if app.now().Before(r.token.ExpiresAt.Add(-tokenReserve)) {
		return nil
	}
	_ = r.drop(ctx) // it is nearly over; what is left of it dies by itself
	i, err := app.InstallationOfRepository(ctx, r.id)
	if err != nil {
		return err
	}
	doing := fmt.Sprintf("making a token to read the jobs of repository %d", r.id)
	if !mayReadActions(i.Permissions) {
		app.Forget(i.ID) // so that it is seen when somebody gives the permission
		return refuse(doing, "the App's installation at %s lacks the permission actions: read; give it to the App, and have its owners accept", clean(i.Account))
	}
	t, err := app.CreateToken(ctx, i.ID, TokenRequest{RepositoryIDs: []int64{r.id}, Permissions: map[string]string{"actions": "read"}})
	if err != nil {
		return err
	}
	r.token, r.made, r.installation = t, app.now(), i.ID
	if len(t.Repositories) != 1 || t.Repositories[0].ID != r.id || !r.rename(t.Repositories[0].FullName) {
		_ = r.drop(ctx)
		return &Error{Doing: doing, Status: http.StatusCreated, Message: "the token is not for that one repository"}
	}
	return nil
}

// drop revokes the token, if there is one, and forgets what was read with it.
func (r *jobsOfRepository) drop(ctx context.Context) error {
	token := r.token.Value
	r.token = Token{}
	clear(r.pages)
	if token.Empty() {
		return nil
	}
	return r.jobs.app.RevokeToken(ctx, token)
}

func (r *jobsOfRepository) rename(full string) bool {
	owner, name, _ := strings.Cut(full, "/")
	if !ValidOwner(owner) || !ValidRepository(name) {
		return false
	}
	r.name = full
	return true
}

// renamed asks for the repository's present name and reports whether it is another.
// The path stands in no documentation, but GitHub's own libraries use it.
func (r *jobsOfRepository) renamed(ctx context.Context) bool {
	var answer struct {
		FullName string `json:"full_name"`
	}
	app, before := r.jobs.app, r.name
	err := app.do(ctx, idempotent, func() *Error {
		return app.once(ctx, app.Client(r.token.Value), call{
			doing: "asking for a repository's name", method: http.MethodGet, path: fmt.Sprintf("repositories/%d", r.id), want: http.StatusOK, into: &answer,
		})
	})
	return err == nil && r.rename(answer.FullName) && r.name != before
}

// runQuery is one attempt of a run.
type runQuery struct {
	doing   string
	run     int64
	attempt int
}

// list reads page after page. A list that changed in between and misses one is
// refused: whoever asks whether all are over must see all.
func (r *jobsOfRepository) list(ctx context.Context, q runQuery) ([]Job, error) {
	var all []Job
	for n := 1; n <= maxPages; n++ {
		p, err := r.page(ctx, q, n)
		if err != nil {
			return nil, err
		}
		for _, job := range p.jobs {
			if !slices.ContainsFunc(all, func(j Job) bool { return j.ID == job.ID }) {
				all = append(all, job)
			}
		}
		if n*perPage < p.total {
			continue
		}
		if len(all) < p.total {
			break
		}
		return slices.DeleteFunc(all, func(j Job) bool { return j.RunID != q.run || j.Attempt != q.attempt }), nil
	}
	return nil, &Error{Doing: q.doing, Status: http.StatusOK, Message: "the list is not whole; it changed while it was read, or is too long"}
}

type jobsAnswer struct {
	Total int   `json:"total_count"`
	Jobs  []Job `json:"jobs"`
}

func (r *jobsOfRepository) page(ctx context.Context, q runQuery, n int) (page, error) {
	path := fmt.Sprintf("repos/%s/actions/runs/%d/attempts/%d/jobs?per_page=%d&page=%d", r.name, q.run, q.attempt, perPage, n)
	known, app := r.pages[path], r.jobs.app
	if err := r.jobs.resting(q.doing, r.installation); err != nil {
		return page{}, err
	}
	var answer jobsAnswer
	var etag string
	err := app.do(ctx, idempotent, func() *Error {
		answer = jobsAnswer{}
		return app.once(ctx, app.Client(r.token.Value), call{
			doing: q.doing, method: http.MethodGet, path: path, want: http.StatusOK, into: &answer, etag: known.etag,
			seen: func(resp *http.Response) { etag = resp.Header.Get("ETag"); r.keepShare(resp) },
		})
	})
	e := of(err)
	switch {
	case e == nil:
		return r.keep(path, page{etag, answer.Total, answer.Jobs}), nil
	case e.Status == http.StatusNotModified && known.etag != "":
		return known, nil
	case e.Status == http.StatusUnauthorized && !app.now().Before(r.made.Add(tokenSettles)):
		r.token = Token{} // it is dead; the next call makes another
	case !e.RetryAt.IsZero():
		r.jobs.note(r.installation, e.RetryAt)
	}
	return page{}, e
}

// keepShare rests when a fifth of the installation's rate limit is left.
func (r *jobsOfRepository) keepShare(resp *http.Response) {
	limit, err1 := strconv.ParseInt(resp.Header.Get("X-RateLimit-Limit"), 10, 64)
	left, err2 := strconv.ParseInt(resp.Header.Get("X-RateLimit-Remaining"), 10, 64)
	reset, err3 := strconv.ParseInt(resp.Header.Get("X-RateLimit-Reset"), 10, 64)
	if err1 == nil && err2 == nil && err3 == nil && left < limit/5 {
		r.jobs.note(r.installation, time.Unix(reset, 0))
	}
}

func (r *jobsOfRepository) keep(path string, p page) page {
	if len(r.pages) >= maxPagesKept {
		clear(r.pages)
	}
	r.pages[path] = p
	return p
}

package githubapp

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
)

// jobsOfRepository is what Jobs has of one repository: its own token, the name that
// goes with it, and answers. All below mu is guarded by it.
type jobsOfRepository struct {
	jobs  *Jobs
	id    int64
	token *repositoryToken

	mu    sync.Mutex
	held  held
	name  string // owner/name
	pages map[string]page
}

func (j *Jobs) repository(id int64) *jobsOfRepository {
	token := j.app.repositoryToken(
		TokenRequest{RepositoryIDs: []int64{id}, Permissions: map[string]string{"actions": "read"}},
		func(ctx context.Context) (Installation, error) { return j.app.InstallationOfRepository(ctx, id) },
	)
	return &jobsOfRepository{jobs: j, id: id, token: token, pages: map[string]page{}}
}

// authorize sees to a token that is good for a while. What was read with another one is
// forgotten.
func (r *jobsOfRepository) authorize(ctx context.Context, doing string) error {
	h, err := r.token.hold(ctx, doing)
	if err != nil {
		return err
	}
	if h.token.Value != r.held.token.Value {
		clear(r.pages)
		r.name = h.token.Repositories[0].FullName
	}
	r.held = h
	return nil
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
		return app.once(ctx, app.Client(r.held.token.Value), call{
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
	if err := r.jobs.share.spent(q.doing, r.held.installation); err != nil {
		return page{}, err
	}
	var answer jobsAnswer
	var etag string
	err := app.do(ctx, idempotent, func() *Error {
		answer = jobsAnswer{}
		return app.once(ctx, app.Client(r.held.token.Value), call{
			doing: q.doing, method: http.MethodGet, path: path, want: http.StatusOK, into: &answer, etag: known.etag,
			seen: func(resp *http.Response) { etag = resp.Header.Get("ETag"); r.jobs.share.see(r.held.installation, resp) },
		})
	})
	e := of(err)
	switch {
	case e == nil:
		return r.keep(path, page{etag, answer.Total, answer.Jobs}), nil
	case e.Status == http.StatusNotModified && known.etag != "":
		return known, nil
	case e.Status == http.StatusUnauthorized && !app.now().Before(r.held.made.Add(tokenSettles)):
		r.token.bury(ctx, r.held) // the next call makes another
	case !e.RetryAt.IsZero():
		app.asked.note(r.held.installation, e.RetryAt)
	}
	return page{}, e
}

func (r *jobsOfRepository) keep(path string, p page) page {
	if len(r.pages) >= maxPagesKept {
		clear(r.pages)
	}
	r.pages[path] = p
	return p
}

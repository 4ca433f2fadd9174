package exchange

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/stepkey/stepkey/exchange/lease"
)

// JobNotes remembers which jobs are over.
type JobNotes interface {
	NoteOver(context.Context, lease.Over) error
}

// JobCompleted takes the authentic word of a CI system that a job completed: what the
// job holds ends as JobOver has it, and the job gets nothing any more. Without the
// note, whoever kept a subject token of it could exchange that once, as long as it is
// valid.
//
// The note comes first: what Begin lets through before it, JobOver finds. That it
// cannot be written keeps nothing from ending.
func (x *Exchange) JobCompleted(ctx context.Context, job Job) ([]Lease, error) {
	if job.Repository == "" || job.Run == "" || job.ID == "" || job.Attempt < 1 {
		return nil, nil // names no job; an empty id would stand for the whole run
	}
	unnoted := x.Leases.NoteOver(ctx, lease.Over{Issuer: job.Issuer, Repository: job.Repository, Run: job.Run, Attempt: job.Attempt, JobID: job.ID})
	ended, err := x.JobOver(ctx, job)
	return ended, errors.Join(unnoted, err)
}

// RunCompleted takes the authentic word that an attempt of a run completed: it is the
// backstop for the ends of single jobs that were never told. All that the attempt's
// jobs hold ends, and what those of older attempts hold: a run is run again only once
// it completed. Newer attempts are left alone, since the word may be late.
func (x *Exchange) RunCompleted(ctx context.Context, issuer string, run Run) ([]Lease, error) {
	if run.Repository == "" || run.ID == "" || run.Attempt < 1 {
		return nil, nil
	}
	unnoted := x.Leases.NoteOver(ctx, lease.Over{Issuer: issuer, Repository: run.Repository, Run: run.ID, Attempt: run.Attempt})
	held, err := x.Leases.LivesOfRun(ctx, issuer, run.Repository, run.ID)
	if err != nil {
		return nil, errors.Join(unnoted, err)
	}
	var over []Lease
	for _, l := range held {
		if 1 <= l.Attempt && l.Attempt <= run.Attempt {
			over = append(over, l)
		}
	}
	ended, err := x.endEach(ctx, over, lease.ByJobOver)
	return ended, errors.Join(unnoted, err)
}

// An AccessLoss says that an App cannot reach some repositories any more.
type AccessLoss struct {
	Issuer       string
	Repositories []string // ids
	// Reaches asks whether the App can reach a repository after all; nil where nobody
	// can be asked. The word may be old: who gives access back makes no other word of
	// the one that took it.
	Reaches func(ctx context.Context, repository string) (bool, error)
}

const (
	asksAtOnce   = 8 // repositories
	askAccessFor = 20 * time.Second
)

// AccessGone takes the authentic word that an App lost access to repositories: what
// their jobs hold ends, of every backend, since nobody will tell us of the end of
// those jobs any more. It asks first, for each repository whose jobs hold something:
// that costs nothing, because the outside system lets the App in no longer by itself.
// No answer leaves the word standing.
//
// Not ended is what a job of another repository holds, although its credential may
// reach the one that the App lost: GitHub takes that repository out of the token, and
// a token of an installation that is deleted or suspended out of use. Nor does a lost
// access keep a job from asking again; the backend has to refuse that.
func (x *Exchange) AccessGone(ctx context.Context, loss AccessLoss) ([]Lease, error) {
	lost := map[string]bool{}
	for _, id := range loss.Repositories {
		lost[id] = id != ""
	}
	held, err := x.Leases.LivesOfIssuer(ctx, loss.Issuer, x.Now().Add(time.Hour)) // of any age, by any replica's clock
	if err != nil {
		return nil, err
	}
	of := map[string][]Lease{}
	for _, l := range held {
		if lost[l.Repository] {
			of[l.Repository] = append(of[l.Repository], l)
		}
	}
	var mu sync.Mutex
	var ended []Lease
	var faults error
	var questions sync.WaitGroup
	slots := make(chan struct{}, asksAtOnce)
	for repository, leases := range of {
		slots <- struct{}{}
		questions.Go(func() {
			defer func() { <-slots }()
			some, err := x.endUnlessReached(ctx, loss, repository, leases)
			mu.Lock()
			defer mu.Unlock()
			ended, faults = append(ended, some...), errors.Join(faults, err)
		})
	}
	questions.Wait()
	return ended, faults
}

func (x *Exchange) endUnlessReached(ctx context.Context, loss AccessLoss, repository string, held []Lease) ([]Lease, error) {
	if loss.Reaches != nil {
		asking, done := context.WithTimeout(ctx, askAccessFor)
		defer done()
		reached, err := loss.Reaches(asking, repository)
		switch {
		case err != nil:
			x.Log.WarnContext(ctx, "cannot see whether the App lost access to a repository; believing the event", "issuer", loss.Issuer, "repository", repository, "error", err)
		case reached:
			return nil, nil
		}
	}
	return x.endEach(ctx, held, lease.ByAccessGone)
}

// endEach ends leases for one reason, all at once: each may take as long as its
// backend does.
func (x *Exchange) endEach(ctx context.Context, held []Lease, why string) ([]Lease, error) {
	ended := make([]Lease, len(held))
	faults := make([]error, len(held))
	var ends sync.WaitGroup
	for i, l := range held {
		ends.Go(func() { ended[i], faults[i] = x.End(ctx, l.ID, why) })
	}
	ends.Wait()
	return ended, errors.Join(faults...)
}

package exchange

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/stepkey/stepkey/exchange/lease"
)

// A Job is one job, by the names that its issuer gives it.
type Job struct {
	Issuer, Repository string // the issuer's configured name; the repository's id
	Run                string
	Attempt            int
	ID                 string
}

// A Run is one attempt of a run of one issuer.
type Run struct {
	Repository, ID string
	Attempt        int
}

// Jobs is the CI system of one issuer, which knows what became of its jobs.
type Jobs interface {
	// Over says of each job of one attempt of a run, by its id, whether it is over.
	// What is not in the answer is not known to be over. An answer must be whole.
	Over(ctx context.Context, repository, run string, attempt int) (map[string]bool, error)
}

// JobLeases finds what jobs hold.
type JobLeases interface {
	LivesOfRun(ctx context.Context, issuer, repository, run string) ([]lease.Lease, error)
	LivesOfIssuer(ctx context.Context, issuer string, createdBefore time.Time) ([]lease.Lease, error)
}

// JobOver ends what a job holds, on the word of its CI system that it is over. It
// returns what it began to end; a state that is not final means that the keeper goes
// on with it.
//
// The word must be authentic, and may come late, twice, and in any order. Where it
// names exactly the job of a lease (run, attempt and id), the lease is ended at once
// and nobody is asked: a job that is over stays over, and ending early what is over
// harms nobody, while a question costs seconds in which the credential lives. Where
// the attempt is another, which GitHub was seen to send after a re-run, the CI system
// is asked about the lease's own; if it cannot be, the reconciler will.
func (x *Exchange) JobOver(ctx context.Context, job Job) ([]Lease, error) {
	if job.Repository == "" || job.Run == "" || job.ID == "" {
		return nil, nil // would match leases whose issuer names no job
	}
	held, err := x.Leases.LivesOfRun(ctx, job.Issuer, job.Repository, job.Run)
	if err != nil {
		return nil, err
	}
	var named, doubtful []Lease
	for _, l := range held {
		switch {
		case l.JobID != job.ID:
		case l.Attempt == job.Attempt:
			named = append(named, l)
		default:
			doubtful = append(doubtful, l)
		}
	}
	ended, err := x.endOver(ctx, named)
	for _, l := range doubtful {
		also, fault := x.endIfOver(ctx, runOf(l), []Lease{l})
		ended, err = append(ended, also...), errors.Join(err, fault)
	}
	return ended, err
}

// endIfOver asks about one run and ends those leases of it whose jobs are over.
func (x *Exchange) endIfOver(ctx context.Context, run Run, held []Lease) ([]Lease, error) {
	jobs, watched := x.Jobs[held[0].Issuer]
	if !watched {
		return nil, nil
	}
	states, err := jobs.Over(ctx, run.Repository, run.ID, run.Attempt)
	if err != nil {
		return nil, err
	}
	var over []Lease
	for _, l := range held {
		if isOver(l, states) {
			over = append(over, l)
		}
	}
	return x.endOver(ctx, over)
}

// endOver ends leases whose jobs are over, all at once: each may take as long as its
// backend does.
func (x *Exchange) endOver(ctx context.Context, over []Lease) ([]Lease, error) {
	ended := make([]Lease, len(over))
	faults := make([]error, len(over))
	var ends sync.WaitGroup
	for i, l := range over {
		ends.Go(func() { ended[i], faults[i] = x.End(ctx, l.ID, lease.ByJobOver) })
	}
	ends.Wait()
	return ended, errors.Join(faults...)
}

// isOver: a lease's job is over when it is said to be. Where the issuer does not name
// the single job, all jobs of the attempt must be over: the lease's is among them.
func isOver(l Lease, states map[string]bool) bool {
	if l.JobID != "" {
		return states[l.JobID]
	}
	for _, over := range states {
		if !over {
			return false
		}
	}
	return len(states) > 0
}

func runOf(l Lease) Run { return Run{Repository: l.Repository, ID: l.Run, Attempt: l.Attempt} }

package exchange

import (
	"context"
	"errors"
	"time"

	"github.com/stepkey/stepkey/exchange/backend"
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
	// OfRun shows each job of one attempt of a run, by its id. What is not in the answer
	// is not known to be over. An answer must be whole.
	OfRun(ctx context.Context, repository, run string, attempt int) (map[string]JobView, error)
}

// A JobView is what a CI system shows of one job, which may be some time ago.
type JobView struct {
	Over  bool
	Steps []Step // in any order; none where the CI system shows none
}

// JobLeases finds what jobs hold.
type JobLeases interface {
	LivesOfRun(ctx context.Context, issuer, repository, run string) ([]lease.Lease, error)
	LivesOfIssuer(ctx context.Context, issuer string, createdBefore time.Time) ([]lease.Lease, error)
	LivesByStep(ctx context.Context, issuer string) ([]lease.Lease, error)
	Tie(ctx context.Context, id backend.LeaseID, step int, why string) error
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
	ended, err := x.endEach(ctx, named, lease.ByJobOver)
	for _, l := range doubtful {
		also, fault := x.endIfOver(ctx, runOf(l), []Lease{l})
		ended, err = append(ended, also...), errors.Join(err, fault)
	}
	return ended, err
}

// endIfOver asks about one run and ends those leases of it whose jobs are over, or the
// steps that they were to end with.
func (x *Exchange) endIfOver(ctx context.Context, run Run, held []Lease) ([]Lease, error) {
	jobs, watched := x.Jobs[held[0].Issuer]
	if !watched {
		return nil, nil
	}
	views, err := jobs.OfRun(ctx, run.Repository, run.ID, run.Attempt)
	if err != nil {
		return nil, err
	}
	var byJob, byStep []Lease
	for _, l := range held {
		if isOver(l, views) {
			byJob = append(byJob, l)
			continue
		}
		over, fault := x.follow(ctx, l, views[l.JobID].Steps)
		if err = errors.Join(err, fault); over {
			byStep = append(byStep, l)
		}
	}
	ended, fault1 := x.endEach(ctx, byJob, lease.ByJobOver)
	also, fault2 := x.endEach(ctx, byStep, lease.ByStepOver)
	return append(ended, also...), errors.Join(err, fault1, fault2)
}

// isOver: a lease's job is over when it is said to be. Where the issuer does not name
// the single job, all jobs of the attempt must be over: the lease's is among them.
func isOver(l Lease, views map[string]JobView) bool {
	if l.JobID != "" {
		return views[l.JobID].Over
	}
	for _, job := range views {
		if !job.Over {
			return false
		}
	}
	return len(views) > 0
}

func runOf(l Lease) Run { return Run{Repository: l.Repository, ID: l.Run, Attempt: l.Attempt} }

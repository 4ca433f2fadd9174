package lease

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/stepkey/stepkey/exchange/identity"
)

// overKept is how long it is remembered that a job is over: longer than a subject
// token of it, made in its last moment, could pass. That is the longest max_age that
// identity lets an issuer have, the leeway for the issuer's clock on both ends, and
// some for replicas whose clocks differ.
const overKept = 6*time.Hour + 2*identity.Leeway + tokensKept

// ErrJobOver: the CI system said that this job is over, so nobody asks on its behalf
// any more but who has one of its subject tokens left.
var ErrJobOver = errors.New("the job that this token names is over")

// An Over names a job that is over. Without a JobID it is the whole attempt of the
// run, and with it every attempt before: a run is only run again once it completed.
type Over struct {
	Issuer, Repository, Run string
	Attempt                 int
	JobID                   string
}

// NoteOver remembers that a job is over: from the moment at which it returns, Begin
// refuses that job, and what Begin let through before can be seen by LivesOfRun.
//
// Exactly what was said is noted. GitHub was seen to send the end of a job of an
// earlier attempt again after a re-run: that is no note about the new attempt, whose
// jobs have other ids too.
//
// The cost is one row of some 100 bytes and one commit for each job that completes,
// whether or not it ever asked for anything; an end that is told again is read and
// not written. Forget drops a row after about six hours, so a store that is told of
// 10,000 jobs an hour holds some 60,000 of them, 10 MB.
func (s *Store) NoteOver(ctx context.Context, o Over) error {
	if o.Repository == "" || o.Run == "" || o.Attempt < 1 {
		return fmt.Errorf("noting that a job is over: it is not named: %+v", o)
	}
	known, err := noted(ctx, s.reading(), o)
	if err != nil || known {
		return err
	}
	return s.transact(ctx, "noting that a job is over", func(tx session) error {
		if tx.lockRun != "" {
			if _, err := tx.exec(ctx, tx.lockRun, o.lock()); err != nil {
				return err
			}
		}
		_, err := tx.exec(ctx,
			`INSERT INTO jobs_over (issuer, repository, run, job_id, attempt, kept_until) VALUES (?,?,?,?,?,?) ON CONFLICT DO NOTHING`,
			o.Issuer, o.Repository, o.Run, o.JobID, o.Attempt, s.now().Add(overKept).UnixMicro())
		return err
	})
}

// refuseOver refuses a lease for a job that is known to be over: by a note, or because
// a lease of it was ended for that reason, which is how the Jobs API's word gets here.
//
// The note's transaction and this one exclude each other, so that a job's end either
// is seen here, or finds the lease that this transaction commits.
func refuseOver(ctx context.Context, tx session, l Lease) error {
	if l.Run == "" || l.Repository == "" || l.Attempt < 1 {
		return nil // of an issuer whose jobs nobody tells us about
	}
	o := Over{l.Issuer, l.Repository, l.Run, l.Attempt, l.JobID}
	if tx.shareRun != "" {
		if _, err := tx.exec(ctx, tx.shareRun, o.lock()); err != nil {
			return err
		}
	}
	over, err := noted(ctx, tx, o)
	if err == nil && !over && l.JobID != "" { // without an id, Job may stand for more jobs than the one that ended
		err = tx.row(ctx, `SELECT EXISTS (SELECT 1 FROM leases WHERE job = ? AND reason = ?)`, l.Job, ByJobOver).Scan(&over)
	}
	if err != nil {
		return fmt.Errorf("looking whether the job is over: %w", err)
	}
	if over {
		return ErrJobOver
	}
	return nil
}

// noted reports whether a note covers o. There is no look at the time: what was over
// once is over, and a row that Forget has not dropped yet says nothing wrong.
func noted(ctx context.Context, q session, o Over) (bool, error) {
	var known bool
	err := q.row(ctx, `SELECT EXISTS (SELECT 1 FROM jobs_over WHERE issuer = ? AND repository = ? AND run = ?
		AND (job_id = '' AND attempt >= ? OR job_id = ? AND attempt = ?))`,
		o.Issuer, o.Repository, o.Run, o.Attempt, o.JobID, o.Attempt).Scan(&known)
	if err != nil {
		return false, fmt.Errorf("looking whether a job is over: %w", err)
	}
	return known, nil
}

// lock is what the notes and the leases of one run, over all its attempts, wait for
// each other by.
func (o Over) lock() string { return "run/" + o.Issuer + "/" + o.Repository + "/" + o.Run }

func (s *Store) forgetOver(ctx context.Context) (int, error) {
	return s.drop(ctx, `DELETE FROM jobs_over WHERE (issuer, repository, run, job_id, attempt) IN (
		SELECT issuer, repository, run, job_id, attempt FROM jobs_over WHERE kept_until < ? LIMIT ?)`, s.now())
}

package lease

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/stepkey/stepkey/exchange/audit"
	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/exchange/identity"
	"github.com/stepkey/stepkey/exchange/policy"
)

// Bounds of one issue. IssueFor is what a backend gets to answer; a create that was
// cut off then may still land at the other side a little later, hence IssueBy.
const (
	IssueFor    = 20 * time.Second
	issueLateBy = 5 * time.Second
)

// tokensKept is how much longer than its exp a used subject token is remembered:
// the verifier's leeway, and some for its clock.
const tokensKept = 5 * time.Minute

// ErrTokenUsed: this subject token was exchanged before, in whatever spelling.
var ErrTokenUsed = errors.New("the subject token was used before")

// A JobLimit refuses one lease more than the task allows a job to hold.
type JobLimit struct {
	Held  int
	Until time.Time // when the first of those held ends at the latest
}

func (e *JobLimit) Error() string {
	return fmt.Sprintf("the job already holds %d of this task, until %s at the latest", e.Held, e.Until.UTC().Format(time.RFC3339))
}

// An Intent is a lease whose pending row is committed and whose credential does
// not exist yet. Only Begin makes one, and only an Intent makes an order for a
// backend: ordering before writing down does not compile.
type Intent struct {
	lease Lease
	scope backend.Scope
}

// Lease is the record as it was committed.
func (i Intent) Lease() Lease { return i.lease }

// Order is what to ask the backend for.
func (i Intent) Order() backend.Order {
	return backend.Order{Lease: i.lease.ID, Scope: i.scope, At: i.lease.Created, Until: i.lease.EndsAt, For: i.lease.JobName + ", task " + i.lease.Task}
}

// Begin commits, in ONE transaction, that the subject token is used, that the job
// stays within the task's limit, and that a credential is about to exist.
//
// It fails with ErrTokenUsed or *JobLimit; then nothing is changed, the subject
// token included. Any other error is the store's.
func (s *Store) Begin(ctx context.Context, w identity.Workload, g policy.Grant, terms func(backend.Order) backend.Terms) (Intent, error) {
	intent, err := s.draft(w, g, terms)
	if err != nil {
		return Intent{}, err
	}
	l := intent.lease
	err = s.transact(ctx, "writing the lease's intent", func(tx session) error {
		if err := s.useToken(ctx, tx, w, l.ID); err != nil {
			return err
		}
		if err := withinLimit(ctx, tx, l, g.PerJob); err != nil {
			return err
		}
		if err := insert(ctx, tx, l); err != nil {
			return err
		}
		_, err := s.enter(ctx, tx, entry(l, audit.Pending, g.Rule, ""))
		return err
	})
	var limit *JobLimit
	switch {
	case errors.As(err, &limit):
		return Intent{}, limit
	case errors.Is(err, ErrTokenUsed):
		return Intent{}, ErrTokenUsed
	case err != nil:
		return Intent{}, err
	}
	return intent, nil
}

func (s *Store) draft(w identity.Workload, g policy.Grant, terms func(backend.Order) backend.Terms) (Intent, error) {
	at := s.now().UTC().Truncate(time.Microsecond)
	id, err := ulid.New(ulid.Timestamp(at), s.rand)
	if err != nil {
		return Intent{}, fmt.Errorf("naming the lease: %w", err)
	}
	l := Lease{
		ID: backend.LeaseID("lease_" + id.String()), State: Pending,
		Task: g.Task, Backend: g.Backend, Granted: g.Scope.String(),
		Issuer: w.Issuer, Job: w.Job.Key, JobName: w.Job.Name, Repository: w.Job.Repository,
		Created: at, IssueBy: at.Add(IssueFor + issueLateBy), EndsAt: at.Add(g.TTL),
	}
	intent := Intent{l, g.Scope}
	t := terms(intent.Order())
	intent.lease.DiesAt, intent.lease.Revocable = t.DiesAt.UTC().Truncate(time.Microsecond), t.Revocable
	if !t.Revocable || intent.lease.EndsAt.After(intent.lease.DiesAt) {
		intent.lease.EndsAt = intent.lease.DiesAt // we promise nothing that we cannot bring about, nor what is over by then anyway
	}
	return intent, nil
}

func (s *Store) useToken(ctx context.Context, tx session, w identity.Workload, id backend.LeaseID) error {
	result, err := tx.exec(ctx,
		`INSERT INTO used_tokens (issuer, jti, lease, expires_at) VALUES (?,?,?,?) ON CONFLICT DO NOTHING`,
		w.Issuer, w.TokenID, string(id), w.Expires.Add(tokensKept).UnixMicro())
	if err != nil {
		return err
	}
	if n, err := result.RowsAffected(); err != nil || n == 0 {
		return errors.Join(err, ErrTokenUsed)
	}
	return nil
}

// withinLimit counts what may still be good in somebody's hands. An unconfirmed
// credential never left the exchange, so it is nobody's and does not count.
func withinLimit(ctx context.Context, tx session, l Lease, limit int) error {
	if tx.lockJob != "" {
		if _, err := tx.exec(ctx, tx.lockJob, l.Job+"/"+l.Task); err != nil {
			return err
		}
	}
	var held int
	var until sql.NullInt64
	err := tx.row(ctx,
		`SELECT count(*), min(ends_at) FROM leases WHERE job = ? AND task = ? AND due_at IS NOT NULL AND state IN ('pending','active','revoking')`,
		l.Job, l.Task).Scan(&held, &until)
	if err != nil {
		return err
	}
	if held >= limit {
		return &JobLimit{Held: held, Until: time.UnixMicro(until.Int64)}
	}
	return nil
}

func insert(ctx context.Context, tx session, l Lease) error {
	_, err := tx.exec(ctx,
		`INSERT INTO leases (id, state, task, backend, granted, issuer, job, job_name, repository,
		                     created_at, issue_by, ends_at, dies_at, revocable, due_at)
		 VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)`,
		string(l.ID), string(l.State), l.Task, l.Backend, l.Granted, l.Issuer, l.Job, l.JobName, l.Repository,
		l.Created.UnixMicro(), l.IssueBy.UnixMicro(), l.EndsAt.UnixMicro(), l.DiesAt.UnixMicro(), l.Revocable, dueAt(l).UnixMicro())
	return err
}

func entry(l Lease, event audit.Event, rule, reason string) audit.Entry {
	return audit.Entry{
		Event: event, Lease: string(l.ID), Task: l.Task, Issuer: l.Issuer, Job: l.JobName,
		Granted: l.Granted, Rule: rule, Reason: reason,
	}
}

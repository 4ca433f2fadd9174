package lease

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
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
	// Strangers are those of them that somebody else holds, by their keys, and that
	// nobody is ending yet. Either that holder or the one who asks may be a thief, so
	// these are to be ended too.
	Strangers []backend.LeaseID
}

func (e *JobLimit) Error() string {
	text := fmt.Sprintf("the job already holds %d of this task, until %s at the latest", e.Held, e.Until.UTC().Format(time.RFC3339))
	if len(e.Strangers) > 0 {
		text = "somebody else in this job already holds this task; that one was ended, too, and the job gets it no more"
	}
	return text
}

// ErrTripped: two holders asked for this task in one job, so it gets none any more.
var ErrTripped = errors.New("two different holders asked for this task in one job, so the job gets it no more")

// An Ask is what a verified workload was granted and now wants written down.
type Ask struct {
	Workload identity.Workload
	Grant    policy.Grant
	// Holder is the RFC 7638 thumbprint of the key that the one who asks has proven
	// to hold; empty where it has proven none.
	Holder string
}

// An Intent is a lease whose pending row is committed and whose credential does
// not exist yet. Only Begin makes one, and only an Intent makes an order for a
// backend: ordering before writing down does not compile.
type Intent struct {
	lease    Lease
	scope    backend.Scope
	replaced []backend.LeaseID
}

// Lease is the record as it was committed.
func (i Intent) Lease() Lease { return i.lease }

// Replaced are the leases that the same holder had of this task. They are being
// ended as of the same commit, and should be over before this one is issued.
func (i Intent) Replaced() []backend.LeaseID { return i.replaced }

// IssueFor is how long a backend has, from now on, to answer the order. None is left
// where something took long since the intent was committed: an order sent then could
// be carried out after IssueBy, when its lease may be over already.
func (i Intent) IssueFor(now time.Time) time.Duration {
	return i.lease.IssueBy.Add(-issueLateBy).Sub(now)
}

// Order is what to ask the backend for.
func (i Intent) Order() backend.Order {
	return backend.Order{Lease: i.lease.ID, Scope: i.scope, At: i.lease.Created, Until: i.lease.EndsAt, For: i.lease.JobName + ", task " + i.lease.Task}
}

// Begin commits, in ONE transaction, that the subject token is used, that the job
// stays within the task's limit, and that a credential is about to exist. Leases
// that this one takes the place of, of the same holder or of an older attempt of
// the run, begin to end in it, too.
//
// It fails with ErrTokenUsed, ErrJobOver, ErrTripped or *JobLimit; then nothing is
// changed, the subject token included. Any other error is the store's.
func (s *Store) Begin(ctx context.Context, ask Ask, terms func(backend.Order) backend.Terms) (Intent, error) {
	intent, err := s.draft(ask, terms)
	if err != nil {
		return Intent{}, err
	}
	l := intent.lease
	err = s.transact(ctx, "writing the lease's intent", func(tx session) error {
		if err := s.useToken(ctx, tx, ask.Workload, l.ID); err != nil {
			return err
		}
		if err := refuseOver(ctx, tx, l); err != nil {
			return err
		}
		var err error
		if intent.replaced, err = s.admit(ctx, tx, ask, l); err != nil {
			return err
		}
		if err := s.endOlderAttempts(ctx, tx, l); err != nil {
			return err
		}
		if err := insert(ctx, tx, l); err != nil {
			return err
		}
		_, err = s.enter(ctx, tx, entry(l, audit.Pending, ask.Grant.Rule, howAsked(ask.Workload)))
		return err
	})
	var limit *JobLimit
	switch {
	case errors.As(err, &limit):
		return Intent{}, limit
	case errors.Is(err, ErrTokenUsed):
		return Intent{}, ErrTokenUsed
	case errors.Is(err, ErrTripped):
		return Intent{}, ErrTripped
	case errors.Is(err, ErrJobOver):
		return Intent{}, ErrJobOver
	case err != nil:
		return Intent{}, err
	}
	return intent, nil
}

// howAsked is what is worth knowing of the subject token that was used up.
func howAsked(w identity.Workload) string {
	if w.Binding == "" {
		return ""
	}
	return "the subject token was bound to this request and to the key that made it"
}

func (s *Store) draft(ask Ask, terms func(backend.Order) backend.Terms) (Intent, error) {
	if ask.Workload.TokenID == "" {
		return Intent{}, errors.New("beginning a lease: the subject token has no id, so that it could not be marked as used")
	}
	at := s.now().UTC().Truncate(time.Microsecond)
	id, err := ulid.New(ulid.Timestamp(at), s.rand)
	if err != nil {
		return Intent{}, fmt.Errorf("naming the lease: %w", err)
	}
	w, g := ask.Workload, ask.Grant
	attempt, _ := strconv.Atoi(w.Job.Attempt) // 0 where the issuer does not count
	l := Lease{
		ID: backend.LeaseID("lease_" + id.String()), State: Pending,
		Task: g.Task, Backend: g.Backend, Granted: g.Scope.String(),
		Issuer: w.Issuer, Job: w.Job.Key, JobName: w.Job.Name, Repository: w.Job.Repository,
		Run: w.Job.Run, Attempt: attempt, JobID: w.Job.ID, Holder: ask.Holder, Until: cmp.Or(g.Until, policy.UntilJob),
		Created: at, IssueBy: at.Add(IssueFor + issueLateBy), EndsAt: at.Add(g.TTL),
	}
	intent := Intent{lease: l, scope: g.Scope}
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

// admit holds the one who asks against what the job has of this task. What the same
// holder has is replaced: it asks again because an answer was lost. It returns the
// leases replaced.
//
// Counted is what may still be good in somebody's hands. An unconfirmed credential
// never left the exchange, so it is nobody's and does not count.
//
// Where a job's key is shared by design, another holder is another replica and no
// stranger: it waits its turn.
func (s *Store) admit(ctx context.Context, tx session, ask Ask, l Lease) ([]backend.LeaseID, error) {
	if tx.lockJob != "" {
		if _, err := tx.exec(ctx, tx.lockJob, l.Job+"/"+l.Task); err != nil {
			return nil, err
		}
	}
	had, err := many(ctx, tx, `job = ? AND task = ? ORDER BY created_at, id`+tx.forUpdate, l.Job, l.Task)
	if err != nil {
		return nil, err
	}
	var replaced []backend.LeaseID
	var others []Lease
	for _, other := range had {
		switch {
		case other.Reason == ByTripwire:
			return nil, ErrTripped
		case other.State.Final(), other.State == Unconfirmed:
		case other.Holder != "" && other.Holder == l.Holder:
			replaced = append(replaced, other.ID)
			if _, err := s.startEnding(ctx, tx, other, ByRetry, s.now()); err != nil {
				return nil, err
			}
		default:
			others = append(others, other)
		}
	}
	if len(others) < ask.Grant.PerJob {
		return replaced, nil
	}
	refused := &JobLimit{Held: len(others), Until: others[0].EndsAt}
	for _, other := range others {
		if other.Holder != l.Holder && other.Reason == "" && !ask.Workload.Job.Shared {
			refused.Strangers = append(refused.Strangers, other.ID)
		}
	}
	return nil, refused
}

// endOlderAttempts begins to end what an older attempt of the run still holds: the
// CI system has given those jobs up.
func (s *Store) endOlderAttempts(ctx context.Context, tx session, l Lease) error {
	if l.Run == "" || l.Attempt < 2 {
		return nil
	}
	older, err := many(ctx, tx, `issuer = ? AND run = ? AND repository = ? AND attempt < ? AND due_at IS NOT NULL`+tx.forUpdate, l.Issuer, l.Run, l.Repository, l.Attempt)
	if err != nil {
		return err
	}
	for _, other := range older {
		if _, err := s.startEnding(ctx, tx, other, ByRerun, s.now()); err != nil {
			return err
		}
	}
	return nil
}

func insert(ctx context.Context, tx session, l Lease) error {
	_, err := tx.exec(ctx,
		`INSERT INTO leases (id, state, task, backend, granted, issuer, job, job_name, repository,
		                     run, attempt, job_id, holder, until, created_at, issue_by, ends_at, dies_at, revocable, due_at)
		 VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)`,
		string(l.ID), string(l.State), l.Task, l.Backend, l.Granted, l.Issuer, l.Job, l.JobName, l.Repository,
		l.Run, l.Attempt, l.JobID, l.Holder, string(l.Until),
		l.Created.UnixMicro(), l.IssueBy.UnixMicro(), l.EndsAt.UnixMicro(), l.DiesAt.UnixMicro(), l.Revocable, dueAt(l).UnixMicro())
	return err
}

func entry(l Lease, event audit.Event, rule, reason string) audit.Entry {
	return audit.Entry{
		Event: event, Lease: string(l.ID), Task: l.Task, Issuer: l.Issuer, Job: l.JobName,
		Granted: l.Granted, Rule: rule, Reason: reason,
	}
}

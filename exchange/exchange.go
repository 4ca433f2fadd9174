// Package exchange trades a subject token for one credential for one task, and
// ends that credential. It hides the order in which things happen: nothing is
// asked of a backend before the lease is written down, nothing leaves before the
// way back is sealed, and every end goes through one door.
//
// It knows no backend by name, no HTTP and no SQL.
package exchange

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"slices"
	"time"

	"github.com/stepkey/stepkey/exchange/audit"
	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/exchange/identity"
	"github.com/stepkey/stepkey/exchange/lease"
	"github.com/stepkey/stepkey/exchange/policy"
	"github.com/stepkey/stepkey/internal/secret"
)

// Exchange is the service without its network face. Safe for concurrent use.
type Exchange struct {
	Verifier Verifier
	Policy   func() *policy.Set // the generation in force; a request asks once
	Owned    *RepositoryTasks   // tasks that repositories keep themselves; nil: none are read
	Leases   Leases
	Backends map[string]backend.Backend
	// Owners are the repository_owner_id values whose workloads are told why they
	// were denied; others get the audit id alone.
	Owners []string
	// Jobs are the CI systems that can be asked which jobs are over, by issuer; may be
	// nil.
	Jobs map[string]Jobs
	// Checks are the CI systems that can be asked for what tasks require, by issuer. A
	// task that requires something is denied where its issuer has none.
	Checks map[string]Checks
	// Prove: after a backend's word that a credential is gone, ask whether it truly is,
	// where the backend can say.
	Prove   bool
	Observe Observer // may be nil
	Now     func() time.Time
	Log     *slog.Logger

	shapes shapes
}

// Verifier says who is asking.
type Verifier interface {
	Verify(ctx context.Context, subjectToken string) (identity.Workload, error)
}

// Leases is the durable record.
type Leases interface {
	Begin(context.Context, lease.Ask, func(backend.Order) backend.Terms) (lease.Intent, error)
	Activate(context.Context, lease.Intent, backend.Issued) (lease.Lease, secret.String, error)
	Fail(ctx context.Context, i lease.Intent, reason string) error
	Keep(ctx context.Context, i lease.Intent, handle secret.String, reason string) error
	StartEnding(ctx context.Context, id backend.LeaseID, why string) (lease.Held, error)
	Conclude(context.Context, lease.Held, lease.Verdict) (lease.Lease, error)
	ByToken(context.Context, secret.String) (lease.Lease, error)
	ByCredential(context.Context, secret.String) (lease.Lease, error)
	JobLeases
	JobNotes
	TaskLeases
	LivesOfJob(ctx context.Context, job string) ([]lease.Lease, error)
	OfJob(ctx context.Context, job string, id backend.LeaseID) (lease.Lease, error)
	Write(context.Context, audit.Entry) (audit.Entry, error)
}

// Request is what a workload asks for.
type Request struct {
	SubjectToken secret.String
	Task         string
	TTL          time.Duration // shorter than the task's; zero leaves it as the task has it
	Inputs       map[string]string
	Narrow       backend.Block // see policy.Asked
	// Holder is the thumbprint (RFC 7638) of the key that the one who asks has proven
	// to hold, empty for none. The same holder may ask again after a lost answer.
	Holder string
	// Binding is what a bound subject token must be bound to: all of this request and the
	// Holder, hashed as clients do. Empty where no key is proven; then no bound token is
	// taken.
	Binding string
}

// Lease is the record of one credential.
type Lease = lease.Lease

// Answer is a credential and the lease that it lives by.
type Answer struct {
	Lease      Lease
	LeaseToken secret.String
	Values     map[string]secret.String
	Env        map[string]string // environment variable -> name of the value
	Public     []string          // names of the values that are no secret
	Remains    string            // see backend.Terms
}

// Token trades a subject token for a credential. Errors are *Refused.
//
// The five steps, one door after the other; before the third the CI system is asked for
// what the task requires, while nothing is used up yet. From the third on the caller's going
// away no longer stops us: what was begun is written down to its end, and a
// credential nobody waits for any more is ended at once.
func (x *Exchange) Token(ctx context.Context, r Request) (Answer, error) {
	workload, err := x.verify(ctx, r)
	if err != nil {
		return Answer{}, x.refuse(ctx, r, workload, err)
	}
	grant, err := x.authorize(ctx, workload, r)
	if err != nil {
		return Answer{}, x.refuse(ctx, r, workload, err)
	}
	if err := x.check(ctx, workload, grant); err != nil {
		return Answer{}, x.refuse(ctx, r, workload, err)
	}
	intent, err := x.lease(ctx, lease.Ask{Workload: workload, Grant: grant, Holder: r.Holder})
	if err != nil {
		return Answer{}, x.refuse(ctx, r, workload, err)
	}
	begun := context.WithoutCancel(ctx)
	issued, err := x.issue(begun, intent)
	if err != nil {
		return Answer{}, x.refuse(begun, r, workload, err)
	}
	answer, err := x.activate(begun, intent, issued)
	if err != nil {
		return Answer{}, x.refuse(begun, r, workload, err)
	}
	if ctx.Err() != nil {
		return Answer{}, x.refuse(begun, r, workload, errors.Join(ctx.Err(), x.Abandon(begun, answer)))
	}
	x.observe().Issued(answer.Lease)
	return answer, nil
}

func (x *Exchange) verify(ctx context.Context, r Request) (identity.Workload, error) {
	w, err := x.Verifier.Verify(ctx, r.SubjectToken.Reveal())
	if err != nil {
		return w, err
	}
	return w, keepToBinding(w, r)
}

func (x *Exchange) authorize(ctx context.Context, w identity.Workload, r Request) (policy.Grant, error) {
	there, err := x.tasksFor(ctx, w, r.Task)
	if err != nil {
		return policy.Grant{}, err
	}
	grant, err := there.Authorize(w, policy.Asked{Task: r.Task, TTL: r.TTL, Inputs: r.Inputs, Narrow: r.Narrow})
	if err != nil {
		return grant, err
	}
	return grant, demandBinding(w, grant)
}

// lease writes the intent down, and ends what stands in its way: what the same
// holder had is over before it gets another, and where two different holders meet
// in one job, neither keeps anything.
func (x *Exchange) lease(ctx context.Context, ask lease.Ask) (lease.Intent, error) {
	b, known := x.Backends[ask.Grant.Backend]
	if !known {
		return lease.Intent{}, fmt.Errorf("%w: the task needs backend %q, which is not configured", errMisconfigured, ask.Grant.Backend)
	}
	intent, err := x.Leases.Begin(ctx, ask, b.Terms)
	var limit *lease.JobLimit
	if errors.As(err, &limit) && len(limit.Strangers) > 0 {
		return lease.Intent{}, x.trip(ctx, ask, limit)
	}
	for _, id := range intent.Replaced() {
		if err := x.replace(ctx, id); err != nil {
			return lease.Intent{}, errors.Join(err, x.Leases.Fail(context.WithoutCancel(ctx), intent, err.Error()))
		}
	}
	return intent, err
}

// trip ends what the first of two holders has, which may be the thief, and says so
// at error level: somebody has to look.
func (x *Exchange) trip(ctx context.Context, ask lease.Ask, limit *lease.JobLimit) error {
	err := error(limit)
	for _, id := range limit.Strangers {
		l, fault := x.End(ctx, id, lease.ByTripwire)
		x.Log.ErrorContext(ctx, "tripwire: two holders asked for one task in one job; neither keeps it",
			"task", ask.Grant.Task, "job", ask.Workload.Job.Name, "ended", id, "state", l.State, "first_holder", l.Holder, "second_holder", ask.Holder)
		err = errors.Join(err, fault)
	}
	return err
}

// replace ends what the same holder had. A pending one may stay so: it cannot become
// active any more, and the one who asked for it ends what it still makes.
func (x *Exchange) replace(ctx context.Context, id backend.LeaseID) error {
	l, err := x.End(ctx, id, lease.ByRetry)
	if err != nil {
		return err
	}
	if l.State == lease.Revoking {
		return fmt.Errorf("%w: the credential that this holder had is not confirmed to be over", backend.ErrUnavailable)
	}
	return nil
}

// issue asks the backend. Where it is certain that nothing was created the lease
// is over; anything less certain is left pending for the keeper, who asks again
// once nothing can be in flight any more.
func (x *Exchange) issue(ctx context.Context, i lease.Intent) (backend.Issued, error) {
	order := i.Order()
	issued, err := x.order(ctx, i)
	if err == nil && !order.Scope.Covers(issued.Granted) {
		err = x.endFromMemory(ctx, i, issued, fmt.Errorf("%w: granted %s, ordered %s", errGrantedMore, issued.Granted, order.Scope))
		return backend.Issued{}, err
	}
	switch {
	case errors.Is(err, backend.ErrNotCreated):
		return backend.Issued{}, errors.Join(err, x.Leases.Fail(ctx, i, err.Error()))
	case err != nil && !issued.Handle.Empty():
		return backend.Issued{}, x.endUnsettled(ctx, i, issued, err)
	}
	return issued, err
}

// order sends the order, unless too much of its time is over: what is made late could
// outlive its lease.
func (x *Exchange) order(ctx context.Context, i lease.Intent) (backend.Issued, error) {
	began := x.Now()
	left := i.IssueFor(began)
	if left <= 0 {
		return backend.Issued{}, fmt.Errorf("the time to issue was over before the backend could be asked; ask again: %w; %w", backend.ErrUnavailable, backend.ErrNotCreated)
	}
	bounded, done := context.WithTimeout(ctx, left)
	defer done()
	issued, err := x.Backends[i.Lease().Backend].Issue(bounded, i.Order())
	x.observe().Ordered(i.Lease(), x.Now().Sub(began), err)
	return issued, err
}

// activate seals the way back. If that cannot be written down, the only way back is
// in memory, and is taken now.
func (x *Exchange) activate(ctx context.Context, i lease.Intent, issued backend.Issued) (Answer, error) {
	active, token, err := x.Leases.Activate(ctx, i, issued)
	if err != nil {
		return Answer{}, x.endFromMemory(ctx, i, issued, err)
	}
	remains := x.Backends[active.Backend].Terms(i.Order()).Remains
	return Answer{Lease: active, LeaseToken: token, Values: issued.Values, Env: issued.Env, Public: issued.Public, Remains: remains}, nil
}

// refuse writes down that and why somebody got no credential, and makes the error
// that says so. The audit log being out of reach changes nothing: nothing was given.
func (x *Exchange) refuse(ctx context.Context, r Request, w identity.Workload, cause error) error {
	owner, _ := w.Claims.Text("repository_owner_id")
	no := refused(cause, owner != "" && slices.Contains(x.Owners, owner))
	e := audit.Entry{Event: no.Kind.event(w), Task: r.Task, Issuer: w.Issuer, Job: w.Job.Name, Rule: no.Rule, Reason: cause.Error()}
	var token *identity.Refusal
	if errors.As(cause, &token) {
		e.Issuer = token.Issuer
	}
	written, err := x.Leases.Write(context.WithoutCancel(ctx), e)
	if err != nil {
		x.Log.ErrorContext(ctx, "a refusal could not be written to the audit log", "entry", e, "error", err)
	}
	no.AuditID = written.ID
	x.Log.InfoContext(ctx, "refused", "audit", written)
	x.observe().Refused(no.Kind)
	return no
}

// jitter is in [0, 1); it spreads retries and protects nothing.
func jitter() float64 {
	const steps = 1 << 20
	n, err := rand.Int(rand.Reader, big.NewInt(steps))
	if err != nil {
		return 0
	}
	return float64(n.Int64()) / steps
}

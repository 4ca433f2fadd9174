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
	Leases   Leases
	Backends map[string]backend.Backend
	// Owners are the repository_owner_id values whose workloads are told why they
	// were denied; others get the audit id alone.
	Owners []string
	Now    func() time.Time
	Log    *slog.Logger
}

// Verifier says who is asking.
type Verifier interface {
	Verify(ctx context.Context, subjectToken string) (identity.Workload, error)
}

// Leases is the durable record.
type Leases interface {
	Begin(context.Context, identity.Workload, policy.Grant, func(backend.Order) backend.Terms) (lease.Intent, error)
	Activate(context.Context, lease.Intent, backend.Issued) (lease.Lease, secret.String, error)
	Fail(ctx context.Context, i lease.Intent, reason string) error
	StartEnding(ctx context.Context, id backend.LeaseID, why string) (lease.Held, error)
	Conclude(context.Context, lease.Held, lease.Verdict) (lease.Lease, error)
	ByToken(context.Context, secret.String) (lease.Lease, error)
	ByCredential(context.Context, secret.String) (lease.Lease, error)
	LivesOfJob(ctx context.Context, job string) ([]lease.Lease, error)
	Write(context.Context, audit.Entry) (audit.Entry, error)
}

// Request is what a workload asks for.
type Request struct {
	SubjectToken secret.String
	Task         string
	TTL          time.Duration // shorter than the task's; zero leaves it as the task has it
}

// Lease is the record of one credential.
type Lease = lease.Lease

// Answer is a credential and the lease that it lives by.
type Answer struct {
	Lease      Lease
	LeaseToken secret.String
	Values     map[string]secret.String
	Env        map[string]string // environment variable -> name of the value
}

// Token trades a subject token for a credential. Errors are *Refused.
//
// The five steps, one door after the other. From the third on the caller's going
// away no longer stops us: what was begun is written down to its end, and a
// credential nobody waits for any more is ended at once.
func (x *Exchange) Token(ctx context.Context, r Request) (Answer, error) {
	workload, err := x.verify(ctx, r)
	if err != nil {
		return Answer{}, x.refuse(ctx, r, workload, err)
	}
	grant, err := x.authorize(workload, r)
	if err != nil {
		return Answer{}, x.refuse(ctx, r, workload, err)
	}
	intent, err := x.lease(ctx, workload, grant)
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
	return answer, nil
}

func (x *Exchange) verify(ctx context.Context, r Request) (identity.Workload, error) {
	return x.Verifier.Verify(ctx, r.SubjectToken.Reveal())
}

func (x *Exchange) authorize(w identity.Workload, r Request) (policy.Grant, error) {
	return x.Policy().Authorize(w, policy.Asked{Task: r.Task, TTL: r.TTL})
}

func (x *Exchange) lease(ctx context.Context, w identity.Workload, g policy.Grant) (lease.Intent, error) {
	b, known := x.Backends[g.Backend]
	if !known {
		return lease.Intent{}, fmt.Errorf("%w: the task needs backend %q, which is not configured", errMisconfigured, g.Backend)
	}
	return x.Leases.Begin(ctx, w, g, b.Terms)
}

// issue asks the backend. Where it is certain that nothing was created the lease
// is over; anything less certain is left pending for the keeper, who asks again
// once nothing can be in flight any more.
func (x *Exchange) issue(ctx context.Context, i lease.Intent) (backend.Issued, error) {
	order := i.Order()
	bounded, done := context.WithTimeout(ctx, lease.IssueFor)
	defer done()
	issued, err := x.Backends[i.Lease().Backend].Issue(bounded, order)
	if err == nil && !order.Scope.Covers(issued.Granted) {
		err = x.endFromMemory(ctx, i, issued, fmt.Errorf("%w: granted %s, ordered %s", errGrantedMore, issued.Granted, order.Scope))
		return backend.Issued{}, err
	}
	if errors.Is(err, backend.ErrNotCreated) {
		return backend.Issued{}, errors.Join(err, x.Leases.Fail(ctx, i, err.Error()))
	}
	return issued, err
}

// activate seals the way back. If that cannot be written down, the only way back is
// in memory, and is taken now.
func (x *Exchange) activate(ctx context.Context, i lease.Intent, issued backend.Issued) (Answer, error) {
	active, token, err := x.Leases.Activate(ctx, i, issued)
	if err != nil {
		return Answer{}, x.endFromMemory(ctx, i, issued, err)
	}
	return Answer{Lease: active, LeaseToken: token, Values: issued.Values, Env: issued.Env}, nil
}

// refuse writes down that and why somebody got no credential, and makes the error
// that says so. The audit log being out of reach changes nothing: nothing was given.
func (x *Exchange) refuse(ctx context.Context, r Request, w identity.Workload, cause error) error {
	e := audit.Entry{Event: audit.Refused, Task: r.Task, Issuer: w.Issuer, Job: w.Job.Name, Reason: cause.Error()}
	var token *identity.Refusal
	switch {
	case w.Issuer != "":
		e.Event = audit.Denied
	case errors.As(cause, &token):
		e.Rule, e.Issuer = token.Rule, token.Issuer
	}
	written, err := x.Leases.Write(context.WithoutCancel(ctx), e)
	if err != nil {
		x.Log.ErrorContext(ctx, "a refusal could not be written to the audit log", "entry", e, "error", err)
	}
	x.Log.InfoContext(ctx, "refused", "audit", written)
	owner, _ := w.Claims.Text("repository_owner_id")
	return refused(cause, written.ID, owner != "" && slices.Contains(x.Owners, owner))
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

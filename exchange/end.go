package exchange

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/exchange/lease"
	"github.com/stepkey/stepkey/internal/secret"
)

// endFor is what a backend gets to confirm one end. It is shorter than the claim
// that StartEnding makes, so that no two attempts overlap.
const endFor = 15 * time.Second

// End ends a lease, whoever asks, the same way: claim it and write down why, tell
// the backend, write down what came of it. It returns the lease as it is then; a
// state that is not final means that the keeper goes on with it. An error means
// that not even that could be written down; the keeper goes on then too.
//
// The caller's going away does not stop an end.
func (x *Exchange) End(ctx context.Context, id backend.LeaseID, why string) (Lease, error) {
	ctx = context.WithoutCancel(ctx)
	held, err := x.Leases.StartEnding(ctx, id, why)
	if err != nil || held.State.Final() {
		return held.Lease, err
	}
	began := x.Now()
	proof, answer := x.revoke(ctx, held)
	answered := x.Now()
	verdict := lease.Judge(held.Lease, began, answered, answer, jitter())
	if verdict.To.Final() && proof != "" {
		verdict.Reason = held.Reason + "; " + proof
	}
	ended, err := x.Leases.Conclude(ctx, held, verdict)
	x.tell(ctx, ended, answered.Sub(began), answer)
	return ended, err
}

// ErrInFlight: a lease cannot be written off while its credential may be in the making.
var ErrInFlight = errors.New("its credential may still be being made")

// WriteOff takes a lease as over on somebody's word, because its backend cannot confirm it
// any more: the outside system was taken down for good, or what stood there was removed by
// hand. The backend is asked once more first, and its word goes before theirs. The lease
// ends as expired, and its last entry says on whose word. An error wraps ErrInFlight until
// the lease's IssueBy.
func (x *Exchange) WriteOff(ctx context.Context, id backend.LeaseID, why string) (Lease, error) {
	ctx = context.WithoutCancel(ctx)
	l, err := x.End(ctx, id, why)
	if err != nil || l.State.Final() {
		return l, err
	}
	if l.State == lease.Pending && x.Now().Before(l.IssueBy) {
		return l, fmt.Errorf("%w, until %s; write it off after that", ErrInFlight, l.IssueBy.UTC().Format(time.RFC3339))
	}
	held, err := x.Leases.StartEnding(ctx, id, why)
	if err != nil || held.State.Final() {
		return held.Lease, err
	}
	ended, err := x.Leases.Conclude(ctx, held, lease.Verdict{To: lease.Expired, Reason: fmt.Sprintf("%s; %s has not confirmed the end", why, held.Backend)})
	x.Log.WarnContext(ctx, "a lease was written off", "lease", ended.ID, "backend", ended.Backend, "state", ended.State, "why", why)
	return ended, err
}

// Abandon ends a credential whose answer nobody received.
func (x *Exchange) Abandon(ctx context.Context, a Answer) error {
	_, err := x.End(ctx, a.Lease.ID, lease.ByClientGone)
	return err
}

// EndByToken ends the lease that token is the handle of, or whose credential it is.
// The second result is false when there is none: nothing to end, and no error.
func (x *Exchange) EndByToken(ctx context.Context, token secret.String) (Lease, bool, error) {
	l, err := x.Leases.ByToken(ctx, token)
	if errors.Is(err, lease.ErrUnknown) {
		l, err = x.Leases.ByCredential(ctx, token)
	}
	if errors.Is(err, lease.ErrUnknown) {
		return Lease{}, false, nil
	}
	if err != nil {
		return Lease{}, false, err
	}
	l, err = x.End(ctx, l.ID, lease.ByHolder)
	return l, true, err
}

// EndJob ends all that the job of a subject token holds, of one task where task is
// named. It uses no token up: a
// subject token can end its own job's leases as often as it is valid, and it was
// that job that was given them. Errors about the token are *Refused.
func (x *Exchange) EndJob(ctx context.Context, subjectToken secret.String, task string) ([]Lease, error) {
	r := Request{SubjectToken: subjectToken, Task: task}
	workload, err := x.verify(ctx, r)
	if err != nil {
		return nil, x.refuse(ctx, r, workload, err)
	}
	held, err := x.Leases.LivesOfJob(ctx, workload.Job.Key)
	if err != nil {
		return nil, err
	}
	var ended []Lease
	var faults []error
	for _, l := range held {
		if task != "" && l.Task != task {
			continue
		}
		now, err := x.End(ctx, l.ID, lease.ByJob)
		if err != nil {
			faults = append(faults, err)
			continue
		}
		ended = append(ended, now)
	}
	return ended, errors.Join(faults...)
}

// EndJobsLease ends one lease of the job of a subject token. The second result is false
// when that job has no such lease; it does not say whether another has. No token is used
// up. Errors about the token are *Refused.
func (x *Exchange) EndJobsLease(ctx context.Context, subjectToken secret.String, id string) (Lease, bool, error) {
	r := Request{SubjectToken: subjectToken}
	workload, err := x.verify(ctx, r)
	if err != nil {
		return Lease{}, false, x.refuse(ctx, r, workload, err)
	}
	l, err := x.Leases.OfJob(ctx, workload.Job.Key, backend.LeaseID(id))
	if errors.Is(err, lease.ErrUnknown) {
		return Lease{}, false, nil
	}
	if err != nil {
		return Lease{}, false, err
	}
	l, err = x.End(ctx, l.ID, lease.ByJob)
	return l, true, err
}

// revoke tells the backend to end it, and where that is switched on asks it whether
// that is so. The first result is what came of asking.
func (x *Exchange) revoke(ctx context.Context, held lease.Held) (string, error) {
	b, known := x.Backends[held.Backend]
	switch {
	case held.Broken != nil:
		return "", held.Broken
	case !known:
		return "", fmt.Errorf("backend %q is no longer configured; bring it back until its leases are over", held.Backend)
	}
	bounded, done := context.WithTimeout(ctx, endFor)
	defer done()
	if err := b.Revoke(bounded, held.ID, held.Handle); err != nil {
		return "", err
	}
	if able, can := b.(backend.Prover); can && x.Prove {
		return prove(bounded, able, held)
	}
	return "", nil
}

// prove holds a backend to its word. That it cannot be asked takes nothing from its
// word; that the credential still works does.
func prove(ctx context.Context, b backend.Prover, held lease.Held) (string, error) {
	gone, err := b.Gone(ctx, held.ID, held.Handle)
	switch {
	case err != nil:
		return fmt.Sprintf("confirmed; %s could not be asked whether it is so: %v", held.Backend, err), nil
	case !gone:
		return "", fmt.Errorf("%s confirmed the end, and still takes the credential", held.Backend)
	}
	return fmt.Sprintf("confirmed; %s refuses it (checked)", held.Backend), nil
}

// endUnsettled ends what came with an error, now and once more by the keeper when its time
// to be made is over: what the backend was asked for may still come to be after we asked it
// to end that.
func (x *Exchange) endUnsettled(ctx context.Context, i lease.Intent, issued backend.Issued, cause error) error {
	l := i.Lease()
	if _, err := x.revoke(ctx, lease.Held{Lease: l, Handle: issued.Handle}); err != nil {
		x.Log.ErrorContext(ctx, "a credential that was not handed out could not be ended; the keeper goes on", "lease", l.ID, "error", err)
		cause = errors.Join(cause, err)
	}
	return errors.Join(cause, x.Leases.Keep(ctx, i, issued.Handle, lease.ByIssueFault))
}

// endFromMemory ends a credential that was made whole and that nobody is to have, with the handle that was
// never sealed. It returns cause with what came of that. Where the backend does not
// confirm, the handle is kept for the keeper; where not even that can be written, the
// lease stays pending, and the keeper asks by its id.
func (x *Exchange) endFromMemory(ctx context.Context, i lease.Intent, issued backend.Issued, cause error) error {
	l := i.Lease()
	_, err := x.revoke(ctx, lease.Held{Lease: l, Handle: issued.Handle})
	if err != nil {
		x.Log.ErrorContext(ctx, "a credential that was not handed out could not be ended; the keeper goes on", "lease", l.ID, "error", err)
		return errors.Join(cause, err, x.Leases.Keep(ctx, i, issued.Handle, lease.ByNoRecord))
	}
	return errors.Join(cause, x.Leases.Fail(ctx, i, fmt.Sprintf("%s; ended before anyone had it: %v", lease.ByNoRecord, cause)))
}

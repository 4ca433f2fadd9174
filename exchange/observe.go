package exchange

import (
	"context"
	"time"

	"github.com/stepkey/stepkey/exchange/lease"
)

// Observer is told what happens, so that it can be counted. It must not block, and
// is called from many goroutines.
type Observer interface {
	// Ordered: a backend took so long to answer an order, with err if it did not fill it.
	Ordered(l Lease, took time.Duration, err error)
	// Issued: a credential was handed out.
	Issued(l Lease)
	// Refused: somebody got none.
	Refused(k Kind)
	// Attempted: an attempt to end a lease took so long and left it as it is in l.
	Attempted(l Lease, took time.Duration)
}

type unobserved struct{}

func (unobserved) Ordered(Lease, time.Duration, error) {}
func (unobserved) Issued(Lease)                        {}
func (unobserved) Refused(Kind)                        {}
func (unobserved) Attempted(Lease, time.Duration)      {}

func (x *Exchange) observe() Observer {
	if x.Observe == nil {
		return unobserved{}
	}
	return x.Observe
}

// tell counts and logs an attempt to end a lease. A credential that may be good after
// its time is somebody's business at once, so that is said at error level, once for
// each attempt.
func (x *Exchange) tell(ctx context.Context, l Lease, took time.Duration, answer error) {
	x.observe().Attempted(l, took)
	about := []any{"lease", l.ID, "task", l.Task, "backend", l.Backend, "why", l.Reason, "state", l.State, "ends_at", l.EndsAt, "dies_at", l.DiesAt, "attempts", l.Attempts, "answer", answer}
	switch {
	case l.State == lease.Unconfirmed:
		x.Log.ErrorContext(ctx, "a credential may exist and cannot be named; it dies at dies_at", about...)
	case l.Overdue(x.Now()):
		x.Log.ErrorContext(ctx, "overdue: a lease is past its time, and its end is not confirmed; the keeper goes on", about...)
	default:
		x.Log.InfoContext(ctx, "ending", about...)
	}
}

package lease

import (
	"errors"
	"fmt"
	"time"

	"github.com/stepkey/stepkey/exchange/backend"
)

// Retrying an end starts after a second and is never further apart than a minute:
// a credential that is overdue is worth the traffic.
const (
	firstRetry = time.Second
	lastRetry  = time.Minute
	// claimFor is how long an attempt to end a lease keeps others from trying. It is
	// longer than the end itself may take, and short enough that the work of a process
	// that died is soon taken up.
	claimFor = 20 * time.Second
)

// dueAt says when the keeper must look at a lease that just came into this state.
// Pure: what is due depends on the row alone.
func dueAt(l Lease) time.Time {
	switch l.State {
	case Pending:
		return l.IssueBy
	case Active:
		return l.EndsAt
	case Unconfirmed:
		return l.DiesAt
	default:
		return time.Time{}
	}
}

// A Verdict is what follows from one attempt to end a lease.
type Verdict struct {
	To     State     // the state reached; the lease's own where it stays
	Due    time.Time // when to look again, while not final
	Reason string    // what is written down of the attempt, empty for a plain success
}

// Judge says what follows from an attempt to end l that began at began and was
// answered at now with err. jitter is in [0, 1). Pure.
//
// The rules, in order:
//   - A credential that died by itself is gone, whatever the backend answered.
//   - While a create may still be in flight, an answer about it proves nothing: it
//     may land after we asked. A pending lease stays until an attempt begun after
//     IssueBy.
//   - nil is the backend's word that it is gone.
//   - What cannot be named is not asked for again; it dies at DiesAt.
//   - Everything else is tried again, until one of the above holds.
func Judge(l Lease, began, now time.Time, err error, jitter float64) Verdict {
	switch {
	case err == nil && (l.State != Pending || !began.Before(l.IssueBy)):
		if l.State == Pending {
			return Verdict{To: Failed}
		}
		return Verdict{To: Revoked}
	case !now.Before(l.DiesAt):
		return Verdict{To: Expired, Reason: "it died by itself"}
	case l.State == Pending && began.Before(l.IssueBy):
		return Verdict{To: Pending, Due: l.IssueBy, Reason: "its create may still be in flight"}
	case errors.Is(err, backend.ErrLost):
		return Verdict{To: Unconfirmed, Due: l.DiesAt, Reason: err.Error()}
	default:
		wait := retryAfter(l.Attempts, jitter)
		return Verdict{To: l.State, Due: earlier(now.Add(wait), l.DiesAt), Reason: fmt.Sprintf("%v; next try in %s", err, wait.Round(time.Second/10))}
	}
}

// retryAfter doubles from firstRetry to lastRetry, with full jitter over the upper
// half, so that leases which failed together do not come back together.
func retryAfter(attempts int, jitter float64) time.Duration {
	wait := lastRetry
	if attempts < 6 {
		wait = min(firstRetry<<attempts, lastRetry)
	}
	return wait/2 + time.Duration(jitter*float64(wait/2))
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

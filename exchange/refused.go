package exchange

import (
	"context"
	"errors"

	"github.com/stepkey/stepkey/exchange/audit"
	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/exchange/identity"
	"github.com/stepkey/stepkey/exchange/lease"
	"github.com/stepkey/stepkey/exchange/policy"
)

// A Kind is what sort of no a refusal is; it decides what a client may do next.
type Kind int

const (
	Fault           Kind = iota // something is broken or misconfigured; asking again will not help
	NotBelieved                 // the subject token is bad; a good one may pass
	Misbound                    // the subject token is good, and not for this request and key, or not bound where it must be
	TokenUsed                   // the subject token was exchanged before; a fresh one may pass
	UnknownTask                 // there is no such task
	NotAllowed                  // the policy says no
	TooMany                     // the job holds all it may hold; ending one helps
	Tripped                     // two holders met in one job, and neither keeps anything
	JobOver                     // the job that the subject token names has ended
	KeysUnavailable             // the issuer's keys cannot be had now; later may help
	Unchecked                   // what the task requires cannot be asked now; later may help
	TasksAway                   // the task files of a repository cannot be read now; later may help
	BackendDown                 // the outside system does not answer now; later may help
	StoreDown                   // the exchange's own store does not answer now; later may help
	GaveUp                      // the request's time was over or its sender went away
)

// event is how a refusal of this kind stands in the audit log: only what is about the
// workload's right is a denial.
func (k Kind) event(w identity.Workload) audit.Event {
	switch {
	case w.Issuer == "":
		return audit.Refused
	case k == Misbound || k == TokenUsed || k == UnknownTask || k == NotAllowed || k == TooMany || k == Tripped || k == JobOver:
		return audit.Denied
	default:
		return audit.Unserved
	}
}

// Refused is why there is no credential: the one error of this package, made from
// whatever error the refusing room had.
type Refused struct {
	Kind    Kind
	AuditID string // finds the entry in the audit log; empty when that could not be written
	// Why may be told to the client: all of it where it is about the client's own
	// token or leases; about our policy and our outside systems only where the
	// workload belongs to a listed owner, and else it is empty.
	Why string
	// Rule is which one was broken, as it stands in the audit log. It may be told; empty
	// where no one rule was.
	Rule string

	cause error
}

func (r *Refused) Error() string { return r.cause.Error() }

func (r *Refused) Unwrap() error { return r.cause }

var (
	errMisconfigured = errors.New("the exchange is not set up for this")
	errGrantedMore   = errors.New("the backend granted more than was ordered")
)

// refused classifies cause. The first match counts: an error that says both that
// nothing was created and that the backend is down is the latter, since that is
// what the client can act on.
func refused(cause error, owner bool) *Refused {
	r := &Refused{Kind: Fault, cause: cause}
	var token *identity.Refusal
	var elsewhere *misbound
	var limit *lease.JobLimit
	var denial *policy.Denial
	var unknown *policy.UnknownTask
	var failed *unmet
	var broken *policy.Broken
	switch {
	case errors.As(cause, &token):
		r.Kind, r.Why, r.Rule = NotBelieved, token.Error(), token.Rule
		return r
	case errors.As(cause, &elsewhere):
		r.Kind, r.Why, r.Rule = Misbound, elsewhere.Error(), ruleBinding
		return r
	case errors.As(cause, &limit):
		r.Kind, r.Why = TooMany, limit.Error()
		if len(limit.Strangers) > 0 {
			r.Kind = Tripped
		}
		return r
	case errors.Is(cause, lease.ErrTripped):
		r.Kind, r.Why = Tripped, lease.ErrTripped.Error()
		return r
	case errors.Is(cause, lease.ErrJobOver):
		r.Kind, r.Why = JobOver, lease.ErrJobOver.Error()
		return r
	case errors.As(cause, &failed):
		r.Kind, r.Why, r.Rule = NotAllowed, failed.Error(), failed.required
		return r
	case errors.Is(cause, errUnanswered):
		r.Kind = Unchecked
	case errors.Is(cause, ErrTasksAway):
		r.Kind = TasksAway
	case errors.Is(cause, lease.ErrTokenUsed):
		r.Kind = TokenUsed
	case errors.As(cause, &unknown):
		r.Kind = UnknownTask
	case errors.As(cause, &broken):
		r.Kind = NotAllowed
	case errors.As(cause, &denial):
		r.Kind, r.Why = NotAllowed, denial.Asked // that was let in, and asked for too much: no secret to whoever asked
	case errors.Is(cause, identity.ErrUnavailable):
		r.Kind = KeysUnavailable
	case errors.Is(cause, backend.ErrUnavailable):
		r.Kind = BackendDown
	case errors.Is(cause, lease.ErrUnavailable):
		r.Kind = StoreDown
		return r // of the store itself nobody outside is told more
	case errors.Is(cause, context.Canceled), errors.Is(cause, context.DeadlineExceeded):
		r.Kind = GaveUp
	}
	if owner {
		r.Why = cause.Error()
	}
	if owner && unknown != nil && unknown.Near != "" {
		r.Why = "did you mean " + unknown.Near + "?"
	}
	return r
}

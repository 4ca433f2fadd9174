// Package lease keeps the durable record of each credential, from before it
// exists until after it is gone. It hides how that is stored and sealed, and
// decides what is due when.
//
// It opens no connection but the store's, and calls no backend to make or end
// anything: exchange does, with what only this package can give it (a Pending to
// issue from, a Held to end).
package lease

import (
	"time"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/exchange/policy"
)

// A State is where a lease is in its life. A lease only moves forward.
type State string

const (
	Pending     State = "pending"     // the intent is committed; the credential may be being made
	Active      State = "active"      // the credential exists, its way back is sealed
	Revoking    State = "revoking"    // it is being ended, until confirmed
	Unconfirmed State = "unconfirmed" // it may exist and cannot be named; it dies at DiesAt
	Revoked     State = "revoked"     // final: the backend confirmed the end
	Expired     State = "expired"     // final: it died by itself
	Failed      State = "failed"      // final: nothing was created, confirmed
)

// forward holds every move there is; what is not here is refused by the store.
var forward = map[State][]State{
	Pending:     {Active, Failed, Unconfirmed, Expired},
	Active:      {Revoking, Expired},
	Revoking:    {Revoked, Expired, Unconfirmed},
	Unconfirmed: {Revoked, Expired},
}

// Final: the lease has reached its end and never moves again.
func (s State) Final() bool { return s == Revoked || s == Expired || s == Failed }

func (s State) mayBecome(next State) bool {
	for _, to := range forward[s] {
		if to == next {
			return true
		}
	}
	return false
}

// A Lease is the record of one credential, as it was when read. It holds no secret.
type Lease struct {
	ID      backend.LeaseID
	State   State
	Task    string
	Backend string
	Granted string // the scope in words

	Issuer     string // by its configured name
	Job        string // identity.Job.Key
	JobName    string // in words
	Repository string // numeric id, may be empty
	Run        string // the issuer's id of the run, may be empty
	Attempt    int    // which time the run is run, 0 where unknown
	JobID      string // the issuer's id of the job, may be empty
	Holder     string // RFC 7638 thumbprint of the key that asked, empty for none
	Until      policy.Until
	Step       int // the number of the step it ends with; 0 while not known, FellBack

	Created   time.Time
	IssueBy   time.Time // the latest moment at which Issue may still be in flight
	EndsAt    time.Time // our promise
	DiesAt    time.Time // gone then even if we and everything else stopped
	Revocable bool

	Attempts int       // of ending it, so far without success
	Ended    time.Time // zero until final
	Reason   string    // why it ended or is ending
}

// Usable reports whether the credential is good at now: made, and nobody has begun
// to end it, and its time is not over either.
func (l Lease) Usable(now time.Time) bool { return l.State == Active && now.Before(l.EndsAt) }

// DiesByItself reports whether the credential is gone at DiesAt, whatever happens.
func (l Lease) DiesByItself() bool { return l.DiesAt.Before(backend.Never) }

// overdueAfter is what an end at the deadline may take before somebody should look.
const overdueAfter = 10 * time.Second

// Overdue reports whether the lease should be over by now and is not.
func (l Lease) Overdue(now time.Time) bool {
	return l.ID != "" && !l.State.Final() && now.After(l.EndsAt.Add(overdueAfter))
}

// Why a lease was ended; what the audit log and the summary say.
const (
	ByHolder     = "the holder gave it back"
	ByDeadline   = "its time was over"
	ByJob        = "the holder's job gave back all it held"
	ByJobOver    = "its job was over"
	ByStepOver   = "its step was over"
	ByClientGone = "the client went away before the answer"
	ByNoRecord   = "its activation could not be written down"
	ByIssueFault = "the backend's answer to the order was lost or wrong"
	ByRetry      = "its holder asked again, and got another in its place"
	ByRerun      = "a newer attempt of its run asked"
	ByOperator   = "an operator ended it"
	ByWriteOff   = "an operator wrote it off"
	ByTripwire   = "somebody else in its job asked for the same task"
	ByAccessGone = "the App lost access to its repository"
)

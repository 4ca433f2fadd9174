// Package audit says what is written down of every move: each grant, each
// denial, each end and each failure to end, with its reason.
//
// It hides what an entry looks like. Where entries are kept is the lease store's
// business, since a move and its entry are one transaction; this package depends
// on nothing of ours, so that every room can speak of an entry.
package audit

import (
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/oklog/ulid/v2"
)

// An Event is what happened. Moves of a lease are named after the state that was
// reached, so that the log of one lease reads as its life.
type Event string

const (
	Refused     Event = "refused"     // no workload: the subject token or the request was not accepted
	Denied      Event = "denied"      // a verified workload may not have the task, or not once more
	Unserved    Event = "unserved"    // a verified workload that might have the task did not get it
	Pending     Event = "pending"     // the intent is committed, the subject token used
	Active      Event = "active"      // the credential exists and its way back is sealed
	Tied        Event = "tied"        // the step that ends the lease is known, or that its job does after all
	Revoking    Event = "revoking"    // somebody ended the lease; the backend is being told
	Revoked     Event = "revoked"     // the backend confirmed the end
	Expired     Event = "expired"     // it died by itself
	Failed      Event = "failed"      // nothing was created, confirmed
	Unconfirmed Event = "unconfirmed" // it may exist and cannot be named; it dies by itself
	EndFailed   Event = "end-failed"  // an attempt to end it failed; it will be tried again
)

// An Entry is one line of the audit log. It carries no secret: scopes are in
// words, credentials appear as their SHA-256.
type Entry struct {
	ID         string    `json:"id"` // what a refused client is told, to be found here
	At         time.Time `json:"at"`
	Event      Event     `json:"event"`
	Lease      string    `json:"lease,omitempty"`
	Task       string    `json:"task,omitempty"`
	Issuer     string    `json:"issuer,omitempty"`
	Job        string    `json:"job,omitempty"`        // in words
	Granted    string    `json:"granted,omitempty"`    // in words
	Rule       string    `json:"rule,omitempty"`       // the allow entry, or the rule that refused
	Reason     string    `json:"reason,omitempty"`     // why, for people
	Credential string    `json:"credential,omitempty"` // base64 SHA-256 of the token, as GitHub's audit log names it (hashed_token)
}

// NewID makes an id that sorts by time and cannot be guessed.
func NewID(at time.Time, random io.Reader) (string, error) {
	id, err := ulid.New(ulid.Timestamp(at), random)
	if err != nil {
		return "", fmt.Errorf("making an audit id: %w", err)
	}
	return "audit_" + id.String(), nil
}

// LogValue shows an entry in the service's log as it stands in the audit log.
func (e Entry) LogValue() slog.Value {
	attrs := []slog.Attr{slog.String("id", e.ID), slog.String("event", string(e.Event))}
	for _, a := range []slog.Attr{
		slog.String("lease", e.Lease), slog.String("task", e.Task), slog.String("issuer", e.Issuer),
		slog.String("job", e.Job), slog.String("granted", e.Granted), slog.String("rule", e.Rule), slog.String("reason", e.Reason),
	} {
		if a.Value.String() != "" {
			attrs = append(attrs, a)
		}
	}
	return slog.GroupValue(attrs...)
}

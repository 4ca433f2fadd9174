// Package backend says what a credential is to the exchange, and hides every
// outside system behind that. One folder below holds one kind: github, and later
// postgres, s3, ssh and others. The suite that each must pass is backendtest.
//
// It depends on no driver, no policy and no store: a backend is told what to
// make and what to end, and knows nothing of why.
package backend

import (
	"context"
	"errors"
	"time"

	"github.com/stepkey/stepkey/internal/secret"
	"github.com/stepkey/stepkey/internal/yamlfile"
)

// A Backend makes and ends one kind of credential. Safe for concurrent use.
type Backend interface {
	// Scope reads and checks a task's block. Strict and pure: it asks no network,
	// and what it accepts is all that Issue will ever ask for.
	// Errors are *yamlfile.Error, so that they carry file, line and column.
	Scope(Block) (Scope, error)

	// Terms says, before Issue, when the credential would die by itself at the
	// latest and whether it can be revoked before. Pure.
	Terms(Order) Terms

	// Issue makes the credential. Whatever it creates is named after the lease
	// wherever the outside system allows names. A credential that turns out wider
	// than the order's scope is ended here, before the error is returned.
	// Any error but one that wraps ErrNotCreated means: it may exist. Where it does and
	// can be named, Issued carries the Handle beside the error, so that it can be ended.
	Issue(ctx context.Context, o Order) (Issued, error)

	// Revoke returns nil only when the credential is gone. Idempotent; right also
	// when Issue never ran, never answered, or handle was lost (then it is empty).
	// An error that wraps ErrLost says: it may exist and cannot be named, so
	// asking again will not help and only its own death ends it.
	Revoke(ctx context.Context, lease LeaseID, handle secret.String) error
}

// A Prover is a backend that can look whether a credential is truly gone, by trying
// it where that does nothing.
type Prover interface {
	// Gone is asked after Revoke returned nil. true means that the outside system
	// refuses the credential, false that it takes it, an error that nobody can say.
	Gone(ctx context.Context, lease LeaseID, handle secret.String) (bool, error)
}

// LeaseID names a lease everywhere: in the store, in the audit log and, where
// the outside system allows names, there.
type LeaseID string

// Block is a backend's part of a task file, with its place in that file.
type Block = yamlfile.Node

// A Scope is what a credential can do, in its backend's own terms.
type Scope interface {
	// Covers reports whether everything that other allows, this one allows too.
	// A scope of another backend is never covered.
	Covers(other Scope) bool
	// String says it in words for people: "contents: write on acme/widget".
	String() string
}

// Order is what a lease's committed intent asks a backend for.
type Order struct {
	Lease LeaseID
	Scope Scope
	At    time.Time // when the intent was committed
	Until time.Time // when the lease ends; the credential must not be good for longer than the backend can help
	For   string    // the workload in words, for outside systems that take a description
}

// Terms is what is true of a credential before it exists.
type Terms struct {
	// DiesAt is the latest moment at which the credential would be gone even if
	// the exchange and everything else stopped, clock skew included.
	DiesAt time.Time
	// Revocable: Revoke can end it before DiesAt. Where false, surfaces say "expires".
	Revocable bool
	// Remains is what a confirmed Revoke leaves of it, in words for people: "a session that
	// is open". Empty where it leaves nothing. Surfaces say it wherever they say "revoked".
	Remains string
}

// Never is the moment at which a credential is gone that nothing but Revoke ends. It is the
// last year that RFC 3339 can write, and so far away that nobody gives up before.
var Never = time.Date(9999, time.December, 31, 0, 0, 0, 0, time.UTC)

// Issued is a credential, and the way back.
type Issued struct {
	Values map[string]secret.String // the credential's named values: "token", "username", "password"
	Env    map[string]string        // environment variable -> the name of the value that it usually carries
	// Public are the names of those Values that are no secret: where to log in, and as whom.
	// A job's log shows them. Of two leases of one order they are the same, but for the
	// lease's own name.
	Public  []string
	Handle  secret.String // what Revoke needs; sealed in the store before anyone sees Values
	Granted Scope         // what the outside system says it granted
	DiesAt  time.Time     // the true moment, now that it is known; never after Terms' own
}

var (
	// ErrNotCreated: Issue failed and it is certain that nothing exists.
	ErrNotCreated = errors.New("nothing was created")
	// ErrLost: the credential may exist, and nothing names it any more.
	ErrLost = errors.New("it may exist and cannot be named")
	// ErrUnavailable: the outside system does not answer or asks us to wait. Combine
	// with ErrNotCreated where that is certain; callers may then try again later.
	ErrUnavailable = errors.New("the backend is not available")
)

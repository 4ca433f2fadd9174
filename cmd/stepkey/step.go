package main

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/stepkey/stepkey/exchange/client"
	"github.com/stepkey/stepkey/internal/secret"
)

// step is one start of the program.
type step struct {
	runner
	http  *http.Client
	now   func() time.Time
	waits waits
	// inMemory reports whether a folder is in memory, and so never on a disk.
	inMemory func(path string) bool
	// source is where ID tokens come from. nil: an action's, the runner's service.
	source source
	minted sync.Map // SHA-256 of the tokens without a jti that were used
}

// waits bound everything that waits.
type waits struct {
	firstPause time.Duration // between tries; later ones double, all are jittered by half
	idTokenTry time.Duration
	idTokenAll time.Duration
	tokenTry   time.Duration // longer than the 30 s that the exchange gives a backend to create
	mainAll    time.Duration // the whole of main
	endTry     time.Duration
	endAll     time.Duration // until a revocation is given up
	grace      time.Duration // for the last calls after a signal: the runner kills 10 s after the first
	killAfter  time.Duration // from exec's second signal to the end of its command
	groupEnd   time.Duration // for what the command left running, to end when it is told to
}

func standardWaits() waits {
	return waits{
		firstPause: 500 * time.Millisecond,
		idTokenTry: 10 * time.Second, idTokenAll: 60 * time.Second,
		tokenTry: 40 * time.Second, mainAll: 2 * time.Minute,
		endTry: 15 * time.Second, endAll: 30 * time.Second,
		grace: 4500 * time.Millisecond, killAfter: time.Second, groupEnd: 500 * time.Millisecond,
	}
}

func (w waits) pauses() backoff.RetryOption {
	b := backoff.NewExponentialBackOff()
	b.InitialInterval, b.Multiplier, b.MaxInterval = w.firstPause, 2, 16*w.firstPause
	return backoff.WithBackOff(b)
}

// The names of what main leaves for post. No credential is among them: the lease
// token can end and inspect its lease, nothing else.
const (
	stateStage      = "stage"
	stateExchange   = "exchange"
	stateAudience   = "audience"
	stateSummary    = "summary"
	stateTask       = "task"
	stateLeaseID    = "lease_id"
	stateLeaseToken = "lease_token"
	stateIssuedAt   = "issued_at"
	stateEndsAt     = "ends_at"
	stateDiesAt     = "dies_at"
	stateRevocable  = "revocable"
	stateRemains    = "remains"
)

// Stages of main: how far it got.
const (
	stageStarted = "started" // nothing was asked for
	stageAsked   = "asked"   // a credential may exist
	stageSettled = "settled" // none exists any more, or none ever did
)

// endLease gives one lease back. It tries until endAll, and again for a moment
// when ctx ends before that.
func (s *step) endLease(ctx context.Context, c *client.Client, leaseToken secret.String) (client.Revocation, error) {
	return s.insist(ctx, func(ctx context.Context) (client.Revocation, error) { return c.Revoke(ctx, leaseToken) })
}

// endJob ends this job's leases of one task, for want of a lease token.
func (s *step) endJob(ctx context.Context, c *client.Client, audience, task string) (client.Revocation, error) {
	return s.insist(ctx, func(ctx context.Context) (client.Revocation, error) {
		subject, err := s.idToken(ctx, audience)
		if err != nil {
			return client.Revocation{}, err
		}
		ended, err := c.RevokeJob(ctx, subject, task)
		s.sent(subject, err)
		return ended, err
	})
}

type revocation func(context.Context) (client.Revocation, error)

// insist makes the last calls of a step that was told to stop: when ctx ends,
// the runner still leaves some seconds.
func (s *step) insist(ctx context.Context, end revocation) (client.Revocation, error) {
	ended, err := s.tryToEnd(ctx, end)
	if err == nil || ctx.Err() == nil {
		return ended, err
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.waits.grace)
	defer cancel()
	return s.tryToEnd(last, end)
}

func (s *step) tryToEnd(ctx context.Context, end revocation) (client.Revocation, error) {
	ctx, cancel := context.WithTimeout(ctx, s.waits.endAll)
	defer cancel()
	left := s.waits.endAll
	if until, ok := ctx.Deadline(); ok { // a Retry-After beyond it is not waited for
		left = time.Until(until)
	}
	var last error
	ended, err := backoff.Retry(ctx, func() (ended client.Revocation, _ error) {
		try, cancel := context.WithTimeout(ctx, s.waits.endTry)
		defer cancel()
		ended, last = end(try)
		return ended, again(last)
	}, s.waits.pauses(), backoff.WithMaxElapsedTime(left))
	if err != nil {
		return client.Revocation{}, last
	}
	return ended, nil
}

// again marks an error for backoff: what the exchange refused for good is
// permanent, what it asked to wait for waits as told, and silence may end.
func again(err error) error {
	refused, isRefused := errors.AsType[*client.Error](err)
	_, isSilence := errors.AsType[*client.Unreachable](err)
	switch {
	case err == nil || isSilence:
		return err
	case isRefused && (refused.Status >= 500 || refused.Status == http.StatusTooManyRequests):
		if refused.RetryAfter > 0 {
			return errors.Join(err, &backoff.RetryAfterError{Duration: refused.RetryAfter})
		}
		return err
	}
	return backoff.Permanent(err)
}

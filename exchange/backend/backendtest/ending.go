package backendtest

import (
	"errors"
	"time"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/internal/secret"
)

// revoke ends a credential that can be revoked.
func (s *stage) revoke(o backend.Order, issued backend.Issued) {
	s.Helper()
	if err := s.Backend.Revoke(s.Context(), o.Lease, issued.Handle); err != nil {
		s.silent("the error", err.Error())
		s.Fatalf("revoking: %v", err)
	}
}

func revoking(s *stage) {
	before := s.Live()
	o, issued := s.issue(s.scope(s.harness.Good))
	if !s.Backend.Terms(o).Revocable {
		s.cannotRevoke(o, issued)
		return
	}
	s.revoke(o, issued)
	s.live(before, "after it was revoked")
	if err := s.Use(s.Context(), issued.Values); err == nil {
		s.Errorf("a revoked credential works")
	}
	s.revoke(o, issued)
	s.live(before, "after it was revoked twice")
}

// cannotRevoke: a backend that cannot revoke must not say that it did.
func (s *stage) cannotRevoke(o backend.Order, issued backend.Issued) {
	err := s.Backend.Revoke(s.Context(), o.Lease, issued.Handle)
	if err == nil && s.Use(s.Context(), issued.Values) == nil {
		s.Errorf("the terms say that it cannot be revoked, Revoke says that it is gone, and it works")
	}
	if err != nil {
		s.silent("the error", err.Error())
	}
}

func revokingNothing(s *stage) {
	_, other := s.issue(s.scope(s.harness.Good))
	before := s.Live()
	for range 2 {
		err := s.Backend.Revoke(s.Context(), newLease(), secret.String{})
		if err != nil && !errors.Is(err, backend.ErrLost) {
			s.Errorf("revoking a lease that was never issued: %v; want nil or an error that wraps ErrLost", err)
		}
	}
	s.live(before, "after revoking a lease that was never issued")
	s.use(other)
}

func dying(s *stage) {
	if s.Advance == nil {
		s.Logf("the outside system's clock cannot be moved; its test shows by other means that a credential dies")
		return
	}
	before := s.Live()
	o, issued := s.issue(s.scope(s.harness.Good))
	s.Advance(time.Minute)
	s.use(issued)
	s.Advance(issued.DiesAt.Sub(s.Now()))
	s.live(before, "when it was said to be gone")
	if err := s.Use(s.Context(), issued.Values); err == nil {
		s.Errorf("a credential works at %v and was said to be gone at %v", s.Now(), issued.DiesAt)
	}
	if s.Backend.Terms(o).Revocable {
		s.revoke(o, issued)
	}
}

func lostAnswers(s *stage) {
	if s.harness.Local {
		return // nobody answers, so no answer can be lost
	}
	before := s.Live()
	o := s.order(s.scope(s.harness.Good))
	s.LoseReply()
	issued, err := s.Backend.Issue(s.Context(), o)
	s.live(before+1, "after a creation whose answer was lost")
	if err == nil { // a backend that can name what it makes may find it again
		s.remember(issued)
		s.use(issued)
		s.wellFormed(o, issued)
	} else if s.claims(err, before, "a creation whose answer was lost"); len(issued.Values) > 0 {
		s.Errorf("Issue returned an error, and values as well")
	}
	s.endWithoutHandle(o, before)
}

// endWithoutHandle: the lease names the credential, or nothing does. Either is
// honest; that it is gone while it is not, or to be asked again for ever, is not.
func (s *stage) endWithoutHandle(o backend.Order, before int) {
	s.Helper()
	err := s.Backend.Revoke(s.Context(), o.Lease, secret.String{})
	switch {
	case err == nil:
		s.live(before, "after Revoke said that the lost credential is gone")
	case !errors.Is(err, backend.ErrLost):
		s.Errorf("revoking what was lost: %v; want nil or an error that wraps ErrLost", err)
	}
}

func outages(s *stage) {
	if s.harness.Local {
		return // nothing is asked, so nothing can be down
	}
	scope := s.scope(s.harness.Good)
	o, issued := s.issue(scope)
	before := s.Live()

	s.Down()
	_, err := s.Backend.Issue(s.Context(), s.order(scope))
	if err == nil {
		s.Fatalf("issuing works while the outside system is down")
	}
	if !errors.Is(err, backend.ErrUnavailable) {
		s.Errorf("issuing while it is down: %v; want an error that wraps ErrUnavailable", err)
	}
	revokeErr := s.Backend.Revoke(s.Context(), o.Lease, issued.Handle)
	s.Up()

	s.claims(err, before, "issuing while it is down")
	if !s.Backend.Terms(o).Revocable {
		return
	}
	s.refusedForNow(revokeErr)
	s.revoke(o, issued)
	s.live(before-1, "after revoking when it was up again")
}

func (s *stage) refusedForNow(err error) {
	s.Helper()
	switch {
	case err == nil:
		s.Errorf("Revoke says that a credential is gone while the outside system is down")
	case errors.Is(err, backend.ErrLost):
		s.Errorf("Revoke says that asking again will not help, and the outside system is only down: %v", err)
	default:
		s.silent("the error", err.Error())
	}
}

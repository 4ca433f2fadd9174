package backendtest

import (
	"context"
	"errors"
	"sync"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/internal/secret"
)

// revoke ends a credential that can be revoked.
func (s *stage) revoke(o backend.Order, issued backend.Issued) {
	s.Helper()
	if err := s.Backend.Revoke(s.Context(), o.Lease, issued.Handle); err != nil {
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
	s.refused(issued, "after it was revoked")
	s.revoke(o, issued)
	s.live(before, "after it was revoked twice")
}

// cannotRevoke: a backend that cannot revoke must not say that it did.
func (s *stage) cannotRevoke(o backend.Order, issued backend.Issued) {
	err := s.Backend.Revoke(s.Context(), o.Lease, issued.Handle)
	if err == nil && s.Use(s.Context(), issued.Values) == nil {
		s.Errorf("the terms say that it cannot be revoked, Revoke says that it is gone, and it works")
	}
}

func revokingNothing(s *stage) {
	_, other := s.issue(s.scope(s.harness.Good))
	before := s.Live()
	for range 2 {
		err := s.Backend.Revoke(s.Context(), newLease(), secret.String{})
		if err != nil && (s.harness.Nameless == "" || !errors.Is(err, backend.ErrLost)) {
			s.Errorf("revoking a lease that was never issued: %v; want nil or, where a lease's name finds nothing, an error that wraps ErrLost", err)
		}
	}
	s.live(before, "after revoking a lease that was never issued")
	s.use(other)
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
		s.use(issued)
		s.wellFormed(o, issued)
	} else if s.claims(err, before, "a creation whose answer was lost"); len(issued.Values) > 0 {
		s.Errorf("Issue returned an error, and values as well")
	}
	s.endWithoutHandle(o, before)
}

// endWithoutHandle: the lease names the credential, or by its nature nothing does. That it
// is gone while it is not, or to be asked again for ever, is never honest; and that it is
// lost is not where a look would have found it.
func (s *stage) endWithoutHandle(o backend.Order, before int) {
	s.Helper()
	err := s.Backend.Revoke(s.Context(), o.Lease, secret.String{})
	switch why := s.harness.Nameless; {
	case why == "" && err == nil:
		s.live(before, "after Revoke said that the lost credential is gone")
	case why == "":
		s.Errorf("revoking what was lost: %v; want it found by its lease's name, and ended", err)
	case err == nil:
		s.Errorf("revoking what was lost says that it is gone; the harness says that nothing finds it: %s", why)
	case !errors.Is(err, backend.ErrLost):
		s.Errorf("revoking what was lost: %v; want an error that wraps ErrLost", err)
	}
}

// lostHandles: the answer came, and the store forgot it, or never had it.
func lostHandles(s *stage) {
	before := s.Live()
	o, issued := s.issue(s.scope(s.harness.Good))
	s.endWithoutHandle(o, before)
	if s.Backend.Terms(o).Revocable {
		s.revoke(o, issued) // the handle that turns up again is good still
		s.live(before, "after it was revoked by its lease's name or by its handle")
		s.refused(issued, "after it was revoked by its lease's name or by its handle")
	}
}

func lostEnds(s *stage) {
	before := s.Live()
	o, issued := s.issue(s.scope(s.harness.Good))
	if s.harness.Local || !s.Backend.Terms(o).Revocable {
		return // nobody answers
	}
	if s.LoseEnd == nil {
		s.Fatalf("the harness brings no LoseEnd, and credentials can be revoked")
	}
	lost := s.LoseEnd()
	err := s.Backend.Revoke(s.Context(), o.Lease, issued.Handle)
	if !lost() {
		s.Errorf("the harness's LoseEnd lost no answer, so it proves nothing; Revoke said: %v", err)
	}
	s.live(before, "after a revocation whose answer was lost")
	if errors.Is(err, backend.ErrLost) {
		s.Errorf("Revoke says that asking again will not help, and only an answer was lost: %v", err)
	}
	s.revoke(o, issued)
	s.refused(issued, "after it was revoked")
}

func overRevoking(s *stage) {
	before := s.Live()
	o, issued := s.issue(s.scope(s.harness.Good))
	if !s.Backend.Terms(o).Revocable {
		return
	}
	ctx, cancel := context.WithCancel(s.Context())
	cancel()
	err := s.Backend.Revoke(ctx, o.Lease, issued.Handle)
	switch {
	case err == nil:
		s.live(before, "after Revoke said, to a request that is over, that it is gone")
		s.refused(issued, "after Revoke said, to a request that is over, that it is gone")
	case errors.Is(err, backend.ErrLost):
		s.Errorf("Revoke says that asking again will not help, and only the request was over: %v", err)
	}
	s.revoke(o, issued)
	s.live(before, "after it was revoked by a request that is not over")
}

// revokingTogether: replicas, and the job's end beside the deadline, revoke one lease at one
// time. Who loses may say that it did not work, but not that it did.
func revokingTogether(s *stage) {
	const many = 4
	before := s.Live()
	o, issued := s.issue(s.scope(s.harness.Good))
	if !s.Backend.Terms(o).Revocable {
		return
	}
	answers := make(chan error, many)
	var all sync.WaitGroup
	for range many {
		all.Go(func() {
			err := s.Backend.Revoke(s.Context(), o.Lease, issued.Handle)
			if err == nil {
				s.refused(issued, "and one of several that revoked it at one time was told that it is gone")
			}
			answers <- err
		})
	}
	all.Wait()
	close(answers)
	var faults []error
	for err := range answers {
		if err != nil {
			faults = append(faults, err)
		}
	}
	if err := errors.Join(faults...); errors.Is(err, backend.ErrLost) || len(faults) == many {
		s.Errorf("%d revoked one lease at one time; want one of them to end it, and none to hear that it is lost: %v", many, err)
	}
	s.revoke(o, issued)
	s.live(before, "after several revoked it at one time")
}

func holding(s *stage) {
	o, issued := s.issue(s.scope(s.harness.Good))
	terms := s.Backend.Terms(o)
	if why := s.harness.NeverHeld; why != "" {
		if terms.Remains != "" {
			s.Errorf("the terms say that %s remains; the harness says that nothing can: %s", terms.Remains, why)
		}
		return
	}
	goesOn, err := s.Hold(s.Context(), issued.Values)
	if err != nil || !goesOn() {
		s.Fatalf("the harness's Hold keeps nothing open, so it proves nothing: %v", err)
	}
	if !terms.Revocable {
		return
	}
	s.revoke(o, issued)
	switch open := goesOn(); {
	case open && terms.Remains == "":
		s.Errorf("what was kept open goes on after it was revoked, and the terms say that nothing remains")
	case !open && terms.Remains != "":
		s.Errorf("the terms say that %s remains, and it ended", terms.Remains)
	}
}

func proving(s *stage) {
	o, issued := s.issue(s.scope(s.harness.Good))
	if why := s.harness.Unproven; why != "" {
		if s.prover == nil {
			return
		}
		if gone, err := s.gone(o, issued); err == nil {
			s.Errorf("Gone says %t; the harness says that nobody can look: %s", gone, why)
		}
		return
	}
	if gone, err := s.gone(o, issued); gone || err != nil {
		s.Errorf("Gone says %t of a credential that lives: %v", gone, err)
	}
	if s.Backend.Terms(o).Revocable {
		s.revoke(o, issued)
		if gone, err := s.gone(o, issued); !gone || err != nil {
			s.Errorf("Gone says %t of a credential that was revoked: %v", gone, err)
		}
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
	if s.prover != nil {
		if gone, err := s.gone(o, issued); err == nil {
			s.Errorf("Gone says %t while the outside system is down", gone)
		}
	}
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
	}
}

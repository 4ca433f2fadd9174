package backendtest

import (
	"context"
	"errors"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/internal/secret"
)

func credentialsWork(s *stage) {
	before := s.Live()
	o, issued := s.issue(s.scope(s.harness.Good))
	s.live(before+1, "after one was issued")
	s.use(issued)
	if err := s.Overstep(s.Context(), issued.Values); err == nil {
		s.Errorf("a credential for %s does more than that", o.Scope)
	}
	s.wellFormed(o, issued)

	_, wide := s.issue(s.scope(s.harness.Wider))
	if err := s.Overstep(s.Context(), wide.Values); err != nil {
		s.Errorf("the harness's Overstep fails even with the wider scope, so it proves nothing: %v", err)
	}
}

// narrowing: what a task's block allows is not what somebody gets who asked for less.
func narrowing(s *stage) {
	exceed := s.Exceed
	if exceed == nil {
		exceed = s.Use
	}
	o, less := s.issue(s.scope(s.harness.Narrower))
	s.wellFormed(o, less)
	if err := s.UseLess(s.Context(), less.Values); err != nil {
		s.Errorf("a credential for %s does not work: %v", o.Scope, err)
	}
	if exceed(s.Context(), less.Values) == nil || s.Overstep(s.Context(), less.Values) == nil {
		s.Errorf("a credential for %s does more than that", o.Scope)
	}
	_, good := s.issue(s.scope(s.harness.Good))
	if err := exceed(s.Context(), good.Values); err != nil {
		s.Errorf("what exceeds the narrower scope fails even with the good one, so it proves nothing: %v", err)
	}
}

var variable = regexp.MustCompile(`^[A-Z_][A-Z0-9_]*$`)

// wellFormed checks what an Issued says of itself.
func (s *stage) wellFormed(o backend.Order, issued backend.Issued) {
	s.Helper()
	if len(issued.Values) == 0 {
		s.Errorf("the credential has no values")
	}
	for name, value := range issued.Values {
		if name == "" || value.Empty() {
			s.Errorf("the value %q is empty or has no name", name)
		}
	}
	for name, value := range issued.Env {
		if _, ok := issued.Values[value]; !ok || !variable.MatchString(name) {
			s.Errorf("the variable %q carries the value %q, which the credential does not have, or no shell can name it", name, value)
		}
	}
	if issued.Granted == nil {
		s.Fatalf("what was granted is not said")
	}
	if !o.Scope.Covers(issued.Granted) {
		s.Errorf("ordered was %s, granted is %s, which is more", o.Scope, issued.Granted)
	}
	s.silent("what was granted", issued.Granted.String())
	s.keepsTerms(o, issued)
}

func (s *stage) keepsTerms(o backend.Order, issued backend.Issued) {
	s.Helper()
	terms := s.Backend.Terms(o)
	if issued.DiesAt.IsZero() || issued.DiesAt.After(terms.DiesAt) {
		s.Errorf("the terms promised that it is gone at %v, and it dies at %v", terms.DiesAt, issued.DiesAt)
	}
}

func foreignScopes(s *stage) {
	before := s.Live()
	_, err := s.Backend.Issue(s.Context(), s.order(foreign{}))
	if !errors.Is(err, backend.ErrNotCreated) {
		s.Errorf("an order with another backend's scope: %v; want an error that wraps ErrNotCreated", err)
	}
	s.live(before, "after an order with another backend's scope")
}

func oldOrders(s *stage) {
	before := s.Live()
	o := s.order(s.scope(s.harness.Good))
	o.At, o.Until = o.At.Add(-48*time.Hour), o.Until.Add(-48*time.Hour)
	issued, err := s.Backend.Issue(s.Context(), o)
	if err != nil {
		s.claims(err, before, "an order from two days ago")
		return
	}
	s.keepsTerms(o, issued)
	if issued.DiesAt.Before(s.Now()) {
		s.live(before, "a credential that is said to be dead already")
	}
}

// claims fails where an error says that nothing was created and something was.
func (s *stage) claims(err error, before int, when string) {
	s.Helper()
	if !errors.Is(err, backend.ErrNotCreated) {
		return
	}
	if errors.Is(err, backend.ErrLost) {
		s.Errorf("%s: the error says both that nothing was created and that something may exist: %v", when, err)
	}
	s.live(before, when+", and the error says that nothing was created")
}

func ownCredentials(s *stage) {
	scope := s.scope(s.harness.Good)
	first, one := s.issue(scope)
	second, two := s.issue(scope)
	if one.Handle.Reveal() != "" && one.Handle.Reveal() == two.Handle.Reveal() {
		s.Errorf("two orders were given one handle")
	}
	if s.Backend.Terms(first).Revocable {
		s.revoke(first, one)
	}
	s.use(two)
	s.publicIsNoSecret(first, one, second, two)
}

// publicIsNoSecret: what two leases of one order have in common, but for their names, opens
// nothing; and something of a credential is its own.
func (s *stage) publicIsNoSecret(first backend.Order, one backend.Issued, second backend.Order, two backend.Issued) {
	s.Helper()
	own := false
	for name, value := range one.Values {
		own = own || !slices.Contains(one.Public, name) && value.Reveal() != two.Values[name].Reveal()
	}
	if !own {
		s.Errorf("two orders were given the same secrets")
	}
	for n, name := range one.Public {
		value, there := one.Values[name]
		switch {
		case !there || slices.Contains(one.Public[:n], name):
			s.Errorf("%q is said to be no secret, twice or without being a value", name)
		case nameless(value, first) != nameless(two.Values[name], second):
			s.Errorf("the value %q is said to be no secret, and two leases have different ones", name)
		}
	}
}

// nameless is a value without the name of its lease, in whatever spelling.
func nameless(value secret.String, o backend.Order) string {
	_, id, _ := strings.Cut(string(o.Lease), "_")
	return regexp.MustCompile("(?i)"+regexp.QuoteMeta(id)).ReplaceAllString(value.Reveal(), "LEASE")
}

func manyAtOnce(s *stage) {
	const many = 8
	before := s.Live()
	scope := s.scope(s.harness.Good)
	faults := make(chan error, many)
	var all sync.WaitGroup
	for range many {
		all.Go(func() { faults <- s.wholeLife(s.order(scope)) })
	}
	all.Wait()
	close(faults)
	for err := range faults {
		if err != nil {
			s.Errorf("among %d at once: %v", many, err)
		}
	}
	if s.Backend.Terms(s.order(scope)).Revocable {
		s.live(before, "after all were revoked")
	}
}

func (s *stage) wholeLife(o backend.Order) error {
	ctx := s.Context()
	issued, err := s.Backend.Issue(ctx, o)
	if err != nil {
		return err
	}
	if err := s.Use(ctx, issued.Values); err != nil {
		return err
	}
	if !s.Backend.Terms(o).Revocable {
		return nil
	}
	return s.Backend.Revoke(ctx, o.Lease, issued.Handle)
}

func cancelled(s *stage) {
	ctx, cancel := context.WithCancel(s.Context())
	cancel()
	before := s.Live()
	issued, err := s.Backend.Issue(ctx, s.order(s.scope(s.harness.Good)))
	if err == nil {
		s.use(issued) // a backend that asks nobody need not look at the context
		return
	}
	s.claims(err, before, "issuing for a request that is over")
}

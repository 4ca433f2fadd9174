package backendtest

import (
	"encoding/base64"
	"encoding/json"
	"strings"
	"time"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/internal/secret"
)

func dying(s *stage) {
	before := s.Live()
	o, issued := s.issue(s.scope(s.harness.Good))
	if s.Advance == nil {
		s.diesBy(issued, issued.DiesAt, "was said to be gone at")
		return
	}
	s.Advance(time.Minute)
	s.use(issued)
	s.Advance(issued.DiesAt.Sub(s.Now()))
	s.live(before, "when it was said to be gone")
	s.refused(issued, "when it was said to be gone")
	if s.Backend.Terms(o).Revocable {
		s.revoke(o, issued)
	}
}

// lifetimes: terms that are kept are worth little if they are of ten years. Two orders are
// of two lengths, so that a life which follows neither is seen.
func lifetimes(s *stage) {
	before := s.Live()
	for _, length := range []time.Duration{10 * time.Minute, 25 * time.Minute} {
		o := s.order(s.scope(s.harness.Good))
		o.Until = o.At.Add(length)
		terms := s.Backend.Terms(o)
		if why := s.harness.Endless; why != "" {
			if !terms.Revocable || !terms.DiesAt.Equal(backend.Never) {
				s.Errorf("the terms are %+v; the harness says that nothing but Revoke ends it: %s", terms, why)
			}
			continue
		}
		latest := o.Until.Add(s.harness.Overtime)
		if terms.DiesAt.After(latest) {
			s.Errorf("an order until %v has a credential until %v; the outside system explains no more than %v", o.Until, terms.DiesAt, latest)
		}
		issued, err := s.Backend.Issue(s.Context(), o)
		if err != nil {
			s.Fatalf("issuing for %v: %v", length, err)
		}
		if s.Advance == nil {
			s.diesBy(issued, latest, "the outside system explains no more than")
			continue
		}
		s.Advance(latest.Sub(s.Now()))
		s.live(before, "after all that the outside system explains")
		s.refused(issued, "after all that the outside system explains")
	}
}

// diesBy reads when a credential dies where no clock can be moved to see it.
func (s *stage) diesBy(issued backend.Issued, latest time.Time, why string) {
	s.Helper()
	if s.Dies == nil {
		return // nothing but Revoke ends it
	}
	dies, err := s.Dies(issued.Values)
	if err != nil || !dies.After(s.Now()) {
		s.Errorf("the harness's Dies does not say when a credential dies that lives, so it proves nothing: %v, %v", dies, err)
	}
	if dies.After(latest) {
		s.Errorf("a credential dies at %v, and %s %v", dies, why, latest)
	}
}

// DiesAsSaid reads when a token dies that is a JWT. Its signature is its server's business.
func DiesAsSaid(token secret.String) (time.Time, error) {
	parts := strings.Split(token.Reveal(), ".")
	text, err := base64.RawURLEncoding.DecodeString(parts[len(parts)/2])
	if err != nil {
		return time.Time{}, err
	}
	var says struct{ Exp int64 }
	err = json.Unmarshal(text, &says)
	return time.Unix(says.Exp, 0), err
}

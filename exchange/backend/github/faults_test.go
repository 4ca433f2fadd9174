package github_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/internal/githubsim"
)

// outcome is what an error may claim.
type outcome struct{ certain, unavailable bool }

const rateLimit = `{"message":"You have exceeded a secondary rate limit."}`

// A call, a fault, and what Issue may say. certain: ErrNotCreated.
var issueFaults = []struct {
	name  string
	call  func(*http.Request) bool
	fault githubsim.Fault
	want  outcome
	live  int
}{
	{"looking: cut", looks, githubsim.Fault{DropBefore: true}, outcome{true, true}, 0},
	{"looking: 500", looks, githubsim.Fault{Before: 500}, outcome{true, true}, 0},
	{"looking: no JSON", looks, githubsim.Fault{Before: 200, Body: `<html>`}, outcome{true, true}, 0},
	{"looking: no installation", looks, githubsim.Fault{Before: 200, Body: `{}`}, outcome{true, true}, 0},
	{"looking: an enterprise", looks, githubsim.Fault{Before: 200, Body: `{"id":7,"target_type":"Enterprise"}`}, outcome{true, false}, 0},
	{"looking: moved", looks, githubsim.Fault{Before: 301, Header: http.Header{"Location": {"/elsewhere"}}}, outcome{true, false}, 0},
	{"looking: limited", looks, githubsim.Fault{Before: 403, Header: http.Header{"Retry-After": {"60"}}, Body: rateLimit}, outcome{true, true}, 0},
	{"creating: cut before", creates, githubsim.Fault{DropBefore: true}, outcome{false, true}, 0},
	{"creating: cut after", creates, githubsim.Fault{Drop: true}, outcome{false, true}, 1},
	{"creating: 500 before", creates, githubsim.Fault{Before: 500}, outcome{false, true}, 0},
	{"creating: 502 after", creates, githubsim.Fault{After: 502}, outcome{false, true}, 1},
	{"creating: 408 after", creates, githubsim.Fault{After: 408}, outcome{false, true}, 1},
	{"creating: 200", creates, githubsim.Fault{After: 200, Body: `{}`}, outcome{false, true}, 1},
	{"creating: no JSON", creates, githubsim.Fault{After: 201, Body: `{"token":"ghs_cut`}, outcome{false, true}, 1},
	{"creating: no token", creates, githubsim.Fault{After: 201, Body: `{}`}, outcome{false, true}, 1},
	{"creating: a token of two lines", creates, githubsim.Fault{After: 201, Body: `{"token":"ghs_a\nb"}`}, outcome{false, true}, 1},
	{"creating: 401", creates, githubsim.Fault{Before: 401}, outcome{true, false}, 0},
	{"creating: 429 for long", creates, githubsim.Fault{Before: 429, Header: http.Header{"Retry-After": {"90"}}}, outcome{true, true}, 0},
	{"creating: limited, no time said", creates, githubsim.Fault{Before: 403, Body: rateLimit}, outcome{true, true}, 0},
	{"creating: limit spent", creates, githubsim.Fault{Before: 403, Header: http.Header{
		"X-Ratelimit-Remaining": {"0"}, "X-Ratelimit-Reset": {"1795450800"}}}, outcome{true, true}, 0},
}

func looks(r *http.Request) bool { return strings.HasSuffix(r.URL.Path, "/installation") }

func TestAFaultAtAnyCallOfIssueIsClaimedForWhatItIs(t *testing.T) {
	for _, c := range issueFaults {
		t.Run(c.name, func(t *testing.T) {
			s := stage(t, setting{})
			s.hub.Fault(func(r *http.Request) *githubsim.Fault {
				if c.call(r) {
					return &c.fault
				}
				return nil
			})
			_, err := s.backend.Issue(t.Context(), s.order(good))
			got := outcome{errors.Is(err, backend.ErrNotCreated), errors.Is(err, backend.ErrUnavailable)}
			if err == nil || got != c.want {
				t.Errorf("claims %+v, want %+v: %v", got, c.want, err)
			}
			if live := len(s.hub.LiveTokens()); live != c.live {
				t.Errorf("%d tokens are alive, want %d: a creation is never tried twice", live, c.live)
			}
			if err != nil && strings.Contains(err.Error(), "ghs_") {
				t.Errorf("the error holds a token: %v", err)
			}
		})
	}
}

func TestARateLimitSaysUntilWhen(t *testing.T) {
	s := stage(t, setting{})
	s.hub.Fault(func(*http.Request) *githubsim.Fault {
		return &githubsim.Fault{Before: 429, Header: http.Header{"Retry-After": {"90"}}}
	})
	_, err := s.backend.Issue(t.Context(), s.order(good))
	if err == nil || !strings.Contains(err.Error(), "wait until 2026-11-23T15:01:30Z") {
		t.Errorf("%v", err)
	}
	s.hub.Fault(nil)
	if _, err := s.backend.Issue(t.Context(), s.order(good)); err != nil {
		t.Errorf("one limit stops what GitHub would do again: %v", err)
	}
}

func TestWhatPassesByItselfIsTriedAgain(t *testing.T) {
	for name, c := range map[string]struct {
		call  func(*http.Request) bool
		fault githubsim.Fault
	}{
		"looking: 502":              {looks, githubsim.Fault{Before: 502}},
		"looking: cut":              {looks, githubsim.Fault{DropBefore: true}},
		"creating: limited briefly": {creates, githubsim.Fault{Before: 429, Header: http.Header{"Retry-After": {"0"}}}},
	} {
		s := stage(t, setting{})
		times := 0
		s.hub.Fault(func(r *http.Request) *githubsim.Fault {
			if !c.call(r) || times == 2 {
				return nil
			}
			times++
			return &c.fault
		})
		if _, err := s.backend.Issue(t.Context(), s.order(good)); err != nil || len(s.hub.Issued()) != 1 {
			t.Errorf("%s, twice: %v", name, err)
		}
	}
}

func TestRevokeIsHonestUnderEveryFault(t *testing.T) {
	for _, c := range []struct {
		fault githubsim.Fault
		gone  bool
	}{
		{githubsim.Fault{DropBefore: true}, false},
		{githubsim.Fault{Before: 500}, false},
		{githubsim.Fault{After: 500}, false}, // done, but nobody said so
		{githubsim.Fault{Before: 403, Body: `{"message":"This installation has been suspended"}`}, false},
		{githubsim.Fault{Before: 404}, false},
		{githubsim.Fault{Before: 429, Header: http.Header{"Retry-After": {"90"}}}, false},
		{githubsim.Fault{Before: 200}, false},
	} {
		s := stage(t, setting{})
		issued, err := s.backend.Issue(t.Context(), s.order(good))
		if err != nil {
			t.Fatal(err)
		}
		s.hub.Fault(func(*http.Request) *githubsim.Fault { return &c.fault })
		err = s.backend.Revoke(t.Context(), "lease_1", issued.Handle)
		if (err == nil) != c.gone || errors.Is(err, backend.ErrLost) || strings.Contains(fmt.Sprint(err), "ghs_") {
			t.Errorf("%+v: %v", c.fault, err)
		}
		s.hub.Fault(nil)
		if err := s.backend.Revoke(t.Context(), "lease_1", issued.Handle); err != nil || len(s.hub.LiveTokens()) != 0 {
			t.Errorf("%+v, later: %v", c.fault, err)
		}
	}
}

func TestATokenTooNewToBeKnownIsNotTakenForGone(t *testing.T) {
	for lag := range 4 {
		s := stage(t, setting{lag: lag})
		issued, err := s.backend.Issue(t.Context(), s.order(good))
		if err != nil {
			t.Fatal(err)
		}
		if err := s.backend.Revoke(t.Context(), "lease_1", issued.Handle); err != nil || len(s.hub.LiveTokens()) != 0 {
			t.Errorf("lag %d: Revoke says %v, %d tokens are alive", lag, err, len(s.hub.LiveTokens()))
		}
	}
}

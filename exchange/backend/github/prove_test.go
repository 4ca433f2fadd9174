package github_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/stepkey/stepkey/internal/githubsim"
)

func TestGitHubItselfSaysWhetherATokenIsGone(t *testing.T) {
	for name, format := range map[string]githubsim.TokenFormat{"stateless": githubsim.Stateless, "opaque": githubsim.Opaque} {
		t.Run(name, func(t *testing.T) {
			s := stage(t, setting{format: format})
			issued, err := s.backend.Issue(t.Context(), s.order(good))
			if err != nil {
				t.Fatal(err)
			}
			if gone, err := s.backend.Gone(t.Context(), "lease_1", issued.Handle); gone || err != nil {
				t.Errorf("while it lives: %v, %v", gone, err)
			}
			if err := s.backend.Revoke(t.Context(), "lease_1", issued.Handle); err != nil {
				t.Fatal(err)
			}
			if gone, err := s.backend.Gone(t.Context(), "lease_1", issued.Handle); !gone || err != nil {
				t.Errorf("after its end: %v, %v", gone, err)
			}
		})
	}
}

func TestATokenIsGoneOnlyWhereGitHubSaysSo(t *testing.T) {
	for _, c := range []struct {
		fault githubsim.Fault
		gone  bool
		known bool
	}{
		{githubsim.Fault{Before: 401}, true, true},
		{githubsim.Fault{Before: 403, Body: `{"message":"This installation has been suspended"}`}, false, true},
		{githubsim.Fault{Before: 404}, false, true},
		{githubsim.Fault{Before: 302, Header: http.Header{"Location": {"/elsewhere"}}}, false, true},
		{githubsim.Fault{Before: 500}, false, false},
		{githubsim.Fault{Before: 429, Header: http.Header{"Retry-After": {"90"}}}, false, false},
		{githubsim.Fault{Before: 403, Header: http.Header{"Retry-After": {"60"}}, Body: rateLimit}, false, false},
		{githubsim.Fault{DropBefore: true}, false, false},
	} {
		s := stage(t, setting{})
		issued, err := s.backend.Issue(t.Context(), s.order(good))
		if err != nil {
			t.Fatal(err)
		}
		s.hub.Fault(func(*http.Request) *githubsim.Fault { return &c.fault })
		gone, err := s.backend.Gone(t.Context(), "lease_1", issued.Handle)
		if gone != c.gone || (err == nil) != c.known || strings.Contains(fmt.Sprint(err), "ghs_") {
			t.Errorf("%+v: gone %v, %v", c.fault, gone, err)
		}
	}
}

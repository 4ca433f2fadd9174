package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/stepkey/stepkey/exchange/client"
	"github.com/stepkey/stepkey/internal/secret"
)

const statusAbout = `The lease token is given as to stepkey revoke: in a file, in the variable
STEPKEY_LEASE, or on stdin. It prints what the exchange knows of the lease:
whether it is active, what it can do, when it ends, and once it is over, since
when and why.

Examples
  stepkey status --lease-file credential.json
  while stepkey status --quiet >/dev/null; do sleep 10; done

` + scriptCodes + `
  5  the lease is over, or the exchange does not know it`

type statusFlags struct {
	exchangeFlags
	leaseFile string
}

func statusCommand() command {
	return command{
		name: "status", summary: "Tell what became of a credential.", about: statusAbout,
		define: func(flags *flag.FlagSet) action {
			var f statusFlags
			f.define(flags)
			flags.StringVar(&f.leaseFile, "lease-file", "", "The `FILE` with the lease token; - is stdin.")
			return func(ctx context.Context, s *step, args []string) error {
				s.speakAs(os.Stderr, f.quiet)
				return s.ended(s.status(ctx, f, args), explain)
			}
		},
	}
}

// leaseStatus is what status prints. Members without a value are left out; times are RFC
// 3339, UTC.
type leaseStatus struct {
	Active  bool   `json:"active"`
	LeaseID string `json:"lease_id,omitempty"`
	State   string `json:"state,omitempty"`
	Task    string `json:"task,omitempty"`
	Job     string `json:"job,omitempty"` // in words
	Granted string `json:"granted,omitempty"`
	EndsAt  string `json:"ends_at,omitempty"`
	DiesAt  string `json:"dies_at,omitempty"`
	EndedAt string `json:"ended_at,omitempty"`
	Reason  string `json:"reason,omitempty"`
}

func (s *step) status(ctx context.Context, f statusFlags, args []string) error {
	if len(args) > 0 {
		return misuse("status takes flags only, and a lease token is never an argument: everyone on the machine can read those")
	}
	c, err := f.dial(s)
	if err != nil {
		return err
	}
	token, err := leaseToken(s.getenv, f.leaseFile, os.Stdin)
	if err != nil {
		return err
	}
	if err := s.mask(token.Reveal()); err != nil {
		return fmt.Errorf("masking the lease token: %w", err)
	}
	told, err := s.introspect(ctx, c, token)
	if err != nil {
		return err
	}
	if at, err := time.Parse(time.RFC3339, told.DiesAt); err == nil && !diesByItself(at) {
		told.DiesAt = ""
	}
	if err := printJSON(os.Stdout, leaseStatus{
		Active: told.Active, LeaseID: told.LeaseID, State: told.State, Task: told.Scope, Job: told.Sub, Granted: told.Granted,
		EndsAt: told.EndsAt, DiesAt: told.DiesAt, EndedAt: told.EndedAt, Reason: told.Reason,
	}); err != nil {
		return err
	}
	if !told.Active {
		return exit(exitOver)
	}
	return nil
}

// introspect asks as patiently as a revocation: asking changes nothing.
func (s *step) introspect(ctx context.Context, c *client.Client, token secret.String) (client.Introspection, error) {
	ctx, cancel := context.WithTimeout(ctx, s.waits.endAll)
	defer cancel()
	var last error
	told, err := backoff.Retry(ctx, func() (told client.Introspection, _ error) {
		try, cancel := context.WithTimeout(ctx, s.waits.endTry)
		defer cancel()
		told, last = c.Introspect(try, token)
		return told, again(last)
	}, s.waits.pauses(), backoff.WithMaxElapsedTime(s.waits.endAll))
	if err != nil {
		return client.Introspection{}, last
	}
	return told, nil
}

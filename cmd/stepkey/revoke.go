package main

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"os"

	"github.com/stepkey/stepkey/exchange/client"
)

const revokeAbout = `The lease token says which credential: what stepkey issue printed, or the token
alone, from a file, from the variable STEPKEY_LEASE, or on stdin. It is never an
argument. Without it, --job ends all that this job holds of one task; that takes
an ID token as getting it did.

It prints which leases ended, and how. One that had ended before is no error.

Examples
  stepkey revoke --lease-file credential.json
  printf %s "$STEPKEY_LEASE" | stepkey revoke
  stepkey revoke --job --task publish-release

` + scriptCodes

type revokeFlags struct {
	exchangeFlags
	leaseFile         string
	job               bool
	task              string
	audience, idToken string
}

func revokeCommand() command {
	return command{
		name: "revoke", summary: "Give a credential back.", about: revokeAbout,
		define: func(flags *flag.FlagSet) action {
			var f revokeFlags
			f.define(flags)
			flags.StringVar(&f.leaseFile, "lease-file", "", "The `FILE` with the lease token; - is stdin.")
			flags.BoolVar(&f.job, "job", false, "End what this job holds of --task, for want of a lease token.")
			flags.StringVar(&f.task, "task", "", "With --job: the `TASK` whose leases end.")
			flags.StringVar(&f.audience, "audience", "", "With --job: the audience (`TEXT`) of the ID token. Default: the exchange's URL.")
			flags.StringVar(&f.idToken, "id-token", "", "With --job: the `SOURCE` of the ID token. Default: what the environment offers.")
			return func(ctx context.Context, s *step, args []string) error {
				s.speakAs(os.Stderr, f.quiet)
				return s.ended(s.revoke(ctx, f, args), explainRevoke)
			}
		},
	}
}

func (s *step) revoke(ctx context.Context, f revokeFlags, args []string) error {
	switch {
	case len(args) > 0:
		return misuse("revoke takes flags only, and a lease token is never an argument: everyone on the machine can read those")
	case f.job && f.leaseFile != "":
		return misuse("--job is for want of a lease token: leave out --lease-file, or --job")
	case !f.job && (f.task != "" || f.audience != "" || f.idToken != ""):
		return misuse("--task, --audience and --id-token are for --job; a lease token needs none of them")
	}
	c, err := f.dial(s)
	if err != nil {
		return err
	}
	var revoked client.Revocation
	if f.job {
		revoked, err = s.revokeJob(ctx, c, f)
	} else {
		revoked, err = s.revokeLease(ctx, c, f.leaseFile)
	}
	if err != nil {
		return err
	}
	if revoked.Leases == nil {
		revoked.Leases = []client.Ended{}
	}
	s.info("%s", list(revoked.Leases))
	return printJSON(os.Stdout, revoked)
}

// explainRevoke adds what the exchange does without us.
func explainRevoke(err error) *trouble {
	told := explainEnd(err)
	if takenOver(err) {
		told.text = sentence(told.text) + " The exchange goes on until that is confirmed"
	}
	return told
}

func (s *step) revokeLease(ctx context.Context, c *client.Client, file string) (client.Revocation, error) {
	token, err := leaseToken(s.getenv, file, os.Stdin)
	if err != nil {
		return client.Revocation{}, err
	}
	if err := s.mask(token.Reveal()); err != nil {
		return client.Revocation{}, fmt.Errorf("masking the lease token: %w", err)
	}
	return s.endLease(ctx, c, token)
}

func (s *step) revokeJob(ctx context.Context, c *client.Client, f revokeFlags) (client.Revocation, error) {
	task, err := taskName(f.task)
	if err != nil {
		return client.Revocation{}, misuse("--job needs --task: " + err.Error())
	}
	if err := s.chooseSource(f.idToken); err != nil {
		return client.Revocation{}, err
	}
	return s.endJob(ctx, c, cmp.Or(f.audience, c.URL()), task)
}

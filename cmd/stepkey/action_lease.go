package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/stepkey/stepkey/exchange/client"
)

// closeLease ends a lease of this job before the job does. The lease's own token is the
// other step's secret; what this step has is the job's ID token, and the exchange ends by
// it only what this very job holds. Nothing less than a confirmed end is a success: what
// follows may rely on it.
func (s *step) closeLease(ctx context.Context, id string) error {
	if err := leaseID(id); err != nil {
		return err
	}
	c, err := s.dial(s.gh.GetInput("exchange"))
	if err != nil {
		return err
	}
	summary, err := s.yesNo("summary", true)
	if err != nil {
		return err
	}
	began := s.now()
	ended, err := s.endJobsLease(ctx, c, s.audience(c), id)
	if err != nil {
		return stillOpen(id, err)
	}
	if len(ended.Leases) == 0 {
		return badInput("lease", "names no lease of this job: give the output lease-id of the step that got it, in this same job, as in `lease: ${{ steps.key.outputs.lease-id }}`")
	}
	for _, lease := range ended.Leases {
		how := s.fate(lease, began)
		s.notice("lease " + lease.ID + ": " + how)
		if summary {
			s.appendSummary(endTable("closed early", [][2]string{{lease.ID, how}}))
		}
	}
	return nil
}

// leaseID refuses what is no id before it is sent anywhere.
func leaseID(given string) error {
	bad := func(r rune) bool { return r <= ' ' || r > '~' || r == '"' || r == '\\' }
	if len(given) > 128 || strings.ContainsFunc(given, bad) {
		return badInput("lease", "is no lease's id: give the output lease-id of the step that got it, as in `lease: ${{ steps.key.outputs.lease-id }}`")
	}
	return nil
}

func (s *step) endJobsLease(ctx context.Context, c *client.Client, audience, id string) (client.Revocation, error) {
	return s.insist(ctx, func(ctx context.Context) (client.Revocation, error) {
		subject, err := s.idToken(ctx, audience)
		if err != nil {
			return client.Revocation{}, err
		}
		ended, err := c.RevokeJobLease(ctx, subject, id)
		s.sent(subject, err)
		return ended, err
	})
}

func stillOpen(id string, err error) error {
	told := explainEnd(err)
	if takenOver(err) {
		return &trouble{"end not confirmed yet", fmt.Sprintf("lease %s may still be good. %s The exchange goes on until its end is confirmed", id, sentence(told.text))}
	}
	return &trouble{told.title, fmt.Sprintf("lease %s was not ended here. %s The step that got it tries again when the job ends, and the exchange ends it at its deadline", id, sentence(told.text))}
}

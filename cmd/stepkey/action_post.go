package main

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/stepkey/stepkey/exchange/client"
	"github.com/stepkey/stepkey/internal/secret"
)

// actionPost is the action's second half: it gives the credential back. It never
// fails the job: what the job was for is done, and the exchange's keeper ends the
// lease at its deadline even if nothing here works. Then a warning says until when.
func (s *step) actionPost(ctx context.Context) {
	stage, leaseToken := s.saved(stateStage), secret.New(s.saved(stateLeaseToken))
	switch {
	case stage == stageSettled, stage == stageStarted:
		s.debug("nothing to end: main got as far as %q", stage)
	case !leaseToken.Empty():
		s.giveBack(ctx, leaseToken)
	case stage == stageAsked:
		s.giveBackAll(ctx, "the first half of this action did not learn which lease it got")
	case s.getenv("ACTIONS_ID_TOKEN_REQUEST_URL") != "" && s.gh.GetInput("exchange") != "" && s.gh.GetInput("task") != "":
		// Not one value was kept, although main saves one before all else. Without a task
		// there was no credential to get.
		s.giveBackAll(ctx, "this runner did not keep the state of the first half of this action")
	default:
		s.debug("nothing to end: no state, and no way to ask")
	}
}

func (s *step) giveBack(ctx context.Context, leaseToken secret.String) {
	began := s.now()
	if err := s.mask(leaseToken.Reveal()); err != nil {
		return // no log: what follows could only be told there
	}
	c, err := s.dial(s.saved(stateExchange))
	if err != nil {
		s.notEnded(err)
		return
	}
	if s.saved(stateRevocable) == "false" {
		s.sayOver(ctx, c, leaseToken)
		return
	}
	revoked, err := s.endLease(ctx, c, leaseToken)
	if err != nil {
		s.notEnded(err)
		return
	}
	s.tell(s.saved(stateLeaseID), s.outcome(revoked, began))
}

// sayOver tells the exchange once that the job is done with a credential that
// cannot be revoked. It cannot confirm an end before the credential expires, so
// there is nothing to wait for, and what happens is what was said at the start.
func (s *step) sayOver(ctx context.Context, c *client.Client, leaseToken secret.String) {
	ctx, cancel := context.WithTimeout(ctx, s.waits.endTry)
	defer cancel()
	if _, err := c.Revoke(ctx, leaseToken); err != nil {
		s.debug("the exchange was told: %v", err)
	}
	s.tell(s.saved(stateLeaseID), "cannot be revoked; the credential expires at "+s.savedMoment(stateDiesAt))
}

// outcome is what the exchange says of our lease now.
func (s *step) outcome(revoked client.Revocation, began time.Time) string {
	for _, lease := range revoked.Leases {
		if lease.ID == s.saved(stateLeaseID) {
			return s.fate(lease, began)
		}
	}
	return "had ended already"
}

// fate says how a lease ended that was to end since began.
func (s *step) fate(lease client.Ended, began time.Time) string {
	now := s.now()
	over, err := time.Parse(time.RFC3339, lease.EndedAt)
	switch lease.State {
	case "revoked", "expired", "failed":
		if err == nil {
			return "had ended already: " + stateInWords(lease.State) + " at " + moment(over)
		}
		if lease.State == "revoked" {
			return fmt.Sprintf("revoked in %d ms%s%s", now.Sub(began).Milliseconds(), lived(s.saved(stateIssuedAt), now), remaining(s.saved(stateRemains)))
		}
		return "had ended already: " + stateInWords(lease.State)
	}
	text := stateInWords(lease.State) + "; the exchange goes on until that is confirmed"
	diesAt, err := s.savedTime(stateDiesAt)
	if err != nil {
		return text
	}
	return text + ", and " + inAnyCase("the credential", diesAt)
}

func (s *step) giveBackAll(ctx context.Context, why string) {
	exchange := s.saved(stateExchange)
	if exchange == "" {
		exchange = s.gh.GetInput("exchange")
	}
	c, err := s.dial(exchange)
	if err != nil {
		s.notEnded(err)
		return
	}
	audience := s.saved(stateAudience)
	if audience == "" {
		audience = s.audience(c)
	}
	task := s.saved(stateTask)
	if task == "" {
		task = s.gh.GetInput("task")
	}
	revoked, err := s.endJob(ctx, c, audience, task)
	if err != nil {
		s.notEnded(err)
		return
	}
	text := fmt.Sprintf("%s, so this job's leases of %s were ended: %s", why, task, list(revoked.Leases))
	s.info("%s", text)
	s.summarize([2]string{"of this job", text})
}

// notEnded is a warning, not an error: the keeper has the deadline.
func (s *step) notEnded(err error) {
	title, text := "not given back", sentence(explainEnd(err).text)
	diesAt, unknown := s.savedTime(stateDiesAt)
	switch {
	case takenOver(err):
		title = "end not confirmed yet"
		text += " The exchange goes on until it is"
		if unknown == nil {
			text += "; " + inAnyCase("the credential", diesAt)
		}
	case unknown == nil:
		text += " The credential was not ended from here; the exchange ends it at its deadline: it lives until " + s.savedMoment(stateEndsAt) + ", and " + staysDown(diesAt)
	default:
		text += " If there is a credential, it was not ended from here; the exchange ends it at its deadline"
	}
	s.warn(title, text)
	s.summarize([2]string{cmp.Or(s.saved(stateLeaseID), "not known"), title + ": " + text})
}

func (s *step) tell(lease, how string) {
	s.info("lease %s: %s", lease, how)
	s.summarize([2]string{lease, how})
}

// summarize adds to the summary how leases ended: main's part of it is written, and its
// file gone.
func (s *step) summarize(rows ...[2]string) {
	if on, err := s.yesNo("summary", true); err != nil || !on || s.saved(stateSummary) == "false" {
		return
	}
	s.appendSummary(endTable(cmp.Or(s.saved(stateTask), s.gh.GetInput("task")), rows))
}

func (s *step) savedMoment(name string) string {
	at, err := s.savedTime(name)
	if err != nil {
		return "an unknown moment"
	}
	return moment(at)
}

func (s *step) savedTime(name string) (time.Time, error) {
	return time.Parse(time.RFC3339, s.saved(name))
}

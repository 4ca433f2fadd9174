package main

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/stepkey/stepkey/exchange/client"
)

// A lease is a credential that was got and is to be given back.
type lease struct {
	in    inputs
	grant *client.Grant
}

// endAll gives all leases back and says how each ended. It reports whether each end was
// confirmed; what cannot be revoked has nothing to confirm.
func (e *execution) endAll(ctx context.Context) (confirmed bool) {
	if len(e.leases) > 0 {
		e.voice.draw("giving back " + e.tasks() + " ...")
	}
	confirmed = true
	for i, ended := range e.endEach(ctx) {
		text, sure := e.outcomeOf(e.leases[i].grant, ended)
		confirmed = confirmed && sure
		if sure {
			e.info("%s", text)
		} else {
			e.warn("not given back", text)
		}
	}
	return confirmed
}

// giveBack ends what was got when the command cannot run, and returns why with how that
// went.
func (e *execution) giveBack(ctx context.Context, why error) error {
	if len(e.leases) == 0 {
		return why
	}
	told := explain(why)
	text := sentence(told.text) + " What was got is given back."
	for i, ended := range e.endEach(ctx) {
		outcome, _ := e.outcomeOf(e.leases[i].grant, ended)
		text += " " + sentence(outcome)
	}
	return &spoken{why, &trouble{told.title, strings.TrimSuffix(text, ".")}}
}

// spoken is an error told in other words.
type spoken struct {
	why  error
	told *trouble
}

func (s *spoken) Error() string { return s.told.text }

// Unwrap finds the words first, and then what there is to know about the cause.
func (s *spoken) Unwrap() []error { return []error{s.told, s.why} }

func (e *execution) tasks() string {
	names := make([]string, len(e.leases))
	for i, l := range e.leases {
		names[i] = l.grant.Task
	}
	return strings.Join(names, ", ")
}

// An end is how the exchange answered.
type end struct {
	revoked client.Revocation
	took    time.Duration
	err     error
}

// endEach gives all leases back at the same time: the bound is for all of them. A ctx
// that has ended leaves the moment that endLease has for the last calls.
func (e *execution) endEach(ctx context.Context) []end {
	ends := make([]end, len(e.leases))
	var all sync.WaitGroup
	for i, l := range e.leases {
		all.Go(func() {
			began := e.now()
			ends[i].revoked, ends[i].err = e.endOne(ctx, l)
			ends[i].took = e.now().Sub(began)
		})
	}
	all.Wait()
	return ends
}

// endOne tells the exchange once where there is no end to be confirmed before the
// credential expires.
func (e *execution) endOne(ctx context.Context, l lease) (client.Revocation, error) {
	if l.grant.Revocable {
		return e.endLease(ctx, l.in.exchange, l.grant.LeaseToken)
	}
	once, cancel := context.WithTimeout(context.WithoutCancel(ctx), e.waits.endTry)
	defer cancel()
	return l.in.exchange.Revoke(once, l.grant.LeaseToken)
}

// outcomeOf words what became of a lease. sure: nothing of it lives on that ought not to.
func (e *execution) outcomeOf(g *client.Grant, ended end) (text string, sure bool) {
	name := g.Task + ": "
	deadline := fmt.Sprintf("it lives until %s, and %s (lease %s)", moment(g.EndsAt), staysDown(g.DiesAt), g.LeaseID)
	switch {
	case !g.Revocable:
		return fmt.Sprintf("%scannot be revoked; the credential expires at %s (lease %s)", name, moment(g.DiesAt), g.LeaseID), true
	case ended.err != nil && takenOver(ended.err):
		return fmt.Sprintf("%s%s The exchange goes on until it is ended; %s (lease %s)", name, sentence(explainEnd(ended.err).text), inAnyCase("it", g.DiesAt), g.LeaseID), false
	case ended.err != nil:
		return fmt.Sprintf("%s%s The credential was not ended from here; the exchange ends it at its deadline: %s", name, sentence(explainEnd(ended.err).text), deadline), false
	}
	state := ""
	for _, l := range ended.revoked.Leases {
		if l.ID == g.LeaseID {
			state = l.State
		}
	}
	switch state {
	case "revoked":
		return fmt.Sprintf("%srevoked in %d ms%s (lease %s)", name, ended.took.Milliseconds(), remaining(g.Remains), g.LeaseID), true
	case "", "expired", "failed":
		return fmt.Sprintf("%shad ended already (lease %s)", name, g.LeaseID), true
	}
	return fmt.Sprintf("%sis %s; the exchange goes on until that is confirmed, and %s (lease %s)", name, stateInWords(state), inAnyCase("it", g.DiesAt), g.LeaseID), false
}

package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/stepkey/stepkey/exchange/client"
)

// tokenTries bounds how often a credential is asked for.
const tokenTries = 3

// An asking is one step's request for its credential, over all its tries.
type asking struct {
	*step
	in      inputs
	lost    int   // tries that may have been granted without our hearing of it
	unended error // why what they may have left could not be ended; nil: it was
}

// ask gets the credential, or an error whose words fit the log.
//
// Every try has an ID token of its own: the exchange takes each only once. After
// a try whose outcome is not known, a lease may exist that nobody holds. It would
// count against the task's limit per job, so it is ended before the next try;
// without its token it can only be named by its job.
func (s *step) ask(ctx context.Context, in inputs) (*client.Grant, error) {
	a := asking{step: s, in: in}
	var last error
	grant, err := backoff.Retry(ctx, func() (grant *client.Grant, _ error) {
		grant, last = a.try(ctx)
		return grant, a.again(last)
	}, s.waits.pauses(), backoff.WithMaxTries(tokenTries), backoff.WithMaxElapsedTime(s.waits.mainAll), backoff.WithNotify(a.announce))
	if err == nil {
		return grant, nil
	}
	if a.unended == nil {
		s.settled()
	}
	if errors.Is(ctx.Err(), context.Canceled) { // a signal; running out of time is DeadlineExceeded
		last = cancelled("before the exchange answered")
	}
	return nil, a.words(last)
}

func (a *asking) try(ctx context.Context) (*client.Grant, error) {
	subject, err := a.idToken(ctx, a.in.audience)
	if err != nil {
		return nil, err
	}
	once, cancel := context.WithTimeout(ctx, a.waits.tokenTry)
	defer cancel()
	grant, err := a.in.exchange.Token(once, client.TokenRequest{SubjectToken: subject, Task: a.in.task, TTL: a.in.ttl})
	if err == nil || !outcomeUnknown(err) {
		return grant, err
	}
	a.lost++
	var ended client.Revocation
	if ended, a.unended = a.endJob(ctx, a.in.exchange, a.in.audience, a.in.task); len(ended.Leases) > 0 {
		a.warn("leases ended", fmt.Sprintf("the exchange's answer was lost, so this job's leases of %s were ended: %s. One that an earlier step got is gone with them", a.in.task, list(ended.Leases)))
	}
	return nil, err
}

// outcomeUnknown: the credential may have been made although we got none.
func outcomeUnknown(err error) bool {
	if none, ok := errors.AsType[*client.Unreachable](err); ok {
		return none.Arrived
	}
	if refused, ok := errors.AsType[*client.Error](err); ok {
		return refused.Code == "" && refused.Status >= 500
	}
	_, bad := errors.AsType[*client.BadAnswer](err)
	return bad
}

// again: a refusal in the exchange's own words is final, unless they ask to wait.
func (a *asking) again(err error) error {
	refused, isRefused := errors.AsType[*client.Error](err)
	if a.unended != nil || isRefused && refused.Code != "" && refused.Status == http.StatusInternalServerError {
		return backoff.Permanent(err)
	}
	return again(err)
}

func (a *asking) announce(_ error, pause time.Duration) {
	a.info("no credential yet; asking again in %v", pause.Round(time.Millisecond))
}

// words adds to a failure what the tries before it may have left.
func (a *asking) words(err error) error {
	if a.lost == 0 {
		return err
	}
	t := explain(err)
	if a.unended != nil {
		return &trouble{t.title, sentence(t.text) + " A credential may have been made all the same, and could not be ended from here (" + explainEnd(a.unended).text + "); the exchange ends it at its deadline"}
	}
	return &trouble{t.title, t.text + fmt.Sprintf(" (the answer of %s was lost before; what it may have left is ended)", tries(a.lost))}
}

func tries(n int) string {
	if n == 1 {
		return "one try"
	}
	return fmt.Sprintf("%d tries", n)
}

// settled tells post that there is nothing left to end. If that cannot be
// written, post makes sure once more: no harm.
func (s *step) settled() {
	if err := s.save(stateStage, stageSettled); err != nil {
		s.debug("%v", err)
	}
}

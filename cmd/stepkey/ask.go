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

// ask gets the credential, or an error whose words fit the log.
//
// Every try has an ID token of its own: the exchange takes each only once. All have
// the same key, which lives no longer than this: where the answer to a try was lost,
// the exchange ends what it may have made before the next one gets its own. Where the
// tokens can be made for any audience, each is bound to this request and this key, so
// that whoever finds one can do nothing with it.
func (s *step) ask(ctx context.Context, in inputs) (*client.Grant, error) {
	key, err := client.NewKey()
	if err != nil {
		return nil, err
	}
	var last error
	lost := 0 // tries that may have been granted without our hearing of it
	grant, err := backoff.Retry(ctx, func() (grant *client.Grant, _ error) {
		if grant, last = s.try(ctx, in, key); outcomeUnknown(last) {
			lost++
		}
		return grant, againForToken(last)
	}, s.waits.pauses(), backoff.WithMaxTries(tokenTries), backoff.WithMaxElapsedTime(s.waits.mainAll), backoff.WithNotify(s.announce))
	if err == nil {
		return grant, nil
	}
	if errors.Is(ctx.Err(), context.Canceled) { // a signal; running out of time is DeadlineExceeded
		last = cancelled("before the exchange answered")
	}
	if lost > 0 {
		return nil, s.endLost(ctx, in, lost, last)
	}
	s.settled()
	return nil, last
}

func (s *step) try(ctx context.Context, in inputs, key *client.Key) (*client.Grant, error) {
	request := client.TokenRequest{Task: in.task, TTL: in.ttl, Inputs: in.values, Key: key}
	audience, err := s.audienceOf(in, request)
	if err != nil {
		return nil, err
	}
	if request.SubjectToken, err = s.idToken(ctx, audience); err != nil {
		return nil, err
	}
	once, cancel := context.WithTimeout(ctx, s.waits.tokenTry)
	defer cancel()
	grant, err := in.exchange.Token(once, request)
	s.sent(request.SubjectToken, err)
	return grant, err
}

// audienceOf is what to have the ID token made for: in.audience, bound to r where the
// source of tokens can do that.
func (s *step) audienceOf(in inputs, r client.TokenRequest) (string, error) {
	if !s.mintsAnyAudience() {
		return in.audience, nil
	}
	audience, err := client.BoundAudience(in.audience, r)
	if err != nil {
		return "", fmt.Errorf("binding the ID token to the request: %w", err)
	}
	return audience, nil
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

// againForToken: a refusal in the exchange's own words is final, unless they ask to
// wait.
func againForToken(err error) error {
	refused, isRefused := errors.AsType[*client.Error](err)
	if isRefused && refused.Code != "" && refused.Status == http.StatusInternalServerError {
		return backoff.Permanent(err)
	}
	return again(err)
}

func (s *step) announce(_ error, pause time.Duration) {
	s.info("no credential yet; asking again in %v", pause.Round(time.Millisecond))
}

// endLost is for the one who gives up after tries whose outcome is not known. A lease
// may exist that nobody holds; without its token it can only be named by its job. It
// returns why with how that went.
func (s *step) endLost(ctx context.Context, in inputs, lost int, why error) error {
	t := explain(why)
	ended, err := s.endJob(ctx, in.exchange, in.audience, in.task)
	switch {
	case err != nil && takenOver(err):
		return &trouble{t.title, sentence(t.text) + " A credential may have been made all the same. " + sentence(explainEnd(err).text) + " The exchange goes on until that is confirmed"}
	case err != nil:
		return &trouble{t.title, sentence(t.text) + " A credential may have been made all the same, and could not be ended from here (" + explainEnd(err).text + "); the exchange ends it at its deadline"}
	}
	s.settled()
	if len(ended.Leases) > 0 {
		s.warn("leases ended", fmt.Sprintf("the exchange's answer was lost, so this job's leases of %s were ended: %s. One that an earlier step got is gone with them", in.task, list(ended.Leases)))
	}
	return &trouble{t.title, t.text + fmt.Sprintf(" (the answer of %s was lost before; what it may have left is ended)", tries(lost))}
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

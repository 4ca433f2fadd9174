package githubapp

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptrace"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/google/go-github/v60/github"
)

const (
	maxTries = 4
	// A longer wait is the caller's to plan: it holds a request or a worker.
	maxWait = 5 * time.Second
)

// call is one request of the API.
type call struct {
	doing  string // for errors: "creating a token of installation 7"
	method string
	path   string // below the API, without a slash in front
	body   any
	want   int // the one status that means done
	into   any // what the answer is read into; nil: it has no body

	etag string               // of an answer we still have: an unchanged one is 304 and costs nothing
	seen func(*http.Response) // shown every answer's header, for its entity tag and rate limit
}

// idempotent calls are tried again after everything that may pass by itself.
func idempotent(e *Error) bool { return e.Temporary() }

// harmless: only where trying again cannot do twice what may have been done once.
func harmless(e *Error) bool { return e.Temporary() && e.NothingDone() }

// do calls as client says, again and again while again says so and time allows.
// The error is always an *Error.
func (a *App) do(ctx context.Context, again func(*Error) bool, once func() *Error) error {
	var last *Error
	_, err := backoff.Retry(ctx, func() (struct{}, error) {
		if last = once(); last == nil {
			return struct{}{}, nil
		}
		if !again(last) {
			return struct{}{}, backoff.Permanent(last)
		}
		return struct{}{}, a.pacing(last)
	}, backoff.WithMaxTries(maxTries), backoff.WithBackOff(a.backOff()))
	if last != nil {
		return last // not err: it may be the context's end alone, which says less
	}
	return err
}

// pacing makes the wait that GitHub asked for the one that is kept.
func (a *App) pacing(e *Error) error {
	if e.RetryAt.IsZero() {
		return e
	}
	wait := e.RetryAt.Sub(a.now())
	if wait > maxWait {
		return backoff.Permanent(e)
	}
	return &backoff.RetryAfterError{Duration: max(wait, a.pause)}
}

func (a *App) backOff() backoff.BackOff {
	b := backoff.NewExponentialBackOff()
	b.InitialInterval, b.Multiplier, b.MaxInterval = a.pause, 2, maxWait
	return b
}

// asApp makes a call with the App's JWT. A refusal for its times is answered
// with one signed by GitHub's clock, once.
func (a *App) asApp(ctx context.Context, again func(*Error) bool, c call) error {
	return a.do(ctx, again, func() *Error {
		// Signed before and not within the request, so that a key service that is
		// down is known not to have reached GitHub.
		if _, err := a.jwt.Token(); err != nil {
			return &Error{Doing: c.doing, cause: err}
		}
		err := a.once(ctx, a.client(a.jwt), c)
		if a.jwt.follow(err) {
			err = a.once(ctx, a.client(a.jwt), c)
		}
		return err
	})
}

// once makes one request.
func (a *App) once(ctx context.Context, client *github.Client, c call) *Error {
	req, err := client.NewRequest(c.method, c.path, c.body)
	if err != nil {
		return &Error{Doing: c.doing, cause: err}
	}
	if ctx.Err() != nil {
		return &Error{Doing: c.doing, cause: context.Cause(ctx)}
	}
	if c.etag != "" {
		req.Header.Set("If-None-Match", c.etag)
	}
	var way connection
	resp, err := client.Do(httptrace.WithClientTrace(ctx, way.trace()), req, c.into)
	if c.seen != nil && resp != nil && resp.Response != nil {
		c.seen(resp.Response)
	}
	if err == nil && resp.StatusCode == c.want {
		return nil
	}
	e := &Error{Doing: c.doing, sent: way.mayHaveSent(), cause: err}
	if resp != nil && resp.Response != nil {
		a.describe(e, resp.Response, err)
	}
	return e
}

// connection is how far a request came. Without a connection nothing left this
// process: that is the only failure without an answer that surely did nothing.
type connection struct{ wanted, got atomic.Bool }

func (c *connection) trace() *httptrace.ClientTrace {
	return &httptrace.ClientTrace{
		GetConn: func(string) { c.wanted.Store(true) },
		GotConn: func(httptrace.GotConnInfo) { c.got.Store(true) },
	}
}

// mayHaveSent is also true for a transport that tells nothing.
func (c *connection) mayHaveSent() bool { return c.got.Load() || !c.wanted.Load() }

// describe fills in what the answer says.
func (a *App) describe(e *Error, resp *http.Response, err error) {
	e.Status = resp.StatusCode
	e.Message = message(err)
	e.RetryAt = retryAt(resp, e.Message, a.now())
	if date, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
		e.date = date
	}
	if resp.StatusCode < 300 && err != nil {
		e.Message = "the answer could not be read" // a decoder's own words may quote the token
	}
}

// wait pauses, or returns false when ctx ends first.
func wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// of returns err's *Error, or nil.
func of(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return nil
}

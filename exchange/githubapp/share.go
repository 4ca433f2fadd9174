package githubapp

import (
	"errors"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// rests are the installations that are not to be asked for a while. Safe for concurrent
// use; the zero value has none.
type rests struct {
	mu    sync.Mutex
	until map[int64]time.Time // by installation
}

// note makes a rest of an installation longer, never shorter.
func (r *rests) note(installation int64, until time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.until == nil {
		r.until = map[int64]time.Time{}
	}
	r.until[installation] = latest(r.until[installation], until)
}

// of is until when an installation rests; zero: it does not.
func (r *rests) of(installation int64, now time.Time) time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	until := r.until[installation]
	if now.Before(until) {
		return until
	}
	delete(r.until, installation)
	return time.Time{}
}

// leftAlone refuses what would ask an installation that GitHub asked to leave alone,
// whichever reader it told so.
func (a *App) leftAlone(doing string, installation int64) error {
	if until := a.asked.of(installation, a.now()); !until.IsZero() {
		return &Error{Doing: doing, RetryAt: until, cause: errors.New("GitHub asked to be left alone until then")}
	}
	return nil
}

// share is how much of an installation's rate limit a reader of ours leaves to what the
// tokens of tasks do. Safe for concurrent use.
type share struct {
	app  *App
	part int64 // it stops when less than one part in so many is left
	low  rests
}

// see reads from an answer how much is left.
func (s *share) see(installation int64, resp *http.Response) {
	limit, err1 := strconv.ParseInt(resp.Header.Get("X-RateLimit-Limit"), 10, 64)
	left, err2 := strconv.ParseInt(resp.Header.Get("X-RateLimit-Remaining"), 10, 64)
	reset, err3 := strconv.ParseInt(resp.Header.Get("X-RateLimit-Reset"), 10, 64)
	if err1 == nil && err2 == nil && err3 == nil && left < limit/s.part {
		s.low.note(installation, time.Unix(reset, 0))
	}
}

// spent refuses what would draw on the part that is left to tasks.
func (s *share) spent(doing string, installation int64) error {
	if until := s.low.of(installation, s.app.now()); !until.IsZero() {
		return &Error{Doing: doing, RetryAt: until, cause: errors.New("what is left of the installation's rate limit is kept for its tasks")}
	}
	return nil
}

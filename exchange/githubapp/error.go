package githubapp

import (
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/google/go-github/v60/github"
)

const maxMessage = 300 // characters of GitHub's own words

// Error is a call that did not do what it should. It holds no token.
type Error struct {
	Doing   string    // what was being done
	Status  int       // of GitHub's answer; 0 when there was none
	Message string    // GitHub's words, shortened; "" when it had none
	RetryAt time.Time // when to come back, on our clock; zero unless GitHub asked to wait

	sent  bool      // a connection was there: bytes may have gone out
	date  time.Time // GitHub's clock
	cause error
}

// Error says what was being done and what GitHub answered.
func (e *Error) Error() string {
	said := e.Doing + ": "
	switch {
	case e.Status != 0:
		said += fmt.Sprintf("GitHub answered %d", e.Status)
		if e.Message != "" {
			said += ": " + e.Message
		}
	case e.sent:
		said += fmt.Sprintf("GitHub did not answer: %v", e.cause)
	default:
		said += fmt.Sprintf("GitHub was not asked: %v", e.cause)
	}
	if !e.RetryAt.IsZero() {
		said += "; it asks to wait until " + e.RetryAt.UTC().Format(time.RFC3339)
	}
	return said
}

// Unwrap gives the cause of a call that had no answer: a context's end, for one.
// Causes of others are not shown: they may quote the answer.
func (e *Error) Unwrap() error {
	if e.Status != 0 {
		return nil
	}
	return e.cause
}

// NothingDone reports whether GitHub surely did nothing: it was not reached, or
// it refused. After a 408, any 5xx, an answer cut short or none, it may have.
func (e *Error) NothingDone() bool {
	refused := e.Status >= 400 && e.Status < 500 && e.Status != http.StatusRequestTimeout
	return refused || !e.sent && e.Status == 0
}

// Temporary reports whether the same call may do better later: no answer or
// an unreadable one, 5xx, 408, or a rate limit.
func (e *Error) Temporary() bool {
	switch {
	case !e.RetryAt.IsZero(), e.Status == http.StatusRequestTimeout, e.Status >= 500:
		return true
	case e.Status == 0:
		return !e.local()
	}
	return e.Status < 300 // done, but the answer could not be read
}

// unsettled: the answers that a new token gets for seconds, and a dead one for ever.
func (e *Error) unsettled() bool {
	switch e.Status {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound:
		return e.RetryAt.IsZero()
	}
	return false
}

// local: refused here, by our own rules. It stays so.
func (e *Error) local() bool { return errors.Is(e.cause, errLocal) }

var errLocal = errors.New("refused before asking")

func refuse(doing, format string, args ...any) *Error {
	return &Error{Doing: doing, cause: fmt.Errorf("%w: %s", errLocal, fmt.Sprintf(format, args...))}
}

// message collects what GitHub's answer says, fit for people and logs.
func message(err error) string {
	var plain *github.ErrorResponse
	var primary *github.RateLimitError
	var secondary *github.AbuseRateLimitError
	switch {
	case errors.As(err, &primary):
		return clean(primary.Message)
	case errors.As(err, &secondary):
		return clean(secondary.Message)
	case errors.As(err, &plain):
		words := []string{plain.Message}
		for _, detail := range plain.Errors {
			words = append(words, strings.TrimSpace(strings.Join([]string{detail.Field, detail.Code, detail.Message}, " ")))
		}
		return clean(strings.Join(words, "; "))
	}
	return ""
}

// secrets are installation tokens, whose stateless form has dashes and dots, and
// JWTs. GitHub does not echo them; a proxy in between may.
var secrets = regexp.MustCompile(`gh[a-z]_[A-Za-z0-9._-]{10,}|eyJ[A-Za-z0-9._-]{10,}`)

func clean(words string) string {
	words = secrets.ReplaceAllString(words, "[redacted]")
	words = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, words)
	if runes := []rune(words); len(runes) > maxMessage {
		return string(runes[:maxMessage]) + "…"
	}
	return words
}

// retryAt reads how a 403 or 429 asks to wait ("Rate limits for the REST API"):
// Retry-After, else the reset of a spent limit, else a minute. A 403 that is no
// rate limit asks for nothing.
func retryAt(resp *http.Response, message string, now time.Time) time.Time {
	after, err := strconv.Atoi(resp.Header.Get("Retry-After"))
	asked := err == nil && after >= 0
	spent := resp.Header.Get("X-RateLimit-Remaining") == "0"
	named := strings.Contains(strings.ToLower(message), "rate limit")
	switch resp.StatusCode {
	case http.StatusTooManyRequests:
	case http.StatusForbidden:
		if !asked && !spent && !named {
			return time.Time{}
		}
	case http.StatusServiceUnavailable:
		if !asked {
			return time.Time{}
		}
	default:
		return time.Time{}
	}
	if asked {
		return now.Add(time.Duration(after) * time.Second)
	}
	if reset, err := strconv.ParseInt(resp.Header.Get("X-RateLimit-Reset"), 10, 64); err == nil && spent {
		return latest(time.Unix(reset, 0), now)
	}
	return now.Add(time.Minute)
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

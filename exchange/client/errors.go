package client

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/stepkey/stepkey/internal/secret"
)

// Error is an answer that is not 2xx.
type Error struct {
	Status      int
	Code        string        // RFC 6749 section 5.2. Empty: the answer is not the exchange's own but, most likely, a proxy's
	Description string        // the exchange's words: what was refused, why, what to do
	AuditID     string        // finds the refusal in the exchange's audit log
	Rule        string        // which rule the subject token broke, such as RuleBinding; empty: not said
	RetryAfter  time.Duration // zero: not said. At most an hour
}

func (e *Error) Error() string {
	if e.Code == "" {
		return fmt.Sprintf("answer %d: %s", e.Status, e.Description)
	}
	text := fmt.Sprintf("refused (%s, %d)", e.Code, e.Status)
	if e.Description != "" {
		text += ": " + e.Description
	}
	if e.AuditID != "" {
		text += " (audit id " + e.AuditID + ")"
	}
	return text
}

// Unreachable is a call without an answer.
type Unreachable struct {
	Exchange string // the base URL that was called
	// Arrived: the request may have reached the exchange and been acted on. When
	// false, it certainly did not.
	Arrived bool
	Err     error
}

func (e *Unreachable) Error() string {
	if e.Arrived {
		return fmt.Sprintf("no answer from %s, which may have acted all the same: %v", e.Exchange, e.Err)
	}
	return fmt.Sprintf("cannot reach %s: %v", e.Exchange, e.Err)
}

func (e *Unreachable) Unwrap() error { return e.Err }

// BadAnswer is a success that cannot be used. What it was about may have happened.
type BadAnswer struct {
	Status int
	Why    string // never quotes the answer: it may hold a credential
}

func (e *BadAnswer) Error() string {
	return fmt.Sprintf("the answer (%d) is not one of an exchange: %s", e.Status, e.Why)
}

const (
	maxDescription = 2048 // bytes
	maxWord        = 128  // bytes of a code or an audit id
	maxRetryAfter  = time.Hour
)

// refusal reads an answer that is not 2xx. Everything in it was written by
// others: it is cut, freed of control characters, and of the secret that we told.
func refusal(got answer, told secret.String) *Error {
	refused := &Error{Status: got.status, RetryAfter: retryAfter(got.header)}
	if got.status >= 300 && got.status < 400 {
		refused.Description = hide(redirected(got.header), told)
		return refused
	}
	var body ErrorResponse
	if err := json.Unmarshal(got.body, &body); err != nil || !isWord(body.Code) {
		refused.Description = http.StatusText(got.status) + ", without the words of an exchange; something else answers at this URL"
		return refused
	}
	refused.Code = body.Code
	refused.Description = readable(hide(body.Description, told))
	refused.AuditID = wordBeside(told, body.AuditID)
	refused.Rule = wordBeside(told, body.Rule)
	return refused
}

// wordBeside is word, if it is one and does not repeat the secret that we told.
func wordBeside(told secret.String, word string) string {
	if !isWord(word) || strings.Contains(word, told.Reveal()) {
		return ""
	}
	return word
}

// hide also works for an empty secret, which strings.ReplaceAll would find between
// all letters.
func hide(text string, told secret.String) string {
	if told.Empty() {
		return text
	}
	return strings.ReplaceAll(text, told.Reveal(), secret.Redacted)
}

func redirected(h http.Header) string {
	elsewhere := "another place"
	if to, err := url.Parse(h.Get("Location")); err == nil && isWord(to.Host) {
		elsewhere = to.Host
	}
	return fmt.Sprintf("a redirect to %s, which is not followed since it would carry the token there; use the exchange's exact URL", elsewhere)
}

// retryAfter reads RFC 9110 section 10.2.3. A date is taken relative to the
// answer's own Date, so that this machine's clock does not matter.
func retryAfter(h http.Header) time.Duration {
	said := h.Get("Retry-After")
	if seconds, err := strconv.ParseUint(said, 10, 31); err == nil {
		return min(time.Duration(seconds)*time.Second, maxRetryAfter)
	}
	at, err := http.ParseTime(said)
	if err != nil {
		return 0
	}
	now, err := http.ParseTime(h.Get("Date"))
	if err != nil {
		return 0
	}
	return max(0, min(at.Sub(now), maxRetryAfter))
}

// isWord: what RFC 6749 allows in an error code, and of a sensible length.
func isWord(s string) bool {
	bad := func(r rune) bool { return r <= ' ' || r > '~' || r == '"' || r == '\\' }
	return s != "" && len(s) <= maxWord && !strings.ContainsFunc(s, bad)
}

// readable makes one line of bounded length out of other people's text.
func readable(s string) string {
	if len(s) > maxDescription {
		s = strings.ToValidUTF8(s[:maxDescription], "") + "…"
	}
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, s))
}

package server

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"github.com/stepkey/stepkey/exchange"
)

// The gRPC codes that octo-sts answers with, beside the HTTP status.
const (
	octoInvalidArgument   = 3
	octoNotFound          = 5
	octoPermissionDenied  = 7
	octoResourceExhausted = 8
	octoUnimplemented     = 12
	octoInternal          = 13
	octoUnavailable       = 14
	octoUnauthenticated   = 16
)

// An octoRefusal is what a client of octo-sts is told; it never repeats a value.
type octoRefusal struct {
	status int
	code   int
	text   string
}

func (e *octoRefusal) Error() string { return e.text }

func badOcto(format string, args ...any) error {
	return &octoRefusal{http.StatusBadRequest, octoInvalidArgument, fmt.Sprintf(format, args...)}
}

// octoSays are the status and code of each refusal of the exchange; what is not here
// is a fault of ours.
//
// A used token is answered as one that cannot be verified. The client sends the same
// token again after any failure, and whoever sends it the second time may be a thief:
// it no longer says who is asking, and a fresh one would.
var octoSays = map[exchange.Kind]octoRefusal{
	exchange.NotBelieved:     {http.StatusUnauthorized, octoUnauthenticated, ""},
	exchange.Misbound:        {http.StatusUnauthorized, octoUnauthenticated, ""},
	exchange.TokenUsed:       {http.StatusUnauthorized, octoUnauthenticated, ""},
	exchange.UnknownTask:     {http.StatusNotFound, octoNotFound, "No task is listed here for this scope and identity."},
	exchange.NotAllowed:      {http.StatusForbidden, octoPermissionDenied, ""},
	exchange.TooMany:         {http.StatusForbidden, octoPermissionDenied, ""},
	exchange.Tripped:         {http.StatusForbidden, octoPermissionDenied, ""},
	exchange.JobOver:         {http.StatusForbidden, octoPermissionDenied, ""},
	exchange.KeysUnavailable: {http.StatusServiceUnavailable, octoUnavailable, ""},
	exchange.Unchecked:       {http.StatusServiceUnavailable, octoUnavailable, ""},
	exchange.TasksAway:       {http.StatusServiceUnavailable, octoUnavailable, ""},
	exchange.StoreDown:       {http.StatusServiceUnavailable, octoUnavailable, ""},
	exchange.BackendDown:     {http.StatusServiceUnavailable, octoUnavailable, ""},
	exchange.GaveUp:          {http.StatusServiceUnavailable, octoUnavailable, ""},
}

// limited is an error that knows whether the outside system asked us to wait.
type limited interface {
	error
	Limited() bool
}

// octoError is how octo-sts writes an error: as its gRPC gateway does.
type octoError struct {
	Code    int        `json:"code"`
	Message string     `json:"message"`
	Details []struct{} `json:"details"`
}

// refuseOcto answers with what err means to a client of octo-sts. The words are those
// of the other door, with the audit id among them: there is no other place for it.
func (s *Server) refuseOcto(w http.ResponseWriter, r *http.Request, err error) {
	say, retry, auditID := octoWords(err)
	if say.status >= http.StatusInternalServerError && say.status != http.StatusNotImplemented {
		s.Log.ErrorContext(r.Context(), "a request failed", "path", r.URL.Path, "status", say.status, "audit_id", auditID, "error", err)
	}
	if retry > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(retry))
	}
	if say.status == http.StatusNotImplemented {
		w.Header().Set("Allow", "GET, POST")
	}
	s.answerOrLog(w, r, say.status, octoError{say.code, say.text, []struct{}{}})
}

func octoWords(err error) (say octoRefusal, retry int, auditID string) {
	if request, ok := errors.AsType[*octoRefusal](err); ok {
		return *request, 0, ""
	}
	refused, ok := errors.AsType[*exchange.Refused](err)
	if !ok {
		return octoRefusal{http.StatusInternalServerError, octoInternal, "The exchange cannot do this; its operators find the reason in its log."}, 0, ""
	}
	common, auditID := inWords(err)
	say, known := octoSays[refused.Kind]
	if !known {
		say = octoRefusal{http.StatusInternalServerError, octoInternal, ""}
	}
	if wait, ok := errors.AsType[limited](err); ok && wait.Limited() && refused.Kind == exchange.BackendDown {
		say.status, say.code = http.StatusTooManyRequests, octoResourceExhausted
	}
	if say.text == "" {
		say.text = common.text
	}
	say.text += " Audit id: " + auditID
	return say, common.retry, auditID
}

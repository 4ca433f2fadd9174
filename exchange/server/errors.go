package server

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/stepkey/stepkey/exchange"
	"github.com/stepkey/stepkey/exchange/client"
)

// words is an error as the outside sees it. %s in text is where the refusal's own
// Why goes, as a sentence, when it may be told.
type words struct {
	status int
	code   string
	text   string
	retry  int // seconds, 0 for none
}

var said = map[exchange.Kind]words{
	exchange.NotBelieved:     {http.StatusBadRequest, client.CodeInvalidGrant, "%s", 0},
	exchange.Misbound:        {http.StatusBadRequest, client.CodeInvalidGrant, "%s", 0},
	exchange.TokenUsed:       {http.StatusBadRequest, client.CodeInvalidGrant, "The subject token was exchanged before. Each exchange needs a fresh one: ask the CI system for another.", 0},
	exchange.UnknownTask:     {http.StatusBadRequest, client.CodeInvalidScope, "There is no such task. %s Check its name in the workflow, or ask the exchange's operators, with the audit id.", 0},
	exchange.NotAllowed:      {http.StatusForbidden, client.CodeAccessDenied, "The task's policy does not allow this workload. %s The exchange's operators find the reason by the audit id.", 0},
	exchange.TooMany:         {http.StatusForbidden, client.CodeAccessDenied, "%s Give that back first, or have limits.per_job raised in the task file.", 0},
	exchange.Tripped:         {http.StatusForbidden, client.CodeAccessDenied, "%s Look the audit id up, and find out who the other was before you run the job again.", 0},
	exchange.JobOver:         {http.StatusBadRequest, client.CodeInvalidGrant, "%s A job that has ended gets no credential; if yours still runs, have the operators look the audit id up.", 0},
	exchange.KeysUnavailable: {http.StatusServiceUnavailable, client.CodeUnavailable, "The issuer's keys cannot be had right now, so the subject token cannot be checked. Try again shortly with a fresh one.", 5},
	exchange.Unchecked:       {http.StatusServiceUnavailable, client.CodeUnavailable, "GitHub could not be asked for what the task requires, so nothing was handed out. %s Try again shortly; the subject token is not used up.", 10},
	exchange.TasksAway:       {http.StatusServiceUnavailable, client.CodeUnavailable, "The repository's task files cannot be read right now, so nothing was handed out. %s Try again shortly; the subject token is not used up.", 10},
	exchange.BackendDown:     {http.StatusServiceUnavailable, client.CodeUnavailable, "The system behind this task does not answer or asks us to wait. %s Try again shortly with a fresh subject token.", 10},
	exchange.StoreDown:       {http.StatusServiceUnavailable, client.CodeUnavailable, "The exchange cannot write down what it would hand out, so nothing was handed out. Try again shortly with a fresh subject token.", 5},
	exchange.GaveUp:          {http.StatusServiceUnavailable, client.CodeUnavailable, "The request took too long or its sender went away. Nothing was handed out. Try again with a fresh subject token.", 5},
	exchange.Fault:           {http.StatusInternalServerError, client.CodeServerError, "The credential could not be made. %s The exchange's operators find the reason by the audit id.", 0},
}

// notYetEnded: the backend has not confirmed an end; the keeper goes on.
type notYetEnded struct{ lease exchange.Lease }

func (e *notYetEnded) Error() string {
	after := "the credential dies by itself at " + timestamp(e.lease.DiesAt)
	if !e.lease.DiesByItself() {
		after = "nothing else ends the credential"
	}
	return fmt.Sprintf("Lease %s is being ended (%s), and the backend has not confirmed it yet. The exchange keeps trying, and %s.", e.lease.ID, e.lease.State, after)
}

// refuse answers with what err means to the caller.
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, err error) {
	say, auditID := inWords(err)
	body := client.ErrorResponse{Code: say.code, Description: say.text, AuditID: auditID}
	if refused, ok := errors.AsType[*exchange.Refused](err); ok && say.code == client.CodeInvalidGrant {
		body.Rule = refused.Rule
	}
	if say.status >= http.StatusInternalServerError {
		s.Log.ErrorContext(r.Context(), "a request failed", "path", r.URL.Path, "status", say.status, "audit_id", auditID, "error", err)
	}
	if say.retry > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(say.retry))
	}
	s.answerOrLog(w, r, say.status, body)
}

func inWords(err error) (words, string) {
	var request *badRequest
	var unended *notYetEnded
	var refused *exchange.Refused
	switch {
	case errors.As(err, &request):
		return words{request.status, request.code, request.reason, 0}, ""
	case errors.As(err, &unended):
		return words{http.StatusServiceUnavailable, client.CodeUnavailable, unended.Error(), 5}, ""
	case errors.As(err, &refused):
		say := said[refused.Kind]
		say.text = withWhy(say.text, refused.Why)
		return say, refused.AuditID
	default: // ending or inspecting, and the store does not answer
		return words{http.StatusServiceUnavailable, client.CodeUnavailable, "The exchange cannot do this right now. Try again shortly.", 5}, ""
	}
}

// withWhy puts why in its place, and closes the gap where there is none to tell.
func withWhy(text, why string) string {
	before, after, found := strings.Cut(text, "%s")
	if !found {
		return text
	}
	if why == "" {
		after = strings.TrimPrefix(after, " ")
	}
	return before + sentence(why) + after
}

// sentence makes an error's text read like one: Go's errors start in lower case and
// end without a stop.
func sentence(text string) string {
	if text == "" {
		return ""
	}
	if c := text[0]; 'a' <= c && c <= 'z' {
		text = string(c-'a'+'A') + text[1:]
	}
	if last := text[len(text)-1]; last != '.' && last != '!' && last != '?' {
		text += "."
	}
	return text
}

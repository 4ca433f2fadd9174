package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/stepkey/stepkey/exchange/client"
)

// trouble is a failure told to the one who reads the job's log: a title of a few
// words, and what to do.
type trouble struct{ title, text string }

func (t *trouble) Error() string { return t.text }

// explain turns any failure into the words of an annotation.
func explain(err error) *trouble {
	if own, ok := errors.AsType[*trouble](err); ok {
		return own
	}
	if refused, ok := errors.AsType[*client.Error](err); ok {
		return explainRefusal(refused)
	}
	if none, ok := errors.AsType[*client.Unreachable](err); ok {
		return explainSilence(none)
	}
	if bad, ok := errors.AsType[*client.BadAnswer](err); ok {
		return &trouble{"not an exchange", fmt.Sprintf("%v. Look whether the input `exchange` names an exchange of a version that fits this action", bad)}
	}
	return &trouble{"failed", err.Error()}
}

// explainSilence names the place to look at where the error gives it away.
func explainSilence(none *client.Unreachable) *trouble {
	why := none.Err.Error()
	todo := "Look whether the URL is right, whether the exchange is up, and whether this runner can reach it (proxy, firewall, certificate authority)"
	_, stranger := errors.AsType[x509.UnknownAuthorityError](none.Err)
	_, otherHost := errors.AsType[x509.HostnameError](none.Err)
	_, noName := errors.AsType[*net.DNSError](none.Err)
	switch {
	case errors.Is(none.Err, context.DeadlineExceeded):
		why = "it did not answer in time"
	case stranger:
		todo = "Its certificate is from an authority that is not known here. If your network has its own, have the variable SSL_CERT_FILE name its certificate, in a file of the workspace or of RUNNER_TEMP, where this action's container sees it"
	case otherHost:
		todo = "What answers there has the certificate of another host: look whether the URL is right, and whether a proxy stands between"
	case noName:
		todo = "Look whether the host's name is right, and whether this runner needs a proxy (HTTPS_PROXY) to reach it"
	}
	return &trouble{"exchange not reached", fmt.Sprintf("no answer from the exchange at %s: %s. %s", none.Exchange, why, todo)}
}

// idTokenTodo is where to look, by the rule that the ID token broke. Of the others, as
// of a token that was used before, the exchange's words say all.
var idTokenTodo = map[string]string{
	client.RuleIssuer:   "Look whether `exchange` names the right exchange, and whether it trusts this job's issuer",
	client.RuleAudience: "Look whether `audience` is the one that the exchange expects (by default the exchange's URL)",
	client.RuleBinding:  "Issuer and audience are right; look where the ID token comes from. GitHub, Forgejo, Buildkite and CircleCI make it for this request: it is refused if the request was changed on its way. One that is made beforehand (GitLab, Kubernetes, a file) cannot be bound: a task with `bind: request` is not for it",
}

// explainRefusal adds to the exchange's own words only what it cannot know: which
// of the action's inputs to look at.
func explainRefusal(e *client.Error) *trouble {
	title, todo := "refused", ""
	switch e.Code {
	case client.CodeAccessDenied:
		title = "access denied"
	case client.CodeInvalidGrant:
		title, todo = "ID token refused", idTokenTodo[e.Rule]
	case client.CodeInvalidDPoPProof:
		title, todo = "proof refused", "Look whether this runner's clock is right, and whether the input `exchange` is the URL that the exchange is configured with"
	case client.CodeInvalidScope:
		title, todo = "no such task", "Look at the spelling of the input `task`, and whether the task's file has reached the exchange"
	case client.CodeSlowDown, client.CodeUnavailable:
		title, todo = "exchange busy", "Run the job again later"
		if e.RetryAfter > 0 {
			todo = fmt.Sprintf("Run the job again in %v", e.RetryAfter)
		}
	case "":
		title, todo = "not an exchange", "Look whether the input `exchange` is the exact base URL of your exchange"
	}
	text := sentence(e.Description)
	if todo != "" {
		text += " " + todo + "."
	}
	if e.AuditID != "" {
		text += " Audit id: " + e.AuditID
	}
	return &trouble{title, fmt.Sprintf("the exchange answered %d %s: %s", e.Status, e.Code, text)}
}

// explainEnd is explain for revocations.
func explainEnd(err error) *trouble {
	refused, ok := errors.AsType[*client.Error](err)
	if !ok || refused.Code == "" {
		return explain(err)
	}
	text := sentence(refused.Description)
	if refused.AuditID != "" {
		text += " Audit id: " + refused.AuditID
	}
	return &trouble{"not given back", fmt.Sprintf("the exchange answered %d %s: %s", refused.Status, refused.Code, text)}
}

// takenOver: the exchange is ending the lease and could not confirm it yet; it
// goes on by itself (RFC 7009 section 2.2.1 has 503 for that).
func takenOver(err error) bool {
	refused, ok := errors.AsType[*client.Error](err)
	return ok && refused.Code == client.CodeUnavailable
}

// sentence ends text with a full stop.
func sentence(text string) string {
	if text == "" {
		return "no reason given."
	}
	if text[len(text)-1] == '.' {
		return text
	}
	return text + "."
}

// moment is how times are written for people, everywhere in the log and the summary.
func moment(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

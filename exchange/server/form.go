package server

import (
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"regexp"
	"strings"

	"github.com/stepkey/stepkey/exchange"
	"github.com/stepkey/stepkey/exchange/client"
	"github.com/stepkey/stepkey/internal/secret"
)

// A badRequest is a request that is not one of ours; it says what to change, and
// never repeats a value.
type badRequest struct {
	status int
	code   string
	reason string
}

func (e *badRequest) Error() string { return e.reason }

func bad(format string, args ...any) error {
	return &badRequest{http.StatusBadRequest, client.CodeInvalidRequest, fmt.Sprintf(format, args...)}
}

// form holds a request's parameters: each at most once unless its standard says
// otherwise, empty ones being absent (RFC 6749 section 3.2).
type form map[string]string

// readForm reads the body of a POST. Parameters we do not know are ignored, as RFC
// 6749 section 3.2 asks; those we know may stand once.
func readForm(r *http.Request) (form, error) {
	if r.URL.RawQuery != "" {
		return nil, bad("parameters belong in the body and not in the URL, where proxies log them; send a form")
	}
	if len(r.Header.Values("Authorization")) > 1 {
		return nil, bad("there is more than one Authorization header; send one or none")
	}
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || kind != "application/x-www-form-urlencoded" {
		return nil, &badRequest{http.StatusUnsupportedMediaType, client.CodeInvalidRequest, "the body must be a form: Content-Type: application/x-www-form-urlencoded"}
	}
	body, err := io.ReadAll(r.Body)
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return nil, &badRequest{http.StatusRequestEntityTooLarge, client.CodeInvalidRequest, fmt.Sprintf("the body is larger than %d bytes", maxBody)}
	}
	if err != nil {
		return nil, bad("the body broke off; send the request again")
	}
	return parseForm(string(body))
}

// maxParameters is far more than any client sends, and few enough to be cheap.
const maxParameters = 64

func parseForm(body string) (form, error) {
	if strings.Count(body, "&") >= maxParameters {
		return nil, bad("there are more than %d parameters", maxParameters)
	}
	values, err := url.ParseQuery(body)
	if err != nil {
		return nil, bad("the body is not a well-formed form; escape each value as in a URL")
	}
	f := form{}
	for name, all := range values {
		given := all[:0]
		for _, v := range all {
			if v != "" {
				given = append(given, v)
			}
		}
		switch {
		case len(given) == 0:
		case len(given) > 1 && name != "audience" && name != "resource": // RFC 8693, 2.1: these may repeat
			if known[name] {
				return nil, bad("parameter %s stands more than once", name)
			}
		default:
			f[name] = given[0]
		}
	}
	return f, nil
}

// known are the parameters that mean something to us.
var known = map[string]bool{
	"grant_type": true, "subject_token": true, "subject_token_type": true, "scope": true,
	"requested_token_type": true, "authorization_details": true, "actor_token": true, "actor_token_type": true,
	"token": true, "token_type_hint": true, "client_id": true, "client_secret": true, "lease": true,
}

// taskName is the form of every task's name, as policy has it, and of owner/name: before
// those that a repository keeps itself, as GitHub has them. What is of another form is
// refused here, before it is written down anywhere.
var taskName = regexp.MustCompile(`\A(?:[A-Za-z0-9][A-Za-z0-9_-]{0,99}/[A-Za-z0-9._-]{1,100}:)?[a-z][a-z0-9-]{0,62}\z`)

// noRepository are names that GitHub gives to none.
var noRepository = regexp.MustCompile(`(?i)/\.{1,2}:|\.git:`)

// tokenRequest reads RFC 8693 section 2.1. audience and resource name where the
// credential will be used; the task settles that, so they change nothing here.
func (f form) tokenRequest() (exchange.Request, error) {
	none := exchange.Request{}
	switch {
	case f["grant_type"] == "":
		return none, bad("grant_type is missing; it must be %s", client.GrantTypeTokenExchange)
	case f["grant_type"] != client.GrantTypeTokenExchange:
		return none, &badRequest{http.StatusBadRequest, "unsupported_grant_type", "grant_type must be " + client.GrantTypeTokenExchange}
	case f["subject_token"] == "":
		return none, bad("subject_token is missing; send the job's OIDC token")
	case f["subject_token_type"] != client.TokenTypeJWT && f["subject_token_type"] != client.TokenTypeIDToken:
		return none, bad("subject_token_type must be %s or %s", client.TokenTypeIDToken, client.TokenTypeJWT)
	case f["requested_token_type"] != "" && f["requested_token_type"] != client.TokenTypeAccessToken:
		return none, bad("requested_token_type can only be %s", client.TokenTypeAccessToken)
	case f["actor_token"] != "" || f["actor_token_type"] != "":
		return none, bad("actor_token is not supported: a workload asks for itself")
	case f["scope"] == "":
		return none, &badRequest{http.StatusBadRequest, client.CodeInvalidScope, "scope is missing; it names the task, such as publish-release"}
	case strings.ContainsAny(f["scope"], " \t\r\n"):
		return none, &badRequest{http.StatusBadRequest, client.CodeInvalidScope, "scope names one task; ask for each in a request of its own, with a subject token of its own"}
	case !taskName.MatchString(f["scope"]) || noRepository.MatchString(f["scope"]):
		return none, &badRequest{http.StatusBadRequest, client.CodeInvalidScope, "scope is no task's name; those are lower-case letters, digits and hyphens, such as publish-release, or acme/widget:publish-release for one that a repository keeps"}
	}
	r := exchange.Request{SubjectToken: secret.New(f["subject_token"]), Task: f["scope"]}
	if err := narrowed(f["authorization_details"], &r); err != nil {
		return none, err
	}
	return r, nil
}

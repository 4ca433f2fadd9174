package registry

import (
	"net/http"
	"strings"
)

// ask is a request for a token: who, and what for.
type ask struct {
	username string // empty where a password comes alone
	password string
	service  string
	scopes   []grant
}

const (
	maxBody   = 64 << 10 // bytes
	maxScopes = 100      // in one request; clients ask for a few
)

// refusal is an error of RFC 6749 with its words; the zero one is none.
type refusal struct{ code, words string }

const (
	invalidRequest   = "invalid_request"
	invalidGrant     = "invalid_grant"
	unsupportedGrant = "unsupported_grant_type"
	unavailable      = "temporarily_unavailable"
)

// readAsk reads both forms of the specification: GET with Basic, and POST with a form. A
// password in an address is never looked at, since addresses are logged.
func readAsk(w http.ResponseWriter, r *http.Request) (ask, refusal) {
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	if err := r.ParseForm(); err != nil {
		return ask{}, refusal{invalidRequest, "the form cannot be read; send it as application/x-www-form-urlencoded, in 64 KiB at most"}
	}
	var a ask
	form := r.Form
	if r.Method == http.MethodPost {
		form = r.PostForm
		if fault := a.readGrant(form.Get); fault != (refusal{}) {
			return ask{}, fault
		}
	} else {
		var given bool
		if a.username, a.password, given = r.BasicAuth(); !given {
			return ask{}, refusal{invalidGrant, "nobody is logged in; log in to the registry with the username and the password of a lease"}
		}
	}
	a.service = form.Get("service")
	var ok bool
	if a.scopes, ok = readScopes(form["scope"]); !ok {
		return ask{}, refusal{invalidRequest, "more is asked for than one request may; ask for up to 100 repositories at a time"}
	}
	return a, refusal{}
}

func (a *ask) readGrant(value func(string) string) refusal {
	switch value("grant_type") {
	case "refresh_token": // what clients call an identity token: our password, by itself
		a.password = value("refresh_token")
	case "password":
		a.username, a.password = value("username"), value("password")
		if a.username == "" {
			return refusal{invalidRequest, "grant_type is password, and the form has no username"}
		}
	case "":
		return refusal{invalidRequest, "the form has no grant_type; want refresh_token or password, as application/x-www-form-urlencoded"}
	default:
		return refusal{unsupportedGrant, "this grant_type is not taken here; want refresh_token or password"}
	}
	return refusal{}
}

// readScopes reads repository:acme/widget:pull,push, of which a parameter may have several,
// and there may be several parameters. Whatever else there is, such as the catalog, is
// granted to nobody, and so left out.
func readScopes(values []string) ([]grant, bool) {
	var all []grant
	asked := 0
	for _, value := range values {
		for scope := range strings.FieldsSeq(value) {
			if asked++; asked > maxScopes {
				return nil, false
			}
			kind, rest, _ := strings.Cut(scope, ":")
			colon := strings.LastIndexByte(rest, ':')
			if kind == "repository" && colon > 0 {
				all = append(all, grant{rest[:colon], strings.Split(rest[colon+1:], ",")})
			}
		}
	}
	return all, true
}

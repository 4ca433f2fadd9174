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
	"time"

	"github.com/stepkey/stepkey/exchange"
	"github.com/stepkey/stepkey/internal/secret"
)

// OctoSTS answers the clients of octo-sts on /sts/exchange, so that workflows need
// no change when their exchange does. What they get is a lease like any other; what
// they name is held against a list, and nothing is looked up in repositories.
//
// They prove no key, so nobody can tell one holder from another: a second request
// of a job is refused while it holds per_job, also where only an answer was lost.
type OctoSTS struct {
	// Exchange believes tokens made for the audience that these clients ask for; its
	// store, its backends and its policy are those of every other door.
	Exchange *exchange.Exchange
	Tasks    map[OctoIdentity]string // the task's name, by what its clients call it
}

// An OctoIdentity is what an octo-sts client asks for.
type OctoIdentity struct {
	Scope    string // owner, or owner/repository, in lower case
	Identity string
}

var (
	octoScope    = regexp.MustCompile(`\A[A-Za-z0-9_-]{1,100}(?:/[A-Za-z0-9._-]{1,100})?\z`)
	octoIdentity = regexp.MustCompile(`\A[A-Za-z0-9._-]{1,100}\z`)
)

// NewOctoIdentity reads what a client sends and what an operator lists the same way.
// GitHub's names of owners and repositories ignore case, file names do not.
func NewOctoIdentity(scope, identity string) (OctoIdentity, error) {
	switch {
	case !octoScope.MatchString(scope):
		return OctoIdentity{}, errors.New("scope must be an owner or an owner and a repository, as acme/widget")
	case !octoIdentity.MatchString(identity):
		return OctoIdentity{}, errors.New("identity must be the name of a trust policy without .sts.yaml, as release")
	}
	return OctoIdentity{strings.ToLower(scope), identity}, nil
}

// octoToken is what these clients read; they look at token alone.
type octoToken struct {
	Token        string     `json:"token"`
	RefreshToken string     `json:"refreshToken"`
	Expiry       *time.Time `json:"expiry"` // never given: the lease ends when the client says so or the exchange does
}

func (s *Server) octoSTS(w http.ResponseWriter, r *http.Request) {
	door := s.OctoSTS
	request, asked, err := door.read(r)
	if err != nil {
		s.refuseOcto(w, r, err)
		return
	}
	given, err := door.Exchange.Token(r.Context(), request)
	if err != nil {
		if request.Task == "" {
			s.Log.InfoContext(r.Context(), "octo-sts: no task is listed for this", "scope", asked.Scope, "identity", asked.Identity)
		}
		s.refuseOcto(w, r, err)
		return
	}
	token, ok := given.Values["token"]
	if !ok {
		err = fmt.Errorf("task %s gives no token, so that no client of octo-sts could use it", given.Lease.Task)
		s.refuseOcto(w, r, errors.Join(err, door.Exchange.Abandon(r.Context(), given)))
		return
	}
	if err := s.answer(w, r, http.StatusOK, octoToken{Token: token.Reveal()}); err != nil {
		if err := door.Exchange.Abandon(r.Context(), given); err != nil {
			s.Log.ErrorContext(r.Context(), "a credential nobody received is not ended yet; the keeper goes on", "lease", given.Lease.ID, "error", err)
		}
	}
}

// read makes a request of r. What is not listed becomes a request for the task of no
// name, which there never is: so the token is verified before anyone learns what is
// listed, and the denial is written down.
func (d *OctoSTS) read(r *http.Request) (exchange.Request, OctoIdentity, error) {
	none := exchange.Request{}
	if r.Method != http.MethodGet && r.Method != http.MethodPost {
		return none, OctoIdentity{}, &octoRefusal{http.StatusNotImplemented, octoUnimplemented, "ask with GET, or with POST and a form"}
	}
	token, err := bearer(r.Header.Values("Authorization"))
	if err != nil {
		return none, OctoIdentity{}, err
	}
	parameters, err := octoParameters(r)
	if err != nil {
		return none, OctoIdentity{}, err
	}
	asked, err := octoAsked(parameters)
	if err != nil {
		return none, OctoIdentity{}, err
	}
	return exchange.Request{SubjectToken: token, Task: d.Tasks[asked]}, asked, nil
}

// bearer returns the token that the client authenticates with.
func bearer(sent []string) (secret.String, error) {
	if len(sent) > 1 {
		return secret.String{}, badOcto("there is more than one Authorization header; send one")
	}
	scheme, token, _ := strings.Cut(strings.Join(sent, ""), " ")
	switch {
	case !strings.EqualFold(scheme, "Bearer") || token == "":
		return secret.String{}, &octoRefusal{http.StatusUnauthorized, octoUnauthenticated, "the job's OIDC token is missing; send it as Authorization: Bearer"}
	case !compactJWS.MatchString(token):
		return secret.String{}, badOcto("the bearer token is no JWT; send the job's OIDC token")
	}
	return secret.New(token), nil
}

// octoParameters reads the query and, of a POST, the form, as one. Clients send
// values as they are, without escapes; those that escape are understood, too.
func octoParameters(r *http.Request) (url.Values, error) {
	text := r.URL.RawQuery
	if r.Method == http.MethodPost {
		kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
		if err != nil || kind != "application/x-www-form-urlencoded" {
			return nil, badOcto("the body must be a form: Content-Type: application/x-www-form-urlencoded")
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, badOcto("the body broke off, or is larger than %d bytes", maxBody)
		}
		text += "&" + string(body)
	}
	if strings.Count(text, "&") > maxParameters {
		return nil, badOcto("there are more than %d parameters", maxParameters)
	}
	values, err := url.ParseQuery(text)
	if err != nil {
		return nil, badOcto("the parameters are not well formed: scope, scopes and identity need no escapes")
	}
	return values, nil
}

// octoAsked reads scope, which newer clients send as scopes and the usual one as
// both. Unknown parameters are ignored, as octo-sts does.
func octoAsked(given url.Values) (OctoIdentity, error) {
	for _, name := range []string{"scope", "scopes", "identity"} {
		if len(given[name]) > 1 {
			return OctoIdentity{}, badOcto("parameter %s stands more than once; ask for each token in a request of its own", name)
		}
	}
	scope, scopes := given.Get("scope"), given.Get("scopes")
	if scope == "" {
		scope = scopes
	}
	if scopes != "" && !strings.EqualFold(scope, scopes) {
		return OctoIdentity{}, badOcto("scope and scopes differ; ask for each token in a request of its own")
	}
	asked, err := NewOctoIdentity(scope, given.Get("identity"))
	if err != nil {
		return asked, badOcto("%v", err)
	}
	return asked, nil
}

package client

import (
	"context"
	"encoding/json"
	"errors"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/stepkey/stepkey/internal/secret"
)

// TokenRequest asks for the credential of one task.
type TokenRequest struct {
	SubjectToken secret.String // the workload's OIDC token, its audience this exchange, or BoundAudience
	Task         string
	TTL          time.Duration     // zero: as long as the task allows. May only shorten
	Inputs       map[string]string // by the names that the task declares
	// Narrow is a JSON object of what of the credential is wanted, by its kind:
	// {"github": {"repositories": ["widget"]}}. Empty: all that the task gives.
	Narrow json.RawMessage
	// Key says that this is the same holder as the one who asked with it before, and no
	// other. nil: the exchange cannot tell, and counts a retry as a second asker.
	Key *Key
}

// A Grant is a credential and the lease that ends it.
type Grant struct {
	Task       string
	LeaseID    string
	LeaseToken secret.String // for Revoke and Introspect
	EndsAt     time.Time     // the exchange ends it by then
	DiesAt     time.Time     // gone then even if everything stopped; never before EndsAt
	Revocable  bool          // false: it only expires, at DiesAt
	Remains    string        // what its end leaves of it, in words for people, on one line; often nothing
	Granted    string        // what it can do, in words for people, on one line
	Kind       string        // the backend: github, postgres, …
	Values     map[string]secret.String
	Env        map[string]secret.String // environment variable -> value, ready to use
	Public     []string                 // names of those Values that are no secret; all others are to be masked
}

// Token exchanges a subject token for a credential (RFC 8693 section 2). The
// subject token is used up unless the error is an *Unreachable that did not
// arrive: for another try ask the issuer for another.
//
// After an *Unreachable that arrived, or a *BadAnswer, a credential may exist
// that nobody holds. Asking again with the same Key and a fresh subject token
// replaces it; RevokeJob ends it.
func (c *Client) Token(ctx context.Context, r TokenRequest) (*Grant, error) {
	if r.SubjectToken.Empty() || r.Task == "" || r.TTL < 0 {
		return nil, errors.New("a token request needs a subject token, a task, and a time to live that is not negative")
	}
	form := url.Values{
		"grant_type":         {GrantTypeTokenExchange},
		"subject_token":      {r.SubjectToken.Reveal()},
		"subject_token_type": {TokenTypeIDToken},
		"scope":              {r.Task},
	}
	details, err := r.details()
	if err != nil {
		return nil, err
	}
	if details != "" {
		form.Set("authorization_details", details)
	}
	send := call{path: "/token", form: form, told: r.SubjectToken}
	if r.Key != nil {
		if send.proof, err = c.prove(r.Key, send.path, r.SubjectToken); err != nil {
			return nil, err
		}
	}
	got, err := c.post(ctx, send)
	if err != nil {
		return nil, err
	}
	return readGrant(got, r.Task)
}

// details is what the request says beside the task's name (RFC 9396), the same text
// each time; empty where it says no more.
func (r TokenRequest) details() (string, error) {
	if r.TTL == 0 && len(r.Inputs) == 0 && len(r.Narrow) == 0 {
		return "", nil
	}
	details := TaskDetails{Type: DetailsTypeTask, Inputs: r.Inputs, Credential: r.Narrow}
	if r.TTL > 0 {
		details.TTL = r.TTL.String()
	}
	text, err := json.Marshal([]TaskDetails{details})
	if err != nil {
		return "", errors.New("what is wanted of the credential is not JSON")
	}
	return string(text), nil
}

// readGrant is strict: half a grant is none, since it could not be ended or
// would be used for longer than it lives.
func readGrant(got answer, task string) (*Grant, error) {
	bad := func(why string) (*Grant, error) { return nil, &BadAnswer{Status: got.status, Why: why} }
	var body TokenResponse
	if json.Unmarshal(got.body, &body) != nil {
		return bad("it is not the JSON object of RFC 8693 section 2.2.1")
	}
	endsAt, endErr := time.Parse(time.RFC3339, body.Lease.EndsAt)
	diesAt, dieErr := time.Parse(time.RFC3339, body.Lease.DiesAt)
	switch {
	case body.AccessToken == "" || body.IssuedTokenType == "" || !strings.EqualFold(body.TokenType, "Bearer"):
		return bad("access_token, issued_token_type or token_type (Bearer) is missing")
	case body.Scope != "" && body.Scope != task: // absent: as asked (RFC 8693, 2.2.1)
		return bad("it is for another task than the one asked for")
	case !isWord(body.Lease.ID) || body.Lease.Token == "":
		return bad("the lease has no id or no token")
	case endErr != nil || dieErr != nil:
		return bad("the lease does not say when it ends and dies (RFC 3339)")
	case diesAt.Before(endsAt):
		return bad("the lease dies before it ends")
	case len(body.Credential.Values) == 0:
		return bad("the credential has no values")
	}
	return &Grant{
		Task: task, LeaseID: body.Lease.ID, LeaseToken: secret.New(body.Lease.Token),
		EndsAt: endsAt.UTC(), DiesAt: diesAt.UTC(), Revocable: body.Lease.Revocable,
		Remains: readable(body.Lease.Remains), Granted: readable(body.Lease.Granted), Kind: readable(body.Credential.Kind),
		Values: wrapped(body.Credential.Values), Env: wrapped(body.Credential.Env),
		Public: body.Credential.public(),
	}, nil
}

// public are the names whose values may be shown. Nobody but the exchange says so: a name
// without a value is left out, and so is one whose value says any part of a secret one.
func (c Credential) public() []string {
	var names []string
	for _, name := range c.Public {
		value, there := c.Values[name]
		if !there || slices.Contains(names, name) {
			continue
		}
		shows := false
		for other, hidden := range c.Values {
			shows = shows || !slices.Contains(c.Public, other) && hidden != "" && strings.Contains(value, hidden)
		}
		if !shows {
			names = append(names, name)
		}
	}
	return names
}

func wrapped(values map[string]string) map[string]secret.String {
	out := make(map[string]secret.String, len(values))
	for name, value := range values {
		out[name] = secret.New(value)
	}
	return out
}

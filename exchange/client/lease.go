package client

import (
	"context"
	"encoding/json"
	"errors"
	"net/url"

	"github.com/stepkey/stepkey/internal/secret"
)

// Revoke ends the lease of leaseToken and its credential (RFC 7009). Idempotent:
// a lease that ended before, or that the exchange does not know, is no error; the
// answer's states tell what is true now.
func (c *Client) Revoke(ctx context.Context, leaseToken secret.String) (Revocation, error) {
	return c.revoke(ctx, leaseToken, url.Values{})
}

// RevokeJob ends the leases of one task that the job of subjectToken holds; with an
// empty task those of every task, other steps' too. For callers who lost their lease token, or never
// got it. Idempotent; give each call a subject token of its own.
func (c *Client) RevokeJob(ctx context.Context, subjectToken secret.String, task string) (Revocation, error) {
	form := url.Values{"token_type_hint": {TokenTypeJob}}
	if task != "" {
		form.Set("scope", task)
	}
	return c.revoke(ctx, subjectToken, form)
}

// RevokeJobLease ends one lease of the job of subjectToken, by the lease's id. An answer
// without leases means that this job has no lease of that id. Idempotent; give each call a
// subject token of its own.
func (c *Client) RevokeJobLease(ctx context.Context, subjectToken secret.String, leaseID string) (Revocation, error) {
	if leaseID == "" {
		return Revocation{}, errors.New("the end of one lease needs the lease's id")
	}
	return c.revoke(ctx, subjectToken, url.Values{"token_type_hint": {TokenTypeJob}, "lease": {leaseID}})
}

func (c *Client) revoke(ctx context.Context, token secret.String, form url.Values) (Revocation, error) {
	if token.Empty() {
		return Revocation{}, errors.New("a revocation needs a token")
	}
	form.Set("token", token.Reveal())
	got, err := c.post(ctx, call{path: "/revoke", form: form, told: token})
	if err != nil {
		return Revocation{}, err
	}
	return readRevocation(got)
}

// readRevocation insists on the member leases: RFC 7009 would be content with any
// 200, but then a captive portal's page would pass for the end of a credential.
func readRevocation(got answer) (Revocation, error) {
	bad := func(why string) (Revocation, error) { return Revocation{}, &BadAnswer{Status: got.status, Why: why} }
	var shape struct {
		Leases json.RawMessage `json:"leases"`
	}
	if json.Unmarshal(got.body, &shape) != nil || shape.Leases == nil {
		return bad("it does not say which leases it ended")
	}
	var body Revocation
	if json.Unmarshal(shape.Leases, &body.Leases) != nil {
		return bad("its leases are not a list of ids and states")
	}
	for _, lease := range body.Leases {
		if !isWord(lease.ID) || !isWord(lease.State) {
			return bad("a lease in it has no id or no state")
		}
	}
	return body, nil
}

// Introspect tells what the exchange knows of a lease (RFC 7662), by the lease's
// own token.
func (c *Client) Introspect(ctx context.Context, leaseToken secret.String) (Introspection, error) {
	if leaseToken.Empty() {
		return Introspection{}, errors.New("an introspection needs a lease token")
	}
	got, err := c.post(ctx, call{path: "/introspect", form: url.Values{"token": {leaseToken.Reveal()}}, told: leaseToken})
	if err != nil {
		return Introspection{}, err
	}
	return readIntrospection(got)
}

// readIntrospection insists on the member active, the one that RFC 7662 section
// 2.2 requires: absent must not read as "not active".
func readIntrospection(got answer) (Introspection, error) {
	bad := func(why string) (Introspection, error) {
		return Introspection{}, &BadAnswer{Status: got.status, Why: why}
	}
	var shape struct {
		Active *bool `json:"active"`
	}
	if json.Unmarshal(got.body, &shape) != nil || shape.Active == nil {
		return bad("it does not say whether the token is active")
	}
	var body Introspection
	if json.Unmarshal(got.body, &body) != nil {
		return bad("a member has not the type that RFC 7662 section 2.2 gives it")
	}
	return body, nil
}

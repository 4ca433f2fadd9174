package vault

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/exchange/backend/reach"
	"github.com/stepkey/stepkey/internal/secret"
)

// creation is what a token is asked for with. It names every limit, since what is left
// out is a default of the server's.
type creation struct {
	Policies        []string          `json:"policies"`
	NoDefaultPolicy bool              `json:"no_default_policy"`
	TTL             string            `json:"ttl"`
	ExplicitMaxTTL  string            `json:"explicit_max_ttl"`
	Renewable       bool              `json:"renewable"`
	Type            string            `json:"type"`
	DisplayName     string            `json:"display_name"`
	NumUses         int               `json:"num_uses,omitempty"`
	Meta            map[string]string `json:"meta"`
}

// created is what the server says of a token that it made.
type created struct {
	longest  time.Duration // that was asked for
	Warnings []string      `json:"warnings"`
	Auth     *struct {
		Token            string   `json:"client_token"`
		Accessor         string   `json:"accessor"`
		Policies         []string `json:"policies"`
		TokenPolicies    []string `json:"token_policies"`
		IdentityPolicies []string `json:"identity_policies"`
		// External policies are those that an identity has in namespaces below.
		External      map[string]json.RawMessage `json:"external_namespace_policies"`
		LeaseDuration int64                      `json:"lease_duration"`
		Renewable     bool                       `json:"renewable"`
		Type          string                     `json:"token_type"`
		NumUses       int                        `json:"num_uses"`
	} `json:"auth"`
}

// Issue makes a token with exactly the order's policies. One with more or less, or that
// lives longer, is revoked before the error is returned; where that fails, Handle is
// returned with it.
func (b *Backend) Issue(ctx context.Context, o backend.Order) (backend.Issued, error) {
	want, ours := o.Scope.(*scope)
	if !ours || want == nil || b.token == nil {
		return backend.Issued{}, fmt.Errorf("issuing a Vault token: the order's scope is not one of this backend: %w", backend.ErrNotCreated)
	}
	issued, err := b.issue(ctx, o, want)
	if err != nil {
		return issued, fmt.Errorf("issuing a %s: %w", want, err)
	}
	return issued, nil
}

func (b *Backend) issue(ctx context.Context, o backend.Order, want *scope) (backend.Issued, error) {
	now := b.now()
	ttl, left := b.end(o).Sub(now).Truncate(time.Second), o.At.Add(inFlight).Sub(now)
	if ttl < time.Second || left <= 0 {
		return backend.Issued{}, fmt.Errorf("the order is from %s, so a token made now would be dead or outlive what was promised: %w",
			o.At.UTC().Format(time.RFC3339), backend.ErrNotCreated)
	}
	ctx, cancel := context.WithTimeout(ctx, left)
	defer cancel()
	path := "auth/token/create"
	if want.role != "" {
		path += "/" + want.role
	}
	life := fmt.Sprintf("%ds", ttl/time.Second)
	got := created{longest: ttl}
	err := b.call(ctx, path, creation{
		Policies: want.policies, NoDefaultPolicy: true, TTL: life, ExplicitMaxTTL: life, Type: "service",
		DisplayName: string(o.Lease), NumUses: want.uses,
		Meta: map[string]string{"stepkey_lease": string(o.Lease), "stepkey_for": reach.OneLine(o.For, maxMessage)},
	}, &got)
	if err != nil {
		var f *failed
		if errors.As(err, &f) && f.NothingDone() {
			return backend.Issued{}, fmt.Errorf("%w; %w", err, backend.ErrNotCreated)
		}
		return backend.Issued{}, fmt.Errorf("%w; a token may have been made that nobody can name or revoke; it dies %s after its making", err, life)
	}
	if got.Auth == nil || got.Auth.Token == "" || got.Auth.Accessor == "" {
		return backend.Issued{}, fmt.Errorf("the server's answer has no token with an accessor, so that what it made cannot be revoked; "+
			"look whether a role makes batch tokens: %w", backend.ErrLost)
	}
	return b.accept(ctx, o, want, got)
}

// accept hands a token out if it is what was ordered.
func (b *Backend) accept(ctx context.Context, o backend.Order, want *scope, got created) (backend.Issued, error) {
	auth, latest := got.Auth, b.Terms(o).DiesAt
	// It was made before it was answered.
	dies := b.now().Add(time.Duration(auth.LeaseDuration) * time.Second)
	if dies.After(latest) {
		dies = latest
	}
	granted := &scope{policies: auth.Policies, role: want.role, uses: auth.NumUses}
	if why := want.compare(got, granted); why != nil {
		return b.withdraw(ctx, o.Lease, b.handle(auth.Accessor), why)
	}
	issued := backend.Issued{
		Values: map[string]secret.String{"token": secret.New(auth.Token), "address": secret.New(b.address)},
		Env:    map[string]string{"VAULT_TOKEN": "token", "BAO_TOKEN": "token", "VAULT_ADDR": "address", "BAO_ADDR": "address"},
		Public: []string{"address"},
		Handle: b.handle(auth.Accessor), Granted: granted, DiesAt: dies,
	}
	if b.namespace != "" {
		issued.Public = append(issued.Public, "namespace")
		issued.Values["namespace"] = secret.New(b.namespace)
		issued.Env["VAULT_NAMESPACE"], issued.Env["BAO_NAMESPACE"] = "namespace", "namespace"
	}
	return issued, nil
}

// compare holds the server's answer against the order: not more, not less, not longer.
// policies are all that the token has, whatever they come from.
func (s *scope) compare(got created, granted *scope) error {
	auth, longest := got.Auth, int64(got.longest/time.Second)
	all := slices.Concat(auth.Policies, auth.TokenPolicies, auth.IdentityPolicies)
	slices.Sort(granted.policies)
	switch {
	case auth.Type != "service":
		return fmt.Errorf("the server made a %s token, and only a service token can be revoked; look at the role's token_type", reach.OneLine(auth.Type, maxMessage))
	case len(auth.IdentityPolicies) > 0 || len(auth.External) > 0:
		return errors.New("the token has policies of an identity, too, which a child inherits from the exchange's own token; let a role with orphan=true make it")
	case auth.Renewable:
		return errors.New("the token can be renewed, although it was not to be; look at the role")
	case auth.LeaseDuration <= 0 || auth.LeaseDuration > longest:
		return fmt.Errorf("the token lives %d seconds, and %d were the most; look whether the role has a period", auth.LeaseDuration, longest)
	case !s.Covers(&scope{policies: all, role: s.role, uses: granted.uses}):
		return fmt.Errorf("the server granted more than was asked: %s", reach.OneLine(granted.String(), maxMessage))
	}
	for _, policy := range s.policies {
		if !slices.Contains(auth.Policies, policy) {
			return fmt.Errorf("the server granted less than was asked: the policy %s is missing", policy)
		}
	}
	for _, warning := range got.Warnings {
		if strings.HasPrefix(warning, "Policy ") && strings.HasSuffix(warning, " does not exist") {
			return fmt.Errorf("the server warns: %s", reach.OneLine(warning, maxMessage))
		}
	}
	return nil
}

// withdraw ends a token that may not be handed out, also when the request that wanted it
// is over. It returns the handle only where it may still be needed.
func (b *Backend) withdraw(ctx context.Context, lease backend.LeaseID, sealed secret.String, why error) (backend.Issued, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), reach.RequestFor)
	defer cancel()
	if err := b.Revoke(ctx, lease, sealed); err != nil {
		return backend.Issued{Handle: sealed}, fmt.Errorf("%w; it could not be revoked: %w", why, err)
	}
	return backend.Issued{}, fmt.Errorf("%w; it was revoked at once: %w", why, backend.ErrNotCreated)
}

package registry

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/internal/secret"
)

// Issue makes a password. Nobody is asked, so an error always means that nothing was
// created. The password holds the lease, and so there is no handle.
func (b *Backend) Issue(_ context.Context, o backend.Order) (backend.Issued, error) {
	want, ours := o.Scope.(*scope)
	if !ours || want == nil {
		return backend.Issued{}, fmt.Errorf("issuing a registry login: the order's scope is not one of this backend: %w", backend.ErrNotCreated)
	}
	issued, err := b.issue(o, want)
	if err != nil {
		return backend.Issued{}, fmt.Errorf("issuing a registry login: %w; %w", err, backend.ErrNotCreated)
	}
	return issued, nil
}

func (b *Backend) issue(o backend.Order, want *scope) (backend.Issued, error) {
	l := login{Lease: o.Lease, Until: until(o).Unix(), Service: want.service, Grants: want.grants}
	switch {
	case len(b.keys) == 0:
		return backend.Issued{}, errors.New("there is no key that signs; name one under keys in the configuration")
	case want.service != b.limits.Service || want.registry != b.limits.Registry:
		return backend.Issued{}, fmt.Errorf("the order is for the registry %q, and the configuration has another", want.registry)
	case l.over(b.now()):
		return backend.Issued{}, errors.New("the order's time is over, so a password would be dead already")
	}
	password, err := b.keys[0].password(l)
	if err != nil {
		return backend.Issued{}, err
	}
	config, err := clientConfig(b.limits.Registry, string(o.Lease), password)
	if err != nil {
		return backend.Issued{}, err
	}
	return backend.Issued{
		Values:  map[string]secret.String{"username": secret.New(string(o.Lease)), "password": password, "config": config},
		Env:     map[string]string{"DOCKER_AUTH_CONFIG": "config"},
		Granted: want,
		DiesAt:  b.Terms(o).DiesAt,
	}, nil
}

// clientConfig is the file in which clients of registries keep their logins, which docker
// also takes from the environment.
func clientConfig(registry, username string, password secret.String) (secret.String, error) {
	type entry struct {
		Auth string `json:"auth"`
	}
	text, err := json.Marshal(map[string]map[string]entry{"auths": {
		registry: {base64.StdEncoding.EncodeToString([]byte(username + ":" + password.Reveal()))},
	}})
	if err != nil {
		return secret.String{}, fmt.Errorf("writing the clients' configuration: %w", err)
	}
	return secret.New(string(text)), nil
}

// Revoke looks whether the store has the end, which is what passwords are held against.
// nil means that no further token is signed; one that is out dies within tokenLife and
// the registry's leeway, which Scope's words say.
func (b *Backend) Revoke(ctx context.Context, lease backend.LeaseID, _ secret.String) error {
	good, err := b.usable(ctx, lease)
	switch {
	case err != nil:
		return fmt.Errorf("revoking a registry login: looking whether the store has its end: %w", err)
	case good:
		return errors.New("revoking a registry login: the store does not have its end yet, so that its password is still taken; end the lease first")
	}
	return nil
}

package github

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/exchange/githubapp"
	"github.com/stepkey/stepkey/internal/secret"
)

const (
	probeFor    = 10 * time.Second
	withdrawFor = 30 * time.Second
)

// Issue makes a token with exactly the order's scope. Metadata: read, which
// GitHub adds by itself, is accepted and stands in Granted. A token with
// anything else more, or less, is revoked before the error is returned; where
// that fails, the error does not wrap ErrNotCreated, and Handle is returned
// with it so that the end can be tried again.
//
// A token that GitHub made but does not know yet (see Options.Probe), and a
// context that ends while we wait for that, fail nothing: a token with its
// handle in hand can be revoked, one thrown away cannot.
func (b *Backend) Issue(ctx context.Context, o backend.Order) (backend.Issued, error) {
	want, ours := o.Scope.(*scope)
	if !ours || want == nil {
		return backend.Issued{}, fmt.Errorf("issuing a GitHub token: the order's scope is not one of this backend: %w", backend.ErrNotCreated)
	}
	token, err := b.create(ctx, o, want)
	if err != nil {
		return backend.Issued{}, fmt.Errorf("issuing a GitHub token for %s: %w", want, err)
	}
	latest := b.Terms(o).DiesAt
	if err := want.compare(token, latest); err != nil {
		handle, err := b.withdraw(ctx, token.Value, err)
		return backend.Issued{Handle: handle}, fmt.Errorf("issuing a GitHub token for %s: %w", want, err)
	}
	b.settle(ctx, token, want)
	return backend.Issued{
		Values:  map[string]secret.String{"token": token.Value},
		Env:     map[string]string{"GH_TOKEN": "token", "GITHUB_TOKEN": "token"},
		Handle:  token.Value,
		Granted: grantedBy(token),
		DiesAt:  earlier(token.ExpiresAt.Add(skew), latest),
	}, nil
}

// create finds the installation and asks it for a token. An installation that
// was made anew since it was last seen has another id: then it is asked again.
func (b *Backend) create(ctx context.Context, o backend.Order, want *scope) (githubapp.Token, error) {
	left := o.At.Add(inFlight).Sub(b.now())
	if left <= 0 {
		return githubapp.Token{}, fmt.Errorf("the order is older than %s, so a token made now would outlive what was promised: %w", inFlight, backend.ErrNotCreated)
	}
	ctx, cancel := context.WithTimeout(ctx, left)
	defer cancel()
	at, err := b.installation(ctx, want)
	if err != nil {
		return githubapp.Token{}, err
	}
	token, err := b.app.CreateToken(ctx, at.ID, want.request())
	if !outdated(err) {
		return token, explain(err, want, at)
	}
	fresh, freshErr := b.installation(ctx, want)
	if freshErr != nil {
		return githubapp.Token{}, freshErr
	}
	if fresh.ID != at.ID {
		token, err = b.app.CreateToken(ctx, fresh.ID, want.request())
	}
	return token, explain(err, want, fresh)
}

// outdated: GitHub no longer knows the installation, or it does not have the
// repositories (any more).
func outdated(err error) bool {
	var answer *githubapp.Error
	return errors.As(err, &answer) &&
		(answer.Status == http.StatusNotFound || answer.Status == http.StatusUnprocessableEntity)
}

// installation is the one of the first repository: a token is of one
// installation, and GitHub refuses repositories of another.
func (b *Backend) installation(ctx context.Context, want *scope) (githubapp.Installation, error) {
	first := want.repositories[0]
	var at githubapp.Installation
	var err error
	if first.id != 0 {
		at, err = b.app.InstallationOfRepository(ctx, first.id)
	} else {
		at, err = b.app.InstallationNamed(ctx, first.owner, first.name)
	}
	if err != nil {
		// Looking is all that happened, whatever the answer.
		return at, classify(err, lookupHint(err, first), true)
	}
	if at.Suspended {
		return at, fmt.Errorf("the App's installation on %s is suspended; whoever suspended it can lift that at %s: %w",
			at.Account, page(at), backend.ErrNotCreated)
	}
	return at, nil
}

// compare holds GitHub's answer against the order: not more, not less, not longer.
func (s *scope) compare(token githubapp.Token, latest time.Time) error {
	granted := grantedBy(token)
	switch {
	case token.Selection == "all", len(granted.repositories) == 0:
		return errors.New("GitHub's answer does not limit the token to the repositories asked for")
	case !s.Covers(granted):
		return fmt.Errorf("GitHub granted more than was asked: %s", granted)
	case token.ExpiresAt.IsZero(), token.ExpiresAt.After(latest):
		return fmt.Errorf("GitHub's token would expire at %s, and it should be gone by %s; compare this machine's clock with GitHub's",
			token.ExpiresAt.UTC().Format(time.RFC3339), latest.UTC().Format(time.RFC3339))
	}
	if lacking := s.lacking(token.Permissions); len(lacking) > 0 {
		return fmt.Errorf("GitHub granted less than was asked: the App lacks %s", strings.Join(lacking, ", "))
	}
	if have, want := len(granted.repositories), len(s.repositories); have < want {
		return fmt.Errorf("GitHub granted less than was asked: %d of %d repositories are in the installation", have, want)
	}
	return nil
}

// withdraw ends a token that may not be handed out, also when the request that
// wanted it is over. It returns the handle only where it may still be needed.
func (b *Backend) withdraw(ctx context.Context, token secret.String, why error) (secret.String, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), withdrawFor)
	defer cancel()
	if err := b.app.RevokeToken(ctx, token); err != nil {
		return token, fmt.Errorf("%w; it could not be revoked: %w", why, err)
	}
	return secret.String{}, fmt.Errorf("%w; it was revoked at once: %w", why, backend.ErrNotCreated)
}

var errNotYet = errors.New("not yet usable")

// settle waits until GitHub lets the new token see its repository. Scopes over an
// organization alone may never see one and are not waited for.
func (b *Backend) settle(ctx context.Context, token githubapp.Token, want *scope) {
	if !b.probe || !want.reachesRepositories() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, probeFor)
	defer cancel()
	pace := backoff.NewExponentialBackOff()
	pace.InitialInterval, pace.MaxInterval = b.pause, 3*time.Second
	_, _ = backoff.Retry(ctx, func() (struct{}, error) {
		seen, err := b.app.Reachable(ctx, token.Value, token.Repositories[0].ID)
		if err == nil && !seen {
			err = errNotYet
		}
		return struct{}{}, err
	}, backoff.WithBackOff(pace), backoff.WithMaxElapsedTime(probeFor))
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

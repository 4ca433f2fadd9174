// Package github is the backend for GitHub installation tokens.
//
// It hides how a task's block becomes a token that reaches those repositories
// with those permissions and nothing else, although GitHub's defaults are wide:
// a request that names no permission, or no repository, gets everything.
//
// What GitHub does not offer, this backend cannot either: tokens live one hour
// whatever is asked; they carry no name, so one whose answer was lost can be
// found by nobody; and only the token ends itself. Terms, Revoke and the errors
// say so.
package github

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/exchange/githubapp"
	"github.com/stepkey/stepkey/internal/secret"
)

// Config is the operator's, strictly decoded.
type Config struct {
	API        string `yaml:"api"`                  // https://api.github.com unless given; https://HOST/api/v3
	ClientID   string `yaml:"client_id,required"`   // of the App
	PrivateKey string `yaml:"private_key,required"` // a file: the App's key, PEM
	Owner      string `yaml:"owner"`                // of repositories that a task names without owner
	Probe      bool   `yaml:"probe"`                // hand a token out only once GitHub knows it; see Options
}

const maxKeyFile = 64 << 10

// Open reads the key file and makes the backend. It asks no network.
func (c Config) Open(now func() time.Time) (*Backend, error) {
	if c.Owner != "" && !githubapp.ValidOwner(c.Owner) {
		return nil, errors.New("owner: want the login of one organization or user, as acme")
	}
	app, err := c.App(now)
	if err != nil {
		return nil, err
	}
	return New(Options{App: app, Owner: c.Owner, Probe: c.Probe, Now: now}), nil
}

// App reads the key file and makes the App's client, also for what else is done as
// this App. It asks no network.
func (c Config) App(now func() time.Time) (*githubapp.App, error) {
	pem, err := readKey(c.PrivateKey)
	if err != nil {
		return nil, fmt.Errorf("private_key: %w", err)
	}
	key, err := githubapp.ParseKey(pem)
	if err != nil {
		return nil, fmt.Errorf("private_key: file %q: %w", c.PrivateKey, err)
	}
	return githubapp.New(githubapp.Config{API: c.API, ClientID: c.ClientID, Key: key, Now: now})
}

func readKey(path string) ([]byte, error) {
	if path == "" {
		return nil, errors.New("name the file with the App's private key")
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("reading the App's private key: %w", err)
	}
	defer func() { _ = file.Close() }()
	pem, err := io.ReadAll(io.LimitReader(file, maxKeyFile))
	if err != nil {
		return nil, fmt.Errorf("reading the App's private key: %w", err)
	}
	return pem, nil
}

// Options are what New needs: what Config says, opened.
type Options struct {
	App   *githubapp.App
	Owner string // of repositories that a task names without owner
	// Probe: for seconds after its making GitHub may answer 401, 403 or 404 to a
	// token. With Probe, Issue asks for the repository until it is seen, 10 s at
	// most, so that the task's first request does not fail.
	Probe bool
	Pause time.Duration // between two probes at first; default 500 ms
	Now   func() time.Time
}

// Backend makes GitHub installation tokens. Safe for concurrent use.
type Backend struct {
	app   *githubapp.App
	owner string
	probe bool
	pause time.Duration
	now   func() time.Time
}

var _ backend.Backend = (*Backend)(nil)

// New makes a backend over an App that exists already, for one whose key lives
// in a key management service.
func New(o Options) *Backend {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Pause <= 0 {
		o.Pause = 500 * time.Millisecond
	}
	return &Backend{app: o.App, owner: o.Owner, probe: o.Probe, pause: o.Pause, now: o.Now}
}

const (
	// inFlight is how long after the lease's intent a create may be sent and
	// answered. Issue keeps it, so that Terms is true.
	inFlight = time.Minute
	// skew is how far GitHub's clock and ours may be apart.
	skew = time.Minute
)

// Terms: the token's hour runs on GitHub's clock from the moment it is made,
// which may be as late as a minute after the intent.
func (*Backend) Terms(o backend.Order) backend.Terms {
	return backend.Terms{DiesAt: o.At.Add(githubapp.Lifetime + inFlight + skew), Revocable: true}
}

// Revoke ends a token by itself, which is the handle. nil means that GitHub
// revoked it, or does not know it any more. Without a handle it is ErrLost:
// GitHub has no name by which the token could be found.
func (b *Backend) Revoke(ctx context.Context, lease backend.LeaseID, handle secret.String) error {
	if handle.Empty() {
		return fmt.Errorf("revoking the GitHub token of lease %s: GitHub gave no name for it, and only a token ends itself; "+
			"if it was made, it dies at its expiry at the latest, an hour after its making: %w", lease, backend.ErrLost)
	}
	err := b.app.RevokeToken(ctx, handle)
	var answer *githubapp.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &answer) && answer.Temporary():
		return fmt.Errorf("revoking the GitHub token of lease %s: %w; %w", lease, err, backend.ErrUnavailable)
	}
	return fmt.Errorf("revoking the GitHub token of lease %s: %w", lease, err)
}

// Forget drops what is cached of an installation, after word that it was deleted,
// suspended or has lost repositories. It asks nobody.
func (b *Backend) Forget(installation int64) { b.app.Forget(installation) }

package main

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/stepkey/stepkey/exchange"
	"github.com/stepkey/stepkey/exchange/backend/github"
	"github.com/stepkey/stepkey/exchange/githubapp"
	"github.com/stepkey/stepkey/exchange/policy"
)

// checks is how the exchange asks GitHub for what tasks require: as the App of the
// backend github, about the issuer whose jobs that App can read. Nil asks nothing.
type checks struct {
	app    *githubapp.App
	reader *githubapp.Checks
	log    *slog.Logger
}

// openChecks lets x ask. It touches no network.
func (c config) openChecks(x *exchange.Exchange, log *slog.Logger) (*checks, error) {
	issuer, node := c.watched(), c.Backends.Get("github")
	if issuer == "" || !node.Exists() {
		return nil, nil
	}
	var g github.Config
	if err := node.Decode(&g); err != nil {
		return nil, err
	}
	g.PrivateKey = c.beside(g.PrivateKey)
	app, err := g.App(c.now)
	if err != nil {
		return nil, fmt.Errorf("opening the App that asks for what tasks require: %w", err)
	}
	asked := &checks{app: app, reader: app.Checks(), log: log}
	x.Checks = map[string]exchange.Checks{issuer: asked.reader}
	return asked, nil
}

// promise says where tasks require something and nobody can be asked: they are denied,
// and that is told with the task files, not at the first release.
func (k *checks) promise(ctx context.Context, tasks *policy.Set, log *slog.Logger) {
	if names := requiring(tasks); k == nil && len(names) > 0 {
		log.ErrorContext(ctx, "tasks require what GitHub has to be asked for, and it cannot be: there is no backend github, or several issuers are of its kind and none is named under reconcile; these tasks are denied", "tasks", names)
	}
}

// reads is the App that asks; nil where nobody does.
func (k *checks) reads() *githubapp.App {
	if k == nil {
		return nil
	}
	return k.app
}

func requiring(set *policy.Set) (names []string) {
	for _, t := range set.Tasks() {
		if t.Require != (policy.Required{}) {
			names = append(names, t.Name)
		}
	}
	return names
}

// close revokes the tokens that GitHub was asked with.
func (k *checks) close(ctx context.Context) {
	if k == nil {
		return
	}
	closing, done := context.WithTimeout(ctx, closeFor)
	defer done()
	if err := k.reader.Close(closing); err != nil {
		k.log.WarnContext(ctx, "a token for reading environments and workflow files is not revoked; it can do nothing else and dies within the hour", "error", err)
	}
}

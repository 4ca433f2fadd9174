package main

import (
	"context"
	"log/slog"

	"github.com/stepkey/stepkey/exchange"
	"github.com/stepkey/stepkey/exchange/githubapp"
	"github.com/stepkey/stepkey/exchange/policy"
)

// checks is how the exchange asks GitHub for what tasks require: as the App of the
// backend github, about the issuer whose jobs that App can read. Nil asks nothing.
type checks struct {
	reader *githubapp.Checks
	log    *slog.Logger
}

// openChecks lets x ask as app, which is nil without a backend github.
func (c config) openChecks(x *exchange.Exchange, app *githubapp.App, log *slog.Logger) *checks {
	issuer := c.watched()
	if issuer == "" || app == nil {
		return nil
	}
	asked := &checks{reader: app.Checks(), log: log}
	x.Checks = map[string]exchange.Checks{issuer: asked.reader}
	return asked
}

// promise says where tasks require something and nobody can be asked: they are denied,
// and that is told with the task files, not at the first release.
func (k *checks) promise(ctx context.Context, tasks *policy.Set, log *slog.Logger) {
	if names := requiring(tasks); k == nil && len(names) > 0 {
		log.ErrorContext(ctx, "tasks require what GitHub has to be asked for, and it cannot be: there is no backend github, or several issuers are of its kind and none is named under reconcile; these tasks are denied", "tasks", names)
	}
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

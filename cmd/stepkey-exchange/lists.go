package main

import (
	"context"
	"log/slog"
	"maps"
	"net/http"
	"sync"
	"time"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/exchange/lease"
)

// An answering backend answers more than leases on the public listener, to anybody.
type answering interface {
	// Handlers are by pattern, such as GET /ssh/krl.
	Handlers() map[string]http.Handler
}

func answers(backends map[string]backend.Backend) map[string]http.Handler {
	all := map[string]http.Handler{}
	for _, b := range backends {
		if able, can := b.(answering); can {
			maps.Copy(all, able.Handlers())
		}
	}
	return all
}

// A listing backend keeps a list of withdrawn leases outside the store.
type listing interface {
	// Refresh brings the list up to date with the store. Safe beside everything else.
	Refresh(context.Context) error
}

// usableIn reports whether a backend's credential is good now, as the store knows it.
func usableIn(ctx context.Context, store *lease.Store, of string, id backend.LeaseID, now func() time.Time) (bool, error) {
	lives, err := store.LivesWhere(ctx, lease.Selector{Lease: id})
	return err == nil && len(lives) == 1 && lives[0].Backend == of && lives[0].Usable(now()), err
}

// refreshEvery is how soon a list knows what another replica revoked.
const refreshEvery = 5 * time.Second

// lists are those of all backends.
type lists struct {
	of  map[string]listing
	log *slog.Logger
}

func listsOf(backends map[string]backend.Backend, log *slog.Logger) lists {
	l := lists{map[string]listing{}, log}
	for name, b := range backends {
		if able, can := b.(listing); can {
			l.of[name] = able
		}
	}
	return l
}

// run keeps the lists up to date until ctx ends, from the start on: while nobody ran,
// what is listed may have changed, or the list may be gone.
func (l lists) run(ctx context.Context) {
	var all sync.WaitGroup
	for name, one := range l.of {
		all.Go(func() { l.keep(ctx, name, one) })
	}
	all.Wait()
}

func (l lists) keep(ctx context.Context, name string, one listing) {
	again := time.NewTicker(refreshEvery)
	defer again.Stop()
	for {
		if err := one.Refresh(ctx); err != nil && ctx.Err() == nil {
			l.log.ErrorContext(ctx, "a list of what was revoked is not up to date; trying again", "backend", name, "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-again.C:
		}
	}
}

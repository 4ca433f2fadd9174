package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"

	"github.com/stepkey/stepkey/exchange"
	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/exchange/identity"
	"github.com/stepkey/stepkey/exchange/lease"
	"github.com/stepkey/stepkey/exchange/policy"
	"github.com/stepkey/stepkey/exchange/server"
)

type serveCommand struct {
	Config string `arg:"" optional:"" default:"stepkey.yaml" type:"path" help:"The configuration file (${default})."`
}

// Run serves until it is told to stop, then finishes what is in flight and leaves
// the rest to the store: the next start goes on with it.
func (s serveCommand) Run(ctx context.Context, around surroundings) error {
	log := slog.New(slog.NewJSONHandler(around.err, nil))
	c, err := readConfig(s.Config)
	if err != nil {
		return err
	}
	service, err := open(ctx, c, log)
	if err != nil {
		return err
	}
	service.tasks.folder.Set().Warn(ctx, log)
	public, err := listen(ctx, c.Listen)
	if err != nil {
		return errors.Join(err, service.store.Close())
	}
	admin, err := listen(ctx, c.Admin)
	if err != nil {
		return errors.Join(err, public.Close(), service.store.Close())
	}
	log.InfoContext(ctx, "serving", "url", c.URL, "listen", public.Addr().String(), "admin", admin.Addr().String(), "tasks", len(service.tasks.folder.Set().Tasks()), "version", version)
	return service.run(ctx, public, admin)
}

// service is everything of one running exchange.
type service struct {
	store  *lease.Store
	tasks  *taskSources
	keeper *lease.Keeper
	jobs   *jobWatch
	checks *checks
	server *server.Server
	lists  lists
}

// open wires the rooms together, in the order of a request.
func open(ctx context.Context, c config, log *slog.Logger) (*service, error) {
	issuers, err := c.issuers()
	if err != nil {
		return nil, err
	}
	verifier, err := identity.New(c.URL, issuers, identity.Options{Now: c.now, Log: log})
	if err != nil {
		return nil, fmt.Errorf("reading the issuers in %s: %w", c.file, err)
	}
	var store *lease.Store // opened last; no backend asks it before it serves
	c.withdrawn = func(ctx context.Context, of string) ([]backend.LeaseID, error) { return store.Withdrawn(ctx, of) }
	c.usable = func(ctx context.Context, of string, id backend.LeaseID) (bool, error) {
		return usableIn(ctx, store, of, id, c.now)
	}
	backends, err := c.openBackends()
	if err != nil {
		return nil, err
	}
	app, err := c.openApp()
	if err != nil {
		return nil, err
	}
	tasks, err := c.openTasks(policy.Check{Issuers: issuers, Backends: scopers(backends)}, app, log)
	if err != nil {
		return nil, err
	}
	jobs, err := c.openJobs(app, log)
	if err != nil {
		return nil, err
	}
	if store, err = c.openStore(ctx); err != nil {
		return nil, err
	}
	counts := newMetrics(store, c.now)
	counts.watch(tasks.folder)
	x := &exchange.Exchange{
		Verifier: verifier, Leases: store,
		Backends: backends, Owners: c.Owners, Prove: c.Prove, Observe: counts, Now: c.now, Log: log,
	}
	tasks.serve(x)
	jobs.watch(x)
	jobs.heedAccess(x)
	asked := c.openChecks(x, app, log)
	tasks.changed = func(ctx context.Context, set *policy.Set) {
		asked.promise(ctx, set, log)
		jobs.promise(ctx, set)
	}
	tasks.changed(ctx, x.Policy())
	octo, err := c.openOctoSTS(verifier, x) // last: it takes x as it is then
	if err != nil {
		return nil, errors.Join(err, store.Close())
	}
	return &service{
		store: store, tasks: tasks, jobs: jobs, checks: asked,
		keeper: &lease.Keeper{Store: store, Backends: kept(ctx, store, backends, log), End: ending(x), Retain: c.Retain, Now: c.now, Log: log},
		server: &server.Server{Exchange: x, URL: c.URL, Ready: store.Ready, Metrics: counts.handler(), GitHub: jobs.webhook, OctoSTS: octo, Also: answers(backends), Log: log},
		lists:  listsOf(backends, log),
	}, nil
}

// run ends the server first, so that no lease is begun, and the keeper after it.
func (s *service) run(ctx context.Context, public, admin net.Listener) error {
	keeping, stop := context.WithCancel(context.WithoutCancel(ctx))
	var keeper sync.WaitGroup
	keeper.Go(func() { s.keeper.Run(keeping) })
	keeper.Go(func() { s.jobs.run(keeping) })
	keeper.Go(func() { s.tasks.run(keeping) })
	keeper.Go(func() { s.lists.run(keeping) })
	err := s.server.Serve(ctx, public, admin)
	stop()
	keeper.Wait()
	s.jobs.close(context.WithoutCancel(ctx))
	s.tasks.close(context.WithoutCancel(ctx))
	s.checks.close(context.WithoutCancel(ctx))
	return errors.Join(err, s.store.Close())
}

func ending(x *exchange.Exchange) func(context.Context, lease.Lease, string) error {
	return func(ctx context.Context, l lease.Lease, why string) error {
		_, err := x.End(ctx, l.ID, why)
		return err
	}
}

// kept are the configured backends and those that live leases still need: the
// latter cannot be ended until their backend is configured again, but they do die,
// and that is to be written down.
func kept(ctx context.Context, store *lease.Store, configured map[string]backend.Backend, log *slog.Logger) []string {
	names, err := store.LiveBackends(ctx)
	if err != nil {
		log.ErrorContext(ctx, "cannot see which backends live leases need", "error", err)
	}
	for _, name := range names {
		if configured[name] == nil {
			log.ErrorContext(ctx, "live leases need a backend that is not configured; bring it back until they are over", "backend", name)
		}
	}
	for name := range configured {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

func scopers(backends map[string]backend.Backend) map[string]policy.Scoper {
	all := map[string]policy.Scoper{}
	for name, b := range backends {
		all[name] = b
	}
	return all
}

func listen(ctx context.Context, address string) (net.Listener, error) {
	var config net.ListenConfig
	l, err := config.Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listening on %s: %w", address, err)
	}
	return l, nil
}

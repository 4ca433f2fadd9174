package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"text/tabwriter"

	"github.com/stepkey/stepkey/exchange"
	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/exchange/lease"
)

type revokeCommand struct {
	Lease    string `help:"This lease."`
	Job      string `help:"Leases of this job: its name as the audit log has it, or its key."`
	Repo     string `help:"Leases of this repository, by its numeric id."`
	Task     string `help:"Leases of this task."`
	All      bool   `help:"Every live lease, where nothing narrower is named."`
	Why      string `help:"What the audit log is to say beside that an operator did it."`
	WriteOff bool   `help:"Where the backend does not confirm it, take the lease as over on your word, for the reason that --why gives. Make sure first that what it stands for is gone: nobody ends it any more."`
	Config   string `default:"stepkey.yaml" type:"path" help:"The configuration file (${default})."`
}

// endsAtOnce bounds how many ends this command asks of the backends at a time.
const endsAtOnce = 8

// Run ends what is meant with the store and the backends of the configuration, the way
// the exchange itself does, whether that runs or not.
func (r revokeCommand) Run(ctx context.Context, around surroundings) error {
	if r.which() == (lease.Selector{}) {
		return errors.New("say which leases are to end: --lease, --job, --repo or --task, of which all must match, or --all")
	}
	if r.WriteOff && r.Why == "" {
		return errors.New("say with --why how you know that the credentials are gone; the audit log keeps it")
	}
	c, err := readConfig(r.Config)
	if err != nil {
		return err
	}
	x, store, err := c.openToEnd(ctx)
	if err != nil {
		return err
	}
	return errors.Join(r.end(ctx, around, x, store), store.Close())
}

func (r revokeCommand) end(ctx context.Context, around surroundings, x *exchange.Exchange, store *lease.Store) error {
	lives, err := store.LivesWhere(ctx, r.which())
	switch {
	case err != nil:
		return err
	case len(lives) == 0 && r.Lease != "":
		return fmt.Errorf("there is no live lease %s that matches; %s shows what became of it", r.Lease, r.audit())
	case len(lives) == 0:
		fmt.Fprintln(around.out, "No live lease matches; there is nothing to end.")
		return nil
	}
	return printEnded(ctx, around, store, endEach(ctx, lives, r.how(x)))
}

func (r revokeCommand) which() lease.Selector {
	return lease.Selector{Lease: backend.LeaseID(r.Lease), Job: r.Job, Repository: r.Repo, Task: r.Task, All: r.All}
}

func (r revokeCommand) why() string {
	by := lease.ByOperator
	if r.WriteOff {
		by = lease.ByWriteOff
	}
	if r.Why == "" {
		return by
	}
	return by + ": " + r.Why
}

// audit is the command that shows what became of the lease.
func (r revokeCommand) audit() string {
	return fmt.Sprintf("stepkey-exchange audit --lease %s --config %s", r.Lease, r.Config)
}

// how is what is done with each.
func (r revokeCommand) how(x *exchange.Exchange) func(context.Context, backend.LeaseID) (exchange.Lease, error) {
	end := x.End
	if r.WriteOff {
		end = x.WriteOff
	}
	return func(ctx context.Context, id backend.LeaseID) (exchange.Lease, error) { return end(ctx, id, r.why()) }
}

// openToEnd is an exchange that can end leases and do nothing else, on a store that
// must be there already.
func (c config) openToEnd(ctx context.Context) (*exchange.Exchange, *lease.Store, error) {
	looking, err := lease.OpenToRead(ctx, c.store())
	if err != nil {
		return nil, nil, err
	}
	if err := looking.Close(); err != nil {
		return nil, nil, err
	}
	store, err := c.openStore(ctx)
	if err != nil {
		return nil, nil, err
	}
	c.withdrawn = store.Withdrawn
	c.usable = func(ctx context.Context, of string, id backend.LeaseID) (bool, error) {
		return usableIn(ctx, store, of, id, c.now)
	}
	backends, err := c.openBackends()
	if err != nil {
		return nil, nil, errors.Join(err, store.Close())
	}
	return &exchange.Exchange{Leases: store, Backends: backends, Prove: c.Prove, Now: c.now, Log: slog.New(slog.DiscardHandler)}, store, nil
}

// ended is what became of one lease.
type ended struct {
	lease exchange.Lease
	err   error
}

// endEach begins no more ends once ctx is over, and finishes those it began.
func endEach(ctx context.Context, lives []exchange.Lease, end func(context.Context, backend.LeaseID) (exchange.Lease, error)) []ended {
	all := make([]ended, len(lives))
	slots := make(chan struct{}, endsAtOnce)
	var ends sync.WaitGroup
	for i, l := range lives {
		slots <- struct{}{}
		ends.Go(func() {
			defer func() { <-slots }()
			all[i] = ended{l, ctx.Err()}
			if all[i].err == nil {
				now, err := end(ctx, l.ID)
				if err == nil {
					l = now
				}
				all[i] = ended{l, err}
			}
		})
	}
	ends.Wait()
	return all
}

func printEnded(ctx context.Context, around surroundings, store *lease.Store, all []ended) error {
	table := tabwriter.NewWriter(around.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "LEASE\tSTATE\tTASK\tJOB\tWHAT")
	left := 0
	for _, o := range all {
		if o.err != nil || !o.lease.State.Final() {
			left++
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\n", o.lease.ID, o.lease.State, o.lease.Task, o.lease.JobName, became(ctx, store, o))
	}
	if err := table.Flush(); err != nil {
		return fmt.Errorf("printing what became of the leases: %w", err)
	}
	if left > 0 {
		return fmt.Errorf("%d of %d leases are not over yet; the keeper of a running exchange goes on with them, so see that one runs", left, len(all))
	}
	return nil
}

// became is what the audit log says last of the lease: how it ended, or why it did not.
func became(ctx context.Context, store *lease.Store, o ended) string {
	if o.err != nil {
		return o.err.Error()
	}
	last, err := store.Audit(context.WithoutCancel(ctx), lease.AuditQuery{Lease: string(o.lease.ID), Limit: 1})
	if err != nil || len(last) == 0 {
		return o.lease.Reason
	}
	return what(last[0])
}

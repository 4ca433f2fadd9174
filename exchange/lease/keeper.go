package lease

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// A Keeper ends leases that are due: at their deadline, after a failed attempt, and
// what a process that died left behind. It asks the store what is due and End to
// end it, and never gives up.
type Keeper struct {
	Store    *Store
	Backends []string                                             // one loop each, so that a dead backend delays only its own leases
	End      func(ctx context.Context, l Lease, why string) error // exchange.End; nil when the attempt and its outcome are written down
	Retain   time.Duration                                        // how long ended leases stay in the store; the audit log stays for good
	Now      func() time.Time
	Log      *slog.Logger
}

const (
	endsAtOnce  = 8               // attempts to end leases of one backend at the same time
	lookAgainIn = 2 * time.Second // at most: other processes may have written leases meanwhile
	tidyEvery   = 10 * time.Minute
)

// Run keeps until ctx ends, then waits for the attempts under way.
func (k *Keeper) Run(ctx context.Context) {
	var loops sync.WaitGroup
	for _, backend := range k.Backends {
		loops.Go(func() { k.keep(ctx, backend) })
	}
	loops.Go(func() { k.tidy(ctx) })
	loops.Wait()
}

func (k *Keeper) keep(ctx context.Context, backend string) {
	for {
		wait := lookAgainIn
		if k.Sweep(ctx, backend) {
			wait = k.untilNext(ctx, backend)
		}
		if !pause(ctx, wait) {
			return
		}
	}
}

// Sweep ends what is due of one backend now and returns when all attempts have
// been answered: whether each could at least be written down. If not, the store is
// in trouble, and asking it again at once would not help it.
func (k *Keeper) Sweep(ctx context.Context, backend string) bool {
	due, err := k.Store.Claim(ctx, backend, endsAtOnce)
	if err != nil {
		k.Log.ErrorContext(ctx, "cannot see which leases are due; looking again", "backend", backend, "error", err)
		return false
	}
	var attempts sync.WaitGroup
	var unwritten atomic.Bool
	for _, l := range due {
		attempts.Go(func() {
			if !k.end(ctx, l) {
				unwritten.Store(true)
			}
		})
	}
	attempts.Wait()
	return !unwritten.Load()
}

func (k *Keeper) end(ctx context.Context, l Lease) bool {
	why := ByDeadline
	if l.State == Pending {
		why = ByIssueFault
	}
	if err := k.End(ctx, l, why); err != nil {
		k.Log.ErrorContext(ctx, "an attempt to end a lease could not be written down; trying again", "lease", l.ID, "backend", l.Backend, "ends_at", l.EndsAt, "dies_at", l.DiesAt, "error", err)
		return false
	}
	return true
}

func (k *Keeper) untilNext(ctx context.Context, backend string) time.Duration {
	next, err := k.Store.NextDue(ctx, backend)
	if err != nil || next.IsZero() {
		return lookAgainIn
	}
	return min(max(next.Sub(k.Now()), 0), lookAgainIn)
}

// tidy begins some time after the start: until then all replicas have the newest key file.
func (k *Keeper) tidy(ctx context.Context) {
	for pause(ctx, tidyEvery) {
		broken, err := k.Store.Reseal(ctx)
		if err != nil {
			k.Log.ErrorContext(ctx, "handles stay sealed with an older key for now", "error", err)
		}
		if broken > 0 {
			k.Log.ErrorContext(ctx, "live leases cannot be ended: no key of the key file opens their handles; bring back the file that does", "leases", broken)
		}
		if _, err := k.Store.Forget(ctx, k.Now().Add(-k.Retain)); err != nil {
			k.Log.ErrorContext(ctx, "what is long over stays in the store for now", "error", err)
		}
	}
}

// pause waits and reports whether to go on.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

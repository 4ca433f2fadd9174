package exchange

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"
)

const (
	firstSweep = 15 * time.Second
	// SweepEvery is how far two sweeps are apart, and with youngest the longest that a
	// credential outlives its job when every event is lost.
	SweepEvery = 30 * time.Second
	// youngest is the age from which a lease is asked about. Most are given back
	// before, and a job that CI has just begun may not be in its list yet.
	youngest = time.Minute
	// Each question is cut off after a while, and some are asked at once, so that one
	// that hangs holds up no other.
	askFor  = 20 * time.Second
	askOnce = 4
)

// A Reconciler ends what jobs hold that are over, where no event said so: it asks
// the CI system of one issuer about the runs whose leases live on. An answer only
// moves a lease towards its end, and no answer leaves it to its deadline.
type Reconciler struct {
	Exchange *Exchange // its Jobs hold Issuer
	Issuer   string
	// RunsPerMinute is about how many runs at most are asked in a minute; at least 2.
	// Of more, each has its turn, those asked longest ago first.
	RunsPerMinute int
	Now           func() time.Time
	Log           *slog.Logger

	asked map[Run]time.Time
}

// Run sweeps until ctx ends.
func (r *Reconciler) Run(ctx context.Context) {
	for wait := firstSweep; pause(ctx, wait); wait = SweepEvery {
		r.Sweep(ctx)
	}
}

// Sweep asks once about the runs whose turn it is, and ends what is over. It is not
// safe for concurrent use.
func (r *Reconciler) Sweep(ctx context.Context) {
	held, err := r.Exchange.Leases.LivesOfIssuer(ctx, r.Issuer, r.Now().Add(-youngest))
	if err != nil {
		r.Log.ErrorContext(ctx, "cannot see which jobs hold leases; looking again", "issuer", r.Issuer, "error", err)
		return
	}
	turn, leases := r.turn(held)
	faults := make([]error, len(turn))
	slots := make(chan struct{}, askOnce)
	var questions sync.WaitGroup
	for i, run := range turn {
		slots <- struct{}{}
		questions.Go(func() {
			defer func() { <-slots }()
			asking, done := context.WithTimeout(ctx, askFor)
			defer done()
			_, faults[i] = r.Exchange.endIfOver(asking, run, leases[run])
		})
	}
	questions.Wait()
	if faults = slices.DeleteFunc(faults, func(err error) bool { return err == nil }); len(faults) > 0 {
		r.Log.WarnContext(ctx, "could not see whether all jobs are over, or not end what is; looking again, and their leases end at their deadlines",
			"issuer", r.Issuer, "runs", len(turn), "failed", len(faults), "error", faults[0])
	}
}

// turn chooses whom to ask now, and groups leases by run.
func (r *Reconciler) turn(held []Lease) ([]Run, map[Run][]Lease) {
	leases, asked := map[Run][]Lease{}, map[Run]time.Time{}
	var runs []Run
	for _, l := range held {
		run := runOf(l)
		if leases[run] == nil {
			runs = append(runs, run)
			asked[run] = r.asked[run]
		}
		leases[run] = append(leases[run], l)
	}
	slices.SortStableFunc(runs, func(a, b Run) int { return asked[a].Compare(asked[b]) })
	runs = runs[:min(len(runs), max(1, r.RunsPerMinute*int(SweepEvery/time.Second)/60))]
	for _, run := range runs {
		asked[run] = r.Now()
	}
	r.asked = asked // of runs that hold nothing any more nothing is kept
	return runs, leases
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

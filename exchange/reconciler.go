package exchange

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"
)

const (
	firstSweep = 15 * time.Second
	// SweepEvery is how far two sweeps are apart, and with youngest the longest that a
	// credential outlives its job when every event is lost.
	SweepEvery = 30 * time.Second
	// StepsEvery is how far two looks at steps are apart. What CI shows is some seconds
	// old in any case, so that asking more often would hardly end anything sooner.
	StepsEvery = 5 * time.Second
	// youngest is the age from which a lease is asked about. Most are given back
	// before, and a job that CI has just begun may not be in its list yet.
	youngest = time.Minute
	// Each question is cut off after a while, and some are asked at once, so that one
	// that hangs holds up no other.
	askFor  = 20 * time.Second
	askOnce = 4
	// A look at steps does not see all runs, so when others were asked is kept for a
	// while.
	forgetAsked = 10 * time.Minute
)

// A Reconciler ends what jobs hold that are over, where no event said so, and what was
// to end with a step: it asks the CI system of one issuer about the runs whose leases
// live on. An answer only moves a lease towards its end, and no answer leaves it to its
// deadline.
type Reconciler struct {
	Exchange *Exchange // its Jobs hold Issuer
	Issuer   string
	// RunsPerMinute is about how many runs at most are asked in a minute; at least 2.
	// Of more, each has its turn, those asked longest ago first. One question about a
	// run is for all its leases.
	RunsPerMinute int
	Now           func() time.Time
	Log           *slog.Logger

	asked  map[Run]time.Time
	share  share
	others int // runs that the last sweep had to ask about and Steps does not
}

// Run sweeps, and looks at steps in between, until ctx ends.
func (r *Reconciler) Run(ctx context.Context) {
	if !pause(ctx, firstSweep) {
		return
	}
	const nearest = SweepEvery - StepsEvery/2 // to the look in whose place a sweep comes
	sweep, look := time.NewTimer(nearest), time.NewTicker(StepsEvery)
	defer sweep.Stop()
	defer look.Stop()
	for r.Sweep(ctx); ; {
		select {
		case <-ctx.Done():
			return
		case <-look.C:
		}
		select {
		case <-sweep.C:
			sweep.Reset(nearest)
			r.Sweep(ctx)
		default:
			r.Steps(ctx)
		}
	}
}

// Sweep asks once about the runs whose turn it is, and ends what is over. It is not
// safe for concurrent use, nor beside Steps.
func (r *Reconciler) Sweep(ctx context.Context) {
	held, err1 := r.Exchange.Leases.LivesOfIssuer(ctx, r.Issuer, r.Now().Add(-youngest))
	bySteps, err2 := r.Exchange.Leases.LivesByStep(ctx, r.Issuer)
	if err := errors.Join(err1, err2); err != nil {
		r.cannotSee(ctx, err)
		return
	}
	leases := byRun(append(bySteps, slices.DeleteFunc(held, Lease.EndsWithStep)...))
	r.others = len(leases) - len(byRun(bySteps))
	r.ask(ctx, leases, r.share.left(r.Now(), r.each()))
}

// Steps asks about runs some of whose leases end with a step, of any age, in as far as
// that leaves the next sweep half of its questions if it needs them.
func (r *Reconciler) Steps(ctx context.Context) {
	held, err := r.Exchange.Leases.LivesByStep(ctx, r.Issuer)
	if err != nil {
		r.cannotSee(ctx, err)
		return
	}
	if len(held) > 0 {
		kept := min(r.others, int(SweepEvery/r.each())/2)
		r.ask(ctx, byRun(held), r.share.left(r.Now(), r.each())-kept)
	}
}

// each is how much time one question takes up of the share.
func (r *Reconciler) each() time.Duration {
	return time.Minute / time.Duration(max(1, r.RunsPerMinute))
}

func (r *Reconciler) cannotSee(ctx context.Context, err error) {
	r.Log.ErrorContext(ctx, "cannot see which jobs hold leases; looking again", "issuer", r.Issuer, "error", err)
}

// ask asks about as many runs at most, and ends what is over.
func (r *Reconciler) ask(ctx context.Context, leases map[Run][]Lease, most int) {
	turn := r.turn(leases, most)
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

// turn chooses whom to ask now.
func (r *Reconciler) turn(leases map[Run][]Lease, most int) []Run {
	runs := slices.SortedFunc(maps.Keys(leases), func(a, b Run) int {
		return cmp.Or(r.asked[a].Compare(r.asked[b]), leases[a][0].Created.Compare(leases[b][0].Created), cmp.Compare(a.ID, b.ID))
	})
	runs = runs[:min(len(runs), max(0, most))]
	if r.asked == nil {
		r.asked = map[Run]time.Time{}
	}
	now := r.Now()
	maps.DeleteFunc(r.asked, func(run Run, at time.Time) bool {
		return leases[run] == nil && now.Sub(at) > forgetAsked // it holds nothing any more
	})
	for _, run := range runs {
		r.asked[run] = now
	}
	r.share.saved -= time.Duration(len(runs)) * r.each()
	return runs
}

func byRun(held []Lease) map[Run][]Lease {
	leases := map[Run][]Lease{}
	for _, l := range held {
		leases[runOf(l)] = append(leases[runOf(l)], l)
	}
	return leases
}

// share is the time that passed and was not used for questions, that between two sweeps
// at most.
type share struct {
	saved time.Duration
	at    time.Time
}

// left is how many questions may be asked now.
func (s *share) left(now time.Time, each time.Duration) int {
	most := max(SweepEvery, each)
	if passed := now.Sub(s.at); s.at.IsZero() || passed > most {
		s.saved = most
	} else {
		s.saved = min(most, s.saved+max(0, passed))
	}
	s.at = now
	return int(s.saved / each)
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

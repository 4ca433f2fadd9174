package exchange_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stepkey/stepkey/exchange"
	"github.com/stepkey/stepkey/exchange/identity"
	"github.com/stepkey/stepkey/exchange/lease"
)

// ofRuns verifies subject tokens that name a whole job: "run.attempt.job", where an
// empty job is one that the issuer does not name.
type ofRuns struct{}

func (ofRuns) Verify(_ context.Context, token string) (identity.Workload, error) {
	part := strings.Split(token, ".")
	return identity.Workload{
		Issuer: "github", TokenID: token, IssuedAt: start, Expires: start.Add(time.Hour),
		Claims: identity.Claims{"repository_id": "456789", "event_name": "push"},
		Job:    identity.Job{Key: token, Name: "acme/widget " + token, Repository: "456789", Run: part[0], Attempt: part[1], ID: part[2]},
	}, nil
}

// ci is a CI system that knows which jobs are over, or does not answer.
type ci struct {
	mu    sync.Mutex
	jobs  map[exchange.Run]map[string]bool
	steps map[string][]exchange.Step // by job
	fault map[string]error           // by run
	asked []exchange.Run
	hold  func(exchange.Run)
}

func (c *ci) OfRun(_ context.Context, repository, id string, attempt int) (map[string]exchange.JobView, error) {
	run := exchange.Run{Repository: repository, ID: id, Attempt: attempt}
	if c.hold != nil {
		c.hold(run)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked = append(c.asked, run)
	views := map[string]exchange.JobView{}
	for job, over := range c.jobs[run] {
		views[job] = exchange.JobView{Over: over, Steps: c.steps[job]}
	}
	return views, c.fault[run.ID]
}

// end says that a job is over; its run is in progress if it has others.
func (c *ci) end(run string, attempt int, job string) { c.set(run, attempt, job, true) }

func (c *ci) set(run string, attempt int, job string, over bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := exchange.Run{Repository: "456789", ID: run, Attempt: attempt}
	if c.jobs[r] == nil {
		c.jobs[r] = map[string]bool{}
	}
	c.jobs[r][job] = over
}

func (c *ci) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.asked)
}

func watched(t testing.TB) (*stage, *ci, *exchange.Reconciler) {
	t.Helper()
	st, c := set(t), &ci{jobs: map[exchange.Run]map[string]bool{}, steps: map[string][]exchange.Step{}, fault: map[string]error{}}
	st.Verifier, st.Jobs = ofRuns{}, map[string]exchange.Jobs{"github": c}
	return st, c, &exchange.Reconciler{Exchange: st.Exchange, Issuer: "github", RunsPerMinute: 60, Now: st.now, Log: slog.New(slog.DiscardHandler)}
}

func (st *stage) give(t testing.TB, job string) exchange.Answer {
	t.Helper()
	a, err := st.ask(context.Background(), job)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// is is the state of a credential's lease now, and why.
func (st *stage) is(t testing.TB, a exchange.Answer) (lease.State, string) {
	t.Helper()
	l, _, err := st.Inspect(context.Background(), a.LeaseToken)
	if err != nil {
		t.Fatal(err)
	}
	return l.State, l.Reason
}

func TestAJobThatIsOverTakesItsCredentialWithIt(t *testing.T) {
	st, c, _ := watched(t)
	mine, other, later := st.give(t, "7.1.71"), st.give(t, "7.1.72"), st.give(t, "8.1.71")
	for range 2 { // told twice, it is over once
		if _, err := st.JobOver(t.Context(), exchange.Job{Issuer: "github", Repository: "456789", Run: "7", Attempt: 1, ID: "71"}); err != nil {
			t.Fatal(err)
		}
	}
	if state, why := st.is(t, mine); state != lease.Revoked || why != lease.ByJobOver {
		t.Errorf("it is %s: %s", state, why)
	}
	for _, a := range []exchange.Answer{other, later} {
		if state, _ := st.is(t, a); state != lease.Active {
			t.Errorf("another job's is %s", state)
		}
	}
	if c.count() != 0 {
		t.Errorf("asked %v about what the event said exactly", c.asked)
	}
	if got, want := st.events(t), "pending active pending active pending active revoking revoked"; got != want {
		t.Errorf("audit log: %s, want %s", got, want)
	}
}

func TestOnlyTheVeryJobIsEndedUnasked(t *testing.T) {
	exact := exchange.Job{Issuer: "github", Repository: "456789", Run: "7", Attempt: 2, ID: "71"}
	for _, c := range []struct {
		name   string
		change func(*exchange.Job)
	}{
		{"another issuer", func(j *exchange.Job) { j.Issuer = "ghes" }},
		{"another repository", func(j *exchange.Job) { j.Repository = "456790" }},
		{"another run", func(j *exchange.Job) { j.Run = "8" }},
		{"another job", func(j *exchange.Job) { j.ID = "72" }},
		{"an older attempt", func(j *exchange.Job) { j.Attempt = 1 }},
		{"a newer attempt", func(j *exchange.Job) { j.Attempt = 3 }},
		{"no job", func(j *exchange.Job) { j.ID = "" }},
		{"no run", func(j *exchange.Job) { j.Run = "" }},
	} {
		t.Run(c.name, func(t *testing.T) {
			st, ci, _ := watched(t)
			mine, unnamed := st.give(t, "7.2.71"), st.give(t, "9.1.")
			ci.set("7", 2, "71", false)
			told := exact
			c.change(&told)
			if _, err := st.JobOver(t.Context(), told); err != nil {
				t.Fatal(err)
			}
			for _, a := range []exchange.Answer{mine, unnamed} {
				if state, why := st.is(t, a); state != lease.Active {
					t.Errorf("it is %s: %s", state, why)
				}
			}
		})
	}
}

func TestAnEventOfAnotherAttemptIsConfirmedFirst(t *testing.T) {
	for _, c := range []struct {
		name  string
		over  bool
		fault error
		want  lease.State
	}{
		{"and it is over", true, nil, lease.Revoked},
		{"and it is not", false, nil, lease.Active},
		{"and nobody answers", true, errors.New("no answer"), lease.Active},
	} {
		t.Run(c.name, func(t *testing.T) {
			st, ci, _ := watched(t)
			mine := st.give(t, "7.2.71")
			ci.set("7", 2, "71", c.over)
			ci.fault["7"] = c.fault
			if _, err := st.JobOver(t.Context(), exchange.Job{Issuer: "github", Repository: "456789", Run: "7", Attempt: 1, ID: "71"}); !errors.Is(err, c.fault) {
				t.Errorf("%v, want %v", err, c.fault)
			}
			if state, _ := st.is(t, mine); state != c.want || ci.count() != 1 {
				t.Errorf("it is %s, asked %d times", state, ci.count())
			}
		})
	}
}

func TestALeaseWhoseJobEndsWhileItIsMadeIsNeverHandedOut(t *testing.T) {
	st, _, _ := watched(t)
	st.vault.after = func() error {
		_, err := st.JobOver(context.Background(), exchange.Job{Issuer: "github", Repository: "456789", Run: "7", Attempt: 1, ID: "71"})
		return err
	}
	if a, err := st.ask(t.Context(), "7.1.71"); !errors.Is(err, lease.ErrMoved) || a.Values != nil || st.vault.alive() != 0 {
		t.Errorf("answered %+v, %v; %d alive", a, err, st.vault.alive())
	}
}

func TestAnEndThatTheBackendDoesNotConfirmIsLeftToTheKeeper(t *testing.T) {
	st, _, _ := watched(t)
	a := st.give(t, "7.1.71")
	st.vault.revoke = func() error { return errors.New("503") }
	ended, err := st.JobOver(t.Context(), exchange.Job{Issuer: "github", Repository: "456789", Run: "7", Attempt: 1, ID: "71"})
	if err != nil || len(ended) != 1 || ended[0].State != lease.Revoking {
		t.Errorf("%+v, %v", ended, err)
	}
	st.vault.revoke = nil
	st.wait(time.Minute)
	st.sweep()
	if state, why := st.is(t, a); state != lease.Revoked || why != lease.ByJobOver {
		t.Errorf("it is %s: %s", state, why)
	}
}

func TestWhatNoEventSaidTheReconcilerFinds(t *testing.T) {
	st, c, r := watched(t)
	over, running, unknown := st.give(t, "7.1.71"), st.give(t, "7.1.72"), st.give(t, "8.1.81")
	c.end("7", 1, "71")
	c.set("7", 1, "72", false)
	st.wait(59 * time.Second)
	r.Sweep(t.Context())
	if c.count() != 0 {
		t.Errorf("asked about leases not a minute old: %v", c.asked)
	}
	st.wait(2 * time.Second)
	r.Sweep(t.Context())
	if state, why := st.is(t, over); state != lease.Revoked || why != lease.ByJobOver {
		t.Errorf("the job that is over: %s: %s", state, why)
	}
	for name, a := range map[string]exchange.Answer{"running": running, "not known": unknown} {
		if state, _ := st.is(t, a); state != lease.Active {
			t.Errorf("the job that is %s: %s", name, state)
		}
	}
	if c.count() != 2 {
		t.Errorf("asked %v; want one question a run", c.asked)
	}
}

func TestWhereTheJobIsNotNamedAllOfTheRunMustBeOver(t *testing.T) {
	st, c, r := watched(t)
	a := st.give(t, "7.1.")
	st.wait(2 * time.Minute)
	for _, step := range []struct {
		name  string
		tell  func()
		state lease.State
	}{
		{"nothing is known of the run", func() {}, lease.Active},
		{"one job is in progress", func() { c.set("7", 1, "71", false) }, lease.Active},
		{"another one is over", func() { c.end("7", 1, "72") }, lease.Active},
		{"all are over", func() { c.end("7", 1, "71") }, lease.Revoked},
	} {
		step.tell()
		r.Sweep(t.Context())
		if state, _ := st.is(t, a); state != step.state {
			t.Errorf("%s: it is %s, want %s", step.name, state, step.state)
		}
	}
}

func TestARunThatCannotBeAskedAboutHoldsUpNoOther(t *testing.T) {
	st, c, r := watched(t)
	var log bytes.Buffer
	r.Log = slog.New(slog.NewTextHandler(&log, nil))
	for run := range 9 {
		st.give(t, fmt.Sprintf("%d.1.%d1", run, run))
		c.end(fmt.Sprint(run), 1, fmt.Sprintf("%d1", run))
		if run < 6 {
			c.fault[fmt.Sprint(run)] = errors.New("no answer")
		}
	}
	st.wait(2 * time.Minute)
	r.Sweep(t.Context())
	if st.vault.alive() != 6 || !strings.Contains(log.String(), "failed=6") || strings.Count(log.String(), "\n") != 1 {
		t.Errorf("%d alive, and the log says:\n%s", st.vault.alive(), &log)
	}
	clear(c.fault)
	r.Sweep(t.Context())
	if st.vault.alive() != 0 {
		t.Errorf("%d alive once all answer", st.vault.alive())
	}
}

func TestNoMoreRunsAreAskedThanAllowedAndEachHasItsTurn(t *testing.T) {
	st, c, r := watched(t)
	r.RunsPerMinute = 6
	for run := range 7 {
		st.give(t, fmt.Sprintf("%d.1.%d1", run, run))
	}
	st.wait(2 * time.Minute)
	for sweep := range 3 {
		r.Sweep(t.Context())
		if c.count() != 3*(sweep+1) {
			t.Errorf("%d questions after %d sweeps, want 3 each", c.count(), sweep+1)
		}
		st.wait(exchange.SweepEvery)
	}
	had := map[string]bool{}
	for _, run := range c.asked {
		had[run.ID] = true
	}
	if len(had) != 7 {
		t.Errorf("asked about %v alone", slices.Sorted(maps.Keys(had)))
	}
}

func TestTheReconcilerSweepsSoonThenEveryHalfMinute(t *testing.T) {
	st, c, r := watched(t)
	st.give(t, "7.1.71")
	st.wait(2 * time.Minute)
	r.Exchange = &exchange.Exchange{Leases: st.Leases, Jobs: st.Jobs}
	held, err := st.store.LivesOfIssuer(t.Context(), "github", st.now())
	if err != nil || len(held) != 1 {
		t.Fatal(held, err)
	}
	synctest.Test(t, func(t *testing.T) {
		r.Exchange.Leases = fixed{held: held}
		ctx, stop := context.WithCancel(t.Context())
		began := time.Now()
		var at []time.Duration
		c.hold = func(exchange.Run) {
			if at = append(at, time.Since(began)); len(at) == 3 {
				stop()
			}
		}
		r.Run(ctx)
		if fmt.Sprint(at) != "[15s 45s 1m15s]" {
			t.Errorf("asked at %v", at)
		}
	})
}

// fixed is a record that never changes.
type fixed struct {
	exchange.Leases
	held, steps []lease.Lease
}

func (f fixed) LivesOfIssuer(context.Context, string, time.Time) ([]lease.Lease, error) {
	return slices.Clone(f.held), nil
}

func (f fixed) LivesByStep(context.Context, string) ([]lease.Lease, error) {
	return slices.Clone(f.steps), nil
}

func TestAStoreThatDoesNotAnswerEndsNothingAndIsAskedAgain(t *testing.T) {
	st, c, r := watched(t)
	a := st.give(t, "7.1.71")
	c.end("7", 1, "71")
	st.wait(2 * time.Minute)
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	r.Sweep(gone)
	if state, _ := st.is(t, a); state != lease.Active || c.count() != 0 {
		t.Errorf("it is %s, asked %d times", state, c.count())
	}
	r.Sweep(t.Context())
	if state, _ := st.is(t, a); state != lease.Revoked {
		t.Errorf("then it is %s", state)
	}
}

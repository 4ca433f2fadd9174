package exchange_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"github.com/stepkey/stepkey/exchange"
	"github.com/stepkey/stepkey/exchange/audit"
	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/exchange/identity"
	"github.com/stepkey/stepkey/exchange/lease"
	"github.com/stepkey/stepkey/exchange/policy"
)

// stepping is a watched exchange whose task ends with a step.
func stepping(t testing.TB, until policy.Until) (*stage, *ci, *exchange.Reconciler) {
	t.Helper()
	st, c, r := watched(t)
	st.ends(t, until)
	return st, c, r
}

// ends has tasks' leases end so from now on.
func (st *stage) ends(t testing.TB, until policy.Until) {
	t.Helper()
	text := strings.Replace(taskFile, "limits: {ttl: 10m}", "limits: {ttl: 10m, until: "+string(until)+"}", 1)
	tasks, err := policy.Load(fstest.MapFS{"publish-release.yaml": {Data: []byte(text)}}, policy.Check{
		Issuers: []identity.Issuer{{Name: "github", Kind: "github"}}, Backends: map[string]policy.Scoper{"vault": st.vault},
	})
	if err != nil {
		t.Fatal(err)
	}
	st.Policy = func() *policy.Set { return tasks }
}

// show says which steps the job 71 of run 7 has, as CI shows them from now on.
func (c *ci) show(steps ...exchange.Step) {
	c.set("7", 1, "71", false)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.steps["71"] = steps
}

// ran is a step in seconds after the story's start, not over where to is negative.
func ran(number, from, to int) exchange.Step {
	s := exchange.Step{Number: number, Name: fmt.Sprint("step ", number), Begun: true, Started: start.Add(time.Duration(from) * time.Second)}
	if to >= 0 {
		s.Over, s.Completed = true, start.Add(time.Duration(to)*time.Second)
	}
	return s
}

// bindings are the reasons of what was written down of steps.
func (st *stage) ties(t testing.TB) (all []string) {
	t.Helper()
	for _, e := range st.log(t) {
		if e.Event == audit.Tied {
			all = append(all, e.Reason)
		}
	}
	return all
}

func (st *stage) mustBe(t testing.TB, a exchange.Answer, want lease.State) {
	t.Helper()
	if state, why := st.is(t, a); state != want {
		t.Fatalf("it is %s (%s), want %s", state, why, want)
	}
}

func TestTheCredentialIsOverWithTheStepThatItWasHandedTo(t *testing.T) {
	st, c, r := stepping(t, policy.UntilStep)
	st.wait(10 * time.Second)
	a := st.give(t, "7.1.71")
	for _, look := range []struct {
		name  string
		steps []exchange.Step
		want  lease.State
	}{
		{"the view is stale", []exchange.Step{ran(1, 0, -1)}, lease.Active},
		{"the step that asked runs", []exchange.Step{ran(1, 0, 8), ran(2, 8, -1)}, lease.Active},
		{"its user runs", []exchange.Step{ran(1, 0, 8), ran(2, 8, 12), ran(3, 12, -1)}, lease.Active},
		{"a view is older than the last", []exchange.Step{ran(1, 0, -1)}, lease.Active},
		{"the user is over", []exchange.Step{ran(1, 0, 8), ran(2, 8, 12), ran(3, 12, 20), ran(4, 20, -1)}, lease.Revoked},
	} {
		c.show(look.steps...)
		st.wait(exchange.StepsEvery)
		r.Steps(t.Context())
		if state, why := st.is(t, a); state != look.want {
			t.Fatalf("%s: it is %s (%s), want %s", look.name, state, why, look.want)
		}
	}
	if _, why := st.is(t, a); why != lease.ByStepOver || st.vault.alive() != 0 {
		t.Errorf("%s, %d alive", why, st.vault.alive())
	}
	want := []string{`tied to step 1 "step 1" and the one after it`, `tied to step 2 "step 2" and the one after it, no longer to step 1`}
	if got := st.ties(t); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("written down: %q", got)
	}
	if got := st.events(t); got != "pending active tied tied revoking revoked" {
		t.Errorf("audit log: %s", got)
	}
}

func TestTheCredentialOfOneStepIsOverWithIt(t *testing.T) {
	st, c, r := stepping(t, policy.UntilThisStep)
	a := st.give(t, "7.1.71")
	c.show(ran(1, 0, -1))
	r.Steps(t.Context())
	st.mustBe(t, a, lease.Active)
	c.show(ran(1, 0, 3), ran(2, 3, -1))
	r.Steps(t.Context())
	st.mustBe(t, a, lease.Revoked)
	if got := st.ties(t); fmt.Sprint(got) != `[tied to step 1 "step 1"]` {
		t.Errorf("written down: %q", got)
	}
}

func TestWhereStepsRunSideBySideTheJobsEndIsTheCredentials(t *testing.T) {
	st, c, r := stepping(t, policy.UntilStep)
	a := st.give(t, "7.1.71")
	c.show(ran(1, 0, -1), ran(2, 0, -1))
	r.Steps(t.Context())
	c.show(ran(1, 0, 5), ran(2, 0, 5), ran(3, 6, 9), ran(4, 9, -1))
	r.Steps(t.Context())
	st.mustBe(t, a, lease.Active)
	if got := st.ties(t); fmt.Sprint(got) != `[ends with its job: steps 1 "step 1" and 2 "step 2" ran side by side]` || c.count() != 1 {
		t.Errorf("written down: %q, asked %d times", got, c.count())
	}
	c.end("7", 1, "71")
	st.wait(time.Minute + time.Second)
	r.Sweep(t.Context())
	if state, why := st.is(t, a); state != lease.Revoked || why != lease.ByJobOver {
		t.Errorf("it is %s: %s", state, why)
	}
}

func TestWhereTheIssuerNamesNoJobNoStepCanBeSeen(t *testing.T) {
	st, c, r := stepping(t, policy.UntilStep)
	a := st.give(t, "7.1.")
	c.show(ran(1, 0, 5), ran(2, 5, 9), ran(3, 9, -1))
	r.Steps(t.Context())
	st.mustBe(t, a, lease.Active)
	if got := st.ties(t); len(got) != 1 || !strings.HasPrefix(got[0], "ends with its job: the issuer does not name") {
		t.Errorf("written down: %q", got)
	}
}

func TestAJobThatIsOverEndsWhatWaitsForAStep(t *testing.T) {
	st, c, r := stepping(t, policy.UntilStep)
	a := st.give(t, "7.1.71")
	c.show(ran(1, 0, -1))
	c.end("7", 1, "71")
	r.Steps(t.Context())
	if state, why := st.is(t, a); state != lease.Revoked || why != lease.ByJobOver {
		t.Errorf("it is %s: %s", state, why)
	}
}

func TestWhenNobodyAnswersAboutStepsOnlyTheDeadlineEnds(t *testing.T) {
	st, c, r := stepping(t, policy.UntilThisStep)
	a := st.give(t, "7.1.71")
	c.show(ran(1, 0, 3), ran(2, 3, -1))
	c.fault["7"] = errors.New("no answer")
	for range 20 {
		st.wait(25 * time.Second)
		r.Steps(t.Context())
		r.Sweep(t.Context())
	}
	st.mustBe(t, a, lease.Active)
	st.wait(2 * time.Minute)
	st.sweep()
	if state, why := st.is(t, a); state != lease.Revoked || why != lease.ByDeadline {
		t.Errorf("it is %s: %s", state, why)
	}
}

// untied is a record in which no step can be written down.
type untied struct{ exchange.Leases }

func (untied) Tie(context.Context, backend.LeaseID, int, string) error {
	return errors.New("read-only")
}

func TestAStepThatCannotBeWrittenDownEndsNothingYet(t *testing.T) {
	st, c, r := stepping(t, policy.UntilThisStep)
	a := st.give(t, "7.1.71")
	c.show(ran(1, 0, 3), ran(2, 3, -1))
	st.Leases = untied{st.store}
	r.Steps(t.Context())
	st.mustBe(t, a, lease.Active)
	st.Leases = st.store
	r.Steps(t.Context())
	st.mustBe(t, a, lease.Revoked)
}

func TestOneQuestionIsForAllLeasesOfARun(t *testing.T) {
	st, c, r := stepping(t, policy.UntilThisStep)
	byStep := st.give(t, "7.1.71")
	st.ends(t, policy.UntilJob)
	byJob := st.give(t, "7.1.72")
	c.show(ran(1, 0, 3), ran(2, 3, -1))
	c.end("7", 1, "72")
	st.wait(2 * time.Minute)
	r.Sweep(t.Context())
	st.mustBe(t, byStep, lease.Revoked)
	st.mustBe(t, byJob, lease.Revoked)
	if c.count() != 1 {
		t.Errorf("asked %d times", c.count())
	}
}

func TestLooksAtStepsStayWithinTheRunsAMinuteAndLeaveOthersTheirTurn(t *testing.T) {
	st, c, r := stepping(t, policy.UntilStep)
	r.RunsPerMinute = 12 // six a sweep, one a look
	for run := 10; run < 18; run++ {
		st.give(t, fmt.Sprintf("%d.1.%d1", run, run))
	}
	st.ends(t, policy.UntilJob)
	for run := 20; run < 23; run++ {
		st.give(t, fmt.Sprintf("%d.1.%d1", run, run))
	}
	st.wait(2 * time.Minute)
	const minutes = 4
	for look := range minutes * int(time.Minute/exchange.StepsEvery) {
		if look%6 == 0 {
			r.Sweep(t.Context())
		} else {
			r.Steps(t.Context())
		}
		st.wait(exchange.StepsEvery)
	}
	times := map[string]int{}
	for _, run := range c.asked {
		times[run.ID]++
	}
	if total := c.count(); total > 12*minutes+6 || total < 12*minutes-6 {
		t.Errorf("%d questions in %d minutes, want about 12 a minute", total, minutes)
	}
	for run := 10; run < 18; run++ {
		if n := times[fmt.Sprint(run)]; n < 3 {
			t.Errorf("run %d was asked about %d times: %v", run, n, times)
		}
	}
	for run := 20; run < 23; run++ {
		if n := times[fmt.Sprint(run)]; n < 3 {
			t.Errorf("run %d, of no step, was asked about %d times: %v", run, n, times)
		}
	}
}

func TestStepsAreLookedAtEveryFiveSecondsAndOthersInEachSweep(t *testing.T) {
	st, c, r := stepping(t, policy.UntilStep)
	st.give(t, "7.1.71")
	steps, err := st.store.LivesByStep(t.Context(), "github")
	if err != nil || len(steps) != 1 {
		t.Fatal(steps, err)
	}
	other := steps[0]
	other.Until, other.Run = policy.UntilJob, "8"
	r.Exchange = &exchange.Exchange{Jobs: st.Jobs, Leases: fixed{held: []lease.Lease{steps[0], other}, steps: steps}}
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		began := time.Now()
		r.Now = time.Now
		var at, others []time.Duration
		c.hold = func(run exchange.Run) {
			since := time.Since(began)
			c.mu.Lock()
			defer c.mu.Unlock()
			if run.ID == "8" {
				others = append(others, since)
				return
			}
			if at = append(at, since); since == 75*time.Second {
				stop()
			}
		}
		r.Run(ctx)
		if want := "[15s 20s 25s 30s 35s 40s 45s 50s 55s 1m0s 1m5s 1m10s 1m15s]"; fmt.Sprint(at) != want {
			t.Errorf("of steps asked at %v", at)
		}
		if fmt.Sprint(others) != "[15s 45s 1m15s]" {
			t.Errorf("of others asked at %v", others)
		}
	})
}

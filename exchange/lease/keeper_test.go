package lease

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/stepkey/stepkey/exchange/backend"
)

// ender is the exchange's End against a backend that the test plays.
type ender struct {
	store *Store
	now   func() time.Time
	mu    sync.Mutex
	tried map[backend.LeaseID][]time.Time
	play  func(Lease) error

	former *Keys // as the key file was before it was rotated
}

func (e *ender) end(ctx context.Context, l Lease, why string) error {
	held, err := e.store.StartEnding(ctx, l.ID, why)
	if err != nil || held.State.Final() {
		return err
	}
	e.mu.Lock()
	e.tried[l.ID] = append(e.tried[l.ID], e.now())
	e.mu.Unlock()
	began := e.now()
	_, err = e.store.Conclude(ctx, held, Judge(held.Lease, began, e.now(), e.play(held.Lease), 0.5))
	return err
}

// tries are the moments at which it was asked to end a lease.
func (e *ender) tries(id backend.LeaseID) []time.Time {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.tried[id])
}

// inTheirOwnTime runs a store and its keeper in a bubble of synthetic time.
func inTheirOwnTime(t *testing.T, play func(Lease) error, story func(t *testing.T, s *Store, e *ender)) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		if err := CreateKeys(dir + "/keys"); err != nil {
			t.Fatal(err)
		}
		former, err := ReadKeys(dir + "/keys")
		if err != nil {
			t.Fatal(err)
		}
		if err := RotateKeys(dir + "/keys"); err != nil {
			t.Fatal(err)
		}
		keys, err := ReadKeys(dir + "/keys")
		if err != nil {
			t.Fatal(err)
		}
		s, err := Open(t.Context(), dir+"/stepkey.db", keys, Options{})
		if err != nil {
			t.Fatal(err)
		}
		e := &ender{store: s, now: time.Now, tried: map[backend.LeaseID][]time.Time{}, play: play, former: former}
		keeper := &Keeper{Store: s, Backends: []string{"github", "postgres"}, End: e.end, Now: time.Now, Log: slog.New(slog.DiscardHandler)}
		ctx, stop := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { keeper.Run(ctx) })
		story(t, s, e)
		stop()
		running.Wait()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
}

func beginNow(t *testing.T, s *Store, jti, backendName string) Intent {
	t.Helper()
	w := workload(jti, "job of "+jti)
	w.Expires = time.Now().Add(5 * time.Minute)
	g := grant()
	g.Backend = backendName
	i, err := s.Begin(t.Context(), Ask{Workload: w, Grant: g}, anHour)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func activateNow(t *testing.T, s *Store, jti, backendName string) Lease {
	t.Helper()
	made := issued()
	made.DiesAt = time.Time{}
	l, _, err := s.Activate(t.Context(), beginNow(t, s, jti, backendName), made)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// pass lets synthetic time go by, and what it set off finish.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func state(t *testing.T, s *Store, id backend.LeaseID) State {
	t.Helper()
	l, _, err := one(t.Context(), s.reading(), `id = ?`, string(id))
	if err != nil {
		t.Fatal(err)
	}
	return l.State
}

func TestTheKeeperEndsALeaseAtItsDeadlineAndNotBefore(t *testing.T) {
	inTheirOwnTime(t, func(Lease) error { return nil }, func(t *testing.T, s *Store, e *ender) {
		l := activateNow(t, s, "jti-1", "github")
		pass(time.Until(l.EndsAt) - time.Second)
		if got := state(t, s, l.ID); got != Active {
			t.Errorf("before its deadline: %s", got)
		}
		pass(2 * time.Second)
		if got := state(t, s, l.ID); got != Revoked {
			t.Errorf("after its deadline: %s", got)
		}
		if late := e.tries(l.ID)[0].Sub(l.EndsAt); late < 0 || late > time.Second {
			t.Errorf("ended %s after the deadline", late)
		}
	})
}

// What a former process sealed is sealed anew, and not before every replica can have the
// newest key file.
func TestTheKeeperSealsAnewWhatAFormerKeySealed(t *testing.T) {
	inTheirOwnTime(t, func(Lease) error { return errors.New("its server is away") }, func(t *testing.T, s *Store, e *ender) {
		l := activateNow(t, s, "jti-1", "postgres")
		sealed, err := e.former.seal(l.ID, issued().Handle)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.write.ExecContext(t.Context(), `UPDATE leases SET handle = ? WHERE id = ?`, sealed, string(l.ID)); err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct {
			after  time.Duration
			former int
		}{{tidyEvery - time.Second, 1}, {2 * time.Second, 0}} {
			pass(c.after)
			if left, err := s.sealedBefore(t.Context()); err != nil || len(left) != c.former {
				t.Errorf("%s later %d handles are sealed with a former key (%v), want %d", c.after, len(left), err, c.former)
			}
		}
		if held, err := s.StartEnding(t.Context(), l.ID, ByHolder); err != nil || held.Broken != nil || held.Handle.Reveal() != canary {
			t.Errorf("its handle: %v, %v", held.Broken, err)
		}
	})
}

func TestADeadBackendDelaysNobodyElseAndIsAskedUntilTheCredentialDied(t *testing.T) {
	dead := func(l Lease) error {
		if l.Backend == "postgres" {
			return errors.New("connection refused")
		}
		return nil
	}
	inTheirOwnTime(t, dead, func(t *testing.T, s *Store, e *ender) {
		var stuck []Lease
		for n := range 20 { // more than are tried at the same time
			stuck = append(stuck, activateNow(t, s, fmt.Sprint("stuck-", n), "postgres"))
		}
		healthy := activateNow(t, s, "healthy", "github")
		pass(time.Until(healthy.EndsAt) + time.Second)
		if got := state(t, s, healthy.ID); got != Revoked {
			t.Errorf("the healthy backend's lease is %s", got)
		}
		pass(time.Until(stuck[0].DiesAt) - time.Minute)
		for _, l := range stuck {
			if got := state(t, s, l.ID); got != Revoking {
				t.Errorf("a lease of the dead backend is %s, too early", got)
			}
			if tries := len(e.tries(l.ID)); tries < 45 { // 49 minutes at no more than a minute apart
				t.Errorf("asked %d times only", tries)
			}
		}
		pass(2 * time.Minute)
		for _, l := range stuck {
			if got := state(t, s, l.ID); got != Expired {
				t.Errorf("a lease of the dead backend is %s after it died", got)
			}
		}
	})
}

func TestTheKeeperResolvesWhatAProcessLeftPending(t *testing.T) {
	answers := map[string]error{"github": backend.ErrLost, "postgres": nil}
	inTheirOwnTime(t, func(l Lease) error { return answers[l.Backend] }, func(t *testing.T, s *Store, e *ender) {
		unnamed, named := beginNow(t, s, "jti-1", "github").Lease(), beginNow(t, s, "jti-2", "postgres").Lease()
		pass(time.Until(unnamed.IssueBy) + 3*time.Second)
		if got := state(t, s, unnamed.ID); got != Unconfirmed {
			t.Errorf("what cannot be named is %s", got)
		}
		if got := state(t, s, named.ID); got != Failed {
			t.Errorf("what the backend confirmed to be gone is %s", got)
		}
		if first := e.tries(named.ID)[0]; first.Before(named.IssueBy) {
			t.Errorf("asked %s before a create could no longer be in flight", named.IssueBy.Sub(first))
		}
		pass(time.Until(unnamed.DiesAt) + 3*time.Second)
		if got := state(t, s, unnamed.ID); got != Expired {
			t.Errorf("what cannot be named is %s after it died", got)
		}
	})
}

// Whatever is done in whatever order: a lease only moves forward, a job never holds
// more than its limit, and every move stands in the audit log.
func TestAnyOrderOfThingsKeepsThePromises(t *testing.T) {
	onEachStore(t, func(t *testing.T, open opener) {
		order := map[State]int{Pending: 0, Active: 1, Revoking: 2, Unconfirmed: 3, Revoked: 4, Expired: 4, Failed: 4}
		h, ctx := open(t), context.Background()
		rapid.Check(t, func(r *rapid.T) {
			h.clear(r)
			limit := rapid.IntRange(1, 3).Draw(r, "per_job")
			last := map[backend.LeaseID]State{}
			var intents []Intent
			steps := rapid.IntRange(1, 30).Draw(r, "steps")
			for range steps {
				switch rapid.SampledFrom([]string{"begin", "activate", "fail", "end", "wait"}).Draw(r, "step") {
				case "begin":
					g := grant()
					g.PerJob = limit
					job := rapid.SampledFrom([]string{"a", "b"}).Draw(r, "job")
					jti := rapid.StringMatching(`[a-f]`).Draw(r, "jti")
					if i, err := h.Begin(ctx, Ask{Workload: workload(jti, job), Grant: g}, anHour); err == nil {
						intents = append(intents, i)
					}
				case "activate":
					if len(intents) > 0 {
						_, _, _ = h.Activate(ctx, rapid.SampledFrom(intents).Draw(r, "which"), issued())
					}
				case "fail":
					if len(intents) > 0 {
						_ = h.Fail(ctx, rapid.SampledFrom(intents).Draw(r, "which"), "no")
					}
				case "end":
					if len(intents) > 0 {
						endSomehow(r, h, rapid.SampledFrom(intents).Draw(r, "which").Lease().ID)
					}
				case "wait":
					h.wait(time.Duration(rapid.IntRange(1, 1800).Draw(r, "seconds")) * time.Second)
				}
				check(r, h, limit, last, order)
			}
		})
	})
}

func endSomehow(r *rapid.T, h *house, id backend.LeaseID) {
	held, err := h.StartEnding(context.Background(), id, ByHolder)
	if err != nil || held.State.Final() {
		return
	}
	answer := rapid.SampledFrom([]error{nil, backend.ErrLost, errors.New("down")}).Draw(r, "answer")
	if _, err := h.Conclude(context.Background(), held, Judge(held.Lease, h.now(), h.now(), answer, 0)); err != nil {
		r.Fatal(err)
	}
}

func check(r *rapid.T, h *house, limit int, last map[backend.LeaseID]State, order map[State]int) {
	all, err := many(context.Background(), h.reading(), `1 = 1`)
	if err != nil {
		r.Fatal(err)
	}
	held := map[string]int{}
	for _, l := range all {
		if before, seen := last[l.ID]; seen && before != l.State && (order[before] >= order[l.State]) {
			r.Fatalf("%s went from %s to %s", l.ID, before, l.State)
		}
		last[l.ID] = l.State
		if l.State == Pending || l.State == Active || l.State == Revoking {
			held[l.Job]++
		}
		if events := h.events(r, l.ID); len(events) < len("pending") {
			r.Fatalf("%s is not in the audit log", l.ID)
		}
	}
	for job, n := range held {
		if n > limit {
			r.Fatalf("job %s holds %d of at most %d", job, n, limit)
		}
	}
}

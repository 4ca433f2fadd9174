package lease

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stepkey/stepkey/exchange/backend"
)

// replicas are several processes' stores on one database, with one clock.
func replicas(t *testing.T, n int) []*house {
	t.Helper()
	first := openAt(t, pgdatabase(t))
	all := []*house{first}
	for range n - 1 {
		next := &house{where: first.where, keys: first.keys, at: start}
		next.reopen(t)
		t.Cleanup(func() { next.Close() })
		all = append(all, next)
	}
	return all
}

func TestReplicasThatRaceForAJobsLimitStayWithinIt(t *testing.T) {
	onEachStore(t, func(t *testing.T, open opener) {
		h := open(t)
		raceForTheLimit(t, []*house{h})
	})
	t.Run("three replicas", func(t *testing.T) { raceForTheLimit(t, replicas(t, 3)) })
}

func raceForTheLimit(t *testing.T, stores []*house) {
	t.Helper()
	var won, refused int
	var mu sync.Mutex
	var racers sync.WaitGroup
	for n := range 48 {
		racers.Go(func() {
			_, err := stores[n%len(stores)].Begin(context.Background(), Ask{Workload: workload(fmt.Sprint("jti-", n), "one job"), Grant: grant()}, anHour)
			mu.Lock()
			defer mu.Unlock()
			var limit *JobLimit
			switch {
			case err == nil:
				won++
			case errors.As(err, &limit):
				refused++
			default:
				t.Error(err)
			}
		})
	}
	racers.Wait()
	if won != 1 || refused != 47 {
		t.Errorf("%d leases, %d refused", won, refused)
	}
}

func TestReplicasThatRaceForOneSubjectTokenGetOneLease(t *testing.T) {
	stores := replicas(t, 3)
	var won int
	var mu sync.Mutex
	var racers sync.WaitGroup
	for n := range 63 {
		racers.Go(func() {
			_, err := stores[n%3].Begin(context.Background(), Ask{Workload: workload("jti-1", fmt.Sprint("job-", n)), Grant: grant()}, anHour)
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				won++
			} else if !errors.Is(err, ErrTokenUsed) {
				t.Error(err)
			}
		})
	}
	racers.Wait()
	if won != 1 {
		t.Errorf("%d leases", won)
	}
}

func TestWhatIsDueIsClaimedByOneAtATime(t *testing.T) {
	stores := replicas(t, 3)
	for n := range 60 {
		stores[0].activate(t, fmt.Sprint("jti-", n), fmt.Sprint("job-", n))
	}
	for _, s := range stores {
		s.wait(10 * time.Minute)
	}
	claimed := map[backend.LeaseID]int{}
	var mu sync.Mutex
	var claimers sync.WaitGroup
	for n := range 12 {
		claimers.Go(func() {
			all, err := stores[n%3].Claim(context.Background(), "github", 8)
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			for _, l := range all {
				claimed[l.ID]++
			}
		})
	}
	claimers.Wait()
	for id, n := range claimed {
		if n > 1 {
			t.Errorf("%s was claimed %d times", id, n)
		}
	}
	if len(claimed) < 40 {
		t.Errorf("only %d of 60 were claimed by 12 claims of 8", len(claimed))
	}
}

func TestAClaimThatNobodyFollowsUpIsTakenOver(t *testing.T) {
	onEachStore(t, func(t *testing.T, open opener) {
		h := open(t)
		h.activate(t, "jti-1", "job-1")
		h.wait(10 * time.Minute)
		claim := func() int {
			all, err := h.Claim(t.Context(), "github", 8)
			if err != nil {
				t.Fatal(err)
			}
			return len(all)
		}
		if first, second := claim(), claim(); first != 1 || second != 0 {
			t.Errorf("claimed %d, then %d", first, second)
		}
		h.wait(claimFor)
		if again := claim(); again != 1 {
			t.Errorf("after the claim ran out: %d", again)
		}
	})
}

// A database that only reads, as after a failover to a replica: no lease, and the
// work is taken up when it writes again.
func TestAStoreThatCannotBeWrittenGivesNothingAndLosesNothing(t *testing.T) {
	h := openAt(t, pgdatabase(t))
	l, _ := h.activate(t, "jti-1", "job-1")
	setReadOnly := func(on string) {
		name := h.where[strings.LastIndex(h.where, "/")+1 : strings.Index(h.where, "?")]
		s, err := server()
		if err == nil {
			err = s.Exec(t.Context(), `ALTER DATABASE "`+name+`" SET default_transaction_read_only = `+on)
		}
		if err != nil {
			t.Fatal(err)
		}
		h.reconnect(t)
	}
	setReadOnly("on")
	if _, err := h.Begin(t.Context(), Ask{Workload: workload("jti-2", "job-2"), Grant: grant()}, anHour); err == nil {
		t.Error("a lease in a store that cannot be written")
	}
	if h.Ready(t.Context()) == nil {
		t.Error("it says that it is ready")
	}
	if _, err := h.StartEnding(t.Context(), l.ID, ByHolder); err == nil {
		t.Error("an end that could not be written down")
	}
	setReadOnly("off")
	if held, err := h.StartEnding(t.Context(), l.ID, ByHolder); err != nil || held.State != Revoking {
		t.Errorf("after it writes again: %+v, %v", held, err)
	}
}

func TestALongOverLeaseIsForgottenAndTheAuditLogIsNot(t *testing.T) {
	onEachStore(t, func(t *testing.T, open opener) {
		h := open(t)
		old, token := h.activate(t, "jti-1", "job-1")
		held, _ := h.StartEnding(t.Context(), old.ID, ByHolder)
		if _, err := h.Conclude(t.Context(), held, Verdict{To: Revoked}); err != nil {
			t.Fatal(err)
		}
		h.wait(time.Hour)
		live, _ := h.activate(t, "jti-2", "job-2")
		if n, err := h.Forget(t.Context(), h.now().Add(-time.Minute)); err != nil || n != 3 { // both subject tokens are past their time, and one lease
			t.Errorf("%d rows went, %v", n, err)
		}
		if _, err := h.ByToken(t.Context(), token); !errors.Is(err, ErrUnknown) {
			t.Errorf("still there: %v", err)
		}
		if lives, err := h.LivesOfJob(t.Context(), "job-2"); err != nil || len(lives) != 1 || lives[0].ID != live.ID {
			t.Errorf("a live lease was forgotten: %v, %v", lives, err)
		}
		if got := h.events(t, old.ID); got != "pending active revoking revoked" {
			t.Errorf("audit log of the forgotten: %s", got)
		}
	})
}

func TestTheNameOfADatabaseIsNotRepeatedInErrors(t *testing.T) {
	keys := filepath.Join(t.TempDir(), "keys")
	if err := CreateKeys(keys); err != nil {
		t.Fatal(err)
	}
	k, err := ReadKeys(keys)
	if err != nil {
		t.Fatal(err)
	}
	for _, where := range []string{"postgres://stepkey:" + canary + "@127.0.0.1:1/stepkey?connect_timeout=1", "postgres://stepkey:" + canary + "@[::1/%zz"} {
		if _, err := Open(t.Context(), where, k, Options{}); err == nil || strings.Contains(err.Error(), canary) {
			t.Errorf("opening %s: %v", where[:20], err)
		}
	}
}

// held asks as a holder with a key.
func (h *house) held(jti, job, holder string) (Intent, error) {
	return h.Begin(context.Background(), Ask{Workload: workload(jti, job), Grant: grant(), Holder: holder}, anHour)
}

func TestTheSameHolderReplacesAndAnotherTrips(t *testing.T) {
	onEachStore(t, func(t *testing.T, open opener) {
		h, ctx := open(t), context.Background()
		i, err := h.held("jti-1", "job-1", "key-a")
		if err != nil {
			t.Fatal(err)
		}
		first, _, err := h.Activate(ctx, i, issued())
		if err != nil {
			t.Fatal(err)
		}
		h.wait(time.Second)
		again, err := h.held("jti-2", "job-1", "key-a")
		if err != nil || len(again.Replaced()) != 1 || again.Replaced()[0] != first.ID {
			t.Fatalf("the same holder: %v, replaced %v", err, again.Replaced())
		}
		if lives, _ := h.LivesOfJob(ctx, "job-1"); len(lives) != 2 || lives[0].State != Revoking || lives[0].Reason != ByRetry {
			t.Errorf("what it had is %+v", lives)
		}
		var limit *JobLimit
		if _, err := h.held("jti-3", "job-1", "key-b"); !errors.As(err, &limit) || len(limit.Strangers) != 1 || limit.Strangers[0] != again.Lease().ID {
			t.Fatalf("another holder: %v", err)
		}
		if _, err := h.held("jti-3", "job-1", ""); !errors.As(err, &limit) || len(limit.Strangers) != 1 {
			t.Errorf("one without a key, where the first has one: %v", err)
		}
		if _, err := h.StartEnding(ctx, limit.Strangers[0], ByTripwire); err != nil {
			t.Fatal(err)
		}
		for _, holder := range []string{"key-a", "key-b", ""} {
			if _, err := h.held("jti-"+holder, "job-1", holder); !errors.Is(err, ErrTripped) {
				t.Errorf("holder %q after the trip: %v", holder, err)
			}
		}
		if _, err := h.held("jti-4", "job-2", "key-b"); err != nil {
			t.Errorf("another job: %v", err)
		}
	})
}

func TestANewerAttemptEndsWhatAnOlderOneHolds(t *testing.T) {
	onEachStore(t, func(t *testing.T, open opener) {
		h := open(t)
		attempt := func(jti, run, n string) Intent {
			w := workload(jti, "job "+run+"."+n)
			w.Job.Run, w.Job.Attempt = run, n
			i, err := h.Begin(t.Context(), Ask{Workload: w, Grant: grant()}, anHour)
			if err != nil {
				t.Fatal(err)
			}
			return i
		}
		old, other := attempt("jti-1", "7", "1"), attempt("jti-2", "8", "1")
		l, _, err := h.Activate(t.Context(), old, issued())
		if err != nil {
			t.Fatal(err)
		}
		attempt("jti-3", "7", "2")
		due, err := h.Claim(t.Context(), "github", 8)
		if err != nil || len(due) != 1 || due[0].ID != l.ID || due[0].State != Revoking || due[0].Reason != ByRerun {
			t.Errorf("due at once: %+v, %v", due, err)
		}
		if _, _, err := h.Activate(t.Context(), other, issued()); err != nil {
			t.Errorf("another run: %v", err)
		}
	})
}

// Replicas that share one name by design are no strangers to each other: who comes too
// late is refused, and neither loses anything.
func TestReplicasOfOneNameWaitForEachOther(t *testing.T) {
	onEachStore(t, func(t *testing.T, open opener) {
		h, ctx := open(t), context.Background()
		holds := func(token, holder string) (Intent, error) {
			w := workload(token, "spiffe://example.org/build")
			w.Job.Weak, w.Job.Shared = true, true
			return h.Begin(ctx, Ask{Workload: w, Grant: grant(), Holder: holder}, anHour)
		}
		first, err := holds("jti-1", "key-a")
		if err != nil {
			t.Fatal(err)
		}
		var limit *JobLimit
		if _, err := holds("jti-2", "key-b"); !errors.As(err, &limit) || len(limit.Strangers) != 0 {
			t.Fatalf("another replica: %v, %+v", err, limit)
		}
		if lives, err := h.LivesOfJob(ctx, "spiffe://example.org/build"); err != nil || len(lives) != 1 || lives[0].Reason != "" {
			t.Errorf("what the first holds: %+v, %v", lives, err)
		}
		if again, err := holds("jti-3", "key-a"); err != nil || len(again.Replaced()) != 1 || again.Replaced()[0] != first.Lease().ID {
			t.Errorf("the first again: %v", err)
		}
	})
}

package lease

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/internal/needs"
	"github.com/stepkey/stepkey/internal/pgserver"
)

// pair is a primary and the standby that its commits wait for.
type pair struct{ primary, standby *pgserver.Server }

func startPair(t *testing.T, synchronousCommit string) pair {
	t.Helper()
	start := func(what func() (*pgserver.Server, error)) *pgserver.Server {
		s, err := what()
		needs.Started(t, err)
		t.Cleanup(func() {
			if err := errors.Join(s.Kill(), s.Close()); err != nil {
				t.Error(err)
			}
		})
		return s
	}
	var p pair
	p.primary = start(func() (*pgserver.Server, error) { return pgserver.Start(t.Context(), pgserver.Durable) })
	p.standby = start(func() (*pgserver.Server, error) { return p.primary.Standby(t.Context(), pgserver.Durable) })
	if err := p.primary.Synchronous(t.Context(), synchronousCommit); err != nil {
		t.Fatal(err)
	}
	return p
}

// database makes one, and names it by both servers.
func (p pair) database(t *testing.T) string {
	t.Helper()
	onPrimary, err := p.primary.Database(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(onPrimary)
	if err != nil {
		t.Fatal(err)
	}
	return pgserver.DSNOfPair(p.primary, p.standby, strings.TrimPrefix(u.Path, "/"))
}

// failover is one store that lives through one.
type failover struct {
	*house
	pair
	pending, active, revoking Lease
	ends                      *ender
	keeper                    *Keeper

	mu       sync.Mutex
	accepted map[string]backend.LeaseID // n -> lease, of the begins that were acknowledged
	refused  []string
}

// TestAStoreGoesOnByItselfAfterAFailover: the store is opened once, with both servers'
// names, and neither told nor restarted when the one takes the other's place.
func TestAStoreGoesOnByItselfAfterAFailover(t *testing.T) {
	for name, how := range map[string]struct {
		commit string
		goes   func(*pgserver.Server) error
	}{
		"the primary is killed":    {"on", (*pgserver.Server).Kill},
		"the primary falls silent": {"remote_apply", (*pgserver.Server).Freeze},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := &failover{pair: startPair(t, how.commit), accepted: map[string]backend.LeaseID{}}
			f.house = openAt(t, f.database(t))
			f.leases(t)
			f.loseThePrimary(t, how.goes)
			f.nothingIsGiven(t)
			gone := time.Now()
			if err := f.standby.Promote(t.Context()); err != nil {
				t.Fatal(err)
			}
			promoted := time.Now()
			f.issuesAgain(t)
			t.Logf("promoted in %s; the store issues %s later", promoted.Sub(gone).Round(time.Millisecond), time.Since(promoted).Round(time.Millisecond))
			f.nothingAcknowledgedIsLost(t)
			f.allReachTheirEnd(t)
		})
	}
}

func (f *failover) leases(t *testing.T) {
	f.pending = f.begin(t, "jti-pending", "job-pending").Lease()
	f.active, _ = f.activate(t, "jti-active", "job-active")
	f.revoking, _ = f.activate(t, "jti-revoking", "job-revoking")
	if held, err := f.StartEnding(t.Context(), f.revoking.ID, ByHolder); err != nil || held.State != Revoking {
		t.Fatalf("%s: %v", held.State, err)
	}
	f.accepted["pending"], f.accepted["active"], f.accepted["revoking"] = f.pending.ID, f.active.ID, f.revoking.ID
	f.ends = &ender{store: f.Store, now: f.now, tried: map[backend.LeaseID][]time.Time{}, play: func(l Lease) error {
		if l.ID == f.active.ID || l.ID == f.revoking.ID {
			return nil
		}
		return backend.ErrLost
	}}
	f.keeper = &Keeper{Store: f.Store, Backends: []string{"github"}, End: f.ends.end, Now: f.now, Log: slog.New(slog.DiscardHandler)}
}

// ask begins one lease for a job of its own.
func (f *failover) ask(ctx context.Context, name string) (Intent, error) {
	return f.Begin(ctx, Ask{Workload: workload("jti-"+name, "job-"+name), Grant: grant()}, anHour)
}

// loseThePrimary takes it away with begins in flight, and returns when all of them have
// been answered.
func (f *failover) loseThePrimary(t *testing.T, goes func(*pgserver.Server) error) {
	t.Helper()
	const askers, enough = 8, 60
	var asked atomic.Int64
	plenty := make(chan struct{})
	var all sync.WaitGroup
	for range askers {
		all.Go(func() {
			for {
				n := asked.Add(1)
				name := fmt.Sprint(n)
				i, err := f.ask(context.Background(), name)
				f.mu.Lock()
				if err != nil {
					f.refused = append(f.refused, name)
					f.mu.Unlock()
					if !errors.Is(err, ErrUnavailable) {
						t.Errorf("with the primary gone: %v", err)
					}
					return
				}
				f.accepted[name] = i.Lease().ID
				if len(f.accepted) == enough {
					close(plenty)
				}
				f.mu.Unlock()
			}
		})
	}
	<-plenty
	if err := goes(f.primary); err != nil {
		t.Fatal(err)
	}
	all.Wait()
	if len(f.refused) != askers {
		t.Errorf("%d begins in flight failed, of %d", len(f.refused), askers)
	}
}

// nothingIsGiven asks all at once: a primary that is silent is waited for.
func (f *failover) nothingIsGiven(t *testing.T) {
	t.Helper()
	var all sync.WaitGroup
	all.Go(func() {
		if i, err := f.ask(t.Context(), "nobody"); !errors.Is(err, ErrUnavailable) || i.Lease().ID != "" {
			t.Errorf("without a primary: %v, %v", i.Lease(), err)
		}
	})
	all.Go(func() {
		if f.Ready(t.Context()) == nil {
			t.Error("it says that it is ready without a primary")
		}
	})
	all.Go(func() {
		if f.keeper.Sweep(t.Context(), "github") {
			t.Error("the keeper believes that it sees what is due without a primary")
		}
	})
	all.Wait()
}

// issuesAgain asks until it is given, each time with another subject token, as jobs do.
func (f *failover) issuesAgain(t *testing.T) {
	t.Helper()
	ctx, done := context.WithTimeout(t.Context(), time.Minute)
	defer done()
	for n := 0; ; n++ {
		name := fmt.Sprint("again-", n)
		i, err := f.ask(ctx, name)
		if err == nil {
			f.accepted[name] = i.Lease().ID
			return
		}
		if ctx.Err() != nil || !errors.Is(err, ErrUnavailable) {
			t.Fatalf("within a minute after the promotion: %v", err)
		}
	}
}

// nothingAcknowledgedIsLost: what was confirmed before the failover holds after it. What
// was not may have come through all the same, and then as a whole.
func (f *failover) nothingAcknowledgedIsLost(t *testing.T) {
	t.Helper()
	for name, id := range f.accepted {
		lives, err := f.LivesOfJob(t.Context(), "job-"+name)
		if err != nil || len(lives) != 1 || lives[0].ID != id {
			t.Errorf("%s was acknowledged as %s, and is %v, %v", name, id, lives, err)
		}
		if _, err := f.ask(t.Context(), name); !errors.Is(err, ErrTokenUsed) {
			t.Errorf("the used subject token of %s: %v", name, err)
		}
		var limit *JobLimit
		if _, err := f.Begin(t.Context(), Ask{Workload: workload("another of "+name, "job-"+name), Grant: grant()}, anHour); !errors.As(err, &limit) {
			t.Errorf("one more for the job of %s: %v", name, err)
		}
	}
	if held, err := f.LivesOfJob(t.Context(), "job-revoking"); err != nil || held[0].State != Revoking || held[0].Reason != ByHolder {
		t.Errorf("an end that had begun: %+v, %v", held, err)
	}
	for _, name := range f.refused {
		lives, err := f.LivesOfJob(t.Context(), "job-"+name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.ask(t.Context(), name); errors.Is(err, ErrTokenUsed) != (len(lives) == 1) || err != nil && len(lives) == 0 {
			t.Errorf("%s was not acknowledged and left %v; asking again: %v", name, lives, err)
		}
	}
}

func (f *failover) allReachTheirEnd(t *testing.T) {
	t.Helper()
	for _, d := range []time.Duration{grant().TTL + time.Second, 2 * time.Hour} { // the deadlines; what cannot be named dies by itself
		f.wait(d)
		for {
			due, err := f.NextDue(t.Context(), "github")
			if err != nil || due.IsZero() || due.After(f.now()) {
				break
			}
			if !f.keeper.Sweep(t.Context(), "github") {
				t.Fatal("the keeper cannot end what is due")
			}
		}
	}
	if lives, err := f.Lives(t.Context()); err != nil || len(lives) != 0 {
		t.Errorf("not over: %v, %v", lives, err)
	}
	for id, want := range map[backend.LeaseID]string{
		f.pending.ID:  "pending revoking unconfirmed expired",
		f.active.ID:   "pending active revoking revoked",
		f.revoking.ID: "pending active revoking revoked",
	} {
		if got := f.events(t, id); got != want {
			t.Errorf("%s: %s, not %s", id, got, want)
		}
	}
}

// A commit that waits for its standby is not cut short into a confirmed one, not even by
// a statement_timeout that the exchange's role may have.
func TestACommitIsNotBelievedBeforeTheStandbyHasIt(t *testing.T) {
	t.Parallel()
	p := startPair(t, "on")
	if err := p.primary.Exec(t.Context(), `ALTER ROLE admin SET statement_timeout = '200ms'`); err != nil {
		t.Fatal(err)
	}
	h := openAt(t, p.database(t))
	h.begin(t, "jti-1", "job-1")
	if err := p.standby.Freeze(); err != nil {
		t.Fatal(err)
	}
	ctx, done := context.WithTimeout(t.Context(), 2*time.Second)
	defer done()
	if i, err := h.Begin(ctx, Ask{Workload: workload("jti-2", "job-2"), Grant: grant()}, anHour); err == nil {
		t.Errorf("%s was acknowledged, and the standby cannot have it", i.Lease().ID)
	}
}

// The store of a command that only reads is opened with the same name as the service's.
func TestAStoreThatIsOnlyReadFindsThePrimaryToo(t *testing.T) {
	h := openAt(t, pgdatabase(t))
	h.begin(t, "jti-1", "job-1")
	reader, err := OpenToRead(t.Context(), h.where+"&target_session_attrs=read-write")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { reader.Close() })
	if lives, err := reader.LivesOfJob(t.Context(), "job-1"); err != nil || len(lives) != 1 {
		t.Errorf("it sees %v, %v", lives, err)
	}
	if reader.Ready(t.Context()) == nil {
		t.Error("it can write")
	}
}

// A connection whose server has become a standby, or that a pooler has put onto one,
// says so at the first write. It is not used a second time.
func TestAConnectionThatTurnedReadOnlyIsNotUsedAgain(t *testing.T) {
	h := openAt(t, pgdatabase(t))
	if _, err := h.write.ExecContext(t.Context(), `SET default_transaction_read_only = on`); err != nil { // of the one connection there is
		t.Fatal(err)
	}
	if _, err := h.Begin(t.Context(), Ask{Workload: workload("jti-1", "job-1"), Grant: grant()}, anHour); err == nil {
		t.Fatal("a lease through a connection that only reads")
	}
	h.begin(t, "jti-1", "job-1")
}

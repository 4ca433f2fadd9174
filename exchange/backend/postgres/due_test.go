package postgres_test

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stepkey/stepkey/exchange"
	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/exchange/identity"
	"github.com/stepkey/stepkey/exchange/lease"
	"github.com/stepkey/stepkey/exchange/policy"
)

const lasts = 10 * time.Minute

// BenchmarkDeadline has b.N leases in a store, each with its role on the server, which are
// all due at the same moment, and measures from there to the moment at which each is
// written down as revoked: the keeper, the store, the revocation and its proof. Run it
// with -benchtime 10000x.
func BenchmarkDeadline(b *testing.B) {
	s := benchScene(b)
	var later atomic.Int64
	now := func() time.Time { return time.Now().Add(time.Duration(later.Load())) }
	store := benchStore(b, now)
	x := &exchange.Exchange{
		Leases: store, Backends: map[string]backend.Backend{"postgres": s.Backend}, Prove: true, Now: now, Log: slog.New(slog.DiscardHandler),
	}
	last := s.fill(store, b.N)
	if n := s.number("postgres", `SELECT count(*) FROM pg_roles WHERE rolname LIKE 'stepkey\_%'`); n != b.N {
		b.Fatalf("%d roles are alive", n)
	}
	var mu sync.Mutex
	var lags []time.Duration
	keeping, enough := context.WithCancel(b.Context())
	defer enough()
	keeper := &lease.Keeper{Store: store, Backends: []string{"postgres"}, Retain: time.Hour, Now: now, Log: x.Log, End: func(ctx context.Context, l lease.Lease, why string) error {
		ended, err := x.End(ctx, l.ID, why)
		mu.Lock()
		defer mu.Unlock()
		if ended.State != lease.Revoked {
			b.Errorf("a lease is %s after its end: %v", ended.State, err)
		}
		if lags = append(lags, now().Sub(last)); len(lags) == b.N {
			enough()
		}
		return err
	}}
	b.ResetTimer()
	later.Store(int64(time.Until(last)))
	keeper.Run(keeping)
	b.StopTimer()
	slices.Sort(lags)
	b.ReportMetric(lags[b.N/2].Seconds(), "p50-s")
	b.ReportMetric(lags[b.N*99/100].Seconds(), "p99-s")
	b.ReportMetric(float64(b.N)/lags[b.N-1].Seconds(), "ends/s")
	if n := s.number("postgres", `SELECT count(*) FROM pg_roles WHERE rolname LIKE 'stepkey\_%'`); n != 0 {
		b.Errorf("%d roles are left", n)
	}
}

func benchStore(b *testing.B, now func() time.Time) *lease.Store {
	b.Helper()
	path := filepath.Join(b.TempDir(), "keys")
	if err := lease.CreateKeys(path); err != nil {
		b.Fatal(err)
	}
	keys, err := lease.ReadKeys(path)
	if err != nil {
		b.Fatal(err)
	}
	store, err := lease.Open(b.Context(), filepath.Join(b.TempDir(), "stepkey.db"), keys, lease.Options{Now: now})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { store.Close() })
	return store
}

// fill makes leases as the exchange does: the intent, the role, and then its record. It
// returns the deadline of the last of them.
func (s *scene) fill(store *lease.Store, many int) time.Time {
	s.Helper()
	scope, err := s.Scope(node(s, asMigrator))
	if err != nil {
		s.Fatal(err)
	}
	var mu sync.Mutex
	var last time.Time
	s.eachOfEight(many, func(i int) error {
		name := fmt.Sprint("job-", i)
		ask := lease.Ask{
			Workload: identity.Workload{Issuer: "github", TokenID: name, IssuedAt: time.Now(), Expires: time.Now().Add(time.Minute), Job: identity.Job{Key: name, Name: "acme/widget, " + name}},
			Grant:    policy.Grant{Task: "migrate", Backend: "postgres", Scope: scope, TTL: lasts, PerJob: 1, Rule: "migrate.yaml:4"},
		}
		intent, err := store.Begin(s.Context(), ask, s.Terms)
		if err != nil {
			return err
		}
		made, err := s.Issue(s.Context(), intent.Order())
		if err != nil {
			return err
		}
		l, _, err := store.Activate(s.Context(), intent, made)
		mu.Lock()
		defer mu.Unlock()
		if l.EndsAt.After(last) {
			last = l.EndsAt
		}
		return err
	})
	return last
}

package lease

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stepkey/stepkey/internal/needs"
	"github.com/stepkey/stepkey/internal/pgserver"
)

// Read these beside the floors that they print from the same run: a store can be no
// faster than the commits of its database.

// durable is a PostgreSQL as an operator runs it.
func durable(b *testing.B) *pgserver.Server {
	b.Helper()
	pg, err := pgserver.Start(b.Context(), pgserver.Durable)
	needs.Started(b, err)
	b.Cleanup(func() { _ = pg.Close() })
	return pg
}

func database(b *testing.B, pg *pgserver.Server) string {
	b.Helper()
	where, err := pg.Database(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	return where
}

// onEachDurable measures on SQLite and on PostgreSQL, both with durable commits.
func onEachDurable(b *testing.B, measure func(*testing.B, *house)) {
	b.Run("sqlite", func(b *testing.B) { measure(b, openAt(b, filepath.Join(b.TempDir(), "stepkey.db"))) })
	b.Run("postgres", func(b *testing.B) { measure(b, openAt(b, database(b, durable(b)))) })
}

// fill makes n active leases that end at h.at, each with a sealed handle. It commits now
// and then: a transaction may take no longer than any other.
func (h *house) fill(b *testing.B, n int) {
	b.Helper()
	const atOnce = 2000
	for first := 0; first < n; first += atOnce {
		err := h.transact(b.Context(), "filling", func(tx session) error {
			for i := first; i < min(first+atOnce, n); i++ {
				if err := h.insertActive(b.Context(), tx, fmt.Sprint("job-", i)); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	}
}

func (h *house) insertActive(ctx context.Context, tx session, job string) error {
	intent, err := h.draft(Ask{Workload: workload(job, job), Grant: grant()}, anHour)
	if err != nil {
		return err
	}
	l := intent.lease
	l.State, l.EndsAt = Active, h.at
	sealed, err := h.Store.keys.seal(l.ID, issued().Handle)
	if err != nil {
		return err
	}
	if err := insert(ctx, tx, l); err != nil {
		return err
	}
	_, err = tx.exec(ctx, `UPDATE leases SET handle = ? WHERE id = ?`, sealed, string(l.ID))
	return err
}

// BenchmarkReady is the time from nothing to the first claim of a lease that is due,
// with many live leases in the store, and the memory that each of them costs.
func BenchmarkReady(b *testing.B) {
	for _, n := range []int{0, 100_000} {
		b.Run(fmt.Sprint("leases=", n), func(b *testing.B) {
			onEachDurable(b, func(b *testing.B, h *house) {
				h.fill(b, n)
				h.Close()
				before := heap()
				var grown uint64
				for b.Loop() {
					h.Store = nil
					h.reopen(b)
					if due, err := h.Claim(b.Context(), "github", 8); err != nil || len(due) != min(n, 8) {
						b.Fatalf("%d claimed, %v", len(due), err)
					}
					b.StopTimer()
					grown = max(heap(), before) - before
					h.Close()
					h.wait(claimFor + time.Second)
					b.StartTimer()
				}
				b.ReportMetric(float64(grown)/1e6, "MB-heap")
			})
		})
	}
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// BenchmarkDeadline is the lag from the deadline to revoked of leases that are all due
// at once, with a backend that takes no time. What is left is ours: a claim for each
// eight, and two commits for each lease.
func BenchmarkDeadline(b *testing.B) {
	const n = 10_000
	onEachDurable(b, func(b *testing.B, h *house) {
		for b.Loop() {
			b.StopTimer()
			h.clear(b)
			h.fill(b, n)
			var mu sync.Mutex
			var lags []time.Duration
			began := time.Now()
			keeper := &Keeper{Store: h.Store, Now: h.now, Log: slog.New(slog.DiscardHandler), End: func(ctx context.Context, l Lease, why string) error {
				held, err := h.StartEnding(ctx, l.ID, why)
				if err == nil {
					_, err = h.Conclude(ctx, held, Judge(held.Lease, h.now(), h.now(), nil, 0))
				}
				mu.Lock()
				defer mu.Unlock()
				lags = append(lags, time.Since(began))
				return err
			}}
			b.StartTimer()
			for len(lags) < n {
				if !keeper.Sweep(b.Context(), "github") {
					b.Fatal("an attempt could not be written down")
				}
			}
			slices.Sort(lags)
			b.ReportMetric(lags[n/2].Seconds(), "p50-s")
			b.ReportMetric(lags[n*99/100].Seconds(), "p99-s")
			b.ReportMetric(n/lags[n-1].Seconds(), "ends/s")
		}
	})
}

// BenchmarkExchanges is what one and three replicas write down on one PostgreSQL: two
// commits for each exchange, beside what that database commits without us.
func BenchmarkExchanges(b *testing.B) {
	pg := durable(b)
	for _, replicas := range []int{1, 3} {
		b.Run(fmt.Sprint("replicas=", replicas), func(b *testing.B) {
			stores := []*house{openAt(b, database(b, pg))}
			for range replicas - 1 {
				next := &house{where: stores[0].where, keys: stores[0].keys, at: start}
				next.reopen(b)
				b.Cleanup(func() { next.Close() })
				stores = append(stores, next)
			}
			var turn atomic.Int64
			b.SetParallelism(asking / runtime.GOMAXPROCS(0))
			b.RunParallel(func(p *testing.PB) {
				for p.Next() {
					n := turn.Add(1)
					h := stores[n%int64(replicas)]
					i, err := h.Begin(b.Context(), Ask{Workload: workload(fmt.Sprint("jti-", n), fmt.Sprint("job-", n)), Grant: grant()}, anHour)
					if err == nil {
						_, _, err = h.Activate(b.Context(), i, issued())
					}
					if err != nil {
						b.Error(err)
						return
					}
				}
			})
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "exchanges/s")
		})
	}
	b.Run("floor=one row, one commit", func(b *testing.B) { commits(b, database(b, pg)) })
}

// asking is how many ask at the same time, of all replicas together.
const asking = 24

func commits(b *testing.B, where string) {
	db, err := sql.Open("pgx", where)
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	db.SetMaxIdleConns(asking)
	db.SetMaxOpenConns(asking)
	if _, err := db.ExecContext(b.Context(), `CREATE TABLE floor (id BIGINT PRIMARY KEY, v TEXT)`); err != nil {
		b.Fatal(err)
	}
	var turn atomic.Int64
	b.SetParallelism(asking / runtime.GOMAXPROCS(0))
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			if _, err := db.ExecContext(b.Context(), `INSERT INTO floor VALUES ($1, 'x')`, turn.Add(1)); err != nil {
				b.Error(err)
				return
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "commits/s")
}

package postgres_test

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/internal/needs"
	"github.com/stepkey/stepkey/internal/pgserver"
	"github.com/stepkey/stepkey/internal/secret"
)

var benchmarked atomic.Bool

// durable is the server as an operator runs it: what it has confirmed is on the disk. It
// is there only once a benchmark asks for it.
var durable = func() func() (*place, error) {
	start := sync.OnceValues(func() (*place, error) {
		with := append(pgserver.Settings{"log_statement=all", "log_destination=jsonlog", "logging_collector=on", "log_directory=log", "log_filename=server",
			"log_rotation_size=0", "log_rotation_age=0"}, pgserver.Durable...)
		return setUp(context.Background(), with)
	})
	return func() (*place, error) {
		if !benchmarked.Load() {
			return nil, pgserver.ErrMissing
		}
		return start()
	}
}()

func benchScene(b *testing.B) *scene {
	b.Helper()
	benchmarked.Store(true)
	p, err := durable()
	needs.Started(b, err)
	return p.scene(b, choice{drop: true, direct: true})
}

var benched = map[string]string{"member": asMigrator, "grants": "{database: app, grants: [" + insert + "]}"}

// BenchmarkIssueAndRevoke is one lease after the other, and beside it the same statements
// in the same messages, sent by nobody in particular: what the server itself takes.
func BenchmarkIssueAndRevoke(b *testing.B) {
	for name, block := range benched {
		b.Run(name+"/backend", func(b *testing.B) {
			s := benchScene(b)
			for b.Loop() {
				id, made := s.issue(block)
				if err := s.Revoke(b.Context(), id, made.Handle); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(name+"/floor", func(b *testing.B) {
			s := benchScene(b)
			_, since := s.said(0)
			id, _ := s.issue(block)
			s.end(id)
			messages, _ := s.said(since)
			c, err := pgx.Connect(b.Context(), s.DSN("app"))
			if err != nil {
				b.Fatal(err)
			}
			defer func() { _ = c.Close(context.Background()) }()
			s.must(c, "SET search_path = pg_catalog", "SET SESSION AUTHORIZATION stepkey")
			for b.Loop() {
				role := roleOf(newLease())
				for _, message := range messages {
					s.must(c, strings.ReplaceAll(message, roleOf(id), role))
				}
			}
		})
	}
}

// BenchmarkAllAreDue has b.N roles alive, which are then all due, and ends them as the
// keeper does, eight at a time. Run it with -benchtime 10000x.
func BenchmarkAllAreDue(b *testing.B) {
	s := benchScene(b)
	leases := make([]backend.LeaseID, b.N)
	s.eachOfEight(b.N, func(i int) error {
		o := s.order(asMigrator)
		leases[i] = o.Lease
		_, err := s.Issue(b.Context(), o)
		return err
	})
	if n := s.number("postgres", `SELECT count(*) FROM pg_roles WHERE rolname LIKE 'stepkey\_%'`); n != b.N {
		b.Fatalf("%d roles are alive", n)
	}
	b.ResetTimer()
	s.eachOfEight(b.N, func(i int) error { return s.Revoke(b.Context(), leases[i], secret.String{}) })
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "roles/s")
	if n := s.number("postgres", `SELECT count(*) FROM pg_roles WHERE rolname LIKE 'stepkey\_%'`); n != 0 {
		b.Errorf("%d roles are left", n)
	}
}

func (s *scene) eachOfEight(many int, do func(int) error) {
	s.Helper()
	var next atomic.Int64
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for i := int(next.Add(1)) - 1; i < many; i = int(next.Add(1)) - 1 {
				if err := do(i); err != nil {
					s.Error(err)
				}
			}
		})
	}
	all.Wait()
}

package mysql_test

import (
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/internal/secret"
)

// BenchmarkIssueAndRevoke is one lease after the other, without the network that can be cut.
func BenchmarkIssueAndRevoke(b *testing.B) {
	for name, block := range map[string]string{"role": asMigrator, "grants": "{database: app, grants: [" + insert + "]}"} {
		b.Run(name, func(b *testing.B) {
			s := stage(b, choice{direct: true})
			for b.Loop() {
				id, made := s.issue(block)
				if err := s.Revoke(b.Context(), id, made.Handle); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkAllAreDue has b.N users alive, who are then all due, and ends them as the keeper
// does, eight at a time. Run it with -benchtime 1000x.
func BenchmarkAllAreDue(b *testing.B) {
	s := stage(b, choice{direct: true})
	leases := make([]backend.LeaseID, b.N)
	for i := range leases {
		leases[i], _ = s.issue(asMigrator)
	}
	var next atomic.Int64
	var all sync.WaitGroup
	b.ResetTimer()
	for range 8 {
		all.Go(func() {
			for i := int(next.Add(1)) - 1; i < len(leases); i = int(next.Add(1)) - 1 {
				if err := s.Revoke(b.Context(), leases[i], secret.String{}); err != nil {
					b.Error(err)
				}
			}
		})
	}
	all.Wait()
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "users/s")
	s.nothingLeft()
}

package mysql_test

import (
	"context"
	"errors"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/internal/needs"
	"github.com/stepkey/stepkey/internal/realserver"
	"github.com/stepkey/stepkey/internal/secret"
)

var (
	benchmarked    atomic.Bool
	errNotAskedFor = errors.New("no benchmark ran")
)

// durable is the server as an operator runs it. It is there only once a benchmark asks for it.
var durable = func() func() (*place, error) {
	start := sync.OnceValues(func() (*place, error) { return setUp(context.Background(), realserver.MariaDBDurable...) })
	return func() (*place, error) {
		if !benchmarked.Load() {
			return nil, errNotAskedFor
		}
		return start()
	}
}()

func benchScene(b *testing.B) *scene {
	b.Helper()
	benchmarked.Store(true)
	p, err := durable()
	needs.Started(b, err)
	return p.scene(b, choice{direct: true})
}

// BenchmarkIssueAndRevoke is one lease after the other, and beside it the same statements, sent by
// nobody in particular: what the server itself takes.
func BenchmarkIssueAndRevoke(b *testing.B) {
	for name, block := range map[string]string{"role": asMigrator, "grants": "{database: app, grants: [" + insert + "]}"} {
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
			settings, statements, user := s.statements(block)
			c := s.asExchange()
			s.must(c, settings...)
			for b.Loop() {
				another := userOf(newLease())
				for _, one := range statements {
					s.must(c, strings.ReplaceAll(one, user, another))
				}
			}
			s.nothingLeft()
		})
	}
}

// hashed is what the server's log has of a password, or shows in its place.
var hashed = regexp.MustCompile(`IDENTIFIED BY PASSWORD (?:<secret>|'[^']*')`)

// statements are those of one lease from its creation to its end, with the name of its user, and
// before them those that set its session up. The server writes them down for as long as that takes.
func (s *scene) statements(block string) (settings, all []string, user string) {
	s.Helper()
	logs := func(on string) {
		if err := s.as(s.Context(), "SET GLOBAL general_log = "+on); err != nil {
			s.Fatal(err)
		}
	}
	logs("ON")
	defer logs("OFF")
	_, since := s.said(0)
	s.end(newLease()) // what is asked once of each server is asked
	first, since := s.said(since)
	id, _ := s.issue(block)
	s.end(id)
	all, _ = s.said(since)
	for _, one := range first {
		if strings.HasPrefix(one, "SET ") {
			settings = append(settings, one)
		}
	}
	for i, one := range all {
		all[i] = hashed.ReplaceAllString(one, "IDENTIFIED BY PASSWORD '*"+strings.Repeat("0123456789", 4)+"'")
	}
	user = userOf(id)
	if said := strings.Join(all, "\n"); len(settings) == 0 || !strings.Contains(said, "CREATE USER `"+user) || !strings.Contains(said, "DROP USER IF EXISTS `"+user) {
		s.Fatalf("this is not all that a lease takes: %q, %q", settings, all)
	}
	return settings, all, user
}

// BenchmarkAllAreDue has b.N users alive, who are then all due, and ends them as the keeper
// does, eight at a time. Run it with -benchtime 1000x.
func BenchmarkAllAreDue(b *testing.B) {
	s := benchScene(b)
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

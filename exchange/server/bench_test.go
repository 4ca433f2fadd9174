package server_test

import (
	"context"
	"database/sql"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	_ "modernc.org/sqlite" // the floor of a durable commit is measured on the same driver

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/internal/githubsim"
	"github.com/stepkey/stepkey/internal/secret"
)

// instant is a GitHub without latency: what is left of /token is ours.
type instant struct{}

type anyScope string

func (a anyScope) Covers(other backend.Scope) bool { return a == other }
func (a anyScope) String() string                  { return string(a) }

func (instant) Scope(backend.Block) (backend.Scope, error) {
	return anyScope("contents: write on acme/widget"), nil
}

func (instant) Terms(o backend.Order) backend.Terms {
	return backend.Terms{DiesAt: o.At.Add(time.Hour), Revocable: true}
}

func (instant) Issue(_ context.Context, o backend.Order) (backend.Issued, error) {
	token := secret.New("ghs_" + string(o.Lease) + strings.Repeat("x", 480)) // as long as the stateless form
	return backend.Issued{Values: map[string]secret.String{"token": token}, Handle: token, Granted: o.Scope}, nil
}

func (instant) Revoke(context.Context, backend.LeaseID, secret.String) error { return nil }

// BenchmarkToken is the whole of POST /token over loopback: verify RS256, policy,
// two durable commits, sealing, the answer. Read it beside the floors below, from
// the same run: it can be no faster than one RSA verify, two durable commits and
// one HTTP request.
func BenchmarkToken(b *testing.B) {
	sc := stage(b)
	sc.open(b, instant{})
	var tokens []string
	for i := 0; b.Loop(); i++ {
		b.StopTimer()
		if len(tokens) == 0 {
			tokens = subjectTokens(b, sc, 64)
		}
		form := tokenForm(tokens[0])
		tokens = tokens[1:]
		b.StartTimer()
		r, err := http.PostForm(sc.url+"/token", form)
		if err != nil {
			b.Fatal(err)
		}
		body, err := io.ReadAll(r.Body)
		r.Body.Close()
		if err != nil || r.StatusCode != http.StatusOK {
			b.Fatalf("%d %s %v", r.StatusCode, body, err)
		}
	}
}

func subjectTokens(b *testing.B, sc *scene, n int) []string {
	b.Helper()
	tokens := make([]string, n)
	for i := range tokens {
		tokens[i] = subjectToken(b, sc.job(b, githubsim.JobSpec{}))
	}
	return tokens
}

// BenchmarkFloorCommit is one durable SQLite commit, as the lease store makes them.
func BenchmarkFloorCommit(b *testing.B) {
	name := "file:" + filepath.Join(b.TempDir(), "floor.db") + "?_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_txlock=immediate"
	db, err := sql.Open("sqlite", name)
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	if _, err := db.Exec(`CREATE TABLE t (id TEXT PRIMARY KEY, v TEXT) STRICT`); err != nil {
		b.Fatal(err)
	}
	for i := 0; b.Loop(); i++ {
		tx, err := db.Begin()
		if err != nil {
			b.Fatal(err)
		}
		if _, err := tx.Exec(`INSERT INTO t VALUES (?, ?)`, fmt.Sprint(i), "x"); err != nil {
			b.Fatal(err)
		}
		if err := tx.Commit(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkFloorRequest is one form sent over loopback and an empty answer.
func BenchmarkFloorRequest(b *testing.B) {
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(http.StatusOK)
	}))
	defer web.Close()
	form := url.Values{"subject_token": {strings.Repeat("x", 1500)}}
	for b.Loop() {
		r, err := http.PostForm(web.URL, form)
		if err != nil {
			b.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, r.Body)
		r.Body.Close()
	}
}

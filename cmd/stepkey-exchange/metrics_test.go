package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stepkey/stepkey/exchange"
	"github.com/stepkey/stepkey/exchange/client"
	"github.com/stepkey/stepkey/exchange/lease"
	"github.com/stepkey/stepkey/exchange/server"
)

// counted is the metrics of an exchange on an empty store, at a fixed time.
func counted(t *testing.T, at time.Time) (*metrics, *lease.Store, string) {
	t.Helper()
	c := defaults()
	c.file, c.now = t.TempDir()+"/stepkey.yaml", func() time.Time { return at }
	if err := lease.CreateKeys(c.beside(c.Keys)); err != nil {
		t.Fatal(err)
	}
	store, err := c.openStore(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	m := newMetrics(store, c.now)
	admin := httptest.NewServer((&server.Server{Metrics: m.handler()}).Admin())
	t.Cleanup(admin.Close)
	return m, store, admin.URL + "/metrics"
}

func scrape(t *testing.T, url string) string {
	t.Helper()
	ask, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.DefaultClient.Do(ask)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil || r.StatusCode != http.StatusOK {
		t.Fatalf("%d, %v: %s", r.StatusCode, err, body)
	}
	return string(body)
}

func says(t *testing.T, page string, lines ...string) {
	t.Helper()
	for _, line := range lines {
		if !strings.Contains(page, "\n"+line+"\n") {
			t.Errorf("no line %q", line)
		}
	}
}

func TestMetricsCountWhatHappens(t *testing.T) {
	at := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	m, _, url := counted(t, at)
	l := exchange.Lease{ID: "lease_1", Task: "publish-release", Backend: "github", State: lease.Active, EndsAt: at.Add(-time.Minute)}
	m.Issued(l)
	m.Ordered(l, 30*time.Millisecond, nil)
	m.Ordered(l, time.Second, errors.New("no"))
	m.Refused(exchange.Tripped)
	l.State = lease.Revoking
	m.Attempted(l, 15*time.Second)
	l.State, l.Ended = lease.Revoked, at
	m.Attempted(l, 20*time.Millisecond)
	l.EndsAt = at.Add(time.Minute) // ended before its deadline: no lag
	m.Attempted(l, 20*time.Millisecond)

	says(t, scrape(t, url),
		`stepkey_issued_total{backend="github",task="publish-release"} 1`,
		`stepkey_issue_duration_seconds_bucket{backend="github",outcome="made",le="0.05"} 1`,
		`stepkey_issue_duration_seconds_count{backend="github",outcome="error"} 1`,
		`stepkey_refused_total{kind="tripped"} 1`,
		`stepkey_refused_total{kind="token_used"} 0`,
		`stepkey_end_attempts_total{backend="github",state="revoking"} 1`,
		`stepkey_end_attempts_total{backend="github",state="revoked"} 2`,
		`stepkey_overdue_attempts_total{backend="github"} 1`,
		`stepkey_revoke_duration_seconds_count{backend="github"} 3`,
		`stepkey_end_lag_seconds_sum{backend="github"} 60`,
		`stepkey_end_lag_seconds_count{backend="github"} 1`,
		`stepkey_leases{state="active"} 0`, `stepkey_leases_overdue 0`, `stepkey_store_up 1`)
}

func TestEveryKindOfRefusalHasAWord(t *testing.T) {
	for k := exchange.Fault; k <= exchange.GaveUp; k++ {
		if kinds[k] == "" {
			t.Errorf("kind %d has none", k)
		}
	}
}

func TestAStoreThatDoesNotAnswerLeavesTheCounters(t *testing.T) {
	m, store, url := counted(t, time.Now())
	m.Refused(exchange.NotBelieved)
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	page := scrape(t, url)
	says(t, page, `stepkey_store_up 0`, `stepkey_refused_total{kind="not_believed"} 1`)
	if strings.Contains(page, "stepkey_leases") {
		t.Error("it says how many leases there are, and cannot know")
	}
}

func TestMetricsAreWellFormedWhateverHappened(t *testing.T) {
	m, _, url := counted(t, time.Now())
	for n := range 100 { // what requests bring must not make series
		m.Refused(exchange.NotAllowed)
		m.Attempted(exchange.Lease{ID: "lease_x", Task: "t", Backend: "github", State: lease.Revoking, Job: fmt.Sprint(n)}, time.Second)
	}
	series := 0
	for _, line := range strings.Split(scrape(t, url), "\n") {
		if strings.HasPrefix(line, "stepkey_") {
			series++
		}
	}
	if series > 60 {
		t.Errorf("%d series", series)
	}
}

// All of it wired: what a job does shows on the operator's page.
func TestARunningExchangeShowsItsMetrics(t *testing.T) {
	d := sit(t)
	c, err := readConfig(d.dir + "/stepkey.yaml")
	if err != nil {
		t.Fatal(err)
	}
	service, err := open(t.Context(), c, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { service.store.Close() })
	public, admin := httptest.NewServer(service.server.Public()), httptest.NewServer(service.server.Admin())
	t.Cleanup(public.Close)
	t.Cleanup(admin.Close)
	speaks, err := client.New(public.URL, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	grant := d.lease(running{client: speaks}, "brief")
	says(t, scrape(t, admin.URL+"/metrics"), `stepkey_issued_total{backend="github",task="brief"} 1`, `stepkey_leases{state="active"} 1`)
	if _, err := speaks.Revoke(t.Context(), grant.LeaseToken); err != nil {
		t.Fatal(err)
	}
	says(t, scrape(t, admin.URL+"/metrics"), `stepkey_end_attempts_total{backend="github",state="revoked"} 1`, `stepkey_leases{state="active"} 0`)
	r, err := http.Get(public.URL + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	r.Body.Close()
	if r.StatusCode != http.StatusNotFound {
		t.Errorf("everybody gets them: %d", r.StatusCode)
	}
}

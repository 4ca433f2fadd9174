package main

import (
	"context"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/stepkey/stepkey/exchange"
	"github.com/stepkey/stepkey/exchange/lease"
	"github.com/stepkey/stepkey/exchange/policy"
)

// A scrape that the store does not answer in time tells all but what the store holds.
const (
	scrapeFor      = 8 * time.Second
	storeAnswersIn = 3 * time.Second
	scrapesAtOnce  = 4
)

// metrics counts what this process does and shows what the store holds, which is of
// all replicas together. Labels have as many values as the configuration has tasks
// and backends: never a job, a lease or anything that a request brings.
type metrics struct {
	registry     *prometheus.Registry
	now          func() time.Time
	issued       *prometheus.CounterVec
	refused      *prometheus.CounterVec
	ends         *prometheus.CounterVec
	overdue      *prometheus.CounterVec
	issueTook    *prometheus.HistogramVec
	revokeTook   *prometheus.HistogramVec
	pastDeadline *prometheus.HistogramVec
}

var _ exchange.Observer = (*metrics)(nil)

func newMetrics(store *lease.Store, now func() time.Time) *metrics {
	took := []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 20}
	late := []float64{.05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 3600}
	m := &metrics{
		registry:     prometheus.NewRegistry(),
		now:          now,
		issued:       counter("stepkey_issued_total", "Credentials handed out.", "task", "backend"),
		refused:      counter("stepkey_refused_total", "Requests that got no credential, by kind; tripped means that two holders met in one job, misbound that a token was shown for what it is not bound to.", "kind"),
		ends:         counter("stepkey_end_attempts_total", "Attempts to end a lease, by the state that they left it in; unconfirmed means that a credential may exist and cannot be named.", "backend", "state"),
		overdue:      counter("stepkey_overdue_attempts_total", "Attempts that left a lease more than 10 s past its time unended.", "backend"),
		issueTook:    histogram("stepkey_issue_duration_seconds", "How long backends took to answer an order.", took, "backend", "outcome"),
		revokeTook:   histogram("stepkey_revoke_duration_seconds", "How long attempts to end a credential took at the backend.", took, "backend"),
		pastDeadline: histogram("stepkey_end_lag_seconds", "From the deadline of a lease to its confirmed end, where it was not ended before.", late, "backend"),
	}
	m.registry.MustRegister(m.issued, m.refused, m.ends, m.overdue, m.issueTook, m.revokeTook, m.pastDeadline,
		stock{store}, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	for _, name := range kinds {
		m.refused.WithLabelValues(name) // a counter that is there from the start shows its first increase
	}
	return m
}

// watch shows whether the tasks in force are what their folder says.
func (m *metrics) watch(folder *policy.Folder) {
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "stepkey_tasks_stale", Help: "1 while the task files cannot be taken as they stand, so that older ones are in force.",
	}, func() float64 {
		if folder.Stale() {
			return 1
		}
		return 0
	}))
}

func counter(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
}

func histogram(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
	return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, labels)
}

func (m *metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{Timeout: scrapeFor, MaxRequestsInFlight: scrapesAtOnce})
}

func (m *metrics) Issued(l exchange.Lease) { m.issued.WithLabelValues(l.Task, l.Backend).Inc() }

func (m *metrics) Ordered(l exchange.Lease, took time.Duration, err error) {
	outcome := "made"
	if err != nil {
		outcome = "error"
	}
	m.issueTook.WithLabelValues(l.Backend, outcome).Observe(took.Seconds())
}

// kinds are the words for why somebody got no credential.
var kinds = map[exchange.Kind]string{
	exchange.Fault: "fault", exchange.NotBelieved: "not_believed", exchange.Misbound: "misbound", exchange.TokenUsed: "token_used", exchange.UnknownTask: "unknown_task",
	exchange.NotAllowed: "not_allowed", exchange.TooMany: "too_many", exchange.Tripped: "tripped", exchange.JobOver: "job_over",
	exchange.KeysUnavailable: "keys_unavailable", exchange.Unchecked: "unchecked", exchange.TasksAway: "tasks_away", exchange.BackendDown: "backend_down", exchange.StoreDown: "store_down", exchange.GaveUp: "gave_up",
}

func (m *metrics) Refused(k exchange.Kind) { m.refused.WithLabelValues(kinds[k]).Inc() }

func (m *metrics) Attempted(l exchange.Lease, took time.Duration) {
	m.ends.WithLabelValues(l.Backend, string(l.State)).Inc()
	m.revokeTook.WithLabelValues(l.Backend).Observe(took.Seconds())
	if l.Overdue(m.now()) {
		m.overdue.WithLabelValues(l.Backend).Inc()
	}
	if l.State.Final() && !l.Ended.Before(l.EndsAt) {
		m.pastDeadline.WithLabelValues(l.Backend).Observe(l.Ended.Sub(l.EndsAt).Seconds())
	}
}

// stock is what the store holds at the moment of a scrape.
type stock struct{ store *lease.Store }

var (
	storeUp      = prometheus.NewDesc("stepkey_store_up", "1 where the store answered this scrape.", nil, nil)
	liveLeases   = prometheus.NewDesc("stepkey_leases", "Leases that are not over, by state.", []string{"state"}, nil)
	overdueLease = prometheus.NewDesc("stepkey_leases_overdue", "Leases more than 10 s past their time whose end is not confirmed.", nil, nil)
)

func (stock) Describe(to chan<- *prometheus.Desc) {
	to <- storeUp
	to <- liveLeases
	to <- overdueLease
}

func (s stock) Collect(to chan<- prometheus.Metric) {
	ctx, done := context.WithTimeout(context.Background(), storeAnswersIn) // a collector is given no context of the request
	defer done()
	gauge := func(of *prometheus.Desc, n int, labels ...string) {
		to <- prometheus.MustNewConstMetric(of, prometheus.GaugeValue, float64(n), labels...)
	}
	lives, err := s.store.Lives(ctx)
	if err != nil {
		gauge(storeUp, 0)
		return
	}
	overdue, err := s.store.Overdue(ctx)
	if err != nil {
		gauge(storeUp, 0)
		return
	}
	gauge(storeUp, 1)
	gauge(overdueLease, overdue)
	for _, state := range []lease.State{lease.Pending, lease.Active, lease.Revoking, lease.Unconfirmed} {
		gauge(liveLeases, lives[state], string(state))
	}
}

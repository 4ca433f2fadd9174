package main

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// subjects are the kinds of credential beside GitHub's. One more is one more line here,
// and one file that makes its outsider.
var subjects = []subject{
	{name: "postgres", forms: []string{"grants", "role"}, fates: []string{arrives, done, lands}, waitsFor: "COMMIT", start: startPostgres},
	{name: "mysql", forms: []string{"grants", "role"}, fates: []string{arrives, done, lands}, waitsFor: "CREATE USER", start: startMySQL},
	{name: "kubernetes", forms: []string{"rules", "service_account"}, fates: []string{arrives, done, lands}, ownTime: true, start: startKubernetes},
	{name: "s3", fates: []string{arrives, done, lands}, nameless: true, ownTime: true, start: startS3},
	{name: "vault", fates: []string{arrives, done, lands}, start: startVault},
	{name: "exec", fates: []string{arrives, done, lands, programBefore, programAfter}, start: startProgram},
	{name: "registry", start: startRegistry},
	{name: "ssh", byStore: true, start: startSSH},
}

// subject is one backend's part of the table.
type subject struct {
	name string
	// forms are what a task can have of it that is made by other messages. The first has all
	// rows, the others those of their messages.
	forms []string
	// fates are what happens to each message that the exchange sends to the outside
	// system; none where it sends none.
	fates []string
	// waitsFor is the message of an issue that an end waits for, however late it lands.
	waitsFor string
	// nameless: a lease whose credential nobody was given and nobody can name is over when
	// it is given up; its own death is too far away to be waited for.
	nameless bool
	// ownTime: credentials die by a clock that is not hastened. A run that takes longer than
	// one lives by the hastened clock says nothing, and is made once more.
	ownTime bool
	// byStore: only what the store says ends a credential, so that none is ended from memory.
	byStore bool
	// start starts what all runs share and returns what makes the outsider of one of them.
	// Where a program is missing it leaves the test out; see needs.Started.
	start func(*testing.T) func(*crashRun) outsider
}

// storePoints are the moments between the messages, along one exchange and one end.
var storePoints = []point{
	{dies: "before Begin"},
	{dies: "after Begin"},
	{dies: "before Activate"},
	{dies: "after Activate"},
	{dies: "before Write", lost: "after Activate"},
	{dies: "given"},
	{dies: "before StartEnding"},
	{dies: "after StartEnding"},
	{dies: "after Claim"},
	{dies: "after Claim", lost: "after StartEnding"},
	{dies: "before Conclude"},
	{dies: "after Conclude"},
	{dies: "given back"},
}

// What becomes of a credential that could not be written down: it is ended from memory, or
// how to end it is kept.
var (
	failedPoints = []point{
		{dies: "before Fail", lost: "before Activate"},
		{dies: "after Fail", lost: "before Activate"},
	}
	keptPoints = []point{
		{dies: "before Keep", lost: "before Activate", goes: endsCut},
		{dies: "after Keep", lost: "before Activate", goes: endsCut},
	}
)

const (
	lanes        = 10 // runs at once: most of a run is waiting
	slowerHaste  = 10 // what real servers do takes real time
	everyNthOnPG = 6  // rows whose store is PostgreSQL
	moreTries    = 5  // a real server may be too slow for the hastened clock; see begins
)

// lane is where one run after the other takes place. Its clock is set for each: real
// servers take no request that is signed at another time than theirs.
type lane struct {
	*world
	number int
	at     *atomic.Pointer[hastened]
}

func newLane(t *testing.T, number int) lane {
	t.Helper()
	l := lane{number: number, at: &atomic.Pointer[hastened]{}}
	l.at.Store(&hastened{time.Now().Round(0), slowerHaste})
	l.world = worldAt(t, *l.at.Load(), func() time.Time { return l.at.Load().now() })
	l.runs = 1000 * number // no two runs have one owner
	return l
}

// begin makes a run, whose time begins now.
func (l lane) begin(t *testing.T, w row, times time.Duration) *crashRun {
	l.clock = hastened{time.Now().Round(0), times}
	l.at.Store(&l.clock)
	r := &crashRun{t: t, world: l.world, point: w.point, seed: w.nth, outside: &outside{lane: l.number, form: w.form, messages: w.messages, nameless: w.nameless, ownTime: w.ownTime}}
	r.outside.outsider = w.seat(r)
	return r
}

// TestNothingOutlivesACrashOfAnyBackend kills the process at every message that it sends
// to an outside system, for one exchange and one end, and at the store's points between
// them. It holds what lives at that system against the store all the while: nothing lives
// without a lease, and no lease is over while its credential lives.
func TestNothingOutlivesACrashOfAnyBackend(t *testing.T) {
	free := make(chan lane, lanes)
	for n := range lanes {
		free <- newLane(t, n)
	}
	b := &bench{free: free, store: databases(t)}
	var all sync.WaitGroup
	for _, s := range subjects {
		all.Go(func() { t.Run(s.name, func(t *testing.T) { b.try(t, s) }) })
	}
	all.Wait()
	t.Log("\n" + b.results.String())
}

// bench is what all runs share.
type bench struct {
	free    chan lane
	store   func(*testing.T) string
	results crashReport
	mu      sync.Mutex
}

// try runs all rows of one backend.
func (b *bench) try(t *testing.T, s subject) {
	seat := s.start(t)
	var rows []row
	for n, form := range append(s.forms, "")[:max(1, len(s.forms))] {
		counted := b.count(t, row{subject: s, form: form, seat: seat})
		if s.waitsFor != "" && !slices.Contains(counted[onIssue], s.waitsFor) {
			t.Errorf("no message of an issue is %s, so that nothing lands late: %v", s.waitsFor, counted[onIssue])
		}
		if t.Failed() {
			t.Fatal("without a death it does not work, so that deaths would say nothing")
		}
		for _, p := range s.rows(form, counted) {
			if n == 0 || p.at.phase != "" {
				rows = append(rows, row{subject: s, point: p, form: form, nth: len(rows), seat: seat, messages: counted})
			}
		}
	}
	b.mu.Lock()
	for _, w := range rows {
		b.results.points = append(b.results.points, w.point)
	}
	b.mu.Unlock()
	var runs sync.WaitGroup
	var twice atomic.Int32
	for _, w := range rows {
		at := <-b.free
		runs.Go(func() {
			defer func() { b.free <- at }()
			twice.Add(b.run(t, at, w))
		})
	}
	runs.Wait()
	if twice.Load() == 0 {
		t.Error("no life that went on with what another had left was killed in turn")
	}
}

// row is one row of the table, to be run.
type row struct {
	subject
	point
	form     string
	nth      int
	seat     func(*crashRun) outsider
	messages map[string][]string
}

// run plays a row until its point is met, and counts the second deaths.
func (b *bench) run(t *testing.T, at lane, w row) (twice int32) {
	engine, store := "sqlite", func(*testing.T) string { return "stepkey.db" }
	if w.nth%everyNthOnPG == everyNthOnPG-1 {
		engine, store = "postgres", b.store
	}
	missed, unsent := false, 0
	for n := 0; n == 0 || missed && n < moreTries; n++ {
		t.Run(w.String()+"/"+engine, func(t *testing.T) {
			r := at.begin(t, w, slowerHaste)
			r.stage(store(t))
			r.playOutside()
			b.results.add(w.point, engine, r)
			missed = r.missed && !t.Failed()
			if r.outside.diedTwice {
				twice++
			}
			if missed && r.outside.unsent(w.at) {
				unsent++
			}
		})
	}
	if missed && unsent < moreTries {
		t.Errorf("no run got to the point: %s", w)
	}
	return twice
}

// count runs once without a death and without haste, and says which messages there are in
// each phase.
func (b *bench) count(t *testing.T, w row) map[string][]string {
	at := <-b.free
	defer func() { b.free <- at }()
	r := at.begin(t, w, 1)
	r.stage("stepkey.db")
	messages := r.playInPeace()
	if sends := len(messages[onIssue]) > 0 && len(messages[onRevoke]) > 0; sends != (len(w.fates) > 0) {
		t.Errorf("the messages are %v", messages)
	}
	return messages
}

// rows are the store's points and each message with each of its fates.
func (s subject) rows(form string, counted map[string][]string) []point {
	rows := slices.Clone(storePoints)
	if !s.byStore {
		rows = append(rows, failedPoints...)
	}
	if s.byStore || len(s.fates) > 0 {
		rows = append(rows, keptPoints...)
	}
	for _, phase := range []string{onIssue, onRevoke} {
		for n, name := range counted[phase] {
			fates, nth := s.fates, occurrences(counted[phase][:n+1], name)
			switch {
			case reads(name) && nth > 1:
				continue // the look before it saw the same
			case reads(name):
				fates = []string{arrives} // that it is done changes nothing
			case phase == onIssue && name == s.waitsFor:
				fates = append(slices.Clone(fates), landsLast)
			}
			for _, fate := range fates {
				rows = append(rows, point{dies: fmt.Sprintf("%s: %d of %d (%s) %s", phase, n+1, len(counted[phase]), name, fate), at: strike{phase, name, nth, fate}})
			}
		}
	}
	for n := range rows {
		rows[n].hits, rows[n].of = 1, s.name
		if form != "" && rows[n].at.phase != "" {
			rows[n].of += " " + form
		}
		if len(s.fates) == 0 {
			rows[n].goes = "" // no message is sent that could be cut
		}
	}
	return rows
}

// reads: a message to a database changes nothing there. Who takes a lock changes something.
func reads(name string) bool {
	verb, _, _ := strings.Cut(name, " ")
	return slices.Contains([]string{"connect", "password", "--", "SET", "SELECT"}, verb) && !strings.Contains(name, "_LOCK")
}

package main

import (
	"fmt"
	"strings"
	"sync"
	"syscall"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/stepkey/stepkey/internal/needs"
	"github.com/stepkey/stepkey/internal/pgserver"
)

// point is one moment at which the process is killed, by SIGKILL, and what goes wrong
// beside it.
type point struct {
	dies string // the moment; see fuse for those at the store, killers for those at GitHub
	hits int    // how often the load gets there at the least; each seed takes another time. 0: see nth
	goes string // what goes wrong with GitHub or the clients in the first life; see wrongs
	lost string // a place of fuse whose answer the first life never sees
	// falls says that it is PostgreSQL that is killed there: alone, or with the process.
	falls string
	// of is the backend, where it is another than GitHub's, and at the message to it at
	// which the process is killed, if it is one.
	of string
	at strike
}

// points go along one exchange and one end of a lease, from the first request to the
// last answer. The load is four jobs that exchange one subject token each, and one
// that is denied; half of the jobs give back what they got, the others leave it to the
// deadline.
var points = []point{
	// verify
	{dies: "keys asked", hits: 1},
	// what is refused
	{dies: "before Write", hits: 1},
	{dies: "after Write", hits: 1},
	// lease
	{dies: "before Begin", hits: 4},
	{dies: "after Begin", hits: 4},
	{dies: "before Write", hits: 4, lost: "after Begin"},
	{dies: "before Begin", goes: rerun},
	{dies: "after Begin", goes: rerun},
	{dies: "create done", goes: rerun},
	{dies: "before Begin", goes: retry},
	{dies: "after Begin", goes: retry},
	{dies: "before StartEnding", goes: retry},
	{dies: "after StartEnding", goes: retry},
	{dies: "delete done", goes: retry},
	{dies: "after Conclude", goes: retry},
	{dies: "create done", goes: retry},
	{dies: "after Activate", goes: retry},
	{dies: "before StartEnding", goes: tripwire},
	{dies: "after StartEnding", goes: tripwire},
	{dies: "delete done", goes: tripwire},
	{dies: "after Conclude", goes: tripwire},
	// issue
	{dies: "installation asked", hits: 1},
	{dies: "create arrives", hits: 4},
	{dies: "create done", hits: 4},
	{dies: "create lands after the restart", hits: 4},
	{dies: "create lands when given up", hits: 4},
	// issue: nothing was made, or nobody knows
	{dies: "before Fail", hits: 2, goes: createsRefused},
	{dies: "after Fail", hits: 2, goes: createsRefused},
	{dies: "before Write", hits: 2, goes: createsDropped},
	{dies: "after Write", hits: 2, goes: createsDropped},
	{dies: "before Write", hits: 2, goes: creates500},
	{dies: "after Claim", hits: 2, goes: creates500},
	{dies: "after Conclude", hits: 2, goes: createsDropped},
	// activate
	{dies: "before Activate", hits: 4},
	{dies: "after Activate", hits: 4},
	{dies: "before Write", hits: 4, lost: "after Activate"},
	// activate cannot be written: the credential is ended from memory
	{dies: "delete arrives", hits: 4, lost: "before Activate"},
	{dies: "delete done", hits: 4, lost: "before Activate"},
	{dies: "before Fail", hits: 4, lost: "before Activate"},
	{dies: "after Fail", hits: 4, lost: "before Activate"},
	{dies: "before Keep", hits: 4, lost: "before Activate", goes: deletesRefused},
	{dies: "after Keep", hits: 4, lost: "before Activate", goes: deletesRefused},
	{dies: "after Keep", hits: 4, lost: "before Activate", goes: deletesDropped},
	// somebody ends it, or goes away, while it is being made
	{dies: "before StartEnding", hits: 2, goes: endedMeanwhile},
	{dies: "after StartEnding", hits: 2, goes: endedMeanwhile},
	{dies: "after Conclude", hits: 2, goes: endedMeanwhile},
	{dies: "before Activate", hits: 4, goes: endedMeanwhile},
	{dies: "delete done", hits: 4, goes: endedMeanwhile},
	{dies: "before Fail", hits: 2, goes: endedMeanwhile},
	{dies: "after Fail", hits: 2, goes: endedMeanwhile},
	{dies: "after Activate", hits: 4, goes: clientsGone},
	{dies: "before StartEnding", hits: 4, goes: clientsGone},
	{dies: "before Conclude", hits: 4, goes: clientsGone},
	// the answer
	{dies: "given", hits: 4},
	// revoke
	{dies: "before StartEnding", hits: 4},
	{dies: "after StartEnding", hits: 4},
	{dies: "delete arrives", hits: 4},
	{dies: "delete done", hits: 4},
	{dies: "delete lands after the restart", hits: 4},
	{dies: "before Conclude", hits: 4},
	{dies: "after Conclude", hits: 4},
	{dies: "before Conclude", hits: 4, goes: deletes500},
	{dies: "after Conclude", hits: 4, goes: deletes500},
	{dies: "after Conclude", hits: 4, goes: deletesDropped},
	{dies: "before StartEnding", hits: 4, lost: "after StartEnding"},
	{dies: "given back", hits: 2},
	// the keeper's own
	{dies: "after Claim", hits: 2},
}

const (
	seeds    = 3
	atOnce   = 16 // runs: nearly all of a run is waiting
	patience = time.Minute
)

func (p point) String() string {
	text := p.dies
	if p.of != "" {
		text = p.of + ", " + text
	}
	if p.lost != "" {
		text += ", answer lost " + p.lost
	}
	if p.goes != "" {
		text += ", " + p.goes
	}
	if p.falls != "" {
		text += ", PostgreSQL " + p.falls
	}
	return text
}

// TestNothingOutlivesACrash kills the process at every point, some a second time after
// the restart, and holds GitHub's live tokens against the store all the while: no
// credential lives without a lease, and no lease is over while its credential lives.
func TestNothingOutlivesACrash(t *testing.T) {
	stores := map[string]func(*testing.T) string{
		"sqlite":   func(*testing.T) string { return "stepkey.db" },
		"postgres": databases(t),
	}
	clock := hastened{time.Now().Round(0), haste}
	worlds := make(chan *world, atOnce)
	for range atOnce {
		worlds <- newWorld(t, clock)
	}
	results := crashReport{points: points}
	var runs sync.WaitGroup
	for seed := range seeds {
		for _, p := range points {
			for engine, store := range stores {
				w := <-worlds
				runs.Go(func() {
					defer func() { worlds <- w }()
					t.Run(fmt.Sprintf("%s/%s/%d", engine, p, seed), func(t *testing.T) {
						r := &crashRun{t: t, world: w, point: p, seed: seed}
						r.stage(store(t))
						r.play()
						results.add(p, engine, r)
					})
				})
			}
		}
	}
	runs.Wait()
	t.Log("\n" + results.String())
	for where, row := range results.rows {
		if row.missed == row.runs {
			t.Errorf("no run got to the point: %s", where)
		}
	}
}

// databases makes one database for each run, in one PostgreSQL.
func databases(t *testing.T) func(*testing.T) string {
	server, err := pgserver.Start(t.Context(), pgserver.Quick)
	if err != nil { // the runs on SQLite go on
		return func(t *testing.T) string { needs.Started(t, err); return "" }
	}
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	return func(t *testing.T) string {
		where, err := server.Database(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return where
	}
}

// secondDeaths are where the second life of a seed's runs ends, if it gets there.
var secondDeaths = []string{"", "after StartEnding", "before Conclude"}

// play is one run: a first life with the load that ends at the point, perhaps a second
// one, and a last one that brings everything to its end.
func (r *crashRun) play() {
	r.first = startCrashing(r.t, r.dir, r.fuse())
	r.openLedger()
	r.world.gh.Fault(r.fault)
	r.load()
	r.untilDeath()
	r.wasKilled(r.first)
	r.look()
	if second := secondDeaths[(r.seed+len(r.point.String()))%len(secondDeaths)]; second != "" {
		r.live(&fuse{Clock: r.world.clock, Dies: second, Nth: 1})
	}
	last := r.live(&fuse{Clock: r.world.clock})
	r.lands()
	r.outcome = r.ledger
	r.usedStaysUsed(last)
	r.look()
	last.kill()
}

// untilDeath waits for the point. On a slow machine a run may miss it: a create that
// takes too long is one that is given up. Then the process is killed when nothing more
// happens; report tells whether any run got there.
func (r *crashRun) untilDeath() {
	giveUp := time.After(patience / 3)
	for waiting := true; waiting; {
		select {
		case <-r.first.gone:
			return
		case <-r.first.moved:
			waiting = !r.look()
		case <-giveUp:
			waiting = false
		}
	}
	if !r.first.over() {
		r.first.kill()
		r.missed = !strings.Contains(r.first.said(), farewell)
	}
}

// live is a later life of the exchange: until everything is over, or its death.
func (r *crashRun) live(f *fuse) *process {
	p := startCrashing(r.t, r.dir, f)
	r.restarted(p)
	r.giveBackAgain(p)
	giveUp := time.After(patience)
	for !r.look() {
		select {
		case <-p.moved:
		case <-p.gone:
			r.wasKilled(p)
			return p
		case <-giveUp:
			r.t.Fatalf("not everything is over:\n%s\nthe process said\n%s", r.ledger, p.said())
		}
	}
	if f.Dies != "" {
		p.kill()
	}
	return p
}

func (r *crashRun) wasKilled(p *process) {
	status, ok := p.command.ProcessState.Sys().(syscall.WaitStatus)
	if !ok || status.Signal() != syscall.SIGKILL {
		r.t.Fatalf("the process ended otherwise: %v\n%s", p.command.ProcessState, p.said())
	}
	r.kills++
}

// report is what became of the leases at each point.
type crashReport struct {
	points []point
	mu     sync.Mutex
	rows   map[string]*crashOutcome
}

type crashOutcome struct {
	states      map[string]int
	live, kills int
	missed      int // runs
	runs        int
}

func (s *crashReport) add(p point, engine string, r *crashRun) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.rows == nil {
		s.rows = map[string]*crashOutcome{}
	}
	row := s.rows[p.String()+" on "+engine]
	if row == nil {
		row = &crashOutcome{states: map[string]int{}}
		s.rows[p.String()+" on "+engine] = row
	}
	for _, state := range r.outcome.states {
		row.states[string(state)]++
	}
	row.live += len(r.outcome.live) + len(r.outcome.outside)
	row.kills += r.kills
	row.runs++
	if r.missed {
		row.missed++
	}
}

func (s *crashReport) String() string {
	var text strings.Builder
	table := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "KILLED\tSTORE\tKILLS\tMISSED\tREVOKED\tFAILED\tEXPIRED\tUNCONFIRMED\tLIVE")
	for _, p := range s.points {
		for _, engine := range []string{"sqlite", "postgres"} {
			row := s.rows[p.String()+" on "+engine]
			if row == nil {
				continue
			}
			fmt.Fprintf(table, "%s\t%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\n", p, engine, row.kills, row.missed,
				row.states["revoked"], row.states["failed"], row.states["expired"], row.states["unconfirmed"], row.live)
		}
	}
	_ = table.Flush()
	return text.String()
}

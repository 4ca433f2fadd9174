package main

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stepkey/stepkey/internal/needs"
	"github.com/stepkey/stepkey/internal/pgserver"
)

// What is killed at a point beside the exchange, or instead of it.
const (
	alone    = "alone"
	together = "and the exchange"
)

// falls go along one exchange and one end of a lease, too; see points. PostgreSQL is
// killed with all its processes, and started again on what it left on the disk. Each
// is run once, or until it has got to its point.
var falls = []point{
	{falls: alone, dies: "before Begin", hits: 4},
	{falls: alone, dies: "during Begin", hits: 4},
	{falls: alone, dies: "after Begin", hits: 4},
	{falls: alone, dies: "create done", hits: 4},
	{falls: alone, dies: "during Activate", hits: 3},
	{falls: alone, dies: "after Activate", hits: 3},
	{falls: alone, dies: "during Fail", hits: 2, goes: createsRefused},
	{falls: alone, dies: "during StartEnding", hits: 3},
	{falls: alone, dies: "after StartEnding", hits: 3},
	{falls: alone, dies: "delete done", hits: 3},
	{falls: alone, dies: "during Conclude", hits: 3},
	{falls: alone, dies: "after Conclude", hits: 3},
	{falls: together, dies: "during Begin", hits: 4},
	{falls: together, dies: "during Activate", hits: 3},
	{falls: together, dies: "during Keep", hits: 2, lost: "before Activate", goes: deletesRefused},
	{falls: together, dies: "delete done", hits: 3},
}

const (
	fallsAtOnce = 5 // each with a PostgreSQL of its own
	tries       = 3 // on a slow machine a run may miss its point; see untilDeath
)

// slowCommits are durable and take 20 ms before they are, so that a server which is
// killed during one is killed before it, in the middle of it, or after it. A start after
// a crash writes out the whole file system at once, and not file by file.
var slowCommits = append(slices.Clone(pgserver.Durable), "commit_delay=20000", "commit_siblings=0", "recovery_init_sync_method=syncfs", "shared_buffers=32MB")

// fallible is a PostgreSQL that falls once in a run.
type fallible struct {
	*pgserver.Server
	fallen, back gate
}

// place is where one run after the other takes place: a GitHub and a PostgreSQL.
type place struct {
	*world
	server *pgserver.Server
}

// TestNothingOutlivesACrashOfItsDatabase kills PostgreSQL, and in some runs the exchange
// with it, and holds GitHub's live tokens against the store the way
// TestNothingOutlivesACrash does. An exchange that lives on is told nothing.
func TestNothingOutlivesACrashOfItsDatabase(t *testing.T) {
	clock := hastened{time.Now().Round(0), haste}
	places := make(chan place, fallsAtOnce)
	for _, server := range startFallible(t) {
		places <- place{newWorld(t, clock), server}
	}
	results := crashReport{points: falls}
	var runs sync.WaitGroup
	for seed, p := range falls {
		at := <-places
		runs.Go(func() {
			defer func() { places <- at }()
			for n, missed := 0, true; missed && n < tries; n++ {
				t.Run(p.String(), func(t *testing.T) {
					r := &crashRun{t: t, world: at.world, point: p, seed: seed}
					r.playFall(at.server)
					results.add(p, "postgres", r)
					missed = r.missed
				})
			}
		})
	}
	runs.Wait()
	t.Log("\n" + results.String())
	for where, row := range results.rows {
		if row.missed == row.runs {
			t.Errorf("no run got to the point: %s", where)
		}
	}
}

// startFallible starts all servers at once: making one is mostly waiting for the disk.
func startFallible(t *testing.T) []*pgserver.Server {
	t.Helper()
	servers, faults := make([]*pgserver.Server, fallsAtOnce), make([]error, fallsAtOnce)
	var all sync.WaitGroup
	for n := range servers {
		all.Go(func() { servers[n], faults[n] = pgserver.Start(t.Context(), slowCommits) })
	}
	all.Wait()
	for _, s := range servers {
		if s != nil {
			t.Cleanup(func() {
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			})
		}
	}
	err := errors.Join(faults...)
	needs.Started(t, err)
	return servers
}

// playFall is one run: the load, the fall, and an exchange that brings everything to its
// end. That is the one which lived through it, unless it was to die as well.
func (r *crashRun) playFall(server *pgserver.Server) {
	where, err := server.Emptied(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	r.database = &fallible{Server: server, fallen: gate{c: make(chan struct{})}, back: gate{c: make(chan struct{})}}
	r.t.Cleanup(func() {
		if r.hasFallen() {
			<-r.database.back.c // the next run needs it
		}
	})
	r.stage(where)
	r.first = startCrashing(r.t, r.dir, r.fuse())
	r.openLedger()
	r.world.gh.Fault(r.fault)
	r.load()
	var last *process
	if r.point.falls == alone {
		last = r.untilOver()
	} else {
		r.untilDeath()
		last = r.another()
	}
	r.lands()
	r.outcome = r.ledger
	r.usedStaysUsed(last)
	r.look()
	last.kill()
}

// fall kills the server, and has it started again: at once, or when the exchange has
// noticed. It returns as soon as nothing of the server runs any more.
func (r *crashRun) fall() {
	r.database.fallen.open()
	if err := r.database.Kill(); err != nil {
		r.t.Error(err)
	}
	r.kills++
	go func() {
		defer r.database.back.open()
		if r.seed%2 == 1 {
			select {
			case <-r.first.failed:
			case <-r.first.gone:
			}
		}
		if err := r.database.Restart(context.Background()); err != nil {
			r.t.Error(err)
		}
	}()
}

// hasFallen: GitHub makes no more faults, and who reads the store may have to ask again.
func (r *crashRun) hasFallen() bool { return r.database != nil && opened(r.database.fallen.c) }

func opened(gate <-chan struct{}) bool {
	select {
	case <-gate:
		return true
	default:
		return false
	}
}

// untilOver waits until the first life has brought everything to its end, after the fall.
// What has missed its point is killed, as untilDeath does it.
func (r *crashRun) untilOver() *process {
	giveUp := time.After(patience)
	comesBack := r.database.back.c
	for {
		back := opened(r.database.back.c)
		over := r.look()
		switch {
		case over && !r.hasFallen():
			r.first.kill() // returns when all it has said was heard: then nobody fells the store any more
			r.missed = !r.hasFallen()
			return r.another()
		case back && comesBack != nil:
			r.giveBackAgain(r.first)
			comesBack = nil
			continue
		case over && back:
			return r.first
		}
		select {
		case <-r.first.moved:
		case <-comesBack:
		case <-r.first.gone:
			r.t.Fatalf("the exchange did not outlive its store:\n%s", r.first.said())
		case <-giveUp:
			r.t.Fatalf("not everything is over:\n%s\nthe process said\n%s", r.ledger, r.first.said())
		}
	}
}

// another is the next life, on a store that is there.
func (r *crashRun) another() *process {
	if r.hasFallen() {
		<-r.database.back.c
	}
	return r.live(&fuse{Clock: r.world.clock})
}

// read asks the store; one that has fallen in this run is asked until it answers.
func (r *crashRun) read(what func() error) {
	err := what()
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for giveUp := time.After(patience); err != nil && r.hasFallen(); err = what() {
		select {
		case <-again.C:
		case <-giveUp:
			r.t.Fatalf("the store has not come back: %v", err)
		}
	}
	if err != nil {
		r.t.Fatal(err)
	}
}

package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/stepkey/stepkey/exchange/audit"
	"github.com/stepkey/stepkey/exchange/client"
	"github.com/stepkey/stepkey/exchange/lease"
)

// endsCut: nothing of the end of a credential gets to the outside system in the first life.
const endsCut = "the ends do not get there"

// madeFile is where the lives of a run write down what they made.
const madeFile = "made.json"

// outsider is an outside system in one run.
type outsider interface {
	// configure is its part of stepkey.yaml, and the credential of a task, each in one line.
	configure(*crashRun) (backend, credential string)
	// use is what a step does with what it was given: a session that it opens stays open.
	use(*crashRun, *client.Grant)
	// alive is what lives of this run at this moment, by lease, in words.
	alive(*crashRun) map[string]string
}

// outside is what a run has in place of GitHub's tokens.
type outside struct {
	outsider
	passage
	lane      int
	form      string // which of the subject's
	nameless  bool
	ownTime   bool
	messages  map[string][]string // by phase, as counted without a death
	handed    []string            // leases whose credential the job got
	now       *process            // the life that is, or was the last
	diedTwice bool                // so did the life after the first, where it was to
	tooLong   bool                // the run says nothing; see subject.ownTime
}

// takePlace is called when the run is staged.
func (o *outside) takePlace(r *crashRun) (backend, credential string) {
	o.restart, o.tried, o.clock = &r.restart, &gate{c: make(chan struct{})}, r.world.clock
	return o.configure(r)
}

// lives is called as a life begins to serve.
func (o *outside) lives(p *process) {
	o.now = p
	o.passage.lives(p)
}

// playOutside is one run: a first life that ends at the point, perhaps a second one, and
// a last one that brings everything to its end.
func (r *crashRun) playOutside() {
	o := r.outside
	r.jobs[0].gives = []string{"by lease token", "by job", ""}[r.seed%3]
	switch {
	case r.point.dies == "given back", r.point.lost == "after StartEnding":
		r.jobs[0].gives = "by lease token"
	case r.point.dies == "after Claim":
		r.jobs[0].gives = ""
	}
	if r.point.at.phase != "" {
		o.strikes = []strike{r.point.at}
	}
	if r.point.goes == endsCut {
		o.most = len(o.messages[onIssue])
	}
	r.openFirst()
	r.askOnce()
	r.untilDeath()
	r.wasKilled(r.first)
	r.missed = r.missed && !o.struck()
	r.look()
	if second := r.secondDeath(); second.Dies != "" || len(o.strikes) > 0 {
		p := r.live(second)
		if o.diedTwice = p.over(); !o.diedTwice {
			p.kill()
		}
		o.strikes = nil
	}
	last := r.live(r.spent())
	r.landed()
	r.look()
	r.outcome = r.ledger
	switch {
	case o.tooLong:
		r.missed = true
	case len(r.outcome.outside) > 0:
		r.t.Errorf("all is over, and there lives %v", r.outcome.outside)
	}
	r.usedStaysUsed(last)
	r.look()
	last.kill()
}

// playInPeace counts the messages, and makes sure that what lives is seen and is used.
func (r *crashRun) playInPeace() map[string][]string {
	r.jobs[0].gives = "by lease token"
	r.openFirst()
	seen := false
	r.outside.watch = func(g *client.Grant) {
		alive := r.outside.alive(r)
		seen = len(alive) == 1 && alive[g.LeaseID] != ""
	}
	r.askOnce()
	if !seen {
		r.t.Errorf("what was given is not seen to live:\n%s", r.first.said())
	}
	counted := r.outside.counted()
	if !r.look() || len(r.ledger.outside) > 0 {
		r.t.Errorf("not everything is over: %s\n%s", r.ledger, r.first.said())
	}
	r.first.kill()
	return counted
}

func (r *crashRun) openFirst() {
	r.first = startCrashing(r.t, r.dir, r.fuse())
	r.outside.lives(r.first)
	r.openLedger()
}

// askOnce is one exchange and one end, in as far as the first life gets.
func (r *crashRun) askOnce() {
	o, j := r.outside, r.jobs[0]
	o.begins(onIssue)
	grant, err := j.exchange(r.t.Context(), r.first)
	if err == nil {
		o.handed = append(o.handed, grant.LeaseID)
		o.use(r, grant)
		if o.watch != nil {
			o.watch(grant)
		}
		o.begins(onRevoke)
	}
	if r.point.dies == "given" && err == nil {
		r.first.kill()
		return
	}
	r.giveBack(j, grant)
}

// secondDeath is where the second life ends, in some runs, if it gets there: at a place
// of the store's, or at a message of the end that it goes on with.
func (r *crashRun) secondDeath() *fuse {
	f, ends := r.spent(), len(r.outside.messages[onRevoke])
	f.Nth = 1
	switch r.seed % 5 {
	case 1:
		f.Dies = "after StartEnding"
	case 2:
		f.Dies = "before Conclude"
	case 3:
		if ends > 0 {
			r.outside.strikes = []strike{{later, "", 1 + r.seed%ends, []string{arrives, done}[r.seed/5%2]}}
		}
	}
	return f
}

// landed waits until a message that was held back has landed, or never will.
func (r *crashRun) landed() {
	r.outside.tried.open()
	giveUp := time.NewTimer(patience)
	defer giveUp.Stop()
	select {
	case <-r.outside.allLanded():
	case <-giveUp.C:
		r.t.Fatal("a message that was held back does not land")
	}
}

// lookOutside holds the store against the outside system, at any moment, and reports
// whether everything is over. What must be true for good is read from the store before
// that system is asked, and what may have come to be, after it.
func (r *crashRun) lookOutside() bool {
	if strings.Contains(r.outside.now.said(), `"answer":"`) {
		r.outside.tried.open()
	}
	first, at := r.entries(), r.world.clock.now()
	alive := r.outside.alive(r)
	held := r.heldNow()
	last := r.entries()
	r.ledger = newLedger(last, held)
	r.ledger.outside = alive
	r.nothingIsLost(first)
	r.endedStaysEnded(last)
	r.aliveIsHeld(first, at)
	for _, id := range r.outside.handed {
		if !r.ledger.active[id] {
			r.t.Errorf("a credential was handed out for %s, and the store does not know it", id)
		}
	}
	if r.outside.nameless {
		return r.ledger.over()
	}
	for _, state := range r.ledger.states {
		if !state.Final() {
			return false
		}
	}
	return true
}

// aliveIsHeld: what lives has a lease that is not over, that can end it or says for how
// long it lives.
func (r *crashRun) aliveIsHeld(first []audit.Entry, at time.Time) {
	over := map[string]audit.Event{}
	for _, e := range first {
		if final(e) {
			over[e.Lease] = e.Event
		}
	}
	for id, what := range r.ledger.outside {
		h, held := r.ledger.held[id]
		if r.outside.ownTime && held && at.After(h.DiesAt.Add(-time.Minute)) {
			r.outside.tooLong = true
		}
		if r.outside.tooLong {
			continue
		}
		switch {
		case over[id] != "":
			r.t.Errorf("%s is %s, and there lives %s", id, over[id], what)
		case r.ledger.states[id] == "":
			r.t.Errorf("there is no lease %s, and there lives %s", id, what)
		case held && at.After(h.DiesAt):
			r.t.Errorf("%s was to be dead by itself at %s, and at %s there lives %s", id, h.DiesAt, at, what)
		case r.ledger.active[id] && h.State == lease.Unconfirmed:
			r.t.Errorf("%s is given up, and how to end it is in the store", id)
		}
	}
}

// made is every credential that any life of the run made so far, whoever has it.
func (r *crashRun) made() (all []credential) {
	file, err := os.Open(filepath.Join(r.dir, madeFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		r.t.Fatal(err)
	}
	defer file.Close()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		var one credential
		if err := json.Unmarshal(lines.Bytes(), &one); err != nil {
			continue // half a line: its process was killed
		}
		all = append(all, one)
	}
	return all
}

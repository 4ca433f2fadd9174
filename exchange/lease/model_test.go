package lease

import (
	"errors"
	"fmt"
	"time"

	"github.com/stepkey/stepkey/exchange/backend"
)

// The life of one lease as a small world, explored in every order of things: what
// the asker does, what the backend does, two attempts to end it at the same time,
// processes that die anywhere. What is decided about a lease is decided by the real
// Judge and mayBecome; what the store's statements demand of a row is said again in
// rules, and TestTheStoreMovesAsTheModelDoes holds both against each other.
//
// That all processes are down needs no step of its own: nothing happens but time.
type world struct {
	state          State // "" before the intent is committed
	reason, sealed bool
	due, tries     int8 // due is a phase; tries stops counting at 1
	phase          int8
	credential     string // "", in flight, alive, dead
	asker          string // "", ordering, waiting, holding, ending, over
	named          bool   // the handle reached the asker, which did not die with it
	given          bool
	ends           [2]attempt
}

// attempt is one End under way: what StartEnding saw, and the backend's answer.
type attempt struct {
	seen   State // "" for none
	handle bool
	began  int8
	answer string // "", gone, lost, down
}

// clock is one order of a lease's moments; a phase is the time from one to the next.
type clock struct {
	at                     [4]time.Time
	issueBy, endsAt, death int8
}

var clocks = map[string]clock{
	"ten minutes":  {[4]time.Time{start, start.Add(25 * time.Second), start.Add(10 * time.Minute), start.Add(time.Hour)}, 1, 2, 3},
	"four seconds": {[4]time.Time{start, start.Add(4 * time.Second), start.Add(25 * time.Second), start.Add(time.Hour)}, 2, 1, 3},
}

func (c clock) lease(s State, tries int8) Lease {
	return Lease{State: s, Attempts: int(tries), IssueBy: c.at[c.issueBy], EndsAt: c.at[c.endsAt], DiesAt: c.at[c.death]}
}

// phaseOf is the one that a moment falls into; what lies far behind the end never comes.
func (c clock) phaseOf(t time.Time) int8 {
	if t.After(c.at[3].Add(24 * time.Hour)) {
		return 100
	}
	for p := int8(3); p > 0; p-- {
		if !t.Before(c.at[p]) {
			return p
		}
	}
	return 0
}

// rules are what a fault may get wrong.
type rules struct {
	judge       func(Lease, time.Time, time.Time, error, float64) Verdict
	mayOrder    func(world, clock) bool
	mayActivate func(world) bool
	seal        bool                      // activating seals the handle
	mayKeep     func(world) bool          // Keep seals the handle of what was not handed out
	concludes   func(world, attempt) bool // Conclude acts on what it saw and not on what moved since
	keepsHandle bool                      // an attempt that fails leaves the handle in the row
	keptMeans   bool                      // a handle kept during an attempt without one is asked for at once
}

var asBuilt = rules{
	judge:       Judge,
	mayOrder:    func(w world, c clock) bool { return w.state != "" && w.phase < c.issueBy },
	mayActivate: func(w world) bool { return w.state == Pending && !w.reason },
	seal:        true,
	mayKeep:     func(w world) bool { return w.state == Pending || w.state == Unconfirmed },
	concludes:   func(w world, a attempt) bool { return w.state == a.seen },
	keepsHandle: true,
	keptMeans:   true,
}

// step is one thing that can happen. It is sure where it happens however unlucky we
// are: nobody asks for anything, and the backend never says yes.
type step struct {
	name string
	sure bool
	to   world
}

// explorer knows the rules, one order of moments, and what the backend can do.
type explorer struct {
	rules
	clock
	finds bool // the backend finds a credential by its lease, without the handle
}

func (e explorer) steps(w world) []step {
	all := append(e.asking(w), e.ending(w)...)
	add := func(name string, sure bool, change func(*world)) {
		to := w
		change(&to)
		all = append(all, step{name, sure, to})
	}
	if w.credential == "in flight" {
		add("the create lands", false, func(w *world) { w.credential = "alive" })
		add("the create comes to nothing", true, func(w *world) { w.credential = "" })
	}
	if w.state != "" && w.phase < 3 && (w.phase+1 != e.issueBy || w.credential != "in flight" && w.asker != "waiting") {
		add("time passes", true, func(w *world) {
			if w.phase++; w.phase == e.death && w.credential == "alive" {
				w.credential = "dead"
			}
		})
	}
	if w.asker != "" && w.asker != "over" {
		add("the asker's process dies", true, func(w *world) { w.asker, w.named = "over", false })
	}
	for i, a := range w.ends {
		if a.seen != "" {
			add("an ender's process dies", false, func(w *world) { w.ends[i] = attempt{} })
		}
	}
	return all
}

// asking is the way of one exchange.Token.
func (e explorer) asking(w world) (all []step) {
	add := func(name string, change func(*world)) {
		to := w
		change(&to)
		all = append(all, step{name, name != "the order is sent", to})
	}
	if w.state == "" && w.asker == "" {
		add("the intent is committed", func(w *world) {
			w.state, w.asker, w.due = Pending, "ordering", e.phaseOf(dueAt(e.lease(Pending, 0)))
		})
	}
	if w.asker == "ordering" || w.asker == "" {
		if e.mayOrder(w, e.clock) {
			add("the order is sent", func(w *world) { w.asker, w.credential = "waiting", "in flight" })
		}
	}
	switch {
	case w.asker == "ordering":
		add("fail", func(w *world) { e.fail(w) })
	case w.asker == "waiting" && w.credential == "alive":
		add("the answer arrives", func(w *world) { w.asker, w.named = "holding", true })
		add("the answer is lost", func(w *world) { w.asker = "over" })
	case w.asker == "waiting" && w.credential == "":
		add("fail", func(w *world) { e.fail(w) })
		add("the answer is lost", func(w *world) { w.asker = "over" })
	case w.asker == "waiting":
		add("the answer is lost", func(w *world) { w.asker = "over" })
	case w.asker == "holding" && e.mayActivate(w):
		add("activate", func(w *world) {
			w.state, w.sealed, w.given, w.asker = Active, e.seal, true, "over"
			w.due = e.phaseOf(dueAt(e.lease(Active, 0)))
		})
	case w.asker == "holding":
		add("activation is refused", func(w *world) { w.asker = "ending" })
	case w.asker == "ending" && w.credential != "alive":
		add("fail", func(w *world) { e.fail(w) })
	case w.asker == "ending":
		add("ended from memory", func(w *world) { w.credential = "dead" })
		add("keep", func(w *world) {
			if w.asker = "over"; e.mayKeep(*w) {
				w.reason, w.sealed = true, true
				if w.state == Unconfirmed {
					w.due = w.phase
				}
			}
		})
	}
	return all
}

func (e explorer) fail(w *world) {
	if w.asker = "over"; w.state == Pending {
		w.state, w.sealed = Failed, false
	}
}

// ending is everything that exchange.End does, whoever asks, twice at the same time.
func (e explorer) ending(w world) (all []step) {
	for i, a := range w.ends {
		add := func(name string, sure bool, change func(*world, *attempt)) {
			to := w
			change(&to, &to.ends[i])
			all = append(all, step{fmt.Sprint(name, " ", i), sure, to})
		}
		switch {
		case a.seen == "" && w.state != "" && !w.state.Final() && (i == 0 || w.ends[0].seen != ""): // which of two alike is first makes no difference
			begin := func(w *world, a *attempt) {
				if w.state == Active {
					w.state = Revoking
				}
				w.reason, w.due = true, w.phase
				*a = attempt{seen: w.state, handle: w.sealed, began: w.phase}
			}
			add("start ending, asked by somebody", false, begin)
			if w.due <= w.phase {
				add("start ending, by the keeper", true, begin)
			}
		case a.seen != "" && a.answer == "":
			add("no answer", true, func(_ *world, a *attempt) { a.answer = "down" })
			if !a.handle && !e.finds {
				add("it cannot be named", true, func(_ *world, a *attempt) { a.answer = "lost" })
				break
			}
			gone := func(w *world, a *attempt) {
				if a.answer = "gone"; w.credential == "alive" {
					w.credential = "dead"
				}
			}
			add("the backend ends it", false, gone)
			add("the backend ends it, and the answer is lost", false, func(w *world, a *attempt) { gone(w, a); a.answer = "down" })
		case a.seen != "":
			add("conclude", true, func(w *world, a *attempt) { e.conclude(w, *a); *a = attempt{} })
		}
	}
	return all
}

var answers = map[string]error{"gone": nil, "lost": backend.ErrLost, "down": errors.New("no answer")}

func (e explorer) conclude(w *world, a attempt) {
	v := e.judge(e.lease(a.seen, w.tries), e.at[a.began], e.at[w.phase], answers[a.answer], 0)
	if !e.concludes(*w, a) {
		return
	}
	if e.keptMeans && v.To == Unconfirmed && w.sealed && !a.handle {
		v.To, v.Due = w.state, e.at[w.phase]
	}
	if v.To.Final() {
		w.state, w.sealed = v.To, false
		return
	}
	w.state, w.due, w.tries = v.To, e.phaseOf(v.Due), min(w.tries+1, 1)
	w.sealed = w.sealed && e.keepsHandle
}

// wrong says which promise a step breaks, if any.
func (e explorer) wrong(from, to world) string {
	canLive := to.credential == "alive" || to.credential == "in flight" || to.asker == "ordering" && e.mayOrder(to, e.clock)
	switch {
	case to.credential != "" && to.state == "":
		return "a credential without a lease"
	case (to.state == Revoked || to.state == Failed) && canLive:
		return "it is said to be over, and its credential lives or may come to life"
	case to.state == Expired && to.phase < e.death:
		return "it is said to have died before its time"
	case from.state != "" && from.state != to.state && !from.state.mayBecome(to.state):
		return fmt.Sprintf("a move that is not forward, from %s to %s", from.state, to.state)
	case (to.state == Active || to.state == Revoking) && !to.sealed:
		return "the way back is not sealed"
	case !from.given && to.given && (to.state != Active || from.reason):
		return "handed out although its lease is not active, or is being ended"
	case to.asker == "over" && to.named && to.credential == "alive" && !to.sealed:
		return "the handle of a living credential was thrown away"
	case to.state == Unconfirmed && to.sealed && to.due >= e.death && to.phase < e.death:
		return "its handle is known, and it is left to die by itself"
	}
	return ""
}

package lease

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/stepkey/stepkey/exchange/backend"
)

// walker takes the model's steps with the real store.
type walker struct {
	*house
	explorer
	intent Intent
	held   [2]Held
}

// sort is what a step looks like to the store: two that are of one sort must do the
// same to the row, so one of them is taken.
type sort struct {
	name           string
	state          State
	reason, sealed bool
	phase          int8
	attempt        attempt
}

func sortOf(from world, s step) sort {
	of := sort{s.name, from.state, from.reason, from.sealed, from.phase, attempt{}}
	if name, i, acts := cutEnder(s.name); acts {
		of.name, of.attempt = name, from.ends[i]
	}
	return of
}

// writes are the first words of the steps that come to the store.
var writes = map[string]bool{"fail": true, "activate": true, "activation": true, "keep": true, "start": true, "conclude": true}

// cutEnder takes the number of the attempt off a step's name.
func cutEnder(name string) (string, int, bool) {
	if i := strings.IndexByte("01", name[len(name)-1]); i >= 0 {
		return name[:len(name)-2], i, true
	}
	return name, 0, false
}

// The model is worth what it has in common with the store: steps of every sort there
// are do to the row what the model says, each at the end of the shortest way to it.
func TestTheStoreMovesAsTheModelDoes(t *testing.T) {
	onEachStore(t, func(t *testing.T, open opener) {
		h := open(t)
		taken := map[sort]bool{}
		for _, finds := range []bool{true, false} {
			e := explorer{asBuilt, clocks["ten minutes"], finds}
			e.visit(func(came map[world]step, from world, s step) bool {
				of := sortOf(from, s)
				if writes[strings.Fields(of.name)[0]] && !taken[of] {
					taken[of] = true
					h.clear(t)
					k := &walker{house: h, explorer: e}
					k.walk(t, came, from, s)
				}
				return !t.Failed()
			})
		}
		t.Logf("%d sorts of steps", len(taken))
	})
}

// walk goes to from and takes one step more.
func (k *walker) walk(t *testing.T, came map[world]step, from world, last step) {
	t.Helper()
	steps := []step{last}
	places := []world{from}
	for w := from; w != (world{}); w = came[w].to {
		steps, places = append(steps, step{name: came[w].name, to: w}), append(places, came[w].to)
	}
	for i := len(steps) - 1; i >= 0; i-- {
		k.take(t, places[i], steps[i])
		k.compare(t, steps[i])
	}
	if t.Failed() {
		t.Logf("on the way: %s", strings.Join(append(way(came, from), last.name), "; "))
	}
}

func (k *walker) take(t *testing.T, from world, s step) {
	ctx := context.Background()
	name, i, _ := cutEnder(s.name)
	id := k.intent.lease.ID
	var err error
	switch name {
	case "the intent is committed":
		k.intent, err = k.Begin(ctx, Ask{Workload: workload("jti", "job"), Grant: grant()}, anHour)
	case "the order is sent":
		if k.intent.IssueFor(k.now()) <= 0 {
			t.Fatal("the exchange would not send it any more")
		}
	case "time passes":
		k.wait(k.clock.at[s.to.phase].Sub(k.now()))
	case "fail":
		if err = k.Fail(ctx, k.intent, "nothing was created"); errors.Is(err, ErrMoved) && s.to.state == from.state {
			err = nil
		}
	case "activate":
		_, _, err = k.Activate(ctx, k.intent, backend.Issued{Handle: issued().Handle})
	case "activation is refused":
		if _, _, err = k.Activate(ctx, k.intent, backend.Issued{Handle: issued().Handle}); !errors.Is(err, ErrMoved) {
			t.Fatalf("activated: %v", err)
		}
		err = nil
	case "keep":
		if err = k.Keep(ctx, k.intent, issued().Handle, ByNoRecord); errors.Is(err, ErrMoved) && s.to.sealed == from.sealed {
			err = nil
		}
	case "start ending, asked by somebody", "start ending, by the keeper":
		k.held[i], err = k.StartEnding(ctx, id, ByHolder)
		if saw := s.to.ends[i]; k.held[i].State != saw.seen || k.held[i].Handle.Empty() == saw.handle {
			t.Fatalf("the attempt saw %s, the model %+v", k.held[i].State, saw)
		}
	case "conclude":
		a := from.ends[i]
		v := Judge(k.held[i].Lease, k.clock.at[a.began], k.now(), answers[a.answer], 0)
		_, err = k.Conclude(ctx, k.held[i], v)
	}
	if err != nil {
		t.Fatalf("%s: %v", s.name, err)
	}
}

func (k *walker) compare(t *testing.T, s step) {
	l, sealed, err := one(context.Background(), k.reading(), `id = ?`, string(k.intent.lease.ID))
	if err != nil {
		t.Fatal(err)
	}
	want := s.to
	if l.State != want.state || len(sealed) > 0 != want.sealed {
		t.Fatalf("after %q the store has %s, sealed %t; the model %+v", s.name, l.State, len(sealed) > 0, want)
	}
	if l.State.Final() {
		return
	}
	if (l.Reason != "") != want.reason || min(l.Attempts, 1) != int(want.tries) {
		t.Fatalf("after %q the store has reason %q and %d attempts; the model %+v", s.name, l.Reason, l.Attempts, want)
	}
	due, err := k.NextDue(context.Background(), "github")
	if err != nil || l.Attempts < 6 && k.phaseOf(due) != want.due { // by then a retry may be so far off that the model's phases are too short
		t.Fatalf("after %q it is due at %s, %v; the model %+v", s.name, due, err, want)
	}
}

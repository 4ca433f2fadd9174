package lease

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// visit takes every step from every world that can be reached, nearest first, until
// see says no. came tells the step that first led to a world, and from where.
func (e explorer) visit(see func(came map[world]step, from world, s step) bool) (worlds []world) {
	came := map[world]step{{}: {}}
	worlds = []world{{}}
	for n := 0; n < len(worlds); n++ {
		for _, s := range e.steps(worlds[n]) {
			if _, seen := came[s.to]; !seen {
				came[s.to] = step{name: s.name, to: worlds[n]}
				worlds = append(worlds, s.to)
			}
			if !see(came, worlds[n], s) {
				return worlds
			}
		}
	}
	return worlds
}

// explore returns every world that can be reached, and the shortest way to a broken
// promise, if there is one.
func (e explorer) explore() (worlds []world, trace []string) {
	back := map[world][]world{} // by steps that are sure
	var all map[world]step
	worlds = e.visit(func(came map[world]step, from world, s step) bool {
		if all = came; s.sure {
			back[s.to] = append(back[s.to], from)
		}
		if broken := e.wrong(from, s.to); broken != "" {
			trace = append(way(came, from), s.name, "BROKEN: "+broken, fmt.Sprintf("%+v", s.to))
		}
		return trace == nil
	})
	if trace != nil {
		return worlds, trace
	}
	ends := map[world]bool{}
	var next []world
	for _, w := range worlds {
		if w.state.Final() {
			ends[w], next = true, append(next, w)
		}
	}
	for ; len(next) > 0; next = next[1:] {
		for _, w := range back[next[0]] {
			if !ends[w] {
				ends[w], next = true, append(next, w)
			}
		}
	}
	for _, w := range worlds {
		if w.state != "" && !ends[w] {
			return worlds, append(way(all, w), "BROKEN: it never reaches an end", fmt.Sprintf("%+v", w))
		}
	}
	return worlds, nil
}

func way(came map[world]step, w world) (names []string) {
	for w != (world{}) {
		names = append(names, came[w].name)
		w = came[w].to
	}
	slices.Reverse(names)
	return names
}

// everywhere explores with each order of moments and either kind of backend.
func everywhere(r rules) (total int, trace []string) {
	for name, c := range clocks {
		for _, finds := range []bool{true, false} {
			worlds, trace := explorer{r, c, finds}.explore()
			total += len(worlds)
			if trace != nil {
				return total, append([]string{name, fmt.Sprint("the backend finds by lease: ", finds)}, trace...)
			}
		}
	}
	return total, nil
}

func TestInEveryOrderOfThingsALeaseKeepsItsPromisesAndReachesItsEnd(t *testing.T) {
	worlds, trace := everywhere(asBuilt)
	if trace != nil {
		t.Fatalf("after %d worlds:\n%s", worlds, strings.Join(trace, "\n"))
	}
	t.Logf("%d worlds", worlds)
	if worlds < 1000 {
		t.Errorf("only %d worlds: the model lost its steps", worlds)
	}
}

func TestTheModelFindsEveryFaultThatIsPutIn(t *testing.T) {
	judging := func(change func(v *Verdict, l Lease, now time.Time, err error)) func(*rules) {
		return func(r *rules) {
			r.judge = func(l Lease, began, now time.Time, err error, jitter float64) Verdict {
				v := Judge(l, began, now, err, jitter)
				change(&v, l, now, err)
				return v
			}
		}
	}
	for fault, put := range map[string]func(*rules){
		"a pending lease is over as soon as the backend says so": judging(func(v *Verdict, l Lease, _ time.Time, err error) {
			if l.State == Pending && err == nil {
				v.To = Failed
			}
		}),
		"revoked without an answer": judging(func(v *Verdict, l Lease, _ time.Time, err error) {
			if l.State == Revoking && err != nil {
				v.To = Revoked
			}
		}),
		"expired at its deadline": judging(func(v *Verdict, l Lease, now time.Time, _ error) {
			if l.State == Revoking && !now.Before(l.EndsAt) {
				v.To = Expired
			}
		}),
		"what cannot be named is taken for gone": judging(func(v *Verdict, _ Lease, _ time.Time, _ error) {
			if v.To == Unconfirmed {
				v.To = Failed
			}
		}),
		"given up after an attempt": judging(func(v *Verdict, l Lease, now time.Time, _ error) {
			if l.Attempts >= 1 && !v.To.Final() {
				v.Due = now.Add(1000 * time.Hour)
			}
		}),
		"unconfirmed is looked at no more": judging(func(v *Verdict, _ Lease, now time.Time, _ error) {
			if v.To == Unconfirmed {
				v.Due = now.Add(1000 * time.Hour)
			}
		}),
		"back to active after a failed attempt": judging(func(v *Verdict, _ Lease, _ time.Time, _ error) {
			if v.To == Revoking {
				v.To = Active
			}
		}),
		"activated although its end was asked":   func(r *rules) { r.mayActivate = func(w world) bool { return w.state == Pending } },
		"activated whatever became of it":        func(r *rules) { r.mayActivate = func(world) bool { return true } },
		"activated without sealing the handle":   func(r *rules) { r.seal = false },
		"the handle goes with a failed attempt":  func(r *rules) { r.keepsHandle = false },
		"an attempt overrules what moved since":  func(r *rules) { r.concludes = func(world, attempt) bool { return true } },
		"the order is sent before the intent":    func(r *rules) { r.mayOrder = func(w world, c clock) bool { return w.phase < c.issueBy } },
		"the order is sent late":                 func(r *rules) { r.mayOrder = func(w world, _ clock) bool { return w.state != "" } },
		"a handle is kept for pending alone":     func(r *rules) { r.mayKeep = func(w world) bool { return w.state == Pending } },
		"a handle kept meanwhile is not noticed": func(r *rules) { r.keptMeans = false },
	} {
		t.Run(fault, func(t *testing.T) {
			r := asBuilt
			put(&r)
			worlds, trace := everywhere(r)
			if trace == nil {
				t.Fatalf("not found in %d worlds", worlds)
			}
			t.Logf("after %d worlds:\n%s", worlds, strings.Join(trace, "\n"))
		})
	}
}

package backendtest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/internal/secret"
)

// recorder is a test that may fail without failing the test around it.
type recorder struct {
	testing.TB
	mu       sync.Mutex
	failures []string
}

func (r *recorder) Helper() {}

func (r *recorder) Logf(string, ...any) {}

func (r *recorder) Errorf(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failures = append(r.failures, fmt.Sprintf(format, args...))
}

func (r *recorder) Fatalf(format string, args ...any) {
	r.Errorf(format, args...)
	panic(r) // not Goexit: the story's goroutine is also ours to clean up
}

// listen tells one story and returns what failed.
func listen(t *testing.T, s story, h Harness) (failures []string) {
	r := &recorder{TB: t}
	defer func() {
		if stopped := recover(); stopped != nil && stopped != any(r) {
			panic(stopped)
		}
		failures = r.failures
	}()
	s.tell(open(r, h))
	return r.failures
}

func TestAnHonestBackendPasses(t *testing.T) {
	Run(t, harness(func(h honest) backend.Backend { return h }))
}

func TestABackendThatAsksNobodyNeedsNoFaults(t *testing.T) {
	h := harness(func(h honest) backend.Backend { return h })
	whole := h.Open
	h.Local = true
	h.Open = func(t testing.TB) World {
		w := whole(t)
		w.LoseReply, w.LoseEnd, w.Down, w.Up = nil, nil, nil, nil
		return w
	}
	Run(t, h)
}

func TestABackendThatCannotRevokePassesIfItSaysSo(t *testing.T) {
	h := harness(func(h honest) backend.Backend {
		return faulty{honest: h,
			terms: func(o backend.Order) backend.Terms { return backend.Terms{DiesAt: o.At.Add(noteLife)} },
			revoke: func(context.Context, backend.LeaseID, secret.String) error {
				return fmt.Errorf("it ends by itself alone: %w", backend.ErrLost)
			}}
	})
	h.Nameless = "nothing ends it"
	Run(t, h)
}

func TestABackendWhoseSessionsGoOnPassesIfItSaysSo(t *testing.T) {
	Run(t, harness(func(h honest) backend.Backend {
		h.set(&h.lasts, true)
		return faulty{honest: h, terms: func(o backend.Order) backend.Terms {
			t := h.Terms(o)
			t.Remains = "a session that is open"
			return t
		}}
	}))
}

// silentHonest is honest, and its outside system can do less.
type silentHonest struct{ honest backend.Backend }

func (h silentHonest) Scope(b backend.Block) (backend.Scope, error) { return h.honest.Scope(b) }

func (h silentHonest) Terms(o backend.Order) backend.Terms {
	return backend.Terms{DiesAt: backend.Never, Revocable: h.honest.Terms(o).Revocable}
}

func (h silentHonest) Issue(ctx context.Context, o backend.Order) (backend.Issued, error) {
	return h.honest.Issue(ctx, o)
}

func (h silentHonest) Revoke(ctx context.Context, lease backend.LeaseID, handle secret.String) error {
	if handle.Empty() {
		return fmt.Errorf("keys have no names: %w", backend.ErrLost)
	}
	return h.honest.Revoke(ctx, lease, handle)
}

func TestABackendPassesWhoseHarnessSaysWhatCannotBe(t *testing.T) {
	h := harness(func(h honest) backend.Backend { return silentHonest{h} })
	h.Nameless, h.Unproven = "keys have no names", "keys cannot be looked at"
	h.NeverHeld, h.Endless = "each request stands by itself", "keys live for ever"
	h.with(func(w *World) { w.Hold, w.Advance = nil, nil })
	Run(t, h)
}

// Where no clock can be moved, the credential itself says when it dies.
func TestALifeIsReadWhereNoClockCanBeMoved(t *testing.T) {
	still := func(over func(honest) backend.Backend) Harness {
		var system *notes
		h := harness(func(h honest) backend.Backend {
			system = h.notes
			return over(h)
		})
		h.with(func(w *World) { w.Advance, w.Dies = nil, system.dies })
		return h
	}
	Run(t, still(func(h honest) backend.Backend { return h }))
	long := func(h honest) backend.Backend {
		return giving(h, func(ordered can) can { return ordered }, tenYears)
	}
	for _, name := range []string{"a credential is gone when it was said to be", "a life follows the order's end"} {
		if len(listen(t, named(t, name), still(long))) == 0 {
			t.Errorf("the story %q does not see that a credential lives for ten years", name)
		}
	}
}

func named(t *testing.T, name string) story {
	t.Helper()
	at := slices.IndexFunc(stories(), func(s story) bool { return s.name == name })
	if at < 0 {
		t.Fatalf("there is no story %q", name)
	}
	return stories()[at]
}

func TestEachSeededFaultIsFoundByItsStory(t *testing.T) {
	for _, f := range slices.Concat(issueFaults, endFaults) {
		t.Run(f.name, func(t *testing.T) {
			failures := listen(t, named(t, f.found), harness(f.over))
			if len(failures) == 0 {
				t.Fatalf("the story %q does not find it", f.found)
			}
			t.Log(strings.Join(failures, "\n"))
		})
	}
}

func TestEveryStoryFindsSomething(t *testing.T) {
	for _, s := range stories() {
		if !slices.ContainsFunc(slices.Concat(issueFaults, endFaults), func(f fault) bool { return f.found == s.name }) {
			t.Errorf("no seeded fault shows that the story %q can fail", s.name)
		}
	}
}

// A harness that proves nothing is a fault of the backend's test.
func TestAHarnessThatProvesNothingFails(t *testing.T) {
	same := func(h honest) backend.Backend { return h }
	for name, c := range map[string]struct {
		spoil func(*Harness)
		found string
	}{
		"no way to lose an answer": {func(h *Harness) { h.with(func(w *World) { w.LoseReply = nil }) }, stories()[0].name},
		"an answer that is not lost": {
			func(h *Harness) { h.with(func(w *World) { w.LoseReply = w.Down }) },
			"a lost answer leaves no false certainty",
		},
		"an outage that is none": {
			func(h *Harness) { h.with(func(w *World) { w.Down = func() {} }) },
			"while the outside system is down nothing is claimed",
		},
		"an overstep that never works": {
			func(h *Harness) {
				h.with(func(w *World) {
					w.Overstep = func(context.Context, map[string]secret.String) error { return errors.New("no") }
				})
			}, "a credential does its task and nothing else",
		},
		"an answer to a revocation that is not lost": {
			func(h *Harness) {
				h.with(func(w *World) { w.LoseEnd = func() func() bool { return func() bool { return false } } })
			}, "a lost answer to a revocation is neither an end nor a loss",
		},
		"no way to lose an answer to a revocation": {
			func(h *Harness) { h.with(func(w *World) { w.LoseEnd = nil }) },
			"a lost answer to a revocation is neither an end nor a loss",
		},
		"a deed that exceeds nothing": {
			func(h *Harness) { h.with(func(w *World) { w.Exceed = w.Overstep }) },
			"a narrower order gets no more than it says",
		},
		"nothing kept open": {
			func(h *Harness) {
				h.with(func(w *World) {
					w.Hold = func(context.Context, map[string]secret.String) (func() bool, error) {
						return func() bool { return false }, nil
					}
				})
			}, "what is kept open ends, or is said to remain",
		},
		"no word on what is kept open": {func(h *Harness) { h.with(func(w *World) { w.Hold = nil }) }, stories()[0].name},
		"no word on when it dies":      {func(h *Harness) { h.with(func(w *World) { w.Advance = nil }) }, stories()[0].name},
		"a death that is over": {
			func(h *Harness) {
				h.with(func(w *World) {
					w.Advance = nil
					w.Dies = func(map[string]secret.String) (time.Time, error) { return time.Unix(-1, 0), nil }
				})
			}, "a life follows the order's end",
		},
		"no deed for a narrower scope":   {func(h *Harness) { h.with(func(w *World) { w.UseLess = nil }) }, stories()[0].name},
		"a backend that hides its proof": {func(h *Harness) { h.with(func(w *World) { w.Backend = silentHonest{w.Backend} }) }, stories()[0].name},
		"no phrases":                     {func(h *Harness) { h.Says = Phrases{} }, "the words of a scope say what it allows and nothing more"},
		"names that it is said to lack":  {func(h *Harness) { h.Nameless = "no" }, "a handle that is lost loses nothing that has a name"},
		"proofs that it is said to lack": {func(h *Harness) { h.Unproven = "no" }, "who looks tells what lives from what is gone"},
		"an end that it is said to lack": {func(h *Harness) { h.Endless = "no" }, "a life follows the order's end"},
		"a wider block that is none":     {func(h *Harness) { h.Wider = h.Good }, "a scope covers what it allows and nothing more"},
		"no hostile block":               {func(h *Harness) { h.Hostile = nil }, "hostile blocks are refused with their place"},
		"a good block that is bad":       {func(h *Harness) { h.Good = "can: [fly]" }, "a block is read and said in words"},
	} {
		t.Run(name, func(t *testing.T) {
			h := harness(same)
			c.spoil(&h)
			if failures := listen(t, named(t, c.found), h); len(failures) == 0 {
				t.Errorf("the story %q passes", c.found)
			}
		})
	}
}

// with changes every world that the harness opens.
func (h *Harness) with(change func(*World)) {
	whole := h.Open
	h.Open = func(t testing.TB) World {
		w := whole(t)
		change(&w)
		return w
	}
}

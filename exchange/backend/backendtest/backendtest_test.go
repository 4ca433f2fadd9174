package backendtest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

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
		w.LoseReply, w.Down, w.Up, w.Advance = nil, nil, nil, nil
		return w
	}
	Run(t, h)
}

func TestABackendThatCannotRevokePassesIfItSaysSo(t *testing.T) {
	Run(t, harness(func(h honest) backend.Backend {
		return faulty{honest: h,
			terms: func(o backend.Order) backend.Terms { return backend.Terms{DiesAt: o.At.Add(noteLife)} },
			revoke: func(backend.LeaseID, secret.String) error {
				return fmt.Errorf("it ends by itself alone: %w", backend.ErrLost)
			}}
	}))
}

func TestEachSeededFaultIsFoundByItsStory(t *testing.T) {
	for _, f := range slices.Concat(issueFaults, endFaults) {
		t.Run(f.name, func(t *testing.T) {
			at := slices.IndexFunc(stories(), func(s story) bool { return s.name == f.found })
			if at < 0 {
				t.Fatalf("there is no story %q", f.found)
			}
			failures := listen(t, stories()[at], harness(f.over))
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
		"a wider block that is none": {func(h *Harness) { h.Wider = h.Good }, "a scope covers what it allows and nothing more"},
		"no hostile block":           {func(h *Harness) { h.Hostile = nil }, "hostile blocks are refused with their place"},
		"a good block that is bad":   {func(h *Harness) { h.Good = "can: [fly]" }, "a block is read and said in words"},
	} {
		t.Run(name, func(t *testing.T) {
			h := harness(same)
			c.spoil(&h)
			at := slices.IndexFunc(stories(), func(s story) bool { return s.name == c.found })
			if failures := listen(t, stories()[at], h); len(failures) == 0 {
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

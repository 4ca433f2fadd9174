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
	"github.com/stepkey/stepkey/internal/yamlfile"
)

// notes is an outside system in memory: an honest one, and the honest backend
// over it. Faulty backends change one thing of it.
type notes struct {
	mu     sync.Mutex
	clock  time.Time
	byKey  map[string]note
	serial int
	lose   bool // the answer to the next creation
	unsaid bool // the answer to the next removal
	down   bool
	lasts  bool // what a key opened goes on without it
}

// note is one credential over there.
type note struct {
	lease backend.LeaseID
	can   can
	dies  time.Time
}

var (
	errNoAnswer = errors.New("no answer from the notes")
	errRefused  = errors.New("the notes refuse the key")
)

func newNotes() *notes {
	return &notes{clock: time.Date(2026, 11, 23, 15, 0, 0, 0, time.UTC), byKey: map[string]note{}}
}

func (n *notes) now() time.Time {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.clock
}

func (n *notes) advance(d time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.clock = n.clock.Add(d)
}

func (n *notes) live() (count int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, one := range n.byKey {
		if n.clock.Before(one.dies) {
			count++
		}
	}
	return count
}

// create makes a key, and loses the answer if told to.
func (n *notes) create(made note) (string, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.down {
		return "", errNoAnswer
	}
	n.serial++
	key := fmt.Sprintf("note-key-%08d", n.serial)
	n.byKey[key] = made
	if n.lose {
		n.lose = false
		return "", errNoAnswer
	}
	return key, nil
}

// remove deletes by key or, with none, by lease.
func (n *notes) remove(key string, lease backend.LeaseID) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.down {
		return errNoAnswer
	}
	for known, one := range n.byKey {
		if known == key || key == "" && one.lease == lease {
			delete(n.byKey, known)
		}
	}
	if n.unsaid {
		n.unsaid = false
		return errNoAnswer
	}
	return nil
}

// has looks for a key.
func (n *notes) has(key string) (bool, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.down {
		return false, errNoAnswer
	}
	one, ok := n.byKey[key]
	return ok && n.clock.Before(one.dies), nil
}

// open keeps something open with a key.
func (n *notes) open(_ context.Context, values map[string]secret.String) (func() bool, error) {
	if err := n.try(values, "read"); err != nil {
		return nil, err
	}
	return func() bool {
		n.mu.Lock()
		defer n.mu.Unlock()
		_, ok := n.byKey[values["key"].Reveal()]
		return ok || n.lasts
	}, nil
}

func (n *notes) dies(values map[string]secret.String) (time.Time, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.byKey[values["key"].Reveal()].dies, nil
}

func (n *notes) try(values map[string]secret.String, verb string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	one, ok := n.byKey[values["key"].Reveal()]
	if !ok || !n.clock.Before(one.dies) || !slices.Contains(one.can, verb) {
		return errRefused
	}
	return nil
}

// can is the honest scope: verbs.
type can []string

func (c can) Covers(other backend.Scope) bool {
	o, ours := other.(can)
	return ours && !slices.ContainsFunc(o, func(verb string) bool { return !slices.Contains(c, verb) })
}

func (c can) String() string { return strings.Join(c, " and ") + " notes" }

// honest is a backend without faults.
type honest struct{ *notes }

const (
	noteLife    = time.Hour
	ownPassword = "the-exchanges-own-password"
)

func (honest) Scope(node backend.Block) (backend.Scope, error) {
	var block struct {
		Can []string `yaml:"can,required"`
	}
	if err := node.Decode(&block); err != nil {
		return nil, err
	}
	for i, verb := range block.Can {
		if !slices.Contains([]string{"read", "write", "burn"}, verb) {
			return nil, node.Get("can").Items()[i].Errorf("nobody can %s notes", yamlfile.Quote(verb))
		}
	}
	return can(block.Can), nil
}

func (honest) Terms(o backend.Order) backend.Terms {
	return backend.Terms{DiesAt: o.At.Add(noteLife), Revocable: true}
}

func (h honest) Issue(ctx context.Context, o backend.Order) (backend.Issued, error) {
	scope, ours := o.Scope.(can)
	if !ours {
		return backend.Issued{}, fmt.Errorf("the scope is foreign: %w", backend.ErrNotCreated)
	}
	if ctx.Err() != nil {
		return backend.Issued{}, fmt.Errorf("%w; %w", ctx.Err(), backend.ErrNotCreated)
	}
	return h.grant(o, scope, h.Terms(o).DiesAt)
}

func (h honest) grant(o backend.Order, scope can, dies time.Time) (backend.Issued, error) {
	key, err := h.create(note{lease: o.Lease, can: scope, dies: dies})
	if err != nil {
		return backend.Issued{}, fmt.Errorf("creating a note's key: %w; %w", err, backend.ErrUnavailable)
	}
	return backend.Issued{
		Values: map[string]secret.String{"key": secret.New(key)}, Env: map[string]string{"NOTES_KEY": "key"},
		Handle: secret.New(key), Granted: scope, DiesAt: dies,
	}, nil
}

func (h honest) Revoke(_ context.Context, lease backend.LeaseID, handle secret.String) error {
	if err := h.remove(handle.Reveal(), lease); err != nil {
		return fmt.Errorf("removing a note's key: %w", err)
	}
	return nil
}

// Gone looks for the key.
func (h honest) Gone(_ context.Context, _ backend.LeaseID, handle secret.String) (bool, error) {
	has, err := h.has(handle.Reveal())
	if err != nil {
		return false, fmt.Errorf("looking for a note's key: %w", err)
	}
	return !has, nil
}

// harness puts a backend over fresh notes.
func harness(over func(honest) backend.Backend) Harness {
	return Harness{
		Open: func(testing.TB) World {
			n := newNotes()
			may := func(verb string) Deed {
				return func(_ context.Context, values map[string]secret.String) error { return n.try(values, verb) }
			}
			return World{
				Backend: over(honest{n}), Now: n.now, Live: n.live, Advance: n.advance, Secrets: []string{ownPassword},
				Use: may("write"), UseLess: may("read"), Overstep: may("burn"), Hold: n.open,
				LoseReply: func() { n.set(&n.lose, true) },
				LoseEnd: func() func() bool {
					n.set(&n.unsaid, true)
					return func() bool { return !n.unsaid }
				},
				Down: func() { n.set(&n.down, true) },
				Up:   func() { n.set(&n.down, false) },
			}
		},
		Good: "can: [read, write]", Narrower: "can: [read]", Wider: "can: [read, write, burn]",
		Says:     Phrases{Good: []string{"read", "write"}, Narrower: []string{"read"}, Wider: []string{"read", "write", "burn"}},
		Hostile:  map[string]string{"an unknown key": "can: [read]\nmay: [burn]", "an unknown verb": "can: [read, fly]"},
		Overtime: noteLife - 10*time.Minute,
	}
}

func (n *notes) set(flag *bool, to bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	*flag = to
}

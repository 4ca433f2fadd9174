// Package backendtest is the suite that every backend passes: the contract of
// package backend as stories that run against the real thing or a strict
// imitation of it.
//
// It hides how the promises are put to the test. A backend's own test brings a
// Harness: how to open a backend on an outside system, what may and may not be
// done with a credential, how many are alive over there, how to break the
// connection, and, with its reason, what cannot be. The suite itself is tested with backends that break one promise
// each.
//
// It knows no backend and no policy.
package backendtest

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/internal/secret"
	"github.com/stepkey/stepkey/internal/yamlfile"
)

// Harness is what a backend's test brings.
type Harness struct {
	// Open starts or joins an outside system and opens a backend on it, once per
	// story. What it starts ends with t.Cleanup.
	Open func(t testing.TB) World

	// Blocks as a task file has them below the backend's name, in YAML. Narrower
	// allows strictly less than Good, and Wider strictly more.
	Good, Narrower, Wider string
	// Says are phrases that tell the three blocks apart for people.
	Says Phrases
	// Hostile are blocks to be refused, by what is wrong with them.
	Hostile map[string]string

	// Local: the backend makes credentials by itself and asks nobody (it signs
	// them), so there is no answer to lose and nothing to be down.
	Local bool
	// Overtime is how long a credential may live after its order's end if nobody ends
	// it: what the backend adds for clocks, and what the outside system makes at least.
	Overtime time.Duration

	// What cannot be by the outside system's nature, each with its reason. Empty is the
	// rule: then the suite demands it.
	Endless   string // that a credential dies by itself
	Nameless  string // that the lease's name ends a credential whose handle is lost
	Unproven  string // that the backend looks whether a credential is gone (backend.Prover)
	NeverHeld string // that something is kept open with a credential (World.Hold)
}

// Phrases are what the words of each block's scope must hold. What stands under one block
// and not under another must not be in the words of that other: they would say what is
// not true.
type Phrases struct{ Good, Narrower, Wider []string }

// World is one outside system and a backend on it.
type World struct {
	Backend backend.Backend
	Now     func() time.Time
	// Secrets are what the exchange itself logs in or signs with: no words may hold one.
	// nil where it has none.
	Secrets []string

	// Use does what a credential of Good may do, and returns nil if it works. With one of
	// Narrower it fails, unless Exceed is there.
	Use Deed
	// Exceed does what Good allows and Narrower does not. nil: Use does.
	Exceed Deed
	// UseLess does what a credential of Narrower may do.
	UseLess Deed
	// Overstep does what Wider allows and Good does not, and returns nil if it
	// works.
	Overstep Deed
	// Live counts the credentials that the outside system would take now.
	Live func() int
	// Hold opens what outlasts a single request (a session, a stream), and says how to see
	// whether it goes on. nil where Harness.NeverHeld is set.
	Hold func(ctx context.Context, values map[string]secret.String) (goesOn func() bool, err error)

	// LoseReply makes the outside system carry out the next creation and lose its
	// answer; later requests are answered. Down makes it answer nothing until Up.
	// All three are nil where Harness.Local is set, and LoseEnd is.
	LoseReply, Down, Up func()
	// LoseEnd is LoseReply for the last step of the next revocation, and says how to see
	// whether an answer was lost. nil, too, where nothing can be revoked.
	LoseEnd func() (lost func() bool)

	// Advance moves the clock that the backend and the outside system share. nil
	// where the outside system has a clock that cannot be moved.
	Advance func(time.Duration)
	// Dies reads when a credential dies by itself from the credential, or from the outside
	// system. It is what there is instead of Advance.
	Dies func(values map[string]secret.String) (time.Time, error)
}

// Deed is something done with a credential.
type Deed = func(ctx context.Context, values map[string]secret.String) error

// Run tells every story to the backend.
func Run(t *testing.T, h Harness) {
	for _, s := range stories() {
		t.Run(s.name, func(t *testing.T) { s.tell(open(t, h)) })
	}
}

// story is one promise. Stories are told by name, so that a test of the suite
// can say which one finds which fault.
type story struct {
	name string
	tell func(*stage)
}

func stories() []story {
	return []story{
		{"a block is read and said in words", blocksAreRead},
		{"hostile blocks are refused with their place", hostileBlocks},
		{"the words of a scope say what it allows and nothing more", tellingWords},
		{"a scope covers what it allows and nothing more", covering},
		{"terms are known beforehand and say the same each time", termsAreKnown},
		{"a credential does its task and nothing else", credentialsWork},
		{"a narrower order gets no more than it says", narrowing},
		{"a scope of another backend is refused before anything is made", foreignScopes},
		{"an order from long ago is not filled beyond its terms", oldOrders},
		{"every order gets a credential of its own", ownCredentials},
		{"revoking ends a credential, once and again", revoking},
		{"revoking what was never issued ends nothing else", revokingNothing},
		{"revoking for a request that is over makes no false claim", overRevoking},
		{"several revocations of one lease agree", revokingTogether},
		{"a handle that is lost loses nothing that has a name", lostHandles},
		{"what is kept open ends, or is said to remain", holding},
		{"who looks tells what lives from what is gone", proving},
		{"a credential is gone when it was said to be", dying},
		{"a life follows the order's end", lifetimes},
		{"a lost answer leaves no false certainty", lostAnswers},
		{"a lost answer to a revocation is neither an end nor a loss", lostEnds},
		{"while the outside system is down nothing is claimed", outages},
		{"a request that is over makes no false claim", cancelled},
		{"many at once do not disturb each other", manyAtOnce},
	}
}

// stage is a story under way.
type stage struct {
	testing.TB
	World
	harness Harness
	prover  backend.Prover // nil: the backend is none

	mu      sync.Mutex
	secrets []secret.String // our own, and of everything issued so far: no words may hold one
}

func open(t testing.TB, h Harness) *stage {
	t.Helper()
	w := h.Open(t)
	s := &stage{TB: t, harness: h, prover: prover(w.Backend)}
	if lacks := h.lacks(w, s.prover != nil); lacks != "" {
		t.Fatalf("the harness brings no %s", lacks)
	}
	for _, own := range w.Secrets {
		// A key in PEM is many lines, and an error may quote one.
		for line := range strings.Lines(own) {
			if line = strings.TrimSpace(line); !strings.HasPrefix(line, "-----") {
				s.secrets = append(s.secrets, secret.New(line))
			}
		}
	}
	w.Backend = overheard{w.Backend, s}
	s.World = w
	return s
}

func prover(b backend.Backend) backend.Prover {
	p, _ := b.(backend.Prover)
	return p
}

// lacks is what a story would need to prove anything.
func (h Harness) lacks(w World, proves bool) string {
	switch {
	case !h.Local && (w.LoseReply == nil || w.Down == nil || w.Up == nil):
		return "LoseReply, Down and Up; only a backend that asks nobody (Local) has none"
	case w.Use == nil || w.UseLess == nil || w.Overstep == nil:
		return "Use, UseLess and Overstep"
	case w.Hold == nil && h.NeverHeld == "":
		return "Hold, and does not say why nothing is kept open (NeverHeld)"
	case w.Advance == nil && w.Dies == nil && h.Endless == "":
		return "Advance and no Dies, and does not say why nothing dies by itself (Endless)"
	case !proves && h.Unproven == "":
		return "backend that is a Prover, and does not say why (Unproven)"
	}
	return ""
}

// overheard is the backend, of which everything is heard: no error may hold a secret.
type overheard struct {
	backend.Backend
	s *stage
}

func (o overheard) Issue(ctx context.Context, order backend.Order) (backend.Issued, error) {
	issued, err := o.Backend.Issue(ctx, order)
	o.s.remember(issued)
	o.s.heard(err)
	return issued, err
}

func (o overheard) Revoke(ctx context.Context, lease backend.LeaseID, handle secret.String) error {
	err := o.Backend.Revoke(ctx, lease, handle)
	o.s.heard(err)
	return err
}

// gone asks a backend that is a Prover.
func (s *stage) gone(o backend.Order, issued backend.Issued) (bool, error) {
	gone, err := s.prover.Gone(s.Context(), o.Lease, issued.Handle)
	s.heard(err)
	return gone, err
}

// scope reads a block that must be good.
func (s *stage) scope(block string) backend.Scope {
	s.Helper()
	scope, err := s.Backend.Scope(s.node(block))
	if err != nil {
		s.Fatalf("a good block was refused: %v\n%s", err, block)
	}
	if scope == nil {
		s.Fatalf("a good block gave neither a scope nor an error:\n%s", block)
	}
	return scope
}

// firstLine of a block in the file that node makes.
const firstLine = 3

func (s *stage) node(block string) backend.Block {
	s.Helper()
	text := "credential:\n  kind:\n    " + strings.ReplaceAll(strings.TrimSpace(block), "\n", "\n    ") + "\n"
	root, err := yamlfile.Parse("task.yaml", []byte(text))
	if err != nil {
		s.Fatalf("the harness brings a block that is no YAML: %v", err)
	}
	return root.Get("credential", "kind")
}

func (s *stage) order(scope backend.Scope) backend.Order {
	now := s.Now()
	return backend.Order{
		Lease: newLease(), Scope: scope, At: now, Until: now.Add(10 * time.Minute),
		For: "acme/widget, workflow release, run 7",
	}
}

func newLease() backend.LeaseID { return backend.LeaseID("lease_" + ulid.Make().String()) }

// issue fills an order that must be filled.
func (s *stage) issue(scope backend.Scope) (backend.Order, backend.Issued) {
	s.Helper()
	o := s.order(scope)
	issued, err := s.Backend.Issue(s.Context(), o)
	if err != nil {
		s.Fatalf("issuing %s: %v", scope, err)
	}
	return o, issued
}

func (s *stage) remember(issued backend.Issued) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.secrets = append(s.secrets, issued.Handle)
	for name, value := range issued.Values {
		if !slices.Contains(issued.Public, name) {
			s.secrets = append(s.secrets, value)
		}
	}
}

func (s *stage) heard(err error) {
	if err != nil {
		s.silent("the error", err.Error())
	}
}

// silent fails if words hold a secret. Short values (a user's name) are none.
func (s *stage) silent(where, words string) {
	s.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, one := range s.secrets {
		if value := one.Reveal(); len(value) >= 8 && strings.Contains(words, value) {
			s.Errorf("%s holds a secret: %s", where, strings.ReplaceAll(words, value, secret.Redacted))
		}
	}
}

// refused fails if the credential works.
func (s *stage) refused(issued backend.Issued, when string) {
	s.Helper()
	if s.Use(s.Context(), issued.Values) == nil {
		s.Errorf("a credential works %s", when)
	}
}

// use fails unless the credential works.
func (s *stage) use(issued backend.Issued) {
	s.Helper()
	if err := s.Use(s.Context(), issued.Values); err != nil {
		s.Errorf("the credential does not work: %v", err)
	}
}

// live fails unless that many credentials are alive.
func (s *stage) live(want int, when string) {
	s.Helper()
	if have := s.Live(); have != want {
		s.Errorf("%s: %d credentials are alive, want %d", when, have, want)
	}
}

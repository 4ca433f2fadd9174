// Package backendtest is the suite that every backend passes: the contract of
// package backend as stories that run against the real thing or a strict
// imitation of it.
//
// It hides how the promises are put to the test. A backend's own test brings a
// Harness: how to open a backend on an outside system, what may and may not be
// done with a credential, how many are alive over there, and how to break the
// connection. The suite itself is tested with backends that break one promise
// each.
//
// It knows no backend and no policy.
package backendtest

import (
	"context"
	"slices"
	"strings"
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
	// Hostile are blocks to be refused, by what is wrong with them.
	Hostile map[string]string

	// Local: the backend makes credentials by itself and asks nobody (it signs
	// them), so there is no answer to lose and nothing to be down.
	Local bool
}

// World is one outside system and a backend on it.
type World struct {
	Backend backend.Backend
	Now     func() time.Time

	// Use does what a credential of Good may do, and returns nil if it works.
	Use func(ctx context.Context, values map[string]secret.String) error
	// Overstep does what Wider allows and Good does not, and returns nil if it
	// works.
	Overstep func(ctx context.Context, values map[string]secret.String) error
	// Live counts the credentials that the outside system would take now.
	Live func() int

	// LoseReply makes the outside system carry out the next creation and lose its
	// answer; later requests are answered. Down makes it answer nothing until Up.
	// All three are nil where Harness.Local is set.
	LoseReply, Down, Up func()

	// Advance moves the clock that the backend and the outside system share. nil
	// where the outside system has a clock that cannot be moved.
	Advance func(time.Duration)
}

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
		{"a scope covers what it allows and nothing more", covering},
		{"terms are known beforehand and say the same each time", termsAreKnown},
		{"a credential does its task and nothing else", credentialsWork},
		{"a scope of another backend is refused before anything is made", foreignScopes},
		{"an order from long ago is not filled beyond its terms", oldOrders},
		{"every order gets a credential of its own", ownCredentials},
		{"revoking ends a credential, once and again", revoking},
		{"revoking what was never issued ends nothing else", revokingNothing},
		{"a credential is gone when it was said to be", dying},
		{"a lost answer leaves no false certainty", lostAnswers},
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
	secrets []secret.String // of everything issued so far: no words may hold one
}

func open(t testing.TB, h Harness) *stage {
	t.Helper()
	w := h.Open(t)
	if !h.Local && (w.LoseReply == nil || w.Down == nil || w.Up == nil) {
		t.Fatalf("the harness brings no LoseReply, Down and Up; only a backend that asks nobody (Local) has none")
	}
	return &stage{TB: t, World: w, harness: h}
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
	s.remember(issued)
	return o, issued
}

func (s *stage) remember(issued backend.Issued) {
	s.secrets = append(s.secrets, issued.Handle)
	for name, value := range issued.Values {
		if !slices.Contains(issued.Public, name) {
			s.secrets = append(s.secrets, value)
		}
	}
}

// silent fails if words hold a secret. Short values (a user's name) are none.
func (s *stage) silent(where, words string) {
	s.Helper()
	for _, one := range s.secrets {
		if value := one.Reveal(); len(value) >= 8 && strings.Contains(words, value) {
			s.Errorf("%s holds a secret: %s", where, strings.ReplaceAll(words, value, secret.Redacted))
		}
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

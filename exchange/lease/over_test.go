package lease

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/exchange/identity"
)

// over is that job 71 of run 7.2 has ended, or, without a job, run 7.2.
func over(job string) Over {
	return Over{Issuer: "github", Repository: "456789", Run: "7", Attempt: 2, JobID: job}
}

// asks is a subject token of one job and what comes of it.
type asks struct {
	issuer, repository, run, attempt, job string
	refused                               bool
}

// tries asks for a lease with a token of its own.
func (h *house) tries(ctx context.Context, a asks, jti string) (Lease, error) {
	key := fmt.Sprint(a.issuer, a.repository, a.run, a.attempt, a.job)
	w := workload(jti+key, key)
	w.Issuer = a.issuer
	w.Job = identity.Job{Key: key, Name: key, Repository: a.repository, Run: a.run, Attempt: a.attempt, ID: a.job, Weak: a.job == ""}
	i, err := h.Begin(ctx, Ask{Workload: w, Grant: grant()}, anHour)
	return i.Lease(), err
}

func (h *house) note(t testing.TB, o Over) {
	t.Helper()
	if err := h.NoteOver(context.Background(), o); err != nil {
		t.Fatal(err)
	}
}

func TestAJobThatIsKnownToBeOverGetsNothing(t *testing.T) {
	for name, story := range map[string]struct {
		told Over
		asks []asks
	}{
		"a job completed": {over("71"), []asks{
			{"github", "456789", "7", "2", "71", true},
			{"github", "456789", "7", "2", "72", false},
			{"github", "456789", "7", "2", "", false}, // may be another
			{"github", "456789", "7", "1", "71", false},
			{"github", "456789", "7", "3", "71", false},
			{"github", "456789", "8", "2", "71", false},
			{"github", "456790", "7", "2", "71", false},
			{"ghes", "456789", "7", "2", "71", false},
			{"github", "456789", "", "2", "71", false},
			{"github", "456789", "7", "", "71", false},
		}},
		"a run completed": {over(""), []asks{
			{"github", "456789", "7", "2", "71", true},
			{"github", "456789", "7", "2", "", true},
			{"github", "456789", "7", "1", "70", true},
			{"github", "456789", "7", "3", "73", false},
			{"github", "456789", "8", "2", "71", false},
			{"github", "456790", "7", "2", "71", false},
			{"ghes", "456789", "7", "2", "71", false},
			{"github", "456789", "7", "", "71", false},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			onEachStore(t, func(t *testing.T, open opener) {
				h := open(t)
				for range 2 { // told twice, it is over once
					h.note(t, story.told)
				}
				for _, a := range story.asks {
					for range 2 { // refused, the subject token is not used up: the same is said again
						_, err := h.tries(t.Context(), a, "jti")
						if a.refused && !errors.Is(err, ErrJobOver) || !a.refused && errors.Is(err, ErrJobOver) {
							t.Errorf("%+v: %v", a, err)
						}
					}
				}
			})
		})
	}
}

func TestALeaseThatEndedSinceItsJobWasOverIsANoteAsWell(t *testing.T) {
	for name, c := range map[string]struct {
		job, why string
		refused  bool
	}{
		"its job was over":                             {"71", ByJobOver, true},
		"the holder gave it back":                      {"71", ByHolder, false},
		"a job that its issuer does not name was over": {"", ByJobOver, false}, // and another of the same key may go on
	} {
		t.Run(name, func(t *testing.T) {
			onEachStore(t, func(t *testing.T, open opener) {
				h := open(t)
				a := asks{"github", "456789", "7", "2", c.job, c.refused}
				l, err := h.tries(t.Context(), a, "first")
				if err != nil {
					t.Fatal(err)
				}
				h.wait(IssueFor + issueLateBy)
				held, err := h.StartEnding(t.Context(), l.ID, c.why)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := h.Conclude(t.Context(), held, Judge(held.Lease, h.now(), h.now(), backend.ErrLost, 0)); err != nil {
					t.Fatal(err)
				}
				if _, err = h.tries(t.Context(), a, "second"); errors.Is(err, ErrJobOver) != c.refused {
					t.Errorf("then: %v", err)
				}
			})
		})
	}
}

func TestANoteStaysAsLongAsAnySubjectTokenCouldPass(t *testing.T) {
	issuer := identity.Issuer{Name: "github", Kind: "github", URL: "https://issuer.example.com", MaxAge: overKept - 2*identity.Leeway - tokensKept + time.Second}
	if _, err := identity.New("https://lease.example.com", []identity.Issuer{issuer}, identity.Options{}); err == nil {
		t.Error("an issuer may be set up whose subject tokens pass for longer")
	}
	onEachStore(t, func(t *testing.T, open opener) {
		h := open(t)
		h.note(t, over("71"))
		a := asks{"github", "456789", "7", "2", "71", true}
		for _, step := range []struct {
			wait  time.Duration
			drops int
		}{{0, 0}, {overKept, 0}, {time.Second, 1}} {
			h.wait(step.wait)
			if n, err := h.Forget(t.Context(), start); err != nil || n != step.drops {
				t.Errorf("after %s more, %d rows went, %v", step.wait, n, err)
			}
			if _, err := h.tries(t.Context(), a, "jti"); errors.Is(err, ErrJobOver) != (step.drops == 0) {
				t.Errorf("after %s more: %v", step.wait, err)
			}
		}
	})
}

func TestAnEndThatIsToldAgainWritesNothing(t *testing.T) {
	onEachStore(t, func(t *testing.T, open opener) {
		h := open(t)
		h.note(t, over(""))
		h.write.Close() // PostgreSQL has one pool for both, and then fails at reading, too
		err := h.NoteOver(t.Context(), over("71"))
		if h.write != h.read && err != nil || h.write == h.read && err == nil {
			t.Errorf("told again: %v", err)
		}
	})
}

func TestANoteNamesItsJob(t *testing.T) {
	h := openAt(t, t.TempDir()+"/stepkey.db")
	for _, o := range []Over{{}, {Issuer: "github", Run: "7", Attempt: 1}, {Issuer: "github", Repository: "456789", Attempt: 1}, {Issuer: "github", Repository: "456789", Run: "7"}} {
		if err := h.NoteOver(t.Context(), o); err == nil {
			t.Errorf("noted: %+v", o)
		}
	}
}

// Either the one who asks is refused, or who noted the end sees the lease.
func TestAJobThatEndsWhileItAsksIsRefusedOrFound(t *testing.T) {
	onEachStore(t, func(t *testing.T, open opener) {
		h := open(t)
		for round := range 100 {
			run := fmt.Sprint(round + 1)
			var found []Lease
			var noting, asking error
			var l Lease
			var both sync.WaitGroup
			both.Go(func() {
				if noting = h.NoteOver(t.Context(), Over{"github", "456789", run, 1, "71"}); noting == nil {
					found, noting = h.LivesOfRun(t.Context(), "github", "456789", run)
				}
			})
			both.Go(func() {
				l, asking = h.tries(t.Context(), asks{"github", "456789", run, "1", "71", false}, "jti")
			})
			both.Wait()
			refused := errors.Is(asking, ErrJobOver)
			if noting != nil || asking != nil && !refused {
				t.Fatal(noting, asking)
			}
			if !refused && !slices.Contains(ids(found), l.ID) {
				t.Fatalf("round %d: it has %s, and the job's end found %v", round, l.ID, ids(found))
			}
		}
	})
}

// BenchmarkNoteOver is what each job that completes costs: told for the first time, and
// again.
func BenchmarkNoteOver(b *testing.B) {
	onEachDurable(b, func(b *testing.B, h *house) {
		for name, step := range map[string]int{"first": 1, "again": 0} {
			b.Run(name, func(b *testing.B) {
				n := 1
				for b.Loop() {
					h.note(b, Over{"github", "456789", fmt.Sprint(name, n), 1, "71"})
					n += step
				}
			})
		}
	})
}

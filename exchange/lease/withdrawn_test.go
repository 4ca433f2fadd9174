package lease

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/internal/secret"
)

func (h *house) withdrawn(t testing.TB) []backend.LeaseID {
	t.Helper()
	all, err := h.Withdrawn(t.Context(), "github")
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// A list that hosts go by is made of this: it must never lack what is being revoked, and
// never hold what somebody uses.
func TestWithdrawnIsWhatEndedOrBeganToAndHasNotDied(t *testing.T) {
	onEachStore(t, func(t *testing.T, open opener) {
		h := open(t)
		pending := h.begin(t, "jti-1", "job-1")
		active, _ := h.activate(t, "jti-2", "job-2")
		if all := h.withdrawn(t); len(all) != 0 {
			t.Fatalf("nothing ended, and withdrawn is %v", all)
		}
		held, err := h.StartEnding(t.Context(), active.ID, ByHolder)
		if err != nil {
			t.Fatal(err)
		}
		if all := h.withdrawn(t); !slices.Equal(all, []backend.LeaseID{active.ID}) {
			t.Errorf("before the backend is asked, withdrawn is %v", all)
		}
		if _, err := h.Conclude(t.Context(), held, Verdict{To: Revoked}); err != nil {
			t.Fatal(err)
		}
		if err := h.Keep(t.Context(), pending, secret.New("handle"), ByNoRecord); err != nil {
			t.Fatal(err)
		}
		failed := h.begin(t, "jti-3", "job-3")
		if err := h.Fail(t.Context(), failed, "no"); err != nil {
			t.Fatal(err)
		}
		want := []backend.LeaseID{pending.Lease().ID, active.ID, failed.Lease().ID}
		slices.Sort(want)
		if all := h.withdrawn(t); !slices.Equal(all, want) {
			t.Errorf("withdrawn is %v, want %v", all, want)
		}
		if all, err := h.Withdrawn(t.Context(), "ssh"); err != nil || len(all) != 0 {
			t.Errorf("of another backend: %v, %v", all, err)
		}
		if _, _, err := h.Activate(t.Context(), pending, issued()); !errors.Is(err, ErrMoved) {
			t.Errorf("what is listed became active: %v", err)
		}
		h.wait(active.DiesAt.Sub(h.now()) - time.Millisecond)
		if all := h.withdrawn(t); !slices.Contains(all, active.ID) {
			t.Errorf("a moment before it dies by itself: %v", all)
		}
		h.wait(time.Millisecond)
		if all := h.withdrawn(t); slices.Contains(all, active.ID) {
			t.Errorf("when it has died by itself: %v", all)
		}
	})
}

// However soon the operator lets ended leases be forgotten.
func TestWhatIsWithdrawnIsNotForgottenBeforeItHasDied(t *testing.T) {
	onEachStore(t, func(t *testing.T, open opener) {
		h := open(t)
		l, _ := h.activate(t, "jti-1", "job-1")
		held, err := h.StartEnding(t.Context(), l.ID, ByHolder)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := h.Conclude(t.Context(), held, Verdict{To: Revoked}); err != nil {
			t.Fatal(err)
		}
		for _, step := range []struct {
			wait time.Duration
			left int
		}{{time.Minute, 1}, {l.DiesAt.Sub(start), 0}} {
			h.wait(step.wait)
			if _, err := h.Forget(t.Context(), h.now()); err != nil {
				t.Fatal(err)
			}
			kept, err := many(t.Context(), h.reading(), `id = ?`, string(l.ID))
			if err != nil || len(kept) != step.left {
				t.Errorf("after %s more, %d rows of it are left, %v", step.wait, len(kept), err)
			}
		}
	})
}

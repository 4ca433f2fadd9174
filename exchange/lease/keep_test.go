package lease

import (
	"errors"
	"testing"
	"time"

	"github.com/stepkey/stepkey/exchange/backend"
)

// The asker of a credential that it could not hand out still has its handle when the
// keeper, who has none, asks: whichever comes first, the handle is used.
func TestAHandleThatIsKeptLateIsUsedAtOnce(t *testing.T) {
	for name, keepsFirst := range map[string]bool{"kept while the keeper asks": true, "kept after the keeper gave it up": false} {
		t.Run(name, func(t *testing.T) {
			onEachStore(t, func(t *testing.T, open opener) {
				h, ctx := open(t), t.Context()
				i := h.begin(t, "jti-1", "job-1")
				h.wait(IssueFor + issueLateBy)
				held, err := h.StartEnding(ctx, i.Lease().ID, ByIssueFault)
				if err != nil {
					t.Fatal(err)
				}
				keep := func() {
					if err := h.Keep(ctx, i, issued().Handle, ByNoRecord); err != nil {
						t.Error(err)
					}
				}
				if keepsFirst {
					keep()
				}
				l, err := h.Conclude(ctx, held, Judge(held.Lease, h.now(), h.now(), backend.ErrLost, 0))
				if err != nil {
					t.Fatal(err)
				}
				if !keepsFirst {
					keep()
				}
				if due, err := h.Claim(ctx, "github", 8); err != nil || len(due) != 1 || due[0].ID != l.ID {
					t.Fatalf("due at once: %+v, %v", due, err)
				}
				held, err = h.StartEnding(ctx, l.ID, ByIssueFault)
				if err != nil || held.Handle.Reveal() != canary {
					t.Fatalf("held with %v, %v", held.Lease, err)
				}
				if l, err = h.Conclude(ctx, held, Judge(held.Lease, h.now(), h.now(), nil, 0)); err != nil || !l.State.Final() {
					t.Errorf("it is %s, %v", l.State, err)
				}
				if err := h.Keep(ctx, i, issued().Handle, ByNoRecord); !errors.Is(err, ErrMoved) {
					t.Errorf("kept although it is over: %v", err)
				}
			})
		})
	}
}

func TestTheTimeToIssueRunsFromTheIntent(t *testing.T) {
	h := openAt(t, t.TempDir()+"/stepkey.db")
	i := h.begin(t, "jti-1", "job-1")
	h.wait(15 * time.Second)
	if left := i.IssueFor(h.now()); left != 5*time.Second {
		t.Errorf("%s left after 15 s", left)
	}
	h.wait(5 * time.Second)
	if left := i.IssueFor(h.now()); left > 0 {
		t.Errorf("%s left after 20 s", left)
	}
}

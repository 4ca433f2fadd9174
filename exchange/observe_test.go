package exchange_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stepkey/stepkey/exchange"
	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/exchange/lease"
)

// tally writes down what an observer is told.
type tally struct {
	mu   sync.Mutex
	told []string
}

func (y *tally) tell(format string, args ...any) {
	y.mu.Lock()
	defer y.mu.Unlock()
	y.told = append(y.told, fmt.Sprintf(format, args...))
}

func (y *tally) Ordered(l exchange.Lease, took time.Duration, err error) {
	y.tell("ordered %s %s %t", l.Backend, took, err == nil)
}
func (y *tally) Issued(l exchange.Lease) { y.tell("issued %s", l.Task) }
func (y *tally) Refused(k exchange.Kind) { y.tell("refused %d", k) }
func (y *tally) Attempted(l exchange.Lease, took time.Duration) {
	y.tell("attempted %s %s", l.State, took)
}

func TestWhatHappensIsTold(t *testing.T) {
	st, told := set(t), &tally{}
	st.Observe = told
	st.vault.issue = func(context.Context, backend.Order) error { st.wait(2 * time.Second); return nil }
	st.vault.revoke = func() error { st.wait(3 * time.Second); return nil }
	a, _ := st.ask(t.Context(), "jti-1/push")
	_, _ = st.ask(t.Context(), "forged")
	_, _, _ = st.EndByToken(t.Context(), a.LeaseToken)
	want := fmt.Sprintf("ordered vault 2s true, issued publish-release, refused %d, attempted revoked 3s", exchange.NotBelieved)
	if got := strings.Join(told.told, ", "); got != want {
		t.Errorf("told: %s\nwant: %s", got, want)
	}
}

func TestALeaseThatIsOverdueIsSaidAtErrorLevelForEachAttempt(t *testing.T) {
	st := set(t)
	var said bytes.Buffer
	st.Log = slog.New(slog.NewTextHandler(&said, &slog.HandlerOptions{Level: slog.LevelError}))
	a, _ := st.ask(t.Context(), "jti-1/push")
	st.vault.revoke = func() error { return errors.New("no answer") }
	st.wait(10 * time.Minute)
	st.sweep() // at its deadline: an end may take a moment
	if said.Len() != 0 {
		t.Errorf("said too early: %s", said.String())
	}
	for range 3 {
		st.wait(time.Minute)
		st.sweep()
		st.sweep() // nothing is due: nothing is said
	}
	if n := strings.Count(said.String(), string(a.Lease.ID)); n != 3 || !strings.Contains(said.String(), "overdue") {
		t.Errorf("said %d times: %s", n, said.String())
	}
}

// What ends first takes its time, and a backend is not asked when it may be too late.
func TestNothingIsOrderedOnceTheTimeToIssueIsOver(t *testing.T) {
	st := set(t)
	if _, err := st.askAs("key-a", "jti-1/push"); err != nil {
		t.Fatal(err)
	}
	st.vault.revoke = func() error { st.wait(lease.IssueFor); return nil }
	_, err := st.askAs("key-a", "jti-2/push")
	if !errors.Is(err, backend.ErrNotCreated) || !errors.Is(err, backend.ErrUnavailable) || st.vault.made != 1 {
		t.Fatalf("%v, %d made", err, st.vault.made)
	}
	st.vault.revoke = nil
	if _, err := st.askAs("key-a", "jti-2/push"); err != nil {
		t.Errorf("the same subject token, since it came to nothing: %v", err)
	}
}

package exchange_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stepkey/stepkey/exchange"
	"github.com/stepkey/stepkey/exchange/audit"
	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/exchange/lease"
)

func TestAnEndThatFailsIsTriedAgainUntilItIsConfirmed(t *testing.T) {
	st := set(t)
	a, _ := st.ask(t.Context(), "jti-1/push")
	st.vault.revoke = func() error { return errors.New("503") }
	l, _, err := st.EndByToken(t.Context(), a.LeaseToken)
	if err != nil || l.State != lease.Revoking {
		t.Fatalf("%+v, %v", l, err)
	}
	for range 5 {
		st.wait(time.Minute)
		st.sweep()
	}
	st.vault.revoke = nil
	st.wait(time.Minute)
	st.sweep()
	if l, _, _ := st.Inspect(t.Context(), a.LeaseToken); l.State != lease.Revoked || l.Reason != lease.ByHolder {
		t.Errorf("ended as %s: %s", l.State, l.Reason)
	}
	if n := strings.Count(st.events(t), "end-failed"); n != 6 {
		t.Errorf("%d failures written down, want 6", n)
	}
}

func TestWhatNobodyCanConfirmIsOverOnAnOperatorsWord(t *testing.T) {
	st := set(t)
	confirmed, _ := st.ask(t.Context(), "jti-1/push")
	if l, err := st.WriteOff(t.Context(), confirmed.Lease.ID, "its server is gone"); err != nil || l.State != lease.Revoked {
		t.Errorf("what the backend confirms is %s, %v", l.State, err)
	}
	a, _ := st.ask(t.Context(), "jti-2/push2")
	st.Backends = map[string]backend.Backend{}
	l, err := st.WriteOff(t.Context(), a.Lease.ID, "its server is gone")
	if err != nil || l.State != lease.Expired {
		t.Errorf("what nobody confirms is %s, %v", l.State, err)
	}
	log := st.log(t)
	if last := log[len(log)-1]; last.Event != audit.Expired || last.Reason != "its server is gone; vault has not confirmed the end" {
		t.Errorf("written down as %+v", last)
	}
	if again, err := st.WriteOff(t.Context(), a.Lease.ID, "once more"); err != nil || again.Reason != l.Reason || len(st.log(t)) != len(log) {
		t.Errorf("once more: %+v, %v", again, err)
	}
}

func TestNothingIsWrittenOffWhileItMayBeInTheMaking(t *testing.T) {
	st := set(t)
	st.vault.after = func() error { return errors.New("connection reset") }
	if _, err := st.ask(t.Context(), "jti-1/push"); err == nil {
		t.Fatal("answered although the backend's answer was lost")
	}
	held, err := st.store.LivesOfJob(t.Context(), "push")
	if err != nil || len(held) != 1 {
		t.Fatal(held, err)
	}
	st.vault.revoke = func() error { return errors.New("503") }
	if l, err := st.WriteOff(t.Context(), held[0].ID, "removed by hand"); !errors.Is(err, exchange.ErrInFlight) || l.State != lease.Pending {
		t.Errorf("it is %s, %v", l.State, err)
	}
	st.wait(lease.IssueFor + 6*time.Second)
	if l, err := st.WriteOff(t.Context(), held[0].ID, "removed by hand"); err != nil || l.State != lease.Expired {
		t.Errorf("when nothing can be in flight any more it is %s, %v", l.State, err)
	}
}

func TestABackendTakenOutOfTheConfigurationLeavesItsLeasesToDie(t *testing.T) {
	st := set(t)
	a, _ := st.ask(t.Context(), "jti-1/push")
	st.Backends = map[string]backend.Backend{}
	if l, _, err := st.EndByToken(t.Context(), a.LeaseToken); err != nil || l.State != lease.Revoking {
		t.Errorf("%+v, %v", l, err)
	}
	if _, err := st.ask(t.Context(), "jti-2/push2"); err == nil {
		t.Error("a credential of a backend that is not there")
	}
	st.wait(time.Hour + time.Second)
	st.sweep()
	if l, _, _ := st.Inspect(t.Context(), a.LeaseToken); l.State != lease.Expired {
		t.Errorf("it is %s", l.State)
	}
}

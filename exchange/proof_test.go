package exchange_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/exchange/lease"
	"github.com/stepkey/stepkey/internal/secret"
)

// provable is a vault that can be asked whether a credential is gone.
type provable struct {
	*vault
	deaf  bool // says that it ended it, and did nothing
	fault error
	asked int
}

func (p *provable) Revoke(ctx context.Context, id backend.LeaseID, handle secret.String) error {
	if p.deaf {
		return nil
	}
	return p.vault.Revoke(ctx, id, handle)
}

func (p *provable) Gone(_ context.Context, _ backend.LeaseID, handle secret.String) (bool, error) {
	p.asked++
	if p.fault != nil {
		return false, p.fault
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.live[handle.Reveal()], nil
}

func proving(t *testing.T) (*stage, *provable) {
	st := set(t)
	p := &provable{vault: st.vault}
	st.Backends, st.Prove = map[string]backend.Backend{"vault": p}, true
	return st, p
}

// lastReason is what the newest entry of the audit log says.
func (st *stage) lastReason(t *testing.T) string {
	entries := st.log(t)
	return entries[len(entries)-1].Reason
}

func TestAnEndThatIsProvenSaysSo(t *testing.T) {
	st, _ := proving(t)
	a, _ := st.ask(t.Context(), "jti-1/push")
	l, _, err := st.EndByToken(t.Context(), a.LeaseToken)
	if err != nil || l.State != lease.Revoked || l.Reason != lease.ByHolder {
		t.Fatalf("%+v, %v", l, err)
	}
	if got, want := st.lastReason(t), lease.ByHolder+"; confirmed; vault refuses it (checked)"; got != want {
		t.Errorf("written down: %s, want %s", got, want)
	}
}

func TestAnEndThatCannotBeCheckedIsBelievedAndSaysSo(t *testing.T) {
	st, p := proving(t)
	p.fault = errors.New("no answer")
	a, _ := st.ask(t.Context(), "jti-1/push")
	if l, _, err := st.EndByToken(t.Context(), a.LeaseToken); err != nil || l.State != lease.Revoked {
		t.Fatalf("%+v, %v", l, err)
	}
	if got := st.lastReason(t); !strings.HasSuffix(got, "could not be asked whether it is so: no answer") {
		t.Errorf("written down: %s", got)
	}
}

func TestAnEndThatTheCredentialContradictsIsTriedAgain(t *testing.T) {
	st, p := proving(t)
	p.deaf = true
	a, _ := st.ask(t.Context(), "jti-1/push")
	l, _, err := st.EndByToken(t.Context(), a.LeaseToken)
	if err != nil || l.State != lease.Revoking {
		t.Fatalf("it is %s, %v", l.State, err)
	}
	if got := st.lastReason(t); !strings.Contains(got, "still takes the credential") {
		t.Errorf("written down: %s", got)
	}
	p.deaf = false
	st.wait(time.Minute)
	st.sweep()
	if l, _, _ := st.Inspect(t.Context(), a.LeaseToken); l.State != lease.Revoked || st.vault.alive() != 0 {
		t.Errorf("it is %s, %d alive", l.State, st.vault.alive())
	}
	if got, want := st.events(t), "pending active revoking end-failed revoked"; got != want {
		t.Errorf("audit log: %s, want %s", got, want)
	}
}

func TestNothingIsAskedWhereProvingIsOff(t *testing.T) {
	st, p := proving(t)
	st.Prove = false
	a, _ := st.ask(t.Context(), "jti-1/push")
	if l, _, err := st.EndByToken(t.Context(), a.LeaseToken); err != nil || l.State != lease.Revoked || p.asked != 0 {
		t.Errorf("%+v, %v, asked %d times", l, err, p.asked)
	}
}

package exchange_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stepkey/stepkey/exchange"
	"github.com/stepkey/stepkey/exchange/audit"
	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/exchange/identity"
	"github.com/stepkey/stepkey/exchange/lease"
	"github.com/stepkey/stepkey/exchange/policy"
	"github.com/stepkey/stepkey/internal/secret"
)

const taskFile = `task: publish-release
purpose: Upload the assets of a tagged release.
allow:
  - issuer: github
    claims:
      repository_id: "456789"
      event_name: push
credential:
  vault: {path: widget}
limits: {ttl: 10m}
`

var start = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

// who verifies the subject tokens of the stories: "jti/job", or what it refuses.
type who struct{}

func (who) Verify(_ context.Context, token string) (identity.Workload, error) {
	jti, job, ok := strings.Cut(token, "/")
	if !ok {
		return identity.Workload{}, &identity.Refusal{Rule: identity.RuleSignature, Reason: "the signature does not hold", Fix: "ask for another token"}
	}
	return identity.Workload{
		Issuer: "github", TokenID: jti, IssuedAt: start, Expires: start.Add(6 * time.Minute),
		Claims: identity.Claims{"repository_id": "456789", "repository_owner_id": "123456", "event_name": strings.TrimRight(job, "0123456789")},
		Job:    identity.Job{Key: job, Name: "acme/widget " + job},
	}, nil
}

// words is a scope that is its words; "everything" covers the rest.
type words string

func (w words) Covers(other backend.Scope) bool { return w == other || w == "everything" }
func (w words) String() string                  { return string(w) }

// vault is a backend in memory. A story sets what happens in Issue and Revoke.
type vault struct {
	mu     sync.Mutex
	live   map[string]bool
	made   int
	issue  func(ctx context.Context, o backend.Order) error // before making
	after  func() error                                     // after making
	revoke func() error
	grant  backend.Scope
	spoilt bool // the credential comes with an error
}

func (v *vault) Scope(backend.Block) (backend.Scope, error) { return words("read widget"), nil }

func (v *vault) Terms(o backend.Order) backend.Terms {
	return backend.Terms{DiesAt: o.At.Add(time.Hour), Revocable: true}
}

func (v *vault) Issue(ctx context.Context, o backend.Order) (backend.Issued, error) {
	if v.issue != nil {
		if err := v.issue(ctx, o); err != nil {
			return backend.Issued{}, err
		}
	}
	v.mu.Lock()
	v.made++
	token := fmt.Sprintf("vault-token-%d", v.made)
	v.live[token] = true
	v.mu.Unlock()
	if v.after != nil {
		if err := v.after(); err != nil {
			return backend.Issued{}, err
		}
	}
	granted := o.Scope
	if v.grant != nil {
		granted = v.grant
	}
	s := secret.New(token)
	if v.spoilt {
		return backend.Issued{Handle: s}, errors.New("it is not what was ordered, and could not be ended")
	}
	return backend.Issued{Values: map[string]secret.String{"token": s}, Env: map[string]string{"VAULT_TOKEN": "token"}, Handle: s, Granted: granted}, nil
}

func (v *vault) Revoke(_ context.Context, _ backend.LeaseID, handle secret.String) error {
	if v.revoke != nil {
		if err := v.revoke(); err != nil {
			return err
		}
	}
	if handle.Empty() {
		return backend.ErrLost
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.live, handle.Reveal())
	return nil
}

func (v *vault) alive() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return len(v.live)
}

// stage is an exchange with its store, its vault and its clock.
type stage struct {
	*exchange.Exchange
	store *lease.Store
	vault *vault
	path  string
	mu    sync.Mutex
	at    time.Time
}

func set(t testing.TB) *stage {
	t.Helper()
	dir := t.TempDir()
	st := &stage{vault: &vault{live: map[string]bool{}}, path: filepath.Join(dir, "stepkey.db"), at: start}
	if err := lease.CreateKeys(filepath.Join(dir, "keys")); err != nil {
		t.Fatal(err)
	}
	keys, err := lease.ReadKeys(filepath.Join(dir, "keys"))
	if err != nil {
		t.Fatal(err)
	}
	if st.store, err = lease.Open(t.Context(), st.path, keys, lease.Options{Now: st.now}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.store.Close() })
	tasks, err := policy.Load(fstest.MapFS{"publish-release.yaml": {Data: []byte(taskFile)}}, policy.Check{
		Issuers: []identity.Issuer{{Name: "github", Kind: "github"}}, Backends: map[string]policy.Scoper{"vault": st.vault},
	})
	if err != nil {
		t.Fatal(err)
	}
	st.Exchange = &exchange.Exchange{
		Verifier: who{}, Policy: func() *policy.Set { return tasks }, Leases: st.store,
		Backends: map[string]backend.Backend{"vault": st.vault}, Owners: []string{"123456"},
		Now: st.now, Log: slog.New(slog.DiscardHandler),
	}
	return st
}

func (st *stage) now() time.Time {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.at
}

func (st *stage) wait(d time.Duration) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.at = st.at.Add(d)
}

func (st *stage) ask(ctx context.Context, token string) (exchange.Answer, error) {
	return st.Token(ctx, exchange.Request{SubjectToken: secret.New(token), Task: "publish-release"})
}

func (st *stage) sweep() {
	k := &lease.Keeper{Store: st.store, Now: st.now, Log: slog.New(slog.DiscardHandler), End: func(ctx context.Context, l lease.Lease, why string) error {
		_, err := st.End(ctx, l.ID, why)
		return err
	}}
	k.Sweep(context.Background(), "vault")
}

func (st *stage) log(t testing.TB) []audit.Entry {
	t.Helper()
	entries, err := st.store.Audit(context.Background(), lease.AuditQuery{Limit: 1000})
	if err != nil {
		t.Fatal(err)
	}
	return entries
}

func (st *stage) events(t testing.TB) string {
	t.Helper()
	var seen []string
	for _, e := range st.log(t) {
		seen = append(seen, string(e.Event))
	}
	return strings.Join(seen, " ")
}

func TestAWorkloadGetsACredentialAndLosesIt(t *testing.T) {
	st := set(t)
	a, err := st.ask(t.Context(), "jti-1/push")
	if err != nil {
		t.Fatal(err)
	}
	if a.Values["token"].Reveal() != "vault-token-1" || a.Lease.State != lease.Active || !strings.HasPrefix(a.LeaseToken.Reveal(), lease.TokenPrefix) {
		t.Errorf("got %+v", a)
	}
	if l, found, err := st.Inspect(t.Context(), a.LeaseToken); err != nil || !found || l.ID != a.Lease.ID {
		t.Errorf("inspecting it: %+v %v %v", l, found, err)
	}
	for range 2 {
		l, found, err := st.EndByToken(t.Context(), a.LeaseToken)
		if err != nil || !found || l.State != lease.Revoked {
			t.Errorf("giving it back: %+v %v %v", l, found, err)
		}
	}
	if st.vault.alive() != 0 {
		t.Error("the credential outlived its lease")
	}
	if got, want := st.events(t), "pending active revoking revoked"; got != want {
		t.Errorf("audit log: %s, want %s", got, want)
	}
}

func TestTheBackendIsNotAskedBeforeTheIntentAndTheUsedTokenAreCommitted(t *testing.T) {
	st := set(t)
	st.vault.issue = func(ctx context.Context, _ backend.Order) error {
		reader, err := lease.OpenToRead(ctx, st.path) // another connection sees only what is committed
		if err != nil {
			return err
		}
		defer reader.Close()
		lives, err := reader.Lives(ctx)
		if err != nil || lives[lease.Pending] != 1 {
			t.Errorf("while the backend is asked: %v, %v", lives, err)
		}
		if _, err := st.ask(ctx, "jti-1/push2"); !errors.Is(err, lease.ErrTokenUsed) {
			t.Errorf("the subject token is not used up yet: %v", err)
		}
		return nil
	}
	if _, err := st.ask(t.Context(), "jti-1/push"); err != nil {
		t.Fatal(err)
	}
}

func TestACredentialByItsOwnTokenEndsToo(t *testing.T) {
	st := set(t)
	a, _ := st.ask(t.Context(), "jti-1/push")
	if l, found, err := st.EndByToken(t.Context(), a.Values["token"]); err != nil || !found || l.State != lease.Revoked {
		t.Errorf("%+v %v %v", l, found, err)
	}
	if _, found, err := st.Inspect(t.Context(), a.Values["token"]); found || err != nil {
		t.Error("a credential's token shows its lease")
	}
	if _, found, err := st.EndByToken(t.Context(), secret.New("skl_unknown")); found || err != nil {
		t.Errorf("an unknown token: %v %v", found, err)
	}
}

func TestAJobsSubjectTokenEndsAllThatJobHoldsAndNothingElse(t *testing.T) {
	st := set(t)
	mine, _ := st.ask(t.Context(), "jti-1/push1")
	other, _ := st.ask(t.Context(), "jti-2/push2")
	if ended, err := st.EndJob(t.Context(), secret.New("jti-3/push1"), "deploy"); err != nil || len(ended) != 0 {
		t.Errorf("of another task: %+v, %v", ended, err)
	}
	ended, err := st.EndJob(t.Context(), secret.New("jti-3/push1"), "")
	if err != nil || len(ended) != 1 || ended[0].ID != mine.Lease.ID || ended[0].State != lease.Revoked {
		t.Errorf("%+v, %v", ended, err)
	}
	if l, _, _ := st.Inspect(t.Context(), other.LeaseToken); l.State != lease.Active {
		t.Errorf("another job's lease is %s", l.State)
	}
	var refused *exchange.Refused
	if _, err := st.EndJob(t.Context(), secret.New("forged"), ""); !errors.As(err, &refused) || refused.AuditID == "" {
		t.Errorf("a forged subject token: %v", err)
	}
}

func TestAJobsSubjectTokenEndsOneOfItsLeasesAndNoOthers(t *testing.T) {
	st := set(t)
	mine, _ := st.ask(t.Context(), "jti-1/push1")
	other, _ := st.ask(t.Context(), "jti-2/push2")
	for name, id := range map[string]string{"another job's": string(other.Lease.ID), "one that is none": "lease_unknown"} {
		if _, found, err := st.EndJobsLease(t.Context(), secret.New("jti-3/push1"), id); found || err != nil {
			t.Errorf("%s: found %v, %v", name, found, err)
		}
	}
	if st.vault.alive() != 2 {
		t.Fatal("a lease ended that was not to")
	}
	for range 2 { // idempotent
		l, found, err := st.EndJobsLease(t.Context(), secret.New("jti-3/push1"), string(mine.Lease.ID))
		if err != nil || !found || l.ID != mine.Lease.ID || l.State != lease.Revoked || l.Reason != lease.ByJob {
			t.Errorf("%+v %v %v", l, found, err)
		}
	}
	if st.vault.alive() != 1 {
		t.Error("another job's credential is gone too")
	}
	var refused *exchange.Refused
	if _, _, err := st.EndJobsLease(t.Context(), secret.New("forged"), string(other.Lease.ID)); !errors.As(err, &refused) || refused.AuditID == "" {
		t.Errorf("a forged subject token: %v", err)
	}
}

func TestRefusalsAreWrittenDownAndGiveNothing(t *testing.T) {
	for _, c := range []struct {
		name, token string
		event       audit.Event
		cause       func(error) bool
		kind        exchange.Kind
		told        bool
	}{
		{"a token that is not believed", "forged", audit.Refused, is[*identity.Refusal], exchange.NotBelieved, true},
		{"a workload that the task does not allow", "jti-9/pull_request", audit.Denied, is[*policy.Denial], exchange.NotAllowed, true},
		{"a token that was used", "jti-1/push", audit.Denied, func(err error) bool { return errors.Is(err, lease.ErrTokenUsed) }, exchange.TokenUsed, true},
		{"one more than the job may hold", "jti-2/push", audit.Denied, is[*lease.JobLimit], exchange.TooMany, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			st := set(t)
			if _, err := st.ask(t.Context(), "jti-1/push"); err != nil {
				t.Fatal(err)
			}
			_, err := st.ask(t.Context(), c.token)
			var refused *exchange.Refused
			if !errors.As(err, &refused) || !c.cause(err) || refused.Kind != c.kind || (refused.Why != "") != c.told {
				t.Fatalf("refused with %#v", err)
			}
			last := st.log(t)[len(st.log(t))-1]
			if last.ID != refused.AuditID || last.Event != c.event || last.Reason == "" {
				t.Errorf("written down as %+v, the client was told %s", last, refused.AuditID)
			}
			if st.vault.made != 1 {
				t.Errorf("%d credentials were made", st.vault.made)
			}
		})
	}
}

// awayStore does not answer those who want a lease.
type awayStore struct{ exchange.Leases }

func (awayStore) Begin(context.Context, lease.Ask, func(backend.Order) backend.Terms) (lease.Intent, error) {
	return lease.Intent{}, fmt.Errorf("%w: at db.internal: connection refused", lease.ErrUnavailable)
}

func TestAStoreThatIsAwayIsNoFaultAndNobodyHearsWhereItIs(t *testing.T) {
	st := set(t)
	st.Leases = awayStore{st.store}
	_, err := st.ask(t.Context(), "jti-1/push")
	var refused *exchange.Refused
	if !errors.As(err, &refused) || refused.Kind != exchange.StoreDown || refused.Why != "" || st.vault.made != 0 {
		t.Errorf("refused with %#v, and %d were made", err, st.vault.made)
	}
	st.Leases = st.store
	if _, err := st.ask(t.Context(), "jti-1/push"); err != nil {
		t.Errorf("the same subject token, as soon as the store answers: %v", err)
	}
}

func is[E error](err error) bool {
	var want E
	return errors.As(err, &want)
}

func TestWhatWasNotCreatedFreesTheSubjectToken(t *testing.T) {
	st := set(t)
	st.vault.issue = func(context.Context, backend.Order) error {
		return fmt.Errorf("no such path: %w", backend.ErrNotCreated)
	}
	if _, err := st.ask(t.Context(), "jti-1/push"); !errors.Is(err, backend.ErrNotCreated) {
		t.Fatal(err)
	}
	st.vault.issue = nil
	if _, err := st.ask(t.Context(), "jti-1/push"); err != nil {
		t.Errorf("the same subject token, since it came to nothing: %v", err)
	}
	if got, want := st.events(t), "pending failed unserved pending active"; got != want {
		t.Errorf("audit log: %s, want %s", got, want)
	}
}

func TestALostAnswerIsResolvedByTheKeeper(t *testing.T) {
	st := set(t)
	st.vault.after = func() error { return errors.New("connection reset") }
	if _, err := st.ask(t.Context(), "jti-1/push"); err == nil {
		t.Fatal("answered although the backend's answer was lost")
	}
	if _, err := st.ask(t.Context(), "jti-1/push2"); !errors.Is(err, lease.ErrTokenUsed) {
		t.Errorf("the subject token came back although a credential may exist: %v", err)
	}
	st.sweep()
	if lives, _ := st.store.Lives(t.Context()); lives[lease.Pending] != 1 {
		t.Errorf("resolved while the create may be in flight: %v", lives)
	}
	st.wait(lease.IssueFor + 6*time.Second)
	st.sweep()
	if lives, _ := st.store.Lives(t.Context()); lives[lease.Unconfirmed] != 1 {
		t.Errorf("what cannot be named is %v", lives)
	}
	st.wait(time.Hour)
	st.sweep()
	if got, want := st.events(t), "pending unserved denied revoking unconfirmed expired"; got != want {
		t.Errorf("audit log: %s, want %s", got, want)
	}
}

func TestMoreThanOrderedIsEndedAndRefused(t *testing.T) {
	st := set(t)
	st.vault.grant = words("everything")
	if _, err := st.ask(t.Context(), "jti-1/push"); err == nil || !strings.Contains(err.Error(), "more than was ordered") {
		t.Errorf("accepted: %v", err)
	}
	if st.vault.alive() != 0 {
		t.Error("the wide credential lives")
	}
}

// refusing is a record that cannot write one kind of thing.
type refusing struct {
	*lease.Store
	activate, fail bool
}

var errDisk = errors.New("disk full")

func (r refusing) Activate(ctx context.Context, i lease.Intent, made backend.Issued) (lease.Lease, secret.String, error) {
	if r.activate {
		return lease.Lease{}, secret.String{}, errDisk
	}
	return r.Store.Activate(ctx, i, made)
}

func (r refusing) Fail(ctx context.Context, i lease.Intent, why string) error {
	if r.fail {
		return errDisk
	}
	return r.Store.Fail(ctx, i, why)
}

func TestACredentialWhoseLeaseCannotBeActivatedIsEndedFromMemory(t *testing.T) {
	for _, c := range []struct {
		name         string
		fail, vaulty bool
		alive        int
		want         string
	}{
		{"at once", false, false, 0, "pending failed unserved"},
		{"and nothing more can be written", true, false, 0, "pending unserved"},
		{"and the backend does not answer", false, true, 1, "pending revoking unserved"},
	} {
		t.Run(c.name, func(t *testing.T) {
			st := set(t)
			st.Leases = refusing{st.store, true, c.fail}
			if c.vaulty {
				st.vault.revoke = func() error { return errors.New("no answer") }
			}
			a, err := st.ask(t.Context(), "jti-1/push")
			if !errors.Is(err, errDisk) || a.Values != nil {
				t.Errorf("answered %+v, %v", a, err)
			}
			if st.vault.alive() != c.alive {
				t.Errorf("%d credentials alive, want %d", st.vault.alive(), c.alive)
			}
			if got := st.events(t); got != c.want {
				t.Errorf("audit log: %s, want %s", got, c.want)
			}
			st.vault.revoke = nil
			st.wait(lease.IssueFor + 6*time.Second)
			st.sweep()
			if st.vault.alive() != 0 {
				t.Error("the keeper did not end what was left")
			}
		})
	}
}

func TestACredentialThatCameWithAnErrorIsEndedToo(t *testing.T) {
	st := set(t)
	st.vault.spoilt = true
	if _, err := st.ask(t.Context(), "jti-1/push"); err == nil || st.vault.made != 1 || st.vault.alive() != 0 {
		t.Errorf("%v, %d made, %d alive", err, st.vault.made, st.vault.alive())
	}
	st.vault.mu.Lock()
	st.vault.live["vault-token-1"] = true // what its order asked for comes to be after all
	st.vault.mu.Unlock()
	st.sweep()
	if st.vault.alive() != 1 {
		t.Error("it was asked again while something could still come to be")
	}
	st.wait(lease.IssueFor + 6*time.Second)
	st.sweep()
	if got, want := st.events(t), "pending revoking unserved failed"; got != want || st.vault.alive() != 0 {
		t.Errorf("audit log: %s, want %s; %d alive", got, want, st.vault.alive())
	}
}

func TestAClientThatWentAwayLosesItsCredential(t *testing.T) {
	st := set(t)
	ctx, leave := context.WithCancel(t.Context())
	st.vault.issue = func(issuing context.Context, _ backend.Order) error {
		leave()
		return issuing.Err() // what was begun goes on without the client
	}
	if _, err := st.ask(ctx, "jti-1/push"); !errors.Is(err, context.Canceled) {
		t.Errorf("answered: %v", err)
	}
	if st.vault.made != 1 || st.vault.alive() != 0 {
		t.Errorf("%d made, %d alive", st.vault.made, st.vault.alive())
	}
	if got, want := st.events(t), "pending active revoking revoked unserved"; got != want {
		t.Errorf("audit log: %s, want %s", got, want)
	}
}

func TestManyExchangesOfOneSubjectTokenGiveOneCredential(t *testing.T) {
	st := set(t)
	results := make([]error, 64)
	var askers sync.WaitGroup
	for n := range results {
		askers.Go(func() { _, results[n] = st.ask(context.Background(), "jti-1/push") })
	}
	askers.Wait()
	won := slices.DeleteFunc(results, func(err error) bool { return errors.Is(err, lease.ErrTokenUsed) })
	if len(won) != 1 || won[0] != nil || st.vault.made != 1 {
		t.Errorf("%d were not refused as used (%v), %d credentials were made", len(won), won, st.vault.made)
	}
}

func (st *stage) askAs(holder, token string) (exchange.Answer, error) {
	return st.Token(context.Background(), exchange.Request{SubjectToken: secret.New(token), Task: "publish-release", Holder: holder})
}

func TestALostReplyCanBeAskedForAgainByTheSameHolder(t *testing.T) {
	st := set(t)
	if _, err := st.askAs("key-a", "jti-1/push"); err != nil {
		t.Fatal(err)
	}
	second, err := st.askAs("key-a", "jti-2/push")
	if err != nil || second.Values["token"].Reveal() != "vault-token-2" {
		t.Fatalf("%+v, %v", second, err)
	}
	if st.vault.alive() != 1 {
		t.Errorf("%d credentials alive", st.vault.alive())
	}
	st.vault.revoke = func() error { return errors.New("503") }
	if _, err := st.askAs("key-a", "jti-3/push"); !errors.Is(err, backend.ErrUnavailable) || st.vault.alive() != 1 {
		t.Errorf("while what it had cannot be ended: %v, %d alive", err, st.vault.alive())
	}
}

func TestAnotherHolderTripsTheWire(t *testing.T) {
	st := set(t)
	thief, err := st.askAs("key-of-the-thief", "jti-1/push")
	if err != nil {
		t.Fatal(err)
	}
	var refused *exchange.Refused
	for _, holder := range []string{"key-of-the-step", "key-of-the-thief"} {
		if _, err := st.askAs(holder, "jti-"+holder+"/push"); !errors.As(err, &refused) || refused.Kind != exchange.Tripped {
			t.Errorf("%s: %v", holder, err)
		}
	}
	if l, _, _ := st.Inspect(t.Context(), thief.LeaseToken); l.State != lease.Revoked || l.Reason != lease.ByTripwire || st.vault.alive() != 0 {
		t.Errorf("the first is %s: %s", l.State, l.Reason)
	}
	if got, want := st.events(t), "pending active revoking revoked denied denied"; got != want {
		t.Errorf("audit log: %s, want %s", got, want)
	}
}

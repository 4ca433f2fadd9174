package lease

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stepkey/stepkey/exchange/audit"
	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/exchange/identity"
	"github.com/stepkey/stepkey/exchange/policy"
	"github.com/stepkey/stepkey/internal/secret"
)

const canary = "ghs_canary-9d2e-not-to-be-found-anywhere"

var start = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

// words is a scope that is nothing but its words.
type words string

func (w words) Covers(other backend.Scope) bool { return w == other }
func (w words) String() string                  { return string(w) }

// house is a store with a clock that the test turns.
type house struct {
	*Store
	where string
	keys  string // the key file
	mu    sync.Mutex
	at    time.Time
}

// opener makes an empty store of one engine.
type opener func(testing.TB) *house

// onEachStore tells a story on SQLite and on PostgreSQL: what is promised of one is
// promised of both.
func onEachStore(t *testing.T, story func(*testing.T, opener)) {
	t.Run("sqlite", func(t *testing.T) {
		story(t, func(t testing.TB) *house { return openAt(t, filepath.Join(t.TempDir(), "stepkey.db")) })
	})
	t.Run("postgres", func(t *testing.T) {
		story(t, func(t testing.TB) *house { return openAt(t, pgdatabase(t)) })
	})
}

func openAt(t testing.TB, where string) *house {
	t.Helper()
	h := &house{where: where, keys: filepath.Join(t.TempDir(), "keys"), at: start}
	if err := CreateKeys(h.keys); err != nil {
		t.Fatal(err)
	}
	h.reopen(t)
	t.Cleanup(func() { h.Close() })
	return h
}

func (h *house) reopen(t testing.TB) {
	t.Helper()
	if h.Store != nil {
		h.Close()
	}
	keys, err := ReadKeys(h.keys)
	if err != nil {
		t.Fatal(err)
	}
	if h.Store, err = Open(context.Background(), h.where, keys, Options{Now: h.now}); err != nil {
		t.Fatal(err)
	}
}

// reconnect drops the connections; new ones see the database's settings of now.
func (h *house) reconnect(t testing.TB) {
	t.Helper()
	keys := h.Store.keys
	h.Close()
	var err error
	if h.Store, err = connect(h.where, keys, Options{Now: h.now}); err != nil {
		t.Fatal(err)
	}
}

// clear forgets all leases, for a story that is told many times over.
func (h *house) clear(t fataler) {
	writing := session{h.write, h.speak}
	_, err := writing.exec(context.Background(), `DELETE FROM leases`)
	if err == nil {
		_, err = writing.exec(context.Background(), `DELETE FROM used_tokens`)
	}
	if err != nil {
		t.Fatal(err)
	}
	h.at = start
}

func (h *house) now() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.at
}

func (h *house) wait(d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.at = h.at.Add(d)
}

func workload(jti, job string) identity.Workload {
	return identity.Workload{
		Issuer: "github", TokenID: jti, IssuedAt: start, Expires: start.Add(5 * time.Minute),
		Job: identity.Job{Key: job, Name: "acme/widget run 7.1 job " + job, Repository: "456789"},
	}
}

func grant() policy.Grant {
	return policy.Grant{Task: "publish-release", Backend: "github", Scope: words("contents: write on acme/widget"), TTL: 10 * time.Minute, PerJob: 1, Rule: "publish-release.yaml:4"}
}

func anHour(o backend.Order) backend.Terms {
	return backend.Terms{DiesAt: o.At.Add(time.Hour), Revocable: true}
}

func issued() backend.Issued {
	token := secret.New(canary)
	return backend.Issued{Values: map[string]secret.String{"token": token}, Handle: token, DiesAt: start.Add(59 * time.Minute)}
}

func (h *house) begin(t testing.TB, jti, job string) Intent {
	t.Helper()
	i, err := h.Begin(context.Background(), Ask{Workload: workload(jti, job), Grant: grant()}, anHour)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func (h *house) activate(t testing.TB, jti, job string) (Lease, secret.String) {
	t.Helper()
	l, token, err := h.Activate(context.Background(), h.begin(t, jti, job), issued())
	if err != nil {
		t.Fatal(err)
	}
	return l, token
}

type fataler interface {
	Helper()
	Fatal(args ...any)
}

func (h *house) events(t fataler, id backend.LeaseID) string {
	t.Helper()
	entries, err := h.Audit(context.Background(), AuditQuery{Lease: string(id), Limit: 100})
	if err != nil {
		t.Fatal(err)
	}
	var seen []string
	for _, e := range entries {
		seen = append(seen, string(e.Event))
	}
	return strings.Join(seen, " ")
}

func TestALeaseLivesAndEnds(t *testing.T) {
	onEachStore(t, func(t *testing.T, open opener) {
		h, ctx := open(t), context.Background()

		l, token := h.activate(t, "jti-1", "job-1")
		if l.State != Active || !l.EndsAt.Equal(start.Add(10*time.Minute)) || !l.DiesAt.Equal(start.Add(59*time.Minute)) {
			t.Fatalf("activated as %+v", l)
		}
		for name, find := range map[string]func() (Lease, error){
			"lease token": func() (Lease, error) { return h.ByToken(ctx, token) },
			"credential":  func() (Lease, error) { return h.ByCredential(ctx, secret.New(canary)) },
		} {
			if found, err := find(); err != nil || found.ID != l.ID {
				t.Errorf("by its %s: %v, %v", name, found.ID, err)
			}
		}

		held, err := h.StartEnding(ctx, l.ID, ByHolder)
		if err != nil || held.State != Revoking || held.Handle.Reveal() != canary {
			t.Fatalf("held as %+v, %v", held.Lease, err)
		}
		ended, err := h.Conclude(ctx, held, Judge(held.Lease, h.now(), h.now(), nil, 0))
		if err != nil || ended.State != Revoked || ended.Reason != ByHolder || ended.Ended.IsZero() {
			t.Fatalf("ended as %+v, %v", ended, err)
		}
		if found, err := h.OfJob(ctx, "job-1", l.ID); err != nil || found != ended {
			t.Errorf("of its job: %+v, %v", found, err)
		}
		if found, err := h.OfJob(ctx, "job-2", l.ID); !errors.Is(err, ErrUnknown) {
			t.Errorf("of another job: %+v, %v", found, err)
		}
		if again, err := h.StartEnding(ctx, l.ID, ByDeadline); err != nil || again.State != Revoked || !again.Handle.Empty() {
			t.Errorf("ending it again: %+v, %v", again, err)
		}
		if got, want := h.events(t, l.ID), "pending active revoking revoked"; got != want {
			t.Errorf("audit log: %s, want %s", got, want)
		}
	})
}

func TestOneSubjectTokenOneLease(t *testing.T) {
	onEachStore(t, func(t *testing.T, open opener) {
		h := open(t)
		h.activate(t, "jti-1", "job-1")
		if _, err := h.Begin(t.Context(), Ask{Workload: workload("jti-1", "another job"), Grant: grant()}, anHour); !errors.Is(err, ErrTokenUsed) {
			t.Errorf("the same subject token again: %v", err)
		}
		other := workload("jti-1", "another job")
		other.Issuer = "gitlab"
		if _, err := h.Begin(t.Context(), Ask{Workload: other, Grant: grant()}, anHour); err != nil {
			t.Errorf("the same jti of another issuer is another token: %v", err)
		}
		if _, err := h.Begin(t.Context(), Ask{Workload: workload("", "job-3"), Grant: grant()}, anHour); err == nil || errors.Is(err, ErrTokenUsed) {
			t.Errorf("a subject token that could not be told from another: %v", err)
		}
	})
}

func TestManyRacingForOneSubjectTokenGetOneLease(t *testing.T) {
	onEachStore(t, func(t *testing.T, open opener) {
		h := open(t)
		var won, used int
		var mu sync.Mutex
		var racers sync.WaitGroup
		for n := range 64 {
			racers.Go(func() {
				_, err := h.Begin(context.Background(), Ask{Workload: workload("jti-1", fmt.Sprint("job-", n)), Grant: grant()}, anHour)
				mu.Lock()
				defer mu.Unlock()
				switch {
				case err == nil:
					won++
				case errors.Is(err, ErrTokenUsed):
					used++
				default:
					t.Error(err)
				}
			})
		}
		racers.Wait()
		if won != 1 || used != 63 {
			t.Errorf("%d leases and %d refusals of 64", won, used)
		}
	})
}

func TestAJobHoldsNoMoreThanItsLimit(t *testing.T) {
	onEachStore(t, func(t *testing.T, open opener) {
		h := open(t)
		l, _ := h.activate(t, "jti-1", "job-1")
		_, err := h.Begin(t.Context(), Ask{Workload: workload("jti-2", "job-1"), Grant: grant()}, anHour)
		var limit *JobLimit
		if !errors.As(err, &limit) || limit.Held != 1 || !limit.Until.Equal(l.EndsAt) {
			t.Fatalf("one more: %v", err)
		}
		h.activate(t, "jti-3", "job-2")

		held, _ := h.StartEnding(t.Context(), l.ID, ByHolder)
		if _, err := h.Begin(t.Context(), Ask{Workload: workload("jti-2", "job-1"), Grant: grant()}, anHour); !errors.As(err, &limit) {
			t.Errorf("while the first is being ended it may still be good: %v", err)
		}
		if _, err := h.Conclude(t.Context(), held, Verdict{To: Revoked}); err != nil {
			t.Fatal(err)
		}
		h.begin(t, "jti-2", "job-1") // the refused subject token was not used up
	})
}

func TestAFailedLeaseFreesItsSubjectToken(t *testing.T) {
	onEachStore(t, func(t *testing.T, open opener) {
		h := open(t)
		if err := h.Fail(t.Context(), h.begin(t, "jti-1", "job-1"), "no such repository"); err != nil {
			t.Fatal(err)
		}
		h.activate(t, "jti-1", "job-1")
	})
}

func TestAnEndedLeaseIsNotActivatedAfterAll(t *testing.T) {
	onEachStore(t, func(t *testing.T, open opener) {
		h := open(t)
		i := h.begin(t, "jti-1", "job-1")
		held, err := h.StartEnding(t.Context(), i.Lease().ID, ByJob)
		if err != nil || held.State != Pending {
			t.Fatalf("%+v, %v", held, err)
		}
		if _, _, err := h.Activate(t.Context(), i, issued()); !errors.Is(err, ErrMoved) {
			t.Errorf("activated although somebody ended it: %v", err)
		}
	})
}

func TestEveryMoveThatIsNotForwardIsRefused(t *testing.T) {
	onEachStore(t, func(t *testing.T, open opener) {
		all := []State{Pending, Active, Revoking, Unconfirmed, Revoked, Expired, Failed}
		for _, from := range all {
			for _, to := range all {
				if from.Final() && from.mayBecome(to) {
					t.Errorf("%s is final and becomes %s", from, to)
				}
			}
			if !from.Final() && len(forward[from]) == 0 {
				t.Errorf("%s is not final and leads nowhere", from)
			}
		}
		h := open(t)
		l, _ := h.activate(t, "jti-1", "job-1")
		if _, err := h.Conclude(t.Context(), Held{Lease: l}, Verdict{To: Failed}); !errors.Is(err, ErrMoved) {
			t.Errorf("an active lease failed: %v", err)
		}
	})
}

func TestWhatFollowsFromAnAttemptToEndALease(t *testing.T) {
	issueBy, diesAt := start.Add(30*time.Second), start.Add(time.Hour)
	down, lost := errors.New("no answer"), fmt.Errorf("who? %w", backend.ErrLost)
	for _, c := range []struct {
		name       string
		state      State
		attempts   int
		began, now time.Duration
		answer     error
		want       State
		due        time.Duration
	}{
		{"confirmed", Revoking, 0, time.Minute, time.Minute, nil, Revoked, 0},
		{"confirmed, at last", Unconfirmed, 3, time.Minute, time.Minute, nil, Revoked, 0},
		{"confirmed, after it died", Revoking, 9, 2 * time.Hour, 2 * time.Hour, nil, Revoked, 0},
		{"no answer", Revoking, 0, time.Minute, time.Minute, down, Revoking, time.Minute + 500*time.Millisecond},
		{"no answer again", Revoking, 3, time.Minute, time.Minute, down, Revoking, time.Minute + 4*time.Second},
		{"no answer for long", Revoking, 60, time.Minute, time.Minute, down, Revoking, time.Minute + 30*time.Second},
		{"no answer just before it dies", Revoking, 60, time.Hour - time.Second, time.Hour - time.Second, down, Revoking, time.Hour},
		{"no answer, and it died", Revoking, 60, time.Hour, time.Hour, down, Expired, 0},
		{"cannot be named", Revoking, 0, time.Minute, time.Minute, lost, Unconfirmed, time.Hour},
		{"pending, asked too early, gone", Pending, 0, 29 * time.Second, 31 * time.Second, nil, Pending, 30 * time.Second},
		{"pending, asked too early, lost", Pending, 0, 29 * time.Second, 31 * time.Second, lost, Pending, 30 * time.Second},
		{"pending, gone", Pending, 0, 30 * time.Second, 31 * time.Second, nil, Failed, 0},
		{"pending, cannot be named", Pending, 0, 30 * time.Second, 31 * time.Second, lost, Unconfirmed, time.Hour},
		{"pending, no answer", Pending, 0, 30 * time.Second, 31 * time.Second, down, Pending, 31*time.Second + 500*time.Millisecond},
		{"unconfirmed, and it died", Unconfirmed, 1, time.Hour, time.Hour, lost, Expired, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := Lease{State: c.state, Attempts: c.attempts, IssueBy: issueBy, DiesAt: diesAt}
			v := Judge(l, start.Add(c.began), start.Add(c.now), c.answer, 0)
			if v.To != c.want {
				t.Fatalf("becomes %s, want %s", v.To, c.want)
			}
			if !v.To.Final() && !v.Due.Equal(start.Add(c.due)) {
				t.Errorf("due after %s, want %s", v.Due.Sub(start), c.due)
			}
		})
	}
}

func TestHandlesAreSealedBoundToTheirLeaseAndGoneWithIt(t *testing.T) {
	onEachStore(t, func(t *testing.T, open opener) {
		h, ctx := open(t), context.Background()
		first, token := h.activate(t, "jti-1", "job-1")
		second, _ := h.activate(t, "jti-2", "job-2")

		writing := session{h.write, h.speak}
		if _, err := writing.exec(ctx, `UPDATE leases SET handle = (SELECT handle FROM leases WHERE id = ?) WHERE id = ?`, string(first.ID), string(second.ID)); err != nil {
			t.Fatal(err)
		}
		if held, err := h.StartEnding(ctx, second.ID, ByHolder); err != nil || held.Broken == nil || !held.Handle.Empty() {
			t.Errorf("a handle moved to another lease was opened: %+v, %v", held, err)
		}
		held, _ := h.StartEnding(ctx, first.ID, ByHolder)
		if _, err := h.Conclude(ctx, held, Verdict{To: Revoked}); err != nil {
			t.Fatal(err)
		}
		var handle sql.NullString
		if err := h.reading().row(ctx, `SELECT handle FROM leases WHERE id = ?`, string(first.ID)).Scan(&handle); err != nil || handle.Valid {
			t.Errorf("an ended lease keeps its handle: %v", err)
		}
		h.Close()
		for _, f := range filesOf(t, h.where) {
			content, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			for _, hidden := range []string{canary, token.Reveal()} {
				if bytes.Contains(content, []byte(hidden)) {
					t.Errorf("%s holds a secret", filepath.Base(f))
				}
			}
		}
	})
}

func TestWhatIsSealedOpensUntilSevenNewerKeysHaveComeAndForGoodWhereItIsSealedAnew(t *testing.T) {
	onEachStore(t, func(t *testing.T, open opener) {
		h, ctx := open(t), context.Background()
		left, _ := h.activate(t, "jti-1", "job-1")
		opens := func(l Lease) error {
			held, err := h.StartEnding(ctx, l.ID, ByHolder)
			if err != nil || held.Broken == nil && held.Handle.Reveal() != canary {
				t.Fatalf("held with %v, %v", held.Lease, err)
			}
			return held.Broken
		}
		for range keysKept - 1 {
			h.rotate(t)
			if err := opens(left); err != nil {
				t.Fatalf("sealed with a key of the file: %v", err)
			}
		}
		sealedAnew, _ := h.activate(t, "jti-2", "job-2")
		over, _ := h.activate(t, "jti-3", "job-3")
		h.over(t, over)
		h.rotate(t)
		if opens(left) == nil {
			t.Error("a key that has gone from the file opens")
		}
		for range 2 * keysKept {
			if broken, err := h.Reseal(ctx); err != nil || broken != 1 { // what is over has no handle
				t.Fatalf("%d do not open, %v", broken, err)
			}
			if err := opens(sealedAnew); err != nil {
				t.Fatalf("sealed anew after each rotation: %v", err)
			}
			h.rotate(t)
		}
		if stale, err := h.sealedBefore(ctx); err != nil || len(stale) != 2 {
			t.Errorf("%d handles are not sealed with the newest key, %v", len(stale), err)
		}
		if _, err := h.Reseal(ctx); err != nil {
			t.Fatal(err)
		}
		if stale, err := h.sealedBefore(ctx); err != nil || len(stale) != 1 {
			t.Errorf("of two handles, one of which does not open, %d are left, %v", len(stale), err)
		}
	})
}

func (h *house) rotate(t testing.TB) {
	t.Helper()
	if err := RotateKeys(h.keys); err != nil {
		t.Fatal(err)
	}
	h.reopen(t)
}

// over brings a lease to its end.
func (h *house) over(t testing.TB, l Lease) {
	t.Helper()
	held, err := h.StartEnding(t.Context(), l.ID, ByHolder)
	if err != nil {
		t.Fatal(err)
	}
	if l, err = h.Conclude(t.Context(), held, Judge(held.Lease, h.now(), h.now(), nil, 0)); err != nil || !l.State.Final() {
		t.Fatalf("it is %s, %v", l.State, err)
	}
}

func TestARotatedKeyFileStaysItsOwners(t *testing.T) {
	file := filepath.Join(t.TempDir(), "keys")
	if err := CreateKeys(file); err != nil {
		t.Fatal(err)
	}
	const nobody = 65534
	if err := os.Chown(file, nobody, nobody); err != nil && !errors.Is(err, os.ErrPermission) { // only root can give it away
		t.Fatal(err)
	}
	owner := func() string {
		info, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		sys := info.Sys().(*syscall.Stat_t)
		return fmt.Sprint(sys.Uid, sys.Gid, info.Mode())
	}
	before := owner()
	if err := RotateKeys(file); err != nil || owner() != before {
		t.Errorf("it was of %s and is of %s, %v", before, owner(), err)
	}
}

func TestTheKeyFileIsGuarded(t *testing.T) {
	file := filepath.Join(t.TempDir(), "keys")
	if _, err := ReadKeys(file); err == nil || !strings.Contains(err.Error(), "stepkey-exchange keys create") {
		t.Errorf("a missing file: %v", err)
	}
	if err := CreateKeys(file); err != nil {
		t.Fatal(err)
	}
	before, _ := os.ReadFile(file)
	if err := CreateKeys(file); !errors.Is(err, os.ErrExist) {
		t.Errorf("created over an existing one: %v", err)
	}
	if after, _ := os.ReadFile(file); !bytes.Equal(before, after) {
		t.Error("the existing keys are gone")
	}
	if err := os.Chmod(file, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadKeys(file); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("readable by the group: %v", err)
	}
	if err := errors.Join(os.Chmod(file, 0o600), os.WriteFile(file, []byte(`{"key":"`+canary+`"}`), 0o600)); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadKeys(file); err == nil || strings.Contains(err.Error(), canary) {
		t.Errorf("another file: %v", err)
	}
}

func TestTheAuditLogIsAppendOnly(t *testing.T) {
	onEachStore(t, func(t *testing.T, open opener) {
		h := open(t)
		written, err := h.Write(t.Context(), audit.Entry{Event: audit.Denied, Task: "publish-release", Reason: "repository_id"})
		if err != nil || written.ID == "" || !written.At.Equal(start) {
			t.Fatalf("%+v, %v", written, err)
		}
		for _, change := range []string{`UPDATE audit SET reason = ''`, `DELETE FROM audit`} {
			if _, err := h.write.Exec(change); err == nil {
				t.Errorf("%s was accepted", change)
			}
		}
	})
}

func TestAReaderSeesAndChangesNothing(t *testing.T) {
	onEachStore(t, func(t *testing.T, open opener) {
		h := open(t)
		l, _ := h.activate(t, "jti-1", "job-1")
		reader, err := OpenToRead(t.Context(), h.where)
		if err != nil {
			t.Fatal(err)
		}
		defer reader.Close()
		entries, err := reader.Audit(t.Context(), AuditQuery{Lease: string(l.ID), Limit: 10})
		if err != nil || len(entries) != 2 {
			t.Errorf("%d entries, %v", len(entries), err)
		}
		if _, err := reader.Write(t.Context(), audit.Entry{Event: audit.Denied}); err == nil {
			t.Error("a reader wrote")
		}
		if _, err := OpenToRead(t.Context(), filepath.Join(t.TempDir(), "none.db")); err == nil {
			t.Error("a store that is not there was opened")
		}
	})
}

func TestUsedTokensAreForgottenOnlyWhenNobodyWouldAcceptThem(t *testing.T) {
	onEachStore(t, func(t *testing.T, open opener) {
		h := open(t)
		h.activate(t, "jti-1", "job-1")
		h.wait(6 * time.Minute) // exp + leeway is over
		if _, err := h.Forget(t.Context(), start); err != nil {
			t.Fatal(err)
		}
		if _, err := h.Begin(t.Context(), Ask{Workload: workload("jti-1", "job-2"), Grant: grant()}, anHour); !errors.Is(err, ErrTokenUsed) {
			t.Errorf("forgotten too early: %v", err)
		}
		h.wait(5 * time.Minute)
		if _, err := h.Forget(t.Context(), start); err != nil {
			t.Fatal(err)
		}
		h.begin(t, "jti-1", "job-2")
	})
}

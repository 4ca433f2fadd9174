package exchange_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stepkey/stepkey/exchange"
	"github.com/stepkey/stepkey/exchange/identity"
	"github.com/stepkey/stepkey/exchange/lease"
	"github.com/stepkey/stepkey/exchange/policy"
	"github.com/stepkey/stepkey/internal/secret"
)

// drawer is a reader of repositories in memory.
type drawer struct {
	files map[string]string // of acme/widget
	err   error
	asked int
}

func (d *drawer) Of(_ context.Context, _, owner, name string) (exchange.TaskFolder, error) {
	d.asked++
	if d.err != nil {
		return exchange.TaskFolder{}, d.err
	}
	folder := exchange.TaskFolder{Repository: policy.Repository{ID: 456789, Owner: owner, Name: name}, Files: map[string][]byte{}}
	for file, text := range d.files {
		folder.Files[file] = []byte(text)
	}
	folder.Version = fmt.Sprint(d.files)
	return folder, nil
}

// OnlyRepository: the vault's scopes reach where their words say.
func (w words) OnlyRepository(_ int64, _, name string) bool {
	return strings.HasSuffix(string(w), name)
}

// own lets the stage's workloads ask for tasks of repositories.
func own(st *stage) *drawer {
	d := &drawer{files: map[string]string{"publish-release.yaml": taskFile}}
	st.Owned = &exchange.RepositoryTasks{
		Issuer: "github", Owners: []string{"123456"}, Files: d,
		Check: func(policy.Repository) policy.Check {
			return policy.Check{Issuers: []identity.Issuer{{Name: "github", Kind: "github"}}, Backends: map[string]policy.Scoper{"vault": st.vault}}
		},
	}
	return d
}

func (st *stage) askFor(t *testing.T, token, task string) (exchange.Answer, error) {
	t.Helper()
	return st.Token(t.Context(), exchange.Request{SubjectToken: secret.New(token), Task: task})
}

func kindOf(err error) exchange.Kind {
	var no *exchange.Refused
	if errors.As(err, &no) {
		return no.Kind
	}
	return -1
}

func TestARepositorysTaskIsGivenUnderItsWholeName(t *testing.T) {
	st := set(t)
	own(st)
	a, err := st.askFor(t, "jti-1/push", "acme/widget:publish-release")
	if err != nil || a.Lease.Task != "acme/widget:publish-release" {
		t.Fatalf("%+v, %v", a.Lease, err)
	}
	if entries := st.log(t); entries[0].Task != "acme/widget:publish-release" {
		t.Errorf("%+v", entries)
	}
}

func TestOnlyListedOwnersOfTheIssuerCauseARepositoryToBeRead(t *testing.T) {
	for name, change := range map[string]func(*exchange.RepositoryTasks){
		"another owner":  func(o *exchange.RepositoryTasks) { o.Owners = []string{"1"} },
		"another issuer": func(o *exchange.RepositoryTasks) { o.Issuer = "ghes" },
		"no owner":       func(o *exchange.RepositoryTasks) { o.Owners = nil },
	} {
		t.Run(name, func(t *testing.T) {
			st := set(t)
			d := own(st)
			change(st.Owned)
			if _, err := st.askFor(t, "jti-1/push", "acme/widget:publish-release"); kindOf(err) != exchange.UnknownTask || d.asked != 0 {
				t.Errorf("%v, asked %d times", err, d.asked)
			}
			if _, err := st.askFor(t, "forged", "acme/widget:publish-release"); kindOf(err) != exchange.NotBelieved || d.asked != 0 {
				t.Errorf("%v, asked %d times", err, d.asked)
			}
			st.Owned = nil
			if _, err := st.askFor(t, "jti-1/push", "acme/widget:publish-release"); kindOf(err) != exchange.UnknownTask {
				t.Errorf("without any: %v", err)
			}
		})
	}
}

func TestWhatIsWrongWithARepositorysTasksIsToldToItsOwner(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*drawer)
		kind   exchange.Kind
		why    string
	}{
		"a broken file": {func(d *drawer) { d.files["x.yaml"] = "nonsense" }, exchange.NotAllowed, "the task files of acme/widget are refused: x.yaml:1: want a mapping"},
		"no such task":  {func(d *drawer) { d.files = nil }, exchange.UnknownTask, `there is no task "acme/widget:publish-release"`},
		"no answer":     {func(d *drawer) { d.err = fmt.Errorf("%w: 502", exchange.ErrTasksAway) }, exchange.TasksAway, "the repository's task files cannot be read now: 502"},
		"no repository": {func(d *drawer) { d.err = fmt.Errorf("%w: 404", exchange.ErrNoTasks) }, exchange.UnknownTask, "404"},
		"refused whole": {func(d *drawer) { d.err = errors.New("too many files") }, exchange.NotAllowed, "the task files of acme/widget are refused: too many files"},
	} {
		t.Run(name, func(t *testing.T) {
			st := set(t)
			d := own(st)
			c.change(d)
			_, err := st.askFor(t, "jti-1/push", "acme/widget:publish-release")
			var no *exchange.Refused
			if !errors.As(err, &no) || no.Kind != c.kind || !strings.Contains(no.Why, c.why) {
				t.Fatalf("%+v", err)
			}
			if entries := st.log(t); !strings.Contains(entries[0].Reason, c.why) {
				t.Errorf("the audit log says %s", entries[0].Reason)
			}
			st.Owners = nil
			if _, err := st.askFor(t, "jti-1/push", "acme/widget:publish-release"); !errors.As(err, &no) || no.Why != "" {
				t.Errorf("an owner that is not listed is told %q", no.Why)
			}
			if _, err := st.askFor(t, "jti-1/push", "publish-release"); err != nil {
				t.Errorf("the exchange's own task: %v", err)
			}
		})
	}
}

func TestARepositorysTaskReachesThatRepositoryAlone(t *testing.T) {
	st := set(t)
	own(st)
	if _, err := st.askFor(t, "jti-1/push", "acme/gadget:publish-release"); kindOf(err) != exchange.NotAllowed || st.vault.made != 0 {
		t.Errorf("%v, %d made", err, st.vault.made)
	}
}

func TestWhenATaskIsGoneItsLeasesEndAndNoOthers(t *testing.T) {
	st := set(t)
	d := own(st)
	folder, _ := st.askFor(t, "jti-1/push1", "publish-release")
	repository, err := st.askFor(t, "jti-2/push2", "acme/widget:publish-release")
	if err != nil || st.vault.alive() != 2 {
		t.Fatal(err)
	}
	st.EndTasks(t.Context(), []string{"publish-release", "never-was"})
	if l, _, _ := st.Inspect(t.Context(), folder.LeaseToken); l.State != lease.Revoked || l.Reason != lease.ByTaskGone || st.vault.alive() != 1 {
		t.Errorf("%s, %s", l.State, l.Reason)
	}
	d.files = map[string]string{"other.yaml": strings.Replace(taskFile, "publish-release", "other", 1)}
	if _, err := st.askFor(t, "jti-3/push3", "acme/widget:publish-release"); kindOf(err) != exchange.UnknownTask {
		t.Error(err)
	}
	if l, _, _ := st.Inspect(t.Context(), repository.LeaseToken); l.State != lease.Revoked || l.Reason != lease.ByTaskGone || st.vault.alive() != 0 {
		t.Errorf("a repository's: %s, %s", l.State, l.Reason)
	}
}

func TestARepositoryThatIsGoneTakesItsLeasesWithIt(t *testing.T) {
	st := set(t)
	d := own(st)
	if _, err := st.askFor(t, "jti-1/push1", "acme/widget:publish-release"); err != nil {
		t.Fatal(err)
	}
	d.files["publish-release.yaml"] = "broken"
	_, _ = st.askFor(t, "jti-2/push2", "acme/widget:publish-release")
	if st.vault.alive() != 1 {
		t.Error("a broken file ended a lease")
	}
	d.err = exchange.ErrNoTasks
	_, _ = st.askFor(t, "jti-2/push2", "acme/widget:publish-release")
	if st.vault.alive() != 0 {
		t.Error("the lease lives on")
	}
}

func TestTasksThatWentWhileTheExchangeWasDownTakeTheirLeasesWithThem(t *testing.T) {
	st := set(t)
	own(st)
	for i, task := range []string{"publish-release", "acme/widget:publish-release"} {
		if _, err := st.askFor(t, fmt.Sprintf("jti-%d/push%d", i, i), task); err != nil {
			t.Fatal(err)
		}
	}
	st.EndTasksWithout(t.Context(), st.Policy())
	if st.vault.alive() != 2 {
		t.Fatal("the lease of a task that is there was ended")
	}
	empty, err := policy.Load(fstest.MapFS{}, policy.Check{})
	if err != nil {
		t.Fatal(err)
	}
	st.EndTasksWithout(t.Context(), empty)
	if st.vault.alive() != 1 {
		t.Errorf("%d live; want the repository's, of which the folder knows nothing", st.vault.alive())
	}
}

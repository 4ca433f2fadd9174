package exchange_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stepkey/stepkey/exchange"
	"github.com/stepkey/stepkey/exchange/identity"
	"github.com/stepkey/stepkey/exchange/lease"
)

// ofRepositories verifies subject tokens of jobs of any repository: "repository.job".
type ofRepositories struct{}

func (ofRepositories) Verify(ctx context.Context, token string) (identity.Workload, error) {
	repository, job, _ := strings.Cut(token, ".")
	w, err := ofRuns{}.Verify(ctx, "7.1."+job)
	w.TokenID, w.Job.Key, w.Job.Repository = token, token, repository
	return w, err
}

func TestOnlyWhatJobsOfALostRepositoryHoldEnds(t *testing.T) {
	for _, c := range []struct {
		name    string
		lost    []string
		reaches func(repository string) (bool, error)
		ends    []string
		asked   []string
	}{
		{"one of them", []string{"11", "99"}, nil, []string{"11.1", "11.2"}, nil},
		{"none of them", []string{"99", ""}, nil, nil, nil},
		{"nothing is named", nil, nil, nil, nil},
		{"one is reached after all", []string{"11", "12", "99"}, func(repository string) (bool, error) { return repository == "11", nil }, []string{"12.1"}, []string{"11", "12"}},
		{"nobody answers", []string{"12"}, func(string) (bool, error) { return false, errors.New("no answer") }, []string{"12.1"}, []string{"12"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			st, _, _ := watched(t)
			st.Verifier, st.Log = ofRepositories{}, slog.New(slog.DiscardHandler)
			held := map[string]exchange.Answer{}
			for _, job := range []string{"11.1", "11.2", "12.1", "13.1", ".1"} {
				held[job] = st.give(t, job)
			}
			var mu sync.Mutex
			var asked []string
			loss := exchange.AccessLoss{Issuer: "github", Repositories: c.lost}
			if c.reaches != nil {
				loss.Reaches = func(_ context.Context, repository string) (bool, error) {
					mu.Lock()
					defer mu.Unlock()
					asked = append(asked, repository)
					return c.reaches(repository)
				}
			}
			for _, issuer := range []string{"ghes", "github"} { // the first one's repositories are others
				loss.Issuer = issuer
				if _, err := st.AccessGone(t.Context(), loss); err != nil {
					t.Fatal(err)
				}
			}
			for job, a := range held {
				state, why := st.is(t, a)
				if ends := slices.Contains(c.ends, job); ends != (state == lease.Revoked && why == lease.ByAccessGone) || !ends && state != lease.Active {
					t.Errorf("%s is %s: %s", job, state, why)
				}
			}
			if slices.Sort(asked); !slices.Equal(asked, c.asked) {
				t.Errorf("asked about %v, want %v", asked, c.asked)
			}
		})
	}
}

func TestWhatNamesNoJobAndNoRunIsNothing(t *testing.T) {
	st, _, _ := watched(t)
	a := st.give(t, "7.1.71")
	for _, job := range []exchange.Job{
		{Issuer: "github", Repository: "456789", Run: "7", Attempt: 1},
		{Issuer: "github", Repository: "456789", Attempt: 1, ID: "71"},
		{Issuer: "github", Run: "7", Attempt: 1, ID: "71"},
		{Issuer: "github", Repository: "456789", Run: "7", ID: "71"},
	} {
		if _, err := st.JobCompleted(t.Context(), job); err != nil {
			t.Errorf("%+v: %v", job, err)
		}
	}
	for _, run := range []exchange.Run{{ID: "7", Attempt: 1}, {Repository: "456789", Attempt: 1}, {Repository: "456789", ID: "7"}} {
		if _, err := st.RunCompleted(t.Context(), "github", run); err != nil {
			t.Errorf("%+v: %v", run, err)
		}
	}
	if state, why := st.is(t, a); state != lease.Active {
		t.Errorf("it is %s: %s", state, why)
	}
	if _, err := st.ask(t.Context(), "7.1.72"); err != nil {
		t.Errorf("another job of the run: %v", err)
	}
}

// forgetful is a record that takes no notes.
type forgetful struct{ exchange.Leases }

func (forgetful) NoteOver(context.Context, lease.Over) error { return errors.New("the disk is full") }

func TestWhatCannotBeNotedEndsAllTheSame(t *testing.T) {
	for name, tell := range map[string]func(*stage) error{
		"a job": func(st *stage) error {
			_, err := st.JobCompleted(context.Background(), exchange.Job{Issuer: "github", Repository: "456789", Run: "7", Attempt: 1, ID: "71"})
			return err
		},
		"a run": func(st *stage) error {
			_, err := st.RunCompleted(context.Background(), "github", exchange.Run{Repository: "456789", ID: "7", Attempt: 1})
			return err
		},
	} {
		st, _, _ := watched(t)
		a := st.give(t, "7.1.71")
		st.Leases = forgetful{st.Leases}
		if err := tell(st); err == nil || !strings.Contains(err.Error(), "disk") {
			t.Errorf("%s: %v", name, err)
		}
		if state, _ := st.is(t, a); state != lease.Revoked {
			t.Errorf("%s: it is %s", name, state)
		}
	}
}

func TestAJobThatIsOverIsDeniedAndToldWhy(t *testing.T) {
	st, _, _ := watched(t)
	if _, err := st.JobCompleted(t.Context(), exchange.Job{Issuer: "github", Repository: "456789", Run: "7", Attempt: 1, ID: "71"}); err != nil {
		t.Fatal(err)
	}
	_, err := st.ask(t.Context(), "7.1.71")
	var no *exchange.Refused
	if !errors.As(err, &no) || no.Kind != exchange.JobOver || no.Why != "the job that this token names is over" || st.vault.made != 0 {
		t.Errorf("%v, told %+v; %d made", err, no, st.vault.made)
	}
	if got := st.events(t); got != "denied" {
		t.Errorf("audit log: %s", got)
	}
}

// A pending lease is ended as well, so a job that ends while its credential is being
// made gets none, also when it is the run's end that was told.
func TestALeaseWhoseRunEndsWhileItIsMadeIsNeverHandedOut(t *testing.T) {
	st, _, _ := watched(t)
	st.vault.after = func() error {
		_, err := st.RunCompleted(context.Background(), "github", exchange.Run{Repository: "456789", ID: "7", Attempt: 1})
		return err
	}
	if a, err := st.ask(t.Context(), "7.1.71"); !errors.Is(err, lease.ErrMoved) || a.Values != nil || st.vault.alive() != 0 {
		t.Errorf("answered %s, %v; %d alive", fmt.Sprint(a.Lease.State), err, st.vault.alive())
	}
}

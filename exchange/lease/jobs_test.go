package lease

import (
	"fmt"
	"testing"
	"time"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/exchange/identity"
)

// of makes an active lease of the job attempt.job of a run.
func (h *house) of(t testing.TB, issuer, run, attempt, job string) backend.LeaseID {
	t.Helper()
	w := workload(fmt.Sprintf("jti of %s.%s.%s", run, attempt, job), run+"."+attempt+"."+job)
	w.Issuer = issuer
	w.Job = identity.Job{Key: issuer + w.Job.Key, Name: w.Job.Key, Repository: "456789", Run: run, Attempt: attempt, ID: job}
	i, err := h.Begin(t.Context(), Ask{Workload: w, Grant: grant()}, anHour)
	if err != nil {
		t.Fatal(err)
	}
	l, _, err := h.Activate(t.Context(), i, backend.Issued{Handle: issued().Handle})
	if err != nil {
		t.Fatal(err)
	}
	return l.ID
}

func ids(leases []Lease) (all []backend.LeaseID) {
	for _, l := range leases {
		all = append(all, l.ID)
	}
	return all
}

func same(got, want []backend.LeaseID) bool { return fmt.Sprint(got) == fmt.Sprint(want) }

func TestWhatTheJobsOfARunHoldIsFound(t *testing.T) {
	onEachStore(t, func(t *testing.T, open opener) {
		h := open(t)
		one := h.of(t, "github", "7", "1", "71")
		h.wait(time.Second)
		two := h.of(t, "github", "7", "1", "72")
		h.of(t, "github", "8", "1", "81")
		h.of(t, "ghes", "7", "1", "71")
		found, err := h.LivesOfRun(t.Context(), "github", "456789", "7")
		if err != nil || !same(ids(found), []backend.LeaseID{one, two}) || found[0].JobID != "71" || found[0].Attempt != 1 {
			t.Errorf("%v, %v; want %s and %s", ids(found), err, one, two)
		}
		if found, err := h.LivesOfRun(t.Context(), "github", "456790", "7"); err != nil || len(found) != 0 {
			t.Errorf("of another repository: %v, %v", ids(found), err)
		}
		if _, err := h.StartEnding(t.Context(), one, ByHolder); err != nil {
			t.Fatal(err)
		}
		if found, err := h.LivesOfRun(t.Context(), "github", "456789", "7"); err != nil || !same(ids(found), []backend.LeaseID{two}) {
			t.Errorf("once one is being ended: %v, %v", ids(found), err)
		}
	})
}

func TestAPendingLeaseThatSomebodyEndsIsNotFoundAgain(t *testing.T) {
	onEachStore(t, func(t *testing.T, open opener) {
		h := open(t)
		w := workload("jti-1", "job-1")
		w.Job.Run, w.Job.Attempt = "7", "1"
		i, err := h.Begin(t.Context(), Ask{Workload: w, Grant: grant()}, anHour)
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []int{1, 0} {
			if found, err := h.LivesOfRun(t.Context(), "github", "456789", "7"); err != nil || len(found) != want {
				t.Errorf("%d found, want %d: %v", len(found), want, err)
			}
			if _, err := h.StartEnding(t.Context(), i.Lease().ID, ByJobOver); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func TestOnlyLeasesOfSomeAgeAreWorthAQuestion(t *testing.T) {
	onEachStore(t, func(t *testing.T, open opener) {
		h := open(t)
		old := h.of(t, "github", "7", "1", "71")
		h.activate(t, "jti-x", "a job of no run")
		h.wait(time.Minute)
		h.of(t, "github", "7", "1", "72")
		h.of(t, "ghes", "9", "1", "91")
		if found, err := h.LivesOfIssuer(t.Context(), "github", h.now().Add(-time.Minute+time.Second)); err != nil || !same(ids(found), []backend.LeaseID{old}) {
			t.Errorf("%v, %v", ids(found), err)
		}
		if found, err := h.LivesOfIssuer(t.Context(), "github", start); err != nil || len(found) != 0 {
			t.Errorf("of before the first: %v, %v", ids(found), err)
		}
	})
}

package lease

import (
	"context"
	"io/fs"
	"strings"
	"testing"

	"github.com/pressly/goose/v3"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/exchange/identity"
	"github.com/stepkey/stepkey/exchange/policy"
)

// until makes an active lease that ends with a step of its job.
func (h *house) until(t testing.TB, jti string, until policy.Until) Lease {
	t.Helper()
	w := workload(jti, jti)
	w.Job = identity.Job{Key: jti, Name: jti, Repository: "456789", Run: "7", Attempt: "1", ID: "71"}
	g := grant()
	g.Until = until
	i, err := h.Begin(t.Context(), Ask{Workload: w, Grant: g}, anHour)
	if err != nil {
		t.Fatal(err)
	}
	l, _, err := h.Activate(t.Context(), i, backend.Issued{Handle: issued().Handle})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func (h *house) byStep(t testing.TB) []Lease {
	t.Helper()
	held, err := h.LivesByStep(context.Background(), "github")
	if err != nil {
		t.Fatal(err)
	}
	return held
}

func TestALeaseIsBoundToAStepAndOnlyEverToALaterOne(t *testing.T) {
	onEachStore(t, func(t *testing.T, open opener) {
		h := open(t)
		l := h.until(t, "mine", policy.UntilStep)
		h.until(t, "other", policy.UntilJob)
		for _, c := range []struct{ to, want int }{{4, 4}, {4, 4}, {3, 4}, {5, 5}, {0, 5}} {
			if err := h.Tie(t.Context(), l.ID, c.to, `tied to step 4 "Publish"`); err != nil {
				t.Fatal(err)
			}
			held := h.byStep(t)
			if len(held) != 1 || held[0].ID != l.ID || held[0].Step != c.want || held[0].Until != policy.UntilStep {
				t.Fatalf("tied to %d: %+v, want %d", c.to, held, c.want)
			}
		}
		if got := h.events(t, l.ID); got != "pending active tied tied" {
			t.Errorf("audit log: %s", got)
		}
		entries, err := h.Audit(t.Context(), AuditQuery{Lease: string(l.ID), Limit: 9})
		if err != nil || entries[2].Reason != `tied to step 4 "Publish"` || entries[2].Task != "publish-release" {
			t.Errorf("%+v, %v", entries, err)
		}
	})
}

func TestALeaseThatFellBackToItsJobStaysWithIt(t *testing.T) {
	onEachStore(t, func(t *testing.T, open opener) {
		h := open(t)
		l := h.until(t, "mine", policy.UntilThisStep)
		for _, step := range []int{4, FellBack, 5, FellBack} {
			if err := h.Tie(t.Context(), l.ID, step, "why"); err != nil {
				t.Fatal(err)
			}
		}
		all, err := h.LivesOfRun(t.Context(), "github", "456789", "7")
		if held := h.byStep(t); err != nil || len(held) != 0 || len(all) != 1 || all[0].Step != FellBack || all[0].EndsWithStep() {
			t.Errorf("%v by step, of the run %+v, %v", held, all, err)
		}
		if got := h.events(t, l.ID); got != "pending active tied tied" {
			t.Errorf("audit log: %s", got)
		}
	})
}

func TestALeaseThatIsBeingEndedOrEndsWithItsJobIsNotBound(t *testing.T) {
	onEachStore(t, func(t *testing.T, open opener) {
		h := open(t)
		ending, job := h.until(t, "ending", policy.UntilStep), h.until(t, "job", "")
		if _, err := h.StartEnding(t.Context(), ending.ID, ByHolder); err != nil {
			t.Fatal(err)
		}
		for _, id := range []backend.LeaseID{ending.ID, job.ID} {
			if err := h.Tie(t.Context(), id, 4, "why"); err != nil {
				t.Fatal(err)
			}
			if got := h.events(t, id); strings.Contains(got, "tied") {
				t.Errorf("audit log: %s", got)
			}
		}
		if held := h.byStep(t); len(held) != 0 {
			t.Errorf("to look at: %+v", held)
		}
		if err := h.Tie(t.Context(), "lease_none", 4, "why"); err == nil {
			t.Error("a lease that is not there was tied to a step")
		}
	})
}

func TestLeasesOfBeforeStepsWereKnownEndWithTheirJob(t *testing.T) {
	onEachStore(t, func(t *testing.T, open opener) {
		h := open(t)
		down(t, h, 1)
		writing := session{h.write, h.speak}
		if _, err := writing.exec(t.Context(), `INSERT INTO leases (id, state, task, backend, granted, issuer, job, job_name, repository, run, attempt, job_id, holder,
			created_at, issue_by, ends_at, dies_at, revocable, due_at) VALUES ('lease_old', 'active', 't', 'github', 'g', 'github', 'j', 'j', '456789', '7', 1, '71', '', 1, 1, 2, 3, ?, 2)`, true); err != nil {
			t.Fatal(err)
		}
		h.reopen(t)
		found, err := h.LivesOfRun(t.Context(), "github", "456789", "7")
		if err != nil || len(found) != 1 || found[0].Until != policy.UntilJob || found[0].Step != 0 || found[0].EndsWithStep() {
			t.Errorf("%+v, %v", found, err)
		}
	})
}

// down takes a store's schema back to a version.
func down(t *testing.T, h *house, version int64) {
	t.Helper()
	files, err := fs.Sub(schema, "schema/"+h.speak.schema)
	if err != nil {
		t.Fatal(err)
	}
	provider, err := goose.NewProvider(h.speak.goose, h.write, files, goose.WithDisableGlobalRegistry(true))
	if err == nil {
		_, err = provider.DownTo(t.Context(), version)
	}
	if err != nil {
		t.Fatal(err)
	}
}

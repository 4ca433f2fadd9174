package lease

import (
	"strings"
	"testing"
	"time"
)

func TestASelectorMeansWhatMatchesAllOfItAndLives(t *testing.T) {
	onEachStore(t, func(t *testing.T, open opener) {
		h := open(t)
		one, _ := h.activate(t, "jti-1", "job-1")
		h.wait(time.Second)
		two := h.begin(t, "jti-2", "job-2").Lease()
		w, g := workload("jti-3", "job-1"), grant()
		w.Job.Repository, g.Task = "777", "deploy"
		h.wait(time.Second)
		deploy, err := h.Begin(t.Context(), Ask{Workload: w, Grant: g}, anHour)
		if err != nil {
			t.Fatal(err)
		}
		three := deploy.Lease()
		over := h.begin(t, "jti-4", "job-4")
		if err := h.Fail(t.Context(), over, "no"); err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct {
			name  string
			which Selector
			want  []Lease
		}{
			{"nothing", Selector{}, nil},
			{"all", Selector{All: true}, []Lease{one, two, three}},
			{"a lease", Selector{Lease: two.ID}, []Lease{two}},
			{"an ended lease", Selector{Lease: over.Lease().ID}, nil},
			{"a job by its key", Selector{Job: "job-1"}, []Lease{one, three}},
			{"a job in words", Selector{Job: two.JobName}, []Lease{two}},
			{"a repository", Selector{Repository: "777"}, []Lease{three}},
			{"a task", Selector{Task: "publish-release"}, []Lease{one, two}},
			{"a job and a task", Selector{Job: "job-1", Task: "deploy"}, []Lease{three}},
			{"all of a task", Selector{All: true, Task: "deploy"}, []Lease{three}},
			{"no such job", Selector{Job: "' OR '1'='1"}, nil},
		} {
			got, err := h.LivesWhere(t.Context(), c.which)
			if err != nil || names(got) != names(c.want) {
				t.Errorf("%s: %s, %v, want %s", c.name, names(got), err, names(c.want))
			}
		}
	})
}

func names(all []Lease) string {
	var ids []string
	for _, l := range all {
		ids = append(ids, string(l.ID))
	}
	return strings.Join(ids, " ")
}

func TestALeaseIsOverdueAMomentAfterItsEnd(t *testing.T) {
	onEachStore(t, func(t *testing.T, open opener) {
		h := open(t)
		l, _ := h.activate(t, "jti-1", "job-1")
		h.activate(t, "jti-2", "job-2")
		for _, c := range []struct {
			wait time.Duration
			want bool
		}{{10*time.Minute + overdueAfter, false}, {time.Millisecond, true}} {
			h.wait(c.wait)
			n, err := h.Overdue(t.Context())
			if err != nil || (n == 2) != c.want || l.Overdue(h.now()) != c.want {
				t.Errorf("at %s: %d overdue, %v", h.now(), n, err)
			}
		}
		held, _ := h.StartEnding(t.Context(), l.ID, ByDeadline)
		if l, err := h.Conclude(t.Context(), held, Verdict{To: Revoked}); err != nil || l.Overdue(h.now()) {
			t.Errorf("overdue although it is %s, %v", l.State, err)
		}
		if n, err := h.Overdue(t.Context()); err != nil || n != 1 {
			t.Errorf("%d overdue, %v", n, err)
		}
	})
}

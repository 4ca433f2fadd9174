package server_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/stepkey/stepkey/exchange/client"
	"github.com/stepkey/stepkey/exchange/lease"
	"github.com/stepkey/stepkey/internal/githubsim"
)

// runs adds a webhook that is told of runs, too, and holds all it has to deliver.
func (h *hooked) runs(t testing.TB) {
	t.Helper()
	h.hook.Hold()
	h.hook = h.gh.AddWebhook(h.app, h.url+"/webhooks/github", hookSecret, githubsim.EventWorkflowRun)
	h.hook.Hold()
}

// of is the newest delivery of an event.
func (h *hooked) of(t testing.TB, event, action string) githubsim.Delivery {
	t.Helper()
	for _, d := range slices.Backward(h.hook.Deliveries()) {
		if d.Event == event && d.Action == action {
			return d
		}
	}
	t.Fatalf("there is no delivery of %s %s", event, action)
	return githubsim.Delivery{}
}

// deliver sends one three times, as GitHub may.
func (h *hooked) deliver(t testing.TB, d githubsim.Delivery) {
	t.Helper()
	for range 3 {
		if status, err := h.hook.Deliver(d.ID); status != http.StatusNoContent || err != nil {
			t.Errorf("%s %s: %d, %v", d.Event, d.Action, status, err)
		}
	}
}

// asks trades a subject token and returns the status and the words of a refusal.
func (h *hooked) asks(t testing.TB, subject string) (int, client.ErrorResponse) {
	t.Helper()
	var said client.ErrorResponse
	status, _ := h.post(t, "/token", tokenForm(subject), &said)
	return status, said
}

func TestWhenARunIsOverAllItsJobsAreThoughTheirOwnEventsAreLost(t *testing.T) {
	h := stageHooked(t, 0)
	h.runs(t)
	one := h.job(t, githubsim.JobSpec{})
	two := h.job(t, githubsim.JobSpec{RunID: one.RunID()})
	held := []client.TokenResponse{h.give(t, one), h.give(t, two)}
	lives := h.give(t, h.job(t, githubsim.JobSpec{}))
	one.Complete("success")
	two.Complete("cancelled")
	h.deliver(t, h.of(t, "workflow_run", "completed"))
	for _, given := range held {
		if seen := h.state(t, given); seen.State != "revoked" || seen.Reason != "its job was over" {
			t.Errorf("introspected as %+v", seen)
		}
	}
	if seen := h.state(t, lives); !seen.Active {
		t.Errorf("another run's: %+v", seen)
	}
}

func TestARunsEventIsAboutItsAttemptAndThoseBefore(t *testing.T) {
	h := stageHooked(t, 0)
	h.runs(t)
	first := h.job(t, githubsim.JobSpec{})
	old := h.give(t, first)
	second := h.job(t, githubsim.JobSpec{RunID: first.RunID(), RunAttempt: 2})
	second.Complete("success")
	h.deliver(t, h.of(t, "workflow_run", "completed"))
	if seen := h.state(t, old); seen.State != "revoked" {
		t.Errorf("an older attempt's: %+v", seen)
	}
	third := h.job(t, githubsim.JobSpec{RunID: first.RunID(), RunAttempt: 3})
	given := h.give(t, third)
	h.deliver(t, h.of(t, "workflow_run", "completed"))
	first.Complete("failure") // and this one comes last of all
	h.deliver(t, h.of(t, "workflow_run", "completed"))
	if seen := h.state(t, given); !seen.Active {
		t.Errorf("a newer attempt's: %+v", seen)
	}
}

// A subject token that was stolen and kept is worth nothing once its job is over.
func TestATokenOfAJobThatIsOverIsRefused(t *testing.T) {
	for name, tell := range map[string]func(*testing.T, *hooked){
		"told of the job":     func(t *testing.T, h *hooked) { h.deliver(t, h.of(t, "workflow_job", "completed")) },
		"told of the run":     func(t *testing.T, h *hooked) { h.deliver(t, h.of(t, "workflow_run", "completed")) },
		"seen when asked for": func(t *testing.T, h *hooked) { h.reconciler.Sweep(t.Context()) },
	} {
		t.Run(name, func(t *testing.T) {
			h := stageHooked(t, 0)
			h.runs(t)
			j := h.job(t, githubsim.JobSpec{})
			other := subjectToken(t, h.job(t, githubsim.JobSpec{}))
			stolen, kept := subjectToken(t, j), subjectToken(t, j)
			if name == "seen when asked for" { // which is asked only for a lease
				h.give(t, j)
			}
			j.Complete("success")
			tell(t, h)
			for _, subject := range []string{stolen, kept, stolen} {
				status, said := h.asks(t, subject)
				if status != http.StatusBadRequest || said.Code != client.CodeInvalidGrant || said.AuditID == "" ||
					!strings.HasPrefix(said.Description, "The job that this token names is over.") {
					t.Errorf("answered %d %+v", status, said)
				}
			}
			if status, said := h.asks(t, other); status != http.StatusOK {
				t.Errorf("another job: %d %+v", status, said)
			}
			again := h.job(t, githubsim.JobSpec{RunID: j.RunID(), RunAttempt: 2})
			if status, said := h.asks(t, subjectToken(t, again)); status != http.StatusOK {
				t.Errorf("the next attempt: %d %+v", status, said)
			}
			_, said := h.asks(t, stolen)
			if entries, err := h.store.Audit(t.Context(), lease.AuditQuery{ID: said.AuditID, Limit: 1}); err != nil || len(entries) != 1 || entries[0].Event != "denied" {
				t.Errorf("the audit log says %+v, %v", entries, err)
			}
		})
	}
}

func TestAnAppThatLosesARepositoryTakesWhatItsJobsHold(t *testing.T) {
	for _, c := range []struct {
		name, event, action string
		lose, back          func(*hooked)
		ends                bool
	}{
		{"uninstalled", "installation", "deleted", func(h *hooked) { h.gh.Uninstall(h.installed) }, func(h *hooked) { h.gh.Install(h.app, "acme") }, true},
		{"suspended", "installation", "suspend", func(h *hooked) { h.gh.Suspend(h.installed) }, func(h *hooked) { h.gh.Unsuspend(h.installed) }, true},
		{"its repository removed", "installation_repositories", "removed", func(h *hooked) { h.gh.Remove(h.installed, "widget") }, func(h *hooked) { h.gh.Add(h.installed, "widget") }, true},
		{"another repository removed", "installation_repositories", "removed", func(h *hooked) { h.gh.Remove(h.installed, "gadget") }, func(h *hooked) { h.gh.Add(h.installed, "gadget") }, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := stageHooked(t, 0)
			h.hook.Hold()
			given := h.give(t, h.job(t, githubsim.JobSpec{}))
			c.lose(h)
			lost := h.of(t, c.event, c.action)
			h.deliver(t, lost)
			seen := h.state(t, given)
			if seen.Active == c.ends || c.ends && (seen.State != "revoked" || seen.Reason != "the App lost access to its repository") {
				t.Errorf("introspected as %+v", seen)
			}
			if !slices.Contains(h.forgotten, h.installed) {
				t.Errorf("forgotten are %v", h.forgotten)
			}
			c.back(h)
			later := h.give(t, h.job(t, githubsim.JobSpec{}))
			for _, d := range h.hook.Deliveries() { // all again, in the wrong order for this one
				if d.Event == c.event {
					h.deliver(t, d)
				}
			}
			h.deliver(t, lost)
			if seen := h.state(t, later); !seen.Active {
				t.Errorf("access is back, and an old word ended a lease: %+v", seen)
			}
		})
	}
}

func TestWithoutAnAnswerTheEventIsBelieved(t *testing.T) {
	h := stageHooked(t, 0)
	h.hook.Hold()
	given := h.give(t, h.job(t, githubsim.JobSpec{}))
	h.gh.Uninstall(h.installed)
	h.gh.Fault(func(r *http.Request) *githubsim.Fault {
		if strings.HasSuffix(r.URL.Path, "/installation") {
			return &githubsim.Fault{Before: http.StatusForbidden, Body: `{"message":"try later"}`}
		}
		return nil
	})
	h.deliver(t, h.of(t, "installation", "deleted"))
	if seen := h.state(t, given); seen.State != "revoked" {
		t.Errorf("introspected as %+v", seen)
	}
	if !strings.Contains(h.log.String(), "believing the event") {
		t.Error("the log does not say so")
	}
}

// A body is one event, whatever the header says, and what only looks like one of
// those that count is none.
func TestNoBodyIsTakenForAnotherEvent(t *testing.T) {
	h := stageHooked(t, 0)
	h.runs(t)
	j := h.job(t, githubsim.JobSpec{})
	given := h.give(t, j)
	job := fmt.Sprintf(`"workflow_job":{"id":%d,"run_id":%d,"run_attempt":1,"status":"completed"}`, j.ID(), j.RunID())
	run := fmt.Sprintf(`"workflow_run":{"id":%d,"run_attempt":1,"status":"completed"}`, j.RunID())
	const whole, stub = `"installation":{"id":5,"app_id":9}`, `"installation":{"id":5,"node_id":"x"}`
	const repository, listed, removed = `"repository":{"id":456789}`, `"repositories":[{"id":456789}]`, `"repositories_removed":[{"id":456789}]`
	h.gh.Uninstall(h.installed) // so that GitHub, when asked, says that access is gone
	all := []string{"workflow_job", "workflow_run", "installation", "installation_repositories"}
	for _, c := range []struct {
		name, body string
		not        []string // events that it is not
		status     int
	}{
		{"a job's under other names", `{"action":"completed",` + job + `,` + repository + `,` + stub + `}`, all[1:], 204},
		{"a run's under other names", `{"action":"completed",` + run + `,` + repository + `,` + stub + `}`, []string{"workflow_job", "installation", "installation_repositories"}, 204},
		{"an uninstalling under other names", `{"action":"deleted",` + whole + `,` + listed + `}`, []string{"workflow_job", "workflow_run", "installation_repositories"}, 204},
		{"a removal under other names", `{"action":"removed",` + whole + `,` + removed + `}`, all[:3], 204},
		{"a run that is not over", `{"action":"completed",` + strings.Replace(run, "completed", "in_progress", 1) + `,` + repository + `}`, all, 204},
		{"a run that was requested", `{"action":"requested",` + run + `,` + repository + `}`, all, 204},
		{"a deployment's, which shows a run", `{"action":"created","deployment":{},` + run + `,` + repository + `}`, all, 204},
		{"both a job and a run", `{"action":"completed",` + job + `,` + run + `,` + repository + `}`, all, 204},
		{"a comment that was deleted", `{"action":"deleted","comment":{},` + repository + `,` + stub + `,` + listed + `}`, all, 204},
		{"one of a repository, with an installation", `{"action":"deleted",` + whole + `,` + repository + `,` + listed + `}`, all, 204},
		{"a dispatch with all of it in what a user may say", `{"action":"completed","client_payload":{` + job + `,` + run + `,` + removed + `},` + repository + `,` + stub + `}`, all, 204},
		{"an installing", `{"action":"created",` + whole + `,` + listed + `}`, all, 204},
		{"an unsuspending", `{"action":"unsuspend",` + whole + `,` + listed + `}`, all, 204},
		{"an adding", `{"action":"added",` + whole + `,"repositories_added":[{"id":456789}],"repositories_removed":[]}`, all, 204},
		{"a removal without an installation", `{"action":"removed",` + removed + `}`, all, 204},
		{"a removal of nothing", `{"action":"removed",` + whole + `,"repositories_removed":null}`, all, 204},
		{"a run of no repository", `{"action":"completed",` + run + `}`, []string{"workflow_run"}, 400},
		{"a run of no attempt", `{"action":"completed",` + strings.Replace(run, ":1,", ":0,", 1) + `,` + repository + `}`, []string{"workflow_run"}, 400},
		{"a negative installation", `{"action":"deleted",` + strings.Replace(whole, "5", "-5", 1) + `,` + listed + `}`, []string{"installation"}, 400},
		{"a repository that is no number", `{"action":"removed",` + whole + `,"repositories_removed":[{"id":"456789"}]}`, []string{"installation_repositories"}, 400},
		{"one repository of no id", `{"action":"removed",` + whole + `,"repositories_removed":[{"id":456789},{}]}`, []string{"installation_repositories"}, 400},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, event := range c.not {
				if status, said := h.send(t, c.body, having(signed(c.body), "X-GitHub-Event", event)); status != c.status {
					t.Errorf("as %s: %d %s", event, status, said)
				}
				if status, _ := h.send(t, c.body, having(having(signed(c.body), "X-GitHub-Event", event), "X-Hub-Signature-256", "")); status != http.StatusUnauthorized {
					t.Errorf("as %s, unsigned: %d", event, status)
				}
			}
			if seen := h.state(t, given); !seen.Active || len(h.forgotten) != 0 {
				t.Fatalf("and the lease is %+v, forgotten are %v", seen, h.forgotten)
			}
		})
	}
	good := `{"action":"removed",` + whole + `,` + removed + `}`
	if status, said := h.send(t, good, having(signed(good), "X-GitHub-Event", "installation_repositories")); status != http.StatusNoContent {
		t.Errorf("the good one: %d %s", status, said)
	}
	if seen := h.state(t, given); seen.State != "revoked" {
		t.Errorf("after the good one: %+v", seen)
	}
}

func TestAnInstallationOfManyRepositoriesIsTaken(t *testing.T) {
	h := stageHooked(t, 0)
	h.hook.Hold()
	given := h.give(t, h.job(t, githubsim.JobSpec{}))
	h.gh.Uninstall(h.installed)
	var body strings.Builder
	body.WriteString(`{"action":"deleted","installation":{"id":5,"app_id":9},"repositories":[`)
	for id := range 20_000 {
		fmt.Fprintf(&body, `{"id":%d,"node_id":"R_kgDOABCDEF%d","name":"a-repository-of-many-%d","full_name":"acme/a-repository-of-many-%d","private":true},`, 1_000_000+id, id, id, id)
	}
	body.WriteString(`{"id":456789}]}`)
	if status, said := h.send(t, body.String(), having(signed(body.String()), "X-GitHub-Event", "installation")); status != http.StatusNoContent {
		t.Errorf("%d bytes: %d %s", body.Len(), status, said)
	}
	if seen := h.state(t, given); seen.State != "revoked" {
		t.Errorf("introspected as %+v", seen)
	}
}

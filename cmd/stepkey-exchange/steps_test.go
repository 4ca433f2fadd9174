package main

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stepkey/stepkey/exchange"
	"github.com/stepkey/stepkey/exchange/client"
	"github.com/stepkey/stepkey/exchange/lease"
	"github.com/stepkey/stepkey/internal/githubsim"
	"github.com/stepkey/stepkey/internal/secret"
)

// stepwise is the service with a task whose leases end with a step, and one job.
type stepwise struct {
	*wired
	job   *githubsim.Job
	given *client.Grant
}

func wireSteps(t *testing.T, log *said) *stepwise {
	t.Helper()
	w := &stepwise{wired: wireTask(t, log, "read", strings.Replace(jobsTask, "ttl: 10m", "ttl: 10m, until: step", 1))}
	w.job = w.gh.StartJob(githubsim.JobSpec{Repository: "acme/widget", IDToken: true})
	return w
}

// ask asks for the credential, as a step of the job does.
func (w *stepwise) ask(t *testing.T) {
	t.Helper()
	subject, err := w.job.IDToken("https://lease.example.com")
	if err != nil {
		t.Fatal(err)
	}
	if w.given, err = w.client.Token(t.Context(), client.TokenRequest{SubjectToken: secret.New(subject), Task: "upload"}); err != nil {
		t.Fatal(err)
	}
}

// step runs a step that lasts as long, and looks once at its end.
func (w *stepwise) step(t *testing.T, name string, lasts time.Duration, inIt func()) {
	t.Helper()
	number := w.job.BeginStep(name)
	w.pass(lasts)
	if inIt != nil {
		inIt()
		w.pass(lasts)
	}
	w.look(t)
	w.job.EndStep(number, "success")
	w.look(t)
}

func (w *stepwise) pass(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.at = w.at.Add(d)
}

func (w *stepwise) look(t *testing.T) {
	t.Helper()
	w.pass(exchange.StepsEvery)
	w.jobs.sweeps.Steps(t.Context())
}

// alive reports whether GitHub still takes the credential of the task.
func (w *stepwise) alive() bool {
	for _, token := range w.gh.LiveTokens() {
		if token.Permissions["contents"] == "write" {
			return true
		}
	}
	return false
}

func (w *stepwise) why(t *testing.T) (said []string) {
	t.Helper()
	entries, err := w.store.Audit(t.Context(), lease.AuditQuery{Limit: 100})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		said = append(said, string(e.Event)+": "+e.Reason)
	}
	return said
}

func TestGitHubTakesTheCredentialNoLongerThanTheStepThatUsesIt(t *testing.T) {
	var log said
	w := wireSteps(t, &log)
	w.step(t, "Check out", 3*time.Second, nil)
	w.step(t, "Get a credential", 2*time.Second, func() { w.ask(t) })
	if !w.alive() {
		t.Fatalf("over before it was used: %q", w.why(t))
	}
	w.job.SkipStep("Only on Sundays")
	w.step(t, "Publish", 20*time.Second, func() {
		w.look(t)
		if !w.alive() {
			t.Errorf("over while it was used: %q", w.why(t))
		}
	})
	if w.alive() {
		t.Errorf("alive after its step: %q\n%s", w.why(t), &log)
	}
	all := strings.Join(w.why(t), "\n")
	for _, want := range []string{`tied: tied to step 2 "Get a credential" and the one after it`, "revoking: " + lease.ByStepOver, "revoked: "} {
		if !strings.Contains(all, want) {
			t.Errorf("the audit log lacks %q:\n%s", want, all)
		}
	}
}

func TestTheAuditTableShowsStepsAsItShowsMoves(t *testing.T) {
	var log said
	w := wireSteps(t, &log)
	w.step(t, "Get a credential", 2*time.Second, func() { w.ask(t) })
	entries, err := w.store.Audit(t.Context(), lease.AuditQuery{Limit: 100})
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := printTable(surroundings{out: &out}, entries); err != nil || !strings.Contains(out.String(), `  tied     upload  lease_`) || !strings.Contains(out.String(), `tied to step 1 "Get a credential"`) {
		t.Errorf("%v\n%s", err, &out)
	}
}

func TestACredentialInAJobWithStepsSideBySideLivesWithTheJob(t *testing.T) {
	var log said
	w := wireSteps(t, &log)
	service := w.job.BeginStep("A service in the background")
	w.step(t, "Get a credential", 2*time.Second, func() { w.ask(t) })
	w.step(t, "Publish", 9*time.Second, nil)
	w.step(t, "Clean up", 9*time.Second, nil)
	if all := strings.Join(w.why(t), "\n"); !w.alive() || !strings.Contains(all, "ran side by side") {
		t.Errorf("alive %t:\n%s", w.alive(), all)
	}
	w.job.EndStep(service, "success")
	w.job.Complete("success")
	w.pass(time.Minute)
	w.jobs.sweeps.Sweep(t.Context())
	if w.alive() {
		t.Errorf("alive after its job: %q", w.why(t))
	}
}

func TestWhileGitHubShowsNoStepsOnlyTheDeadlineEnds(t *testing.T) {
	var log said
	w := wireSteps(t, &log)
	w.gh.Fault(func(r *http.Request) *githubsim.Fault {
		if strings.HasSuffix(r.URL.Path, "/jobs") {
			return &githubsim.Fault{Before: http.StatusForbidden, Body: `{"message":"try later"}`}
		}
		return nil
	})
	w.step(t, "Get a credential", 2*time.Second, func() { w.ask(t) })
	w.step(t, "Publish", 9*time.Second, nil)
	w.step(t, "Clean up", 9*time.Second, nil)
	if !w.alive() {
		t.Fatalf("ended although nobody saw a step: %q", w.why(t))
	}
	w.pass(10 * time.Minute)
	w.keeper.Sweep(t.Context(), "github")
	if all := strings.Join(w.why(t), "\n"); w.alive() || !strings.Contains(all, "revoking: "+lease.ByDeadline) {
		t.Errorf("alive %t after its deadline:\n%s", w.alive(), all)
	}
}

func TestATaskThatWaitsForStepsThatNobodySeesIsSaidOnce(t *testing.T) {
	var log said
	w := wireTask(t, &log, "", strings.Replace(jobsTask, "ttl: 10m", "ttl: 10m, until: this_step", 1))
	w.jobs.run(t.Context()) // the App lacks the permission
	if got := strings.Count(log.String(), "nobody is asked which steps are over"); got != 1 || !strings.Contains(log.String(), "tasks=[upload]") {
		t.Errorf("said %d times:\n%s", got, &log)
	}
	log = said{}
	wire(t, &log, "").jobs.run(t.Context())
	if strings.Contains(log.String(), "steps") {
		t.Errorf("said although no task waits for a step:\n%s", &log)
	}
}

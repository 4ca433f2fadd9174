package githubsim_test

import (
	"net/http"
	"slices"
	"testing"

	"github.com/google/go-github/v60/github"

	"github.com/stepkey/stepkey/internal/githubsim"
)

// told are the events of one kind that wait at a webhook, as go-github reads them.
func told[E any](t *testing.T, hook *githubsim.Webhook, name string) (all []*E) {
	t.Helper()
	for _, d := range hook.Deliveries() {
		if d.Event != name {
			continue
		}
		event, err := github.ParseWebHook(d.Header.Get("X-GitHub-Event"), d.Body)
		read, ok := event.(*E)
		if err != nil || !ok {
			t.Fatalf("%s is read as %T: %v", name, event, err)
		}
		all = append(all, read)
	}
	return all
}

func TestARunIsOverWithTheLastOfItsJobsAndOnlySubscribersAreTold(t *testing.T) {
	s := newScene(t, githubsim.Options{})
	hook := s.hub.AddWebhook(s.app, "http://127.0.0.1:1", "x", githubsim.EventWorkflowRun)
	other := s.hub.AddWebhook(s.app, "http://127.0.0.1:1", "x")
	hook.Hold()
	other.Hold()
	build := s.hub.StartJob(githubsim.JobSpec{Repository: "acme/widget", RunAttempt: 2, RunGoesOn: true})
	build.Complete("success")
	test := s.hub.StartJob(githubsim.JobSpec{Repository: "acme/widget", RunID: build.RunID(), RunAttempt: 2})
	publish := s.hub.StartJob(githubsim.JobSpec{Repository: "acme/widget", RunID: build.RunID(), RunAttempt: 2})
	s.hub.StartJob(githubsim.JobSpec{Repository: "acme/widget", RunID: build.RunID(), RunAttempt: 3})
	test.Complete("failure")
	if early := told[github.WorkflowRunEvent](t, hook, "workflow_run"); len(early) != 0 {
		t.Fatalf("told %d times while a job runs", len(early))
	}
	publish.Complete("success")
	runs := told[github.WorkflowRunEvent](t, hook, "workflow_run")
	if len(runs) != 1 {
		t.Fatalf("told %d times", len(runs))
	}
	run := runs[0].GetWorkflowRun()
	if runs[0].GetAction() != "completed" || run.GetID() != build.RunID() || run.GetRunAttempt() != 2 || run.GetStatus() != "completed" || run.GetConclusion() != "failure" ||
		runs[0].GetRepo().GetID() != s.widget.ID || run.GetRepository().GetID() != s.widget.ID || runs[0].GetInstallation().GetID() != s.installation || runs[0].GetWorkflow().GetName() != "release" {
		t.Errorf("told %+v", run)
	}
	if n := len(told[github.WorkflowRunEvent](t, other, "workflow_run")); n != 0 {
		t.Errorf("who did not subscribe was told %d times", n)
	}
}

func TestAnAppIsToldOfItsInstallationsWhateverItMayDo(t *testing.T) {
	s := newScene(t, githubsim.Options{})
	blind := s.hub.AddApp(githubsim.App{Key: s.app.Key, Permissions: map[string]string{"contents": "write"}})
	hook := s.hub.AddWebhook(blind, "http://127.0.0.1:1", "x")
	hook.Hold()
	id := s.hub.Install(blind, "acme")
	s.hub.Suspend(id)
	s.hub.Unsuspend(id)
	s.hub.Remove(id, "widget")
	s.hub.Add(id, "widget")
	s.hub.Uninstall(id)
	var actions []string
	for _, e := range told[github.InstallationEvent](t, hook, "installation") {
		actions = append(actions, e.GetAction())
		if e.GetInstallation().GetID() != id || e.GetInstallation().GetAppID() != blind.ID || len(e.Repositories) != 3 || (e.GetInstallation().SuspendedAt == nil) == (e.GetAction() == "suspend") {
			t.Errorf("told %+v", e)
		}
	}
	if !slices.Equal(actions, []string{"created", "suspend", "unsuspend", "deleted"}) {
		t.Errorf("told of %v", actions)
	}
	changes := told[github.InstallationRepositoriesEvent](t, hook, "installation_repositories")
	if len(changes) != 2 || changes[0].GetAction() != "removed" || len(changes[0].RepositoriesRemoved) != 1 || changes[0].RepositoriesRemoved[0].GetID() != s.widget.ID ||
		changes[0].GetRepositorySelection() != "selected" || changes[1].GetAction() != "added" || changes[1].RepositoriesAdded[0].GetFullName() != "acme/widget" {
		t.Errorf("told %+v", changes)
	}
}

func TestASuspendedInstallationIsOutOfUse(t *testing.T) {
	s := newScene(t, githubsim.Options{})
	hook := s.hub.AddWebhook(s.app, "http://127.0.0.1:1", "x")
	hook.Hold()
	token := s.token(`{"repositories":["widget"]}`)
	s.hub.Suspend(s.installation)
	if r := s.call(http.MethodGet, "/repos/acme/widget", token, ""); r.status != http.StatusUnauthorized {
		t.Errorf("its token: %d %s", r.status, r.body)
	}
	if r := s.call(http.MethodPost, s.tokens(), s.jwt(nil), ""); r.status != http.StatusForbidden {
		t.Errorf("another token: %d %s", r.status, r.body)
	}
	s.hub.StartJob(githubsim.JobSpec{Repository: "acme/widget"}).Complete("success")
	if jobs := told[github.WorkflowJobEvent](t, hook, "workflow_job"); len(jobs) != 0 {
		t.Errorf("it was told of %d moves of a job", len(jobs))
	}
	s.hub.Unsuspend(s.installation)
	if r := s.call(http.MethodGet, "/repos/acme/widget", token, ""); r.status != http.StatusOK {
		t.Errorf("taken into use again, its token: %d %s", r.status, r.body)
	}
}

func TestARemovedRepositoryIsOutOfReachOfTokensThatHadIt(t *testing.T) {
	s := newScene(t, githubsim.Options{})
	token := s.token("")
	s.hub.Remove(s.installation, "widget")
	for name, want := range map[string]int{"widget": http.StatusNotFound, "docs": http.StatusOK} {
		if r := s.call(http.MethodGet, "/repos/acme/"+name, token, ""); r.status != want {
			t.Errorf("%s: %d %s", name, r.status, r.body)
		}
	}
	s.hub.Add(s.installation, "widget")
	if r := s.call(http.MethodGet, "/repos/acme/widget", token, ""); r.status != http.StatusOK {
		t.Errorf("added again: %d %s", r.status, r.body)
	}
}

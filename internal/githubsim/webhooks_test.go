package githubsim_test

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-github/v60/github"

	"github.com/stepkey/stepkey/internal/githubsim"
)

// arrival is one delivery as its receiver saw it, checked and read by go-github.
type arrival struct {
	id    string
	event *github.WorkflowJobEvent
}

// receiver answers deliveries with 202 and passes them on.
func receiver(t *testing.T, secret string) (url string, arrived chan arrival) {
	t.Helper()
	arrived = make(chan arrival, 16)
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := github.ValidatePayload(r, []byte(secret))
		if err != nil {
			t.Errorf("the signature does not hold: %v", err)
			return
		}
		event, err := github.ParseWebHook(github.WebHookType(r), body)
		job, ok := event.(*github.WorkflowJobEvent)
		if err != nil || !ok || !strings.HasPrefix(r.UserAgent(), "GitHub-Hookshot/") || r.Header.Get("X-GitHub-Hook-ID") == "" ||
			!strings.HasPrefix(r.Header.Get("X-Hub-Signature"), "sha1=") || !strings.HasPrefix(r.Header.Get("X-Hub-Signature-256"), "sha256=") {
			t.Errorf("delivered %v with %v: %v", event, r.Header, err)
			return
		}
		w.WriteHeader(http.StatusAccepted)
		arrived <- arrival{github.DeliveryID(r), job}
	}))
	t.Cleanup(web.Close)
	return web.URL, arrived
}

func TestAnAppIsToldOfEachMoveOfAJob(t *testing.T) {
	s := newScene(t, githubsim.Options{})
	url, arrived := receiver(t, "hook-secret")
	s.hub.AddWebhook(s.app, url, "hook-secret")
	job := s.hub.StartJob(githubsim.JobSpec{Repository: "acme/widget", RunAttempt: 2})
	job.Complete("cancelled")
	s.hub.StartJob(githubsim.JobSpec{Repository: "acme/gadget"}) // where the App is not installed
	var actions []string
	for range 3 {
		e := (<-arrived).event
		actions = append(actions, e.GetAction())
		if e.GetWorkflowJob().GetID() != job.ID() || e.GetWorkflowJob().GetRunID() != job.RunID() || e.GetWorkflowJob().GetRunAttempt() != 2 ||
			e.GetRepo().GetID() != s.widget.ID || e.GetRepo().GetOwner().GetLogin() != "acme" || e.GetInstallation().GetID() != s.installation {
			t.Errorf("told of %+v", e)
		}
		if (e.GetAction() == "completed") != (e.GetWorkflowJob().GetConclusion() == "cancelled") {
			t.Errorf("%s: the conclusion is %q", e.GetAction(), e.GetWorkflowJob().GetConclusion())
		}
	}
	slices.Sort(actions) // each delivery is on its own, so any order is possible
	if !slices.Equal(actions, []string{"completed", "in_progress", "queued"}) || len(arrived) != 0 {
		t.Errorf("told of %v, and %d more", actions, len(arrived))
	}
}

func TestHeldDeliveriesComeInAnyOrderAgainOrNever(t *testing.T) {
	s := newScene(t, githubsim.Options{})
	url, arrived := receiver(t, "hook-secret")
	hook := s.hub.AddWebhook(s.app, url, "hook-secret")
	hook.Hold()
	s.hub.StartJob(githubsim.JobSpec{Repository: "acme/widget"}).Complete("success")
	all := hook.Deliveries()
	if len(all) != 3 || all[2].Action != "completed" || all[2].Attempts != 0 || len(arrived) != 0 {
		t.Fatalf("held are %+v", all)
	}
	for _, n := range []int{2, 0, 2} {
		if status, err := hook.Deliver(all[n].ID); status != http.StatusAccepted || err != nil {
			t.Errorf("delivery %d: %d, %v", n, status, err)
		}
		if got := <-arrived; got.id != all[n].ID || got.event.GetAction() != all[n].Action {
			t.Errorf("arrived as %+v, want %s %s", got, all[n].Action, all[n].ID)
		}
	}
	now := hook.Deliveries()
	if now[0].Attempts != 1 || now[1].Attempts != 0 || now[2].Attempts != 2 || now[2].Status != http.StatusAccepted || !bytes.Equal(now[2].Body, all[2].Body) {
		t.Errorf("then %+v", now)
	}
}

func TestAnAppThatMayNotReadActionsIsToldNothing(t *testing.T) {
	s := newScene(t, githubsim.Options{})
	blind := s.hub.AddApp(githubsim.App{Key: s.app.Key, Permissions: map[string]string{"contents": "write"}})
	s.hub.Install(blind, "acme")
	hook := s.hub.AddWebhook(blind, "http://127.0.0.1:1", "x")
	s.hub.StartJob(githubsim.JobSpec{Repository: "acme/widget"}).Complete("success")
	if got := hook.Deliveries(); len(got) != 0 {
		t.Errorf("it was told %+v", got)
	}
}

func TestADeliveryThatNobodyTakesIsLost(t *testing.T) {
	s := newScene(t, githubsim.Options{})
	hook := s.hub.AddWebhook(s.app, "http://127.0.0.1:1", "x")
	hook.Hold()
	s.hub.StartJob(githubsim.JobSpec{Repository: "acme/widget"})
	id := hook.Deliveries()[0].ID
	if status, err := hook.Deliver(id); err == nil || status != 0 {
		t.Errorf("%d, %v", status, err)
	}
	if d := hook.Deliveries()[0]; d.Attempts != 1 || d.Status != 0 {
		t.Errorf("%+v", d)
	}
}

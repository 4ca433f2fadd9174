package githubapp_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stepkey/stepkey/exchange/githubapp"
	"github.com/stepkey/stepkey/internal/githubsim"
)

// watch is a scene whose App may read Actions, with a clock that the test turns.
type watch struct {
	scene
	mu sync.Mutex
	at time.Time
}

func watchJobs(t *testing.T, options githubsim.Options) *watch {
	t.Helper()
	w := &watch{at: noon}
	options.Now = w.now
	w.scene = stage(t, options)
	w.app = w.hub.AddApp(githubsim.App{Key: appKey(), Permissions: map[string]string{"actions": "read", "contents": "write"}})
	w.installation = w.hub.Install(w.app, "acme")
	return w
}

func (w *watch) now() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.at
}

func (w *watch) wait(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.at = w.at.Add(d)
}

func (w *watch) jobs(t *testing.T) *githubapp.Jobs {
	t.Helper()
	jobs := w.client(t, func(c *githubapp.Config) { c.Now = w.now }).Jobs()
	t.Cleanup(func() { _ = jobs.Close(t.Context()) })
	return jobs
}

// lists counts the requests for lists of jobs, by their answer's status.
func (w *watch) lists() map[int]int {
	count := map[int]int{}
	for _, r := range w.hub.Requests() {
		if strings.HasSuffix(r.Path, "/jobs") {
			count[r.Status]++
		}
	}
	return count
}

func over(jobs []githubapp.Job) map[int64]bool {
	m := map[int64]bool{}
	for _, j := range jobs {
		m[j.ID] = j.Over()
	}
	return m
}

func TestTheJobsOfARunAreReadWithATokenThatCanDoNothingElse(t *testing.T) {
	w := watchJobs(t, githubsim.Options{})
	jobs := w.jobs(t)
	ended := w.hub.StartJob(githubsim.JobSpec{Repository: "acme/widget"})
	running := w.hub.StartJob(githubsim.JobSpec{Repository: "acme/widget", RunID: ended.RunID()})
	again := w.hub.StartJob(githubsim.JobSpec{Repository: "acme/widget", RunID: ended.RunID(), RunAttempt: 2})
	again.Complete("success")
	ended.Complete("failure")
	got, err := jobs.OfRun(t.Context(), widgetID, ended.RunID(), 1)
	if err != nil {
		t.Fatal(err)
	}
	if m := over(got); len(m) != 2 || !m[ended.ID()] || m[running.ID()] {
		t.Errorf("%+v", got)
	}
	m, err := jobs.ByClaims(t.Context(), fmt.Sprint(widgetID), fmt.Sprint(ended.RunID()), 1)
	if err != nil || len(m) != 2 || !m[fmt.Sprint(ended.ID())].Over() || m[fmt.Sprint(running.ID())].Over() {
		t.Errorf("by the ids of claims: %v, %v", m, err)
	}
	if _, err := jobs.ByClaims(t.Context(), "acme/widget", fmt.Sprint(ended.RunID()), 1); err == nil {
		t.Error("a repository's name was taken for its id")
	}
	live := w.hub.LiveTokens()
	if len(live) != 1 || len(live[0].RepositoryIDs) != 1 || live[0].Permissions["actions"] != "read" || live[0].Permissions["contents"] != "" {
		t.Errorf("read with %+v", live)
	}
	if err := jobs.Close(t.Context()); err != nil || len(w.hub.LiveTokens()) != 0 {
		t.Errorf("after closing: %v, %d tokens live", err, len(w.hub.LiveTokens()))
	}
	if _, err := jobs.OfRun(t.Context(), widgetID, ended.RunID(), 1); err == nil || len(w.hub.Issued()) != 1 {
		t.Errorf("a closed reader reads: %v", err)
	}
}

func TestAskingAgainAboutWhatDidNotChangeIsFree(t *testing.T) {
	w := watchJobs(t, githubsim.Options{})
	jobs := w.jobs(t)
	job := w.hub.StartJob(githubsim.JobSpec{Repository: "acme/widget"})
	for range 5 {
		if got, err := jobs.OfRun(t.Context(), widgetID, job.RunID(), 1); err != nil || over(got)[job.ID()] {
			t.Fatalf("%+v, %v", got, err)
		}
	}
	if got := w.lists(); got[http.StatusOK] != 1 || got[http.StatusNotModified] != 4 {
		t.Errorf("answered %v; want one 200 and four 304, which draw on no rate limit", got)
	}
	job.Complete("success")
	if got, err := jobs.OfRun(t.Context(), widgetID, job.RunID(), 1); err != nil || !over(got)[job.ID()] {
		t.Errorf("once it is over: %+v, %v", got, err)
	}
	if len(w.hub.Issued()) != 1 {
		t.Errorf("%d tokens were made, want 1", len(w.hub.Issued()))
	}
}

func TestATokenNearItsEndIsReplacedAndRevoked(t *testing.T) {
	w := watchJobs(t, githubsim.Options{})
	jobs := w.jobs(t)
	job := w.hub.StartJob(githubsim.JobSpec{Repository: "acme/widget"})
	for range 3 {
		if _, err := jobs.OfRun(t.Context(), widgetID, job.RunID(), 1); err != nil {
			t.Fatal(err)
		}
		w.wait(56 * time.Minute)
	}
	if issued, live := len(w.hub.Issued()), len(w.hub.LiveTokens()); issued != 3 || live != 1 {
		t.Errorf("%d tokens made, %d live; want 3 and 1", issued, live)
	}
}

func TestManyJobsAreReadPageByPage(t *testing.T) {
	w := watchJobs(t, githubsim.Options{})
	first := w.hub.StartJob(githubsim.JobSpec{Repository: "acme/widget"})
	for range 204 {
		w.hub.StartJob(githubsim.JobSpec{Repository: "acme/widget", RunID: first.RunID()})
	}
	got, err := w.jobs(t).OfRun(t.Context(), widgetID, first.RunID(), 1)
	if err != nil || len(over(got)) != 205 || w.lists()[http.StatusOK] != 3 {
		t.Errorf("%d jobs in %v requests, %v", len(got), w.lists(), err)
	}
}

func TestAListThatIsNotWholeIsRefused(t *testing.T) {
	w := watchJobs(t, githubsim.Options{})
	job := w.hub.StartJob(githubsim.JobSpec{Repository: "acme/widget"})
	w.hub.Fault(func(r *http.Request) *githubsim.Fault {
		if !strings.HasSuffix(r.URL.Path, "/jobs") {
			return nil
		}
		return &githubsim.Fault{Before: http.StatusOK, Body: fmt.Sprintf(`{"total_count":2,"jobs":[{"id":%d,"status":"completed"}]}`, job.ID())}
	})
	if got, err := w.jobs(t).OfRun(t.Context(), widgetID, job.RunID(), 1); err == nil || !strings.Contains(err.Error(), "not whole") {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestJobsOfAnotherRunOrAttemptSayNothing(t *testing.T) {
	w := watchJobs(t, githubsim.Options{})
	job := w.hub.StartJob(githubsim.JobSpec{Repository: "acme/widget"})
	w.hub.Fault(func(r *http.Request) *githubsim.Fault {
		if !strings.HasSuffix(r.URL.Path, "/jobs") {
			return nil
		}
		body, _ := json.Marshal(map[string]any{"total_count": 3, "jobs": []map[string]any{
			{"id": 1, "run_id": job.RunID(), "run_attempt": 2, "status": "completed"},
			{"id": 2, "run_id": 5, "run_attempt": 1, "status": "completed"},
			{"id": 3, "run_id": job.RunID(), "run_attempt": 1, "status": "a new status"},
		}})
		return &githubsim.Fault{Before: http.StatusOK, Body: string(body)}
	})
	got, err := w.jobs(t).OfRun(t.Context(), widgetID, job.RunID(), 1)
	if err != nil || len(got) != 1 || got[0].ID != 3 || got[0].Over() {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestARunThatIsNotShownIsNoneThatIsOver(t *testing.T) {
	w := watchJobs(t, githubsim.Options{})
	_, err := w.jobs(t).OfRun(t.Context(), widgetID, 77, 1)
	var refused *githubapp.Error
	if !errors.As(err, &refused) || refused.Status != http.StatusNotFound || len(w.hub.Issued()) != 1 {
		t.Errorf("%v, %d tokens", err, len(w.hub.Issued()))
	}
	for _, bad := range [][3]int64{{0, 1, 1}, {1, 0, 1}, {1, 1, 0}} {
		if _, err := w.jobs(t).OfRun(t.Context(), bad[0], bad[1], int(bad[2])); err == nil {
			t.Errorf("%v was asked about", bad)
		}
	}
}

func TestARepositoryIsFoundAgainUnderItsNewName(t *testing.T) {
	w := watchJobs(t, githubsim.Options{})
	jobs := w.jobs(t)
	job := w.hub.StartJob(githubsim.JobSpec{Repository: "acme/widget"})
	job.Complete("success")
	var renamed bool
	w.hub.Fault(func(r *http.Request) *githubsim.Fault {
		switch {
		case !renamed && strings.Contains(r.URL.Path, "/repos/acme/widget/"):
			renamed = true
			return &githubsim.Fault{Before: http.StatusMovedPermanently}
		case renamed && strings.HasSuffix(r.URL.Path, "/repositories/456789"):
			return &githubsim.Fault{Before: http.StatusOK, Body: `{"full_name":"acme/Widget"}`} // a new name, which the simulation takes, too
		}
		return nil
	})
	if got, err := jobs.OfRun(t.Context(), widgetID, job.RunID(), 1); err != nil || !over(got)[job.ID()] {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestTheLastFifthOfTheRateLimitIsLeftToTasks(t *testing.T) {
	w := watchJobs(t, githubsim.Options{})
	jobs := w.jobs(t)
	job := w.hub.StartJob(githubsim.JobSpec{Repository: "acme/widget"})
	for _, c := range []struct {
		name  string
		fault githubsim.Fault
		until time.Time
	}{
		{"little is left", githubsim.Fault{Before: http.StatusOK, Body: `{"total_count":0,"jobs":[]}`, Header: http.Header{
			"X-Ratelimit-Limit": {"5000"}, "X-Ratelimit-Remaining": {"999"}, "X-Ratelimit-Reset": {fmt.Sprint(noon.Add(10 * time.Minute).Unix())}}}, noon.Add(10 * time.Minute)},
		{"it asks to wait", githubsim.Fault{Before: http.StatusTooManyRequests, Header: http.Header{"Retry-After": {"900"}}}, noon.Add(25 * time.Minute)},
	} {
		w.hub.Fault(func(r *http.Request) *githubsim.Fault {
			if strings.HasSuffix(r.URL.Path, "/jobs") {
				return &c.fault
			}
			return nil
		})
		_, _ = jobs.OfRun(t.Context(), widgetID, job.RunID(), 1)
		before := len(w.hub.Requests())
		_, err := jobs.OfRun(t.Context(), widgetID, job.RunID(), 1)
		var waits *githubapp.Error
		if !errors.As(err, &waits) || !waits.RetryAt.Equal(c.until) || len(w.hub.Requests()) != before {
			t.Errorf("%s: %v, asked %d times", c.name, err, len(w.hub.Requests())-before)
		}
		w.hub.Fault(nil)
		w.wait(c.until.Sub(w.now()))
	}
	if _, err := jobs.OfRun(t.Context(), widgetID, job.RunID(), 1); err != nil {
		t.Errorf("once it is over: %v", err)
	}
}

func TestAnAppThatMayNotReadActionsSaysWhatToDo(t *testing.T) {
	w := watchJobs(t, githubsim.Options{})
	if ok, err := w.jobs(t).Permitted(t.Context()); !ok || err != nil {
		t.Errorf("may read: %v, %v", ok, err)
	}
	w.app = w.hub.AddApp(githubsim.App{Key: appKey(), Permissions: map[string]string{"contents": "write"}})
	w.hub.Install(w.app, "acme")
	jobs := w.jobs(t)
	if ok, err := jobs.Permitted(t.Context()); ok || err != nil {
		t.Errorf("may not read: %v, %v", ok, err)
	}
	if _, err := jobs.OfRun(t.Context(), widgetID, 1, 1); err == nil || !strings.Contains(err.Error(), "actions: read") || len(w.hub.Issued()) != 0 {
		t.Errorf("%v, %d tokens", err, len(w.hub.Issued()))
	}
}

func TestADeadTokenIsReplacedAndANewOneGivenTime(t *testing.T) {
	w := watchJobs(t, githubsim.Options{FirstUseLag: 1})
	jobs := w.jobs(t)
	job := w.hub.StartJob(githubsim.JobSpec{Repository: "acme/widget"})
	ask := func() error { _, err := jobs.OfRun(t.Context(), widgetID, job.RunID(), 1); return err }
	if err := ask(); err == nil {
		t.Error("answered although the token is not known yet")
	}
	if err := ask(); err != nil || len(w.hub.Issued()) != 1 {
		t.Errorf("then: %v, %d tokens", err, len(w.hub.Issued()))
	}
	w.installation = w.hub.Install(w.app, "acme") // anew: what was made before is dead
	w.wait(2 * time.Minute)
	for range 4 {
		if err := ask(); err == nil {
			return
		}
	}
	t.Error("the App's new installation is not found")
}

package githubapp_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/stepkey/stepkey/exchange/githubapp"
	"github.com/stepkey/stepkey/internal/githubsim"
)

func TestTheStepsOfAJobAreReadWithTheirTimes(t *testing.T) {
	w := watchJobs(t, githubsim.Options{})
	job := w.hub.StartJob(githubsim.JobSpec{Repository: "acme/widget"})
	first := job.BeginStep("Check out")
	w.wait(1500 * time.Millisecond)
	job.EndStep(first, "success")
	job.SkipStep("Test")
	job.BeginStep("Publish")
	got, err := w.jobs(t).OfRun(t.Context(), widgetID, job.RunID(), 1)
	if err != nil || len(got) != 1 {
		t.Fatalf("%+v, %v", got, err)
	}
	second := noon.Add(time.Second)
	want := githubapp.Steps{
		{Number: 1, Name: "Check out", Status: "completed", Conclusion: "success", Started: noon, Completed: second},
		{Number: 2, Name: "Test", Status: "completed", Conclusion: "skipped", Started: second, Completed: second},
		{Number: 3, Name: "Publish", Status: "in_progress", Started: second},
	}
	if diff := cmp.Diff(want, got[0].Steps); diff != "" {
		t.Error(diff)
	}
}

func TestWhatAStepsStatusSays(t *testing.T) {
	for text, want := range map[string]struct{ begun, over, skipped bool }{
		`{"status":"queued","conclusion":null,"started_at":null,"completed_at":null}`:                              {},
		`{"status":"pending","conclusion":null}`:                                                                   {},
		`{"status":"in_progress","started_at":"2026-11-23T12:00:00Z"}`:                                             {begun: true},
		`{"status":"completed","conclusion":"failure","started_at":"2026-11-23T12:00:00.000-08:00"}`:               {begun: true, over: true},
		`{"status":"completed","conclusion":"skipped","started_at":null}`:                                          {begun: true, over: true, skipped: true},
		`{"status":"completed","conclusion":"cancelled"}`:                                                          {begun: true, over: true},
		`{"status":"a new status"}`:                                                                                {},
		`{"status":"a new status","conclusion":"skipped","started_at":"2026-11-23T12:00:00Z","more":{"as":"yet"}}`: {begun: true},
	} {
		var job githubapp.Job
		if err := json.Unmarshal([]byte(`{"id":1,"steps":[`+text+`]}`), &job); err != nil || len(job.Steps) != 1 {
			t.Errorf("%s: %+v, %v", text, job, err)
			continue
		}
		if s := job.Steps[0]; s.Begun() != want.begun || s.Over() != want.over || s.Skipped() != want.skipped {
			t.Errorf("%s: begun %t, over %t, skipped %t; want %+v", text, s.Begun(), s.Over(), s.Skipped(), want)
		}
	}
}

// Whatever stands under steps: the job is read, and steps are whole or none.
func FuzzStepsSpoilNoJob(f *testing.F) {
	for _, seed := range []string{`null`, `[]`, `"none"`, `[{"number":"4"}]`, `[{"started_at":"yesterday"}]`, `[{"number":4,"started_at":"0001-01-01T00:00:00Z"}]`, `{}`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, steps string) {
		if !json.Valid([]byte(steps)) {
			return
		}
		var job githubapp.Job
		if err := json.Unmarshal([]byte(`{"steps":`+steps+`,"id":7,"status":"completed"}`), &job); err != nil || job.ID != 7 || !job.Over() {
			t.Fatalf("%+v, %v", job, err)
		}
		var alone []githubapp.Step
		if err := json.Unmarshal([]byte(steps), &alone); err != nil && job.Steps != nil {
			t.Errorf("read %+v from what cannot be read: %v", job.Steps, err)
		}
	})
}

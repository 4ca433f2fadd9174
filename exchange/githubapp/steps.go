package githubapp

import (
	"encoding/json"
	"time"
)

// Step is one step of a job, as GitHub saw it last. Times have whole seconds.
type Step struct {
	Number     int       `json:"number"`
	Name       string    `json:"name"`
	Status     string    `json:"status"`     // queued, in_progress, completed, pending
	Conclusion string    `json:"conclusion"` // empty until it is completed
	Started    time.Time `json:"started_at"`
	Completed  time.Time `json:"completed_at"`
}

// Over reports whether the step has ended.
func (s Step) Over() bool { return s.Status == "completed" }

// Begun reports whether the step runs or ran. A status that GitHub adds one day counts
// as running once there is a time at which it began.
func (s Step) Begun() bool {
	return s.Over() || s.Status == "in_progress" || !s.Started.IsZero()
}

// Skipped reports whether the step is over and never ran.
func (s Step) Skipped() bool { return s.Over() && s.Conclusion == "skipped" }

// Steps are the steps of a job. They are read on their own: steps that cannot be read
// are none, so that what else the list of jobs says still counts.
type Steps []Step

// UnmarshalJSON never fails on valid JSON.
func (s *Steps) UnmarshalJSON(data []byte) error {
	var steps []Step
	if json.Unmarshal(data, &steps) != nil {
		steps = nil
	}
	*s = steps
	return nil
}

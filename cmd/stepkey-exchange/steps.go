package main

import (
	"context"

	"github.com/stepkey/stepkey/exchange"
	"github.com/stepkey/stepkey/exchange/githubapp"
	"github.com/stepkey/stepkey/exchange/policy"
)

// jobViews shows the exchange the jobs that the App sees.
type jobViews struct{ jobs *githubapp.Jobs }

func (v jobViews) OfRun(ctx context.Context, repository, run string, attempt int) (map[string]exchange.JobView, error) {
	jobs, err := v.jobs.ByClaims(ctx, repository, run, attempt)
	if err != nil {
		return nil, err
	}
	views := map[string]exchange.JobView{}
	for id, job := range jobs {
		view := exchange.JobView{Over: job.Over()}
		for _, s := range job.Steps {
			view.Steps = append(view.Steps, exchange.Step{
				Number: s.Number, Name: s.Name, Begun: s.Begun(), Over: s.Over(), Skipped: s.Skipped(),
				Started: s.Started, Completed: s.Completed,
			})
		}
		views[id] = view
	}
	return views, nil
}

// stepTasks are the tasks whose leases are to end with a step.
func stepTasks(tasks *policy.Set) (names []string) {
	for _, t := range tasks.Tasks() {
		if t.Until != policy.UntilJob {
			names = append(names, t.Name)
		}
	}
	return names
}

// promise says where tasks promise more of steps than is done here: once for each set of
// them, since job end and deadline still hold.
func (w *jobWatch) promise(ctx context.Context, tasks *policy.Set) {
	if names := stepTasks(tasks); w.unseen.Load() && len(names) > 0 {
		w.log.WarnContext(ctx, "nobody is asked which steps are over, so these tasks' credentials end with their job or at their deadline, whatever their limits say of until", "tasks", names)
	}
}

package server_test

import (
	"context"

	"github.com/stepkey/stepkey/exchange"
	"github.com/stepkey/stepkey/exchange/githubapp"
)

// jobViews shows the exchange which jobs are over, and nothing of their steps.
type jobViews struct{ jobs *githubapp.Jobs }

func (v jobViews) OfRun(ctx context.Context, repository, run string, attempt int) (map[string]exchange.JobView, error) {
	jobs, err := v.jobs.ByClaims(ctx, repository, run, attempt)
	views := map[string]exchange.JobView{}
	for id, job := range jobs {
		views[id] = exchange.JobView{Over: job.Over()}
	}
	return views, err
}

package main

import (
	"context"
	"sync"
	"time"

	"github.com/stepkey/stepkey/exchange/client"
	"github.com/stepkey/stepkey/internal/secret"
)

// load is what asks the first life, until all has been answered or cut off.
func (r *crashRun) load() {
	ctx, leave := context.WithCancel(r.t.Context())
	defer leave()
	var asking, ending sync.WaitGroup
	for _, j := range r.jobs[:workloads] {
		asking.Go(func() { r.work(ctx, j) })
	}
	asking.Go(func() {
		if _, err := r.stranger.exchange(ctx, r.first); err == nil {
			r.t.Error("a stranger was given the task")
		}
	})
	switch r.point.goes {
	case endedMeanwhile:
		r.untilAllCreate()
		for _, j := range r.jobs {
			ending.Go(func() { r.giveBack(j, nil) })
		}
		ending.Wait()
	case clientsGone:
		r.untilAllCreate()
		leave()
	}
	r.letGo.open()
	asking.Wait()
	ending.Wait()
	for _, once := range r.jobs[workloads:] {
		if grant, err := once.exchange(ctx, r.first); err == nil {
			r.note(grant)
		}
	}
}

// untilAllCreate returns when every job's create is at GitHub, or nobody asks any
// more. On a slow machine one may have come too late to be sent at all: then the run
// goes on with those that are there.
func (r *crashRun) untilAllCreate() {
	select {
	case <-r.allThere.c:
	case <-r.first.gone:
	case <-time.After(patience / 12):
	}
}

func (r *crashRun) work(ctx context.Context, j *crashJob) {
	grant, err := j.exchange(ctx, r.first)
	if err != nil {
		grant = nil
	} else if r.note(grant) == r.nth() && r.point.dies == "given" {
		r.first.kill()
	}
	switch r.point.goes {
	case endedMeanwhile, clientsGone, rerun, retry, tripwire: // who gives back, does so at another time
	default:
		r.giveBack(j, grant)
	}
}

// giveBack ends what a job has, or may have: without an answer it cannot know.
func (r *crashRun) giveBack(j *crashJob, grant *client.Grant) {
	if j.gives == "" {
		return
	}
	var err error
	if grant != nil && j.gives == "by lease token" {
		_, err = r.first.client.Revoke(r.t.Context(), grant.LeaseToken)
	} else {
		_, err = r.first.client.RevokeJob(r.t.Context(), secret.New(j.Sign(j.longClaims())), "brief")
	}
	if err != nil {
		return
	}
	r.mu.Lock()
	j.over = true
	r.back++
	last := r.back == r.nth()
	r.mu.Unlock()
	if last && r.point.dies == "given back" && (r.outside == nil || grant != nil) {
		r.first.kill()
	}
}

// giveBackAgain is what the jobs do in a later life whose end of a lease was not
// confirmed in an earlier one.
func (r *crashRun) giveBackAgain(p *process) {
	var all sync.WaitGroup
	for _, j := range r.jobs {
		if j.gives == "" || j.over {
			continue
		}
		all.Go(func() {
			_, err := p.client.RevokeJob(r.t.Context(), secret.New(j.Sign(j.longClaims())), "brief")
			j.over = err == nil
		})
	}
	all.Wait()
}

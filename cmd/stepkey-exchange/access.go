package main

import (
	"github.com/stepkey/stepkey/exchange"
	"github.com/stepkey/stepkey/exchange/githubapp"
)

// forgetter caches which installation of an App a repository has. The backend github,
// and the readers of jobs, of checks and of task files are Apps of their own in memory,
// though one at GitHub.
type forgetter interface {
	Forget(installation int64)
}

// heedAccess lets the webhook's word that the App lost access reach those who cache
// it, and has GitHub asked whether that is still so, where the App that reads jobs is
// of the same GitHub. Where it is not, the word alone counts.
func (w *jobWatch) heedAccess(x *exchange.Exchange, asked *checks, tasks *taskSources) {
	if w.webhook == nil {
		return
	}
	var caches []forgetter
	for _, b := range x.Backends {
		if cache, ok := b.(forgetter); ok {
			caches = append(caches, cache)
		}
	}
	for _, app := range []*githubapp.App{w.app, asked.reads(), tasks.app} {
		if app != nil {
			caches = append(caches, app)
		}
	}
	w.webhook.Forget = func(installation int64) {
		for _, cache := range caches {
			cache.Forget(installation)
		}
	}
	if w.app != nil && w.webhook.Issuer == w.issuer {
		w.webhook.Reaches = w.app.Reaches
	}
}

package main

import (
	"github.com/stepkey/stepkey/exchange"
)

// forgetter caches which installation of an App a repository has. The backend github and
// the one that reads are two Apps in memory, though one at GitHub.
type forgetter interface {
	Forget(installation int64)
}

// heedAccess lets the webhook's word that the App lost access reach those who cache
// it, and has GitHub asked whether that is still so, where the App that reads jobs is
// of the same GitHub. Where it is not, the word alone counts.
func (w *jobWatch) heedAccess(x *exchange.Exchange) {
	if w.webhook == nil {
		return
	}
	var caches []forgetter
	for _, b := range x.Backends {
		if cache, ok := b.(forgetter); ok {
			caches = append(caches, cache)
		}
	}
	if w.app != nil {
		caches = append(caches, w.app)
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

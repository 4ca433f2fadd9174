package identity

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

const (
	// refreshEvery limits fetches for tokens that the keys at hand do not verify:
	// whoever sends random kids causes one fetch a minute. The price is that a key
	// younger than a minute may have to wait for it.
	refreshEvery = 60 * time.Second
	// retryEvery limits fetches while there are no usable keys at all, so that an
	// exchange that starts before its issuer recovers quickly.
	retryEvery = 5 * time.Second
	// From renewAfter on, keys are fetched anew in the background; from
	// rebuildAfter on, nobody is let in by the old ones before a fetch was tried. A
	// set is replaced whole, so a withdrawn key is gone after at most rebuildAfter.
	renewAfter   = 50 * time.Minute
	rebuildAfter = 60 * time.Minute
	// staleAfter ends the use of old keys while the issuer cannot be reached.
	staleAfter = 24 * time.Hour
)

// A keyRing holds the keys of one issuer and keeps them fresh.
//
// At most one fetch is under way; it belongs to the ring and not to the caller who
// caused it, so nobody's cancelled request fails for the others. The lock is never
// held while fetching or verifying. Callers wait for a fetch only if the keys at
// hand cannot answer.
type keyRing struct {
	issuer string // configured name
	source *source
	now    func() time.Time
	log    *slog.Logger

	mu     sync.Mutex
	held   keySet
	tried  time.Time     // when the latest fetch began
	flight chan struct{} // closed when the fetch under way ends; nil if there is none
}

// A keySet is what an issuer's keys were at one moment. The map is replaced whole,
// never changed.
type keySet struct {
	byID   map[string]key
	read   time.Time // when the fetch that brought them began; zero: never
	failed error     // why the latest fetch failed; nil if it did not
}

func newKeyRing(i Issuer, k kind, o Options) *keyRing {
	return &keyRing{issuer: i.Name, source: newSource(i, k), now: o.Now, log: o.Log}
}

// verify returns the payload of a token that a key of this issuer signed.
func (r *keyRing) verify(ctx context.Context, t *token) ([]byte, error) {
	known, err := r.key(ctx, t.kid)
	if err != nil {
		return nil, err
	}
	if known.alg != t.alg {
		return nil, refuse(RuleKey, "the key "+show(t.kid)+" is for "+known.alg+" and not for "+t.alg, fixIssuerToken)
	}
	payload, err := known.verify(t)
	if err == nil {
		return payload, nil
	}
	// The issuer may have put a new key under the old kid.
	r.await(ctx)
	if renewed, ok := r.current().byID[t.kid]; ok && !renewed.same(known) {
		if payload, err := renewed.verify(t); err == nil {
			return payload, nil
		}
	}
	return nil, refuse(RuleSignature, "the signature does not match the key "+show(t.kid)+" of the issuer", fixIssuerToken)
}

// key returns the key that kid names.
func (r *keyRing) key(ctx context.Context, kid string) (key, error) {
	held := r.current()
	known, ok := held.byID[kid]
	age := r.now().Sub(held.read)
	if ok && age < rebuildAfter {
		if age >= renewAfter {
			r.refresh()
		}
		return known, nil
	}
	r.await(ctx)
	held = r.current()
	if held.read.IsZero() || r.now().Sub(held.read) > staleAfter {
		return key{}, r.unavailable(ctx, held.failed)
	}
	if known, ok = held.byID[kid]; ok {
		return known, nil
	}
	if held.failed != nil || ctx.Err() != nil {
		return key{}, r.unavailable(ctx, held.failed) // it may be a new key: only the issuer could tell
	}
	return key{}, refuse(RuleKey,
		fmt.Sprintf("the issuer has no usable key %s (its keys were read %s ago)", show(kid), r.now().Sub(held.read).Round(time.Second)),
		"if the issuer has just changed its keys, request a new token and try again in a minute")
}

func (r *keyRing) unavailable(ctx context.Context, cause error) error {
	if cause == nil {
		cause = context.Cause(ctx)
	}
	return fmt.Errorf("reading the keys of issuer %q: %w: %w", r.issuer, ErrUnavailable, cause)
}

func (r *keyRing) current() keySet {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.held
}

// await lets a fetch happen, if one is allowed now, and waits for its end or ctx.
func (r *keyRing) await(ctx context.Context) {
	flight := r.refresh()
	if flight == nil {
		return
	}
	select {
	case <-flight:
	case <-ctx.Done():
	}
}

// refresh joins the fetch under way or begins one. It returns nil if the latest
// one is too recent.
func (r *keyRing) refresh() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.flight != nil {
		return r.flight
	}
	now := r.now()
	pause := refreshEvery
	if r.held.read.IsZero() || now.Sub(r.held.read) > staleAfter {
		pause = retryEvery
	}
	if !r.tried.IsZero() && now.Sub(r.tried) < pause {
		return nil
	}
	r.tried = now
	r.flight = make(chan struct{})
	go r.fetch(now, r.flight)
	return r.flight
}

// fetch replaces the keys, or keeps the old ones if the issuer does not answer. A
// well-formed answer without any usable key counts: then no key is trusted.
func (r *keyRing) fetch(began time.Time, done chan struct{}) {
	byID, dropped, err := r.source.read(context.Background()) // each request has its own time limit
	if err != nil {
		r.log.Warn("reading issuer keys failed", "issuer", r.issuer, "error", err)
	} else {
		r.log.Info("read issuer keys", "issuer", r.issuer, "usable", len(byID), "left_out", dropped)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		r.held.failed = err
	} else {
		r.held = keySet{byID: byID, read: began}
	}
	r.flight = nil
	close(done)
}

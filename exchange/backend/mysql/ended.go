package mysql

import (
	"sync"
	"time"

	"github.com/stepkey/stepkey/exchange/backend"
)

// ended remembers the leases that this process was asked to end, so that one that is being
// issued at the same time is not made after its end. Whoever asks holds the lease's lock
// on the server, so the two never pass each other.
type ended struct {
	now  func() time.Time
	mu   sync.Mutex
	when map[backend.LeaseID]time.Time
}

const (
	endedFor  = time.Hour // no call of Issue lasts as long
	endedMany = 4096      // from there on it is looked for what may be forgotten
)

func (e *ended) note(lease backend.LeaseID) {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := e.now()
	if e.when == nil {
		e.when = map[backend.LeaseID]time.Time{}
	}
	if len(e.when) >= endedMany {
		for old, at := range e.when {
			if now.Sub(at) > endedFor {
				delete(e.when, old)
			}
		}
	}
	e.when[lease] = now
}

func (e *ended) has(lease backend.LeaseID) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	_, is := e.when[lease]
	return is
}

package lease

import (
	"context"
	"time"
)

// Leases that a job's end would end: somebody may still have the credential, and
// nobody has begun to take it back.
const inHands = ` AND due_at IS NOT NULL AND state IN ('pending', 'active') AND reason = ''`

// LivesOfRun lists what the jobs of one run hold, over all its attempts, oldest first.
func (s *Store) LivesOfRun(ctx context.Context, issuer, repository, run string) ([]Lease, error) {
	return many(ctx, s.reading(), `issuer = ? AND run = ? AND repository = ?`+inHands+` ORDER BY created_at, id`, issuer, run, repository)
}

// LivesOfIssuer lists what jobs of an issuer hold since before a moment, oldest
// first. Leases whose issuer names no runs are not among them.
func (s *Store) LivesOfIssuer(ctx context.Context, issuer string, createdBefore time.Time) ([]Lease, error) {
	return many(ctx, s.reading(), `issuer = ? AND run <> '' AND created_at < ?`+inHands+` ORDER BY created_at, id`, issuer, createdBefore.UnixMicro())
}

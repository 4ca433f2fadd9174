package lease

import (
	"context"
	"fmt"
	"strings"

	"github.com/stepkey/stepkey/exchange/backend"
)

// A Selector says which live leases are meant: those that match every field that is
// set. One that sets none means none, so that nothing is ended by leaving something
// out; All means all.
type Selector struct {
	Lease      backend.LeaseID
	Job        string // identity.Job.Key, or the job in words as the audit log has it
	Repository string // numeric id
	Task       string
	All        bool
}

// LivesWhere lists the leases that are not final and that the selector means, oldest
// first.
func (s *Store) LivesWhere(ctx context.Context, which Selector) ([]Lease, error) {
	var holds []string
	var args []any
	where := func(condition, value string) {
		if value == "" {
			return
		}
		holds = append(holds, condition)
		for range strings.Count(condition, "?") {
			args = append(args, value)
		}
	}
	where(`id = ?`, string(which.Lease))
	where(`(job = ? OR job_name = ?)`, which.Job)
	where(`repository = ?`, which.Repository)
	where(`task = ?`, which.Task)
	if len(holds) == 0 && !which.All {
		return nil, nil
	}
	return many(ctx, s.reading(), strings.Join(append(holds, `due_at IS NOT NULL`), ` AND `)+` ORDER BY created_at, id`, args...)
}

// Overdue counts the leases that should be over by now and are not; see Lease.Overdue.
func (s *Store) Overdue(ctx context.Context) (int, error) {
	var n int
	err := s.reading().row(ctx, `SELECT count(*) FROM leases WHERE due_at IS NOT NULL AND ends_at < ?`, s.now().Add(-overdueAfter).UnixMicro()).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("counting overdue leases: %w", err)
	}
	return n, nil
}

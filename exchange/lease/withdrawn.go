package lease

import (
	"context"
	"fmt"

	"github.com/stepkey/stepkey/exchange/backend"
)

// Withdrawn lists the leases of a backend whose credential nobody is to take any more,
// although it may not have died by itself yet: those that ended, and those that began to.
// StartEnding commits before a backend is asked, so whatever is being revoked is listed,
// and nothing that is listed ever becomes active. Sorted by id.
func (s *Store) Withdrawn(ctx context.Context, of string) ([]backend.LeaseID, error) {
	rows, err := s.reading().query(ctx, `SELECT id FROM leases WHERE backend = ? AND dies_at > ? AND reason <> '' ORDER BY id`, of, s.now().UnixMicro())
	if err != nil {
		return nil, fmt.Errorf("listing withdrawn leases: %w", err)
	}
	defer rows.Close()
	var all []backend.LeaseID
	for rows.Next() {
		var id backend.LeaseID
		if err := rows.Scan(&id); err != nil {
			return nil, fmt.Errorf("listing withdrawn leases: %w", err)
		}
		all = append(all, id)
	}
	return all, rows.Err()
}

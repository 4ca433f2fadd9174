package lease

import (
	"context"
	"fmt"
)

// ByTaskGone is why a lease was ended whose task file is no more.
const ByTaskGone = "its task is gone"

// LivesOfTask lists what jobs hold of a task, oldest first.
func (s *Store) LivesOfTask(ctx context.Context, task string) ([]Lease, error) {
	return many(ctx, s.reading(), `task = ?`+inHands+` ORDER BY created_at, id`, task)
}

// LiveTasks names the tasks that jobs hold leases of.
func (s *Store) LiveTasks(ctx context.Context) ([]string, error) {
	rows, err := s.reading().query(ctx, `SELECT DISTINCT task FROM leases WHERE TRUE`+inHands+` ORDER BY task`)
	if err != nil {
		return nil, fmt.Errorf("listing tasks in use: %w", err)
	}
	defer rows.Close()
	var names []string
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			return nil, fmt.Errorf("listing tasks in use: %w", err)
		}
		names = append(names, name)
	}
	return names, rows.Err()
}

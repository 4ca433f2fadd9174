package mysql

import (
	"context"
	"fmt"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/internal/secret"
)

var _ backend.Prover = (*Backend)(nil)

// Gone looks whether the server still has the user. It does not try to log in: the server
// refuses a user that is not there, and counts that against the host it came from.
func (b *Backend) Gone(ctx context.Context, lease backend.LeaseID, _ secret.String) (bool, error) {
	user, named := userOf(lease)
	if !named || b.server == nil {
		return true, nil
	}
	x, err := b.server.session(ctx, user)
	if err != nil {
		return false, fmt.Errorf("asking the server whether the user of lease %s is gone: %w", lease, err)
	}
	defer x.end()
	hosts, err := x.hosts(ctx)
	if err != nil {
		return false, fmt.Errorf("asking the server whether the user of lease %s is gone: %w", lease, err)
	}
	return len(hosts) == 0, nil
}

package exchange

import (
	"context"
	"errors"

	"github.com/stepkey/stepkey/exchange/lease"
	"github.com/stepkey/stepkey/internal/secret"
)

// Inspect shows the lease that a lease token is the handle of. The second result
// is false when there is none. A credential's own token does not find its lease
// here: whoever got hold of it learns nothing from us.
func (x *Exchange) Inspect(ctx context.Context, leaseToken secret.String) (Lease, bool, error) {
	l, err := x.Leases.ByToken(ctx, leaseToken)
	if errors.Is(err, lease.ErrUnknown) {
		return Lease{}, false, nil
	}
	return l, err == nil, err
}

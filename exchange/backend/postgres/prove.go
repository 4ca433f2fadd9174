package postgres

import (
	"context"
	"fmt"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/internal/secret"
)

var _ backend.Prover = (*Backend)(nil)

// Gone looks whether the server still has the role, or a session of its. It does not try to
// log in: the server refuses a role that is not there, and would write the refusal to its
// log.
func (b *Backend) Gone(ctx context.Context, lease backend.LeaseID, h secret.String) (bool, error) {
	role, named := roleOf(lease)
	if !named || b.server == nil {
		return true, nil
	}
	oid := handleOf(h).OID
	if oid == "" {
		oid = "0" // nobody's
	}
	gone := false
	err := b.in(ctx, b.home(), role, func(x *session) error {
		got, err := x.run(ctx, "SELECT count(*) FROM pg_catalog.pg_roles WHERE rolname = "+literal(role))
		if err != nil {
			return err
		}
		row, err := got.row(1)
		if err != nil || row[0] != "0" {
			return err
		}
		last, err := b.lastOf(ctx, x, oid)
		if err == nil && last.sessions == "0" && last.unseen > 0 {
			err = last.unsaid()
		}
		gone = err == nil && last.sessions == "0"
		return err
	})
	if err != nil {
		return false, fmt.Errorf("asking PostgreSQL whether the role of lease %s is gone: %w", lease, err)
	}
	return gone, nil
}

package lease

import (
	"context"
	"fmt"

	"github.com/stepkey/stepkey/exchange/audit"
	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/exchange/policy"
)

// FellBack stands in place of a step's number where a lease that was to end with a
// step ends with its job after all.
const FellBack = -1

// EndsWithStep reports whether the end of a step is to end the lease, as far as is
// known by now.
func (l Lease) EndsWithStep() bool {
	return (l.Until == policy.UntilStep || l.Until == policy.UntilThisStep) && l.Step != FellBack
}

// LivesByStep lists what jobs of an issuer hold until a step of theirs is over, oldest
// first.
func (s *Store) LivesByStep(ctx context.Context, issuer string) ([]Lease, error) {
	return many(ctx, s.reading(), `issuer = ? AND run <> '' AND until <> 'job' AND step >= 0`+inHands+` ORDER BY created_at, id`, issuer)
}

// Bind writes down with which step a lease ends, or FellBack, and why. A lease is only
// tied to a later step than before, and one that fell back or is being ended stays as
// it is: then nothing is changed, and that is no error, since views of a job come late
// and to several processes.
func (s *Store) Tie(ctx context.Context, id backend.LeaseID, step int, why string) error {
	return s.transact(ctx, fmt.Sprintf("binding %s to a step", id), func(tx session) error {
		l, _, err := one(ctx, tx, `id = ?`+tx.forUpdate, string(id))
		if err != nil || !l.EndsWithStep() || l.State.Final() || l.Reason != "" || (step != FellBack && step <= l.Step) {
			return err
		}
		if _, err := tx.exec(ctx, `UPDATE leases SET step = ? WHERE id = ?`, step, string(id)); err != nil {
			return err
		}
		_, err = s.enter(ctx, tx, entry(l, audit.Tied, "", why))
		return err
	})
}

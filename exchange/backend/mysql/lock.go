package mysql

import (
	"context"
	"errors"
	"fmt"

	"github.com/stepkey/stepkey/exchange/backend"
)

// errHeld: another session of ours makes or ends the same user.
var errHeld = errors.New("another session holds the lock of the lease")

func lockOf(user string) string { return "stepkey/" + user }

// lock takes the lock of the session's user, and waits up to some seconds for it. The
// server keeps it until it is given back or the session is over, also one that nobody
// listens to any more: so who holds it knows that no statement of another session about
// this user is still to come to pass.
func (x *session) lock(ctx context.Context, seconds int) error {
	row, err := x.row(ctx, fmt.Sprintf("SELECT GET_LOCK(%s, %d)", literal(lockOf(x.user)), seconds), 1)
	switch {
	case err != nil:
		return err
	case row[0] != "1":
		return fmt.Errorf("%w: %w", errHeld, backend.ErrUnavailable)
	}
	return nil
}

// unlock gives it back, or else ends the session that holds it.
func (x *session) unlock(ctx context.Context) {
	ctx, done := context.WithTimeout(context.WithoutCancel(ctx), cleanWithin)
	defer done()
	if _, err := x.row(ctx, "SELECT RELEASE_LOCK("+literal(lockOf(x.user))+")", 1); err != nil {
		x.discard()
	}
}

const patience = 6 // seconds with the holder of a lock, if it is one of ours

// lockForEnd takes the lock, if need be from whoever has it. Others of ours get some time:
// they are ending the same user, or making it. Anybody may take a lock of any name; a
// stranger who has this one can only be in the way.
func (x *session) lockForEnd(ctx context.Context) error {
	for range 2 {
		for range patience {
			if err := x.lock(ctx, 1); !errors.Is(err, errHeld) {
				return err
			}
			row, err := x.row(ctx, "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE ID = IS_USED_LOCK("+literal(lockOf(x.user))+
				") AND USER = SUBSTRING_INDEX(USER(), '@', 1)", 1)
			if err != nil {
				return err
			}
			if row[0] == "0" {
				break
			}
		}
		row, err := x.row(ctx, "SELECT IS_USED_LOCK("+literal(lockOf(x.user))+")", 1)
		if err != nil {
			return err
		}
		if err := x.kill(ctx, row[0]); err != nil {
			return err
		}
	}
	return x.lock(ctx, 1)
}

// kill ends a session. One that is not there has ended.
func (x *session) kill(ctx context.Context, id string) error {
	if id == "" || id == "0" {
		return nil
	}
	if err := x.run(ctx, "KILL CONNECTION "+id); err != nil && number(err) != noSuchThread {
		return fmt.Errorf("ending a session: %w", err)
	}
	return nil
}

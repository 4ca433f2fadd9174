package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/stepkey/stepkey/exchange/backend"
)

// starting is a session that logs in and cannot be seen in pg_stat_activity yet. It holds
// the lock of its own virtual transaction from before it is asked for its password until
// after it can be seen, so who is in neither, asked for in this order, is not there.
//
// How long that takes is up to whoever logs in: post_auth_delay, which anybody may send along,
// is a sleep of up to 36 minutes after the server has looked whether the role may log in. And
// whose it is, is in no list.
type starting struct {
	pid, transaction string
	passed           bool // its login, for certain: it has come to its database
}

const startingQuestion = "SELECT l.pid, l.virtualtransaction, bool_or(l.locktype = 'object') FROM pg_catalog.pg_locks l WHERE l.pid IS NOT NULL" +
	" AND (l.locktype = 'virtualxid' OR l.locktype = 'object' AND l.classid = 'pg_catalog.pg_database'::pg_catalog.regclass)" +
	" GROUP BY 1, 2 HAVING bool_or(l.locktype = 'virtualxid')"

// seenQuestion is to be gone on with. From 18 on the list has those who log in, with no name.
const seenQuestion = "SELECT a.pid, a.usesysid IS NULL AND a.datid IS NULL"

// unseen are of those who hold such locks those who are not in the list.
func unseen(locked, seen [][]string) (all []starting) {
	known := map[string]bool{}
	for _, s := range seen {
		known[s[0]] = s[1] != "t"
	}
	for _, l := range locked {
		if !known[l[0]] {
			all = append(all, starting{pid: l[0], transaction: l[1], passed: l[2] == "t"})
		}
	}
	return all
}

// startingLooks is how often those who log in are waited for, 155 ms in all. A login like any other is over by
// then, and so is the moment between the server's look at a role and its note of whose the session is.
const startingLooks = 6

// still are those of a look who were there at an earlier one.
func still(earlier, now []starting) (both []starting) {
	for _, s := range now {
		if slices.ContainsFunc(earlier, func(e starting) bool { return e.pid == s.pid && e.transaction == s.transaction }) {
			both = append(both, s)
		}
	}
	return both
}

// terminateStarting ends those of the role's sessions that cannot be seen yet, and returns how many it has told to
// end. PostgreSQL alone knows whose they are, so it is asked as the role itself, which may end its own sessions and no
// others: not those of the exchange, of superusers, or of whoever has not shown a password, for whom a revocation need
// not wait. The role's memberships go before that, since with them it could end sessions of those roles as well.
func terminateStarting(ctx context.Context, x *session, all []starting, of []string) (its int, err error) {
	alone := []string{member(x.role)}
	for _, role := range of {
		alone = append(alone, "REVOKE "+identifier(role)+" FROM "+identifier(x.role))
	}
	itself := "SET LOCAL ROLE " + identifier(x.role) // for one message, which is one transaction
	if _, err := x.run(ctx, alone...); err != nil {
		return 0, err
	}
	got, err := x.run(ctx, itself, "SELECT NOT EXISTS (SELECT FROM pg_catalog.pg_auth_members m WHERE m.member = "+oidOf(x.role)+"),"+
		" (SELECT bool_and(pg_catalog.has_function_privilege(p.oid, 'EXECUTE')) FROM pg_catalog.pg_proc p"+
		" WHERE p.proname = 'pg_terminate_backend' AND p.pronamespace = 'pg_catalog'::pg_catalog.regnamespace)")
	if err != nil {
		return 0, err
	}
	switch row, err := got.row(2); {
	case err != nil:
		return 0, err
	case row[0] != "t":
		return 0, fmt.Errorf("%d sessions log in that may be of the lease, and the role is a member of others, so that they cannot be told from theirs; "+
			"whoever made it one can REVOKE that: %w", len(all), backend.ErrUnavailable)
	case row[1] != "t":
		return 0, fmt.Errorf("%d sessions log in that may be of the lease, and it may not end its own; GRANT EXECUTE ON FUNCTION pg_terminate_backend TO PUBLIC "+
			"is how PostgreSQL comes: %w", len(all), backend.ErrUnavailable)
	}
	for _, s := range all {
		got, err := x.run(ctx, itself, "SELECT pg_catalog.pg_terminate_backend("+literal(s.pid)+"::int)")
		if code(err) == notPermitted {
			continue // it is another's, or nobody's yet
		}
		if err != nil {
			return its, err
		}
		if row, err := got.row(1); err == nil && row[0] == "t" {
			its++
		}
	}
	return its, nil
}

// last is what can be told of the sessions of a role that is not there: how many have its
// OID, and how many log in since before, of whom nobody can say any more whose they are.
type last struct {
	sessions string
	unseen   int
}

func (l last) unsaid() error {
	return fmt.Errorf("the role is not there, and %d sessions that had passed their login before cannot be seen yet, so that nobody can say whether they are its; "+
		"they can be seen or are over once their post_auth_delay is: %w", l.unseen, backend.ErrUnavailable)
}

func (b *Backend) lastOf(ctx context.Context, x *session, oid string) (last, error) {
	var early []starting
	for look, pause := 0, firstPause; ; look, pause = look+1, 2*pause {
		got, err := x.run(ctx, startingQuestion, seenQuestion+" FROM pg_catalog.pg_stat_activity a",
			"SELECT count(*) FROM pg_catalog.pg_stat_activity WHERE usesysid = "+literal(oid)+"::pg_catalog.oid")
		if err != nil {
			return last{}, err
		}
		locked, err1 := got.rows(2, 3)
		seen, err2 := got.rows(1, 2)
		row, err3 := got.row(1)
		if err := errors.Join(err1, err2, err3); err != nil {
			return last{}, err
		}
		now := unseen(locked, seen)
		if look == 0 {
			early = now
		}
		early = still(early, now)
		if len(early) == 0 || look == startingLooks {
			early = slices.DeleteFunc(early, func(s starting) bool { return !s.passed })
			return last{sessions: row[0], unseen: len(early)}, nil
		}
		if err := b.pause(ctx, pause); err != nil {
			return last{}, fmt.Errorf("%w while sessions log in: %w", err, backend.ErrUnavailable)
		}
	}
}

package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/exchange/backend/reach"
	"github.com/stepkey/stepkey/internal/secret"
)

// Revoke takes a lease's role out of the server. Its order is what makes it certain:
//
//  1. No login, no password: committed before anything is counted, so what is counted
//     can only become less.
//  2. Sessions are terminated until there is none, those too that had passed their login
//     before 1 and cannot be seen yet: see starting.
//  3. Prepared transactions, which outlive sessions, are rolled back.
//  4. What the role owns is given away or dropped, and what it was granted taken back,
//     in every database in which there is such a thing.
//  5. The role is dropped, and what is left of it is counted: nothing.
//
// Where there is no role, nobody may be about to commit it either: see absent.
func (b *Backend) Revoke(ctx context.Context, lease backend.LeaseID, h secret.String) error {
	role, named := roleOf(lease)
	if !named || b.server == nil {
		return nil // Issue makes none for such an id
	}
	known := handleOf(h)
	err := b.unlessDisturbed(ctx, func() error { return b.revoke(ctx, role, known) })
	if err != nil {
		return fmt.Errorf("revoking the PostgreSQL role of lease %s: %w", lease, err)
	}
	return nil
}

// home is the database from which the whole server is looked at.
func (b *Backend) home() string { return b.limits.Databases[0] }

var errAppeared = errors.New("its creation was committed just now")

func (b *Backend) revoke(ctx context.Context, role string, known handle) error {
	err := b.revokeOnce(ctx, role)
	if code(err) != undefinedObject {
		return err
	}
	if err = b.absent(ctx, role, known); errors.Is(err, errAppeared) {
		err = b.revokeOnce(ctx, role)
	}
	return err
}

func (b *Backend) revokeOnce(ctx context.Context, role string) error {
	left, err := b.disconnect(ctx, role)
	if err == nil && len(left.prepared) > 0 {
		if err := b.rollBack(ctx, role, left.prepared); err != nil {
			return err
		}
		left, err = b.disconnect(ctx, role)
	}
	if err != nil {
		return err
	}
	return b.remove(ctx, role, left)
}

// absent makes sure that a role that is not there is not about to be: making one of its
// name waits for whoever is making one, and is rolled back. Sessions of a role that
// somebody dropped by hand go on, and are looked for.
func (b *Backend) absent(ctx context.Context, role string, known handle) error {
	x, err := b.server.session(ctx, b.home(), role)
	if err != nil {
		return err
	}
	defer x.end(ctx)
	_, err = x.run(ctx, "BEGIN", "CREATE ROLE "+identifier(role)+" WITH NOLOGIN", "ROLLBACK")
	switch {
	case code(err) == duplicateObject, code(err) == uniqueViolation:
		return errAppeared
	case err != nil:
		return fmt.Errorf("looking whether it is being made: %w", err)
	case known.Server != "" && known.Server != b.server.at.address():
		return fmt.Errorf("it was made on %s, and the configuration now names %s, which has no such role; configure the former until its leases are over",
			reach.OneLine(known.Server, maxName), b.server.at.address())
	case known.OID == "":
		return nil
	}
	last, err := b.lastOf(ctx, x, known.OID)
	switch {
	case err != nil:
		return err
	case last.sessions != "0":
		return fmt.Errorf("somebody dropped the role, and %s of its sessions are still open; a superuser ends them: "+
			"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usesysid = %s", last.sessions, reach.OneLine(known.OID, maxName))
	case last.unseen > 0:
		return last.unsaid()
	}
	return nil
}

// remains is what a role still has on the server.
type remains struct {
	oid       string
	sessions  int
	starting  []starting
	databases []string // in which it owns something or was granted something
	memberOf  []string
	prepared  []prepared // transactions
}

// prepared is a transaction; id is quoted. A role that acts as another prepares them as
// that one.
type prepared struct{ id, database, owner string }

const (
	looks      = 60 // at sessions that are ending; with pauses of 5 to 250 ms, 14 s
	firstPause = 5 * time.Millisecond
	lastPause  = 250 * time.Millisecond
)

// disconnect stops logins, terminates sessions until none is left, and returns what else
// is.
func (b *Backend) disconnect(ctx context.Context, role string) (remains, error) {
	x, err := b.server.session(ctx, b.home(), role)
	if err != nil {
		return remains{}, err
	}
	defer x.end(ctx)
	before := []string{"BEGIN", "ALTER ROLE " + identifier(role) + " WITH NOLOGIN PASSWORD NULL", "COMMIT"}
	pause := firstPause
	var left remains
	var early []starting // those of the first look; whoever came later is refused
	for look := range looks {
		if look > 0 {
			if err := b.pause(ctx, pause); err != nil {
				return left, fmt.Errorf("%w while %d sessions are still open: %w", err, left.sessions, backend.ErrUnavailable)
			}
			pause = min(2*pause, lastPause)
		}
		if left, err = lookOnce(ctx, x, before); err != nil {
			return left, err
		}
		if look == 0 {
			early = left.starting
		}
		before, early = nil, still(early, left.starting)
		if left.sessions > 0 {
			if err := terminate(ctx, x); err != nil {
				return left, err
			}
		}
		if look >= startingLooks && len(early) > 0 {
			its, err := terminateStarting(ctx, x, early, left.memberOf)
			if err != nil {
				return left, err
			}
			left.sessions += its
		}
		if left.sessions == 0 && (len(early) == 0 || look >= startingLooks) {
			return left, nil
		}
	}
	return left, fmt.Errorf("%d sessions do not end although they were told to; trying again: %w", left.sessions, backend.ErrUnavailable)
}

// member: who has a role's privileges may terminate its sessions and handle what it owns.
// The exchange takes them only for a role's last moments.
func member(role string) string { return "GRANT " + identifier(role) + " TO CURRENT_USER" }

func terminate(ctx context.Context, x *session) error {
	_, err := x.run(ctx, member(x.role),
		"SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity WHERE usesysid = "+oidOf(x.role))
	return err
}

func oidOf(role string) string {
	return "(SELECT r.oid FROM pg_catalog.pg_roles r WHERE r.rolname = " + literal(role) + ")"
}

// lookOnce looks at all that a role has, after what comes before. Its first two questions are in the order that
// starting is about.
//
// A prepared transaction is the role's if it says so, or if it holds a lock on the role:
// then it has made something that the role owns, or granted it something.
func lookOnce(ctx context.Context, x *session, before []string) (remains, error) {
	oid, home := oidOf(x.role), "pg_catalog.current_database()"
	got, err := x.run(ctx, append(before,
		startingQuestion,
		seenQuestion+", a.usesysid IS NOT DISTINCT FROM "+oid+" FROM pg_catalog.pg_stat_activity a",
		"SELECT pg_catalog.quote_literal(p.gid), p.database, p.owner FROM pg_catalog.pg_prepared_xacts p WHERE p.owner = "+literal(x.role)+
			" OR EXISTS (SELECT FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_locks t ON t.virtualtransaction = l.virtualtransaction"+
			" WHERE l.locktype = 'object' AND l.pid IS NULL AND t.locktype = 'transactionid' AND t.pid IS NULL AND t.transactionid = p.transaction"+
			" AND l.classid = 'pg_catalog.pg_authid'::pg_catalog.regclass AND l.objid = "+oid+")",
		"SELECT DISTINCT COALESCE(d.datname, "+home+") FROM pg_catalog.pg_shdepend s LEFT JOIN pg_catalog.pg_database d ON d.oid = s.dbid"+
			" WHERE s.refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass AND s.refobjid = "+oid,
		"SELECT DISTINCT g.rolname FROM pg_catalog.pg_auth_members m JOIN pg_catalog.pg_roles g ON g.oid = m.roleid WHERE m.member = "+oid,
		"SELECT "+oid)...)
	if err != nil {
		return remains{}, err
	}
	return remainsOf(got)
}

func remainsOf(got answers) (remains, error) {
	locked, err1 := got.rows(5, 3)
	seen, err2 := got.rows(4, 3)
	transactions, err3 := got.rows(3, 3)
	databases, err4 := got.rows(2, 1)
	roles, err5 := got.rows(1, 1)
	row, err6 := got.row(1)
	if err := errors.Join(err1, err2, err3, err4, err5, err6); err != nil {
		return remains{}, err
	}
	left := remains{oid: row[0]}
	for _, s := range seen {
		if s[2] == "t" {
			left.sessions++
		}
	}
	left.starting = unseen(locked, seen)
	for _, t := range transactions {
		left.prepared = append(left.prepared, prepared{id: t[0], database: t[1], owner: t[2]})
	}
	for _, d := range databases {
		left.databases = append(left.databases, d[0])
	}
	for _, r := range roles {
		left.memberOf = append(left.memberOf, r[0])
	}
	return left, nil
}

// rollBack ends prepared transactions. PostgreSQL lets their owner do that alone, in
// their own database.
func (b *Backend) rollBack(ctx context.Context, role string, all []prepared) error {
	for _, p := range all {
		err := b.in(ctx, p.database, role, func(x *session) error {
			defer x.discard(ctx) // it is another's from here on
			if _, err := x.run(ctx, member(role)); err != nil {
				return err
			}
			if _, err := x.run(ctx, "SET ROLE "+identifier(p.owner)); err != nil {
				return err
			}
			_, err := x.run(ctx, "ROLLBACK PREPARED "+p.id)
			return err
		})
		if err != nil && code(err) != undefinedObject { // which is that somebody was faster
			return fmt.Errorf("rolling back a prepared transaction in database %s: %w", shown(p.database), err)
		}
	}
	return nil
}

func (b *Backend) in(ctx context.Context, database, role string, do func(*session) error) error {
	x, err := b.server.session(ctx, database, role)
	if err != nil {
		return err
	}
	defer x.end(ctx)
	return do(x)
}

// remove takes away what a role has in each database, and drops it with the last.
func (b *Backend) remove(ctx context.Context, role string, left remains) error {
	if len(left.databases) == 0 {
		return b.in(ctx, b.home(), role, func(x *session) error { return drop(ctx, x, left.oid, []string{"BEGIN"}) })
	}
	slices.Sort(left.databases)
	for i, database := range left.databases {
		removed := func(x *session) error {
			rest, err := b.disown(ctx, x, left.memberOf)
			if err != nil {
				return err
			}
			if i == len(left.databases)-1 {
				return drop(ctx, x, left.oid, rest)
			}
			_, err = x.run(ctx, append(rest, "COMMIT")...)
			return err
		}
		err := b.in(ctx, database, role, removed)
		if code(err) == outOfMemory {
			if err = b.in(ctx, database, role, func(x *session) error { return b.inPortions(ctx, x) }); err == nil {
				err = b.in(ctx, database, role, removed)
			}
		}
		if err != nil {
			return fmt.Errorf("removing what it has in database %s: %w", shown(database), err)
		}
	}
	return nil
}

// disown begins a transaction that gives away or drops what a role owns in a database,
// and takes back what it was granted there and what it granted on. It returns the rest of
// its statements.
//
// Memberships go first: who is a member of an object's owner keeps every grant option on
// it, and what was granted on by such a one is not taken back with its own privileges.
func (b *Backend) disown(ctx context.Context, x *session, of []string) (rest []string, err error) {
	name := identifier(x.role)
	begin := []string{"BEGIN", grantsLock, member(x.role)}
	for _, role := range of {
		begin = append(begin, "REVOKE "+identifier(role)+" FROM "+name)
	}
	dropOwned := "DROP OWNED BY " + name + " CASCADE"
	if b.owner != "" {
		begin = append(begin, "REASSIGN OWNED BY "+name+" TO "+identifier(b.owner))
		dropOwned = "DROP OWNED BY " + name // privileges are all that is left
	}
	got, err := x.run(ctx, append(begin, grantsOf(x.role))...)
	if f := (*fault)(nil); b.owner != "" && errors.As(err, &f) && f.code == notPermitted && f.after == len(begin)-1 {
		f.hint = b.heirHint()
	}
	if err != nil {
		return nil, err
	}
	grants, err := got.rows(0, 7)
	if err != nil {
		return nil, err
	}
	for _, g := range grants {
		revoke := takeBack(g[1:])
		if g[0] == "" {
			rest = append(rest, revoke)
		} else {
			rest = append(rest, "SET LOCAL ROLE "+identifier(g[0]), revoke, "RESET ROLE")
		}
	}
	return append(rest, dropOwned), nil
}

// takeBack revokes what grantsOf found: privileges, of a column, on a kind of thing, in a
// schema, of a name, from somebody or, with no name, from everybody.
func takeBack(g []string) string {
	privileges, from := g[0], "PUBLIC"
	if column := g[1]; column != "" {
		privileges = strings.ReplaceAll(privileges, ", ", " ("+identifier(column)+"), ") + " (" + identifier(column) + ")"
	}
	if g[5] != "" {
		from = identifier(g[5])
	}
	return "REVOKE " + privileges + " ON " + g[2] + " " + identifier(g[3]) + "." + identifier(g[4]) + " FROM " + from + " CASCADE"
}

// grantsOf asks for what a role granted on, and then what it was granted, on tables,
// sequences and columns: by whom, if that is not the exchange's account, and the rest as
// takeBack has it. DROP OWNED would revoke all privileges there are, those on columns
// among them, and fails where we have none of these to give; and it revokes as the one
// who is nearest, who need not be the one who granted.
func grantsOf(role string) string {
	return "SELECT CASE WHEN x.grantor <> u.oid THEN g.rolname END, pg_catalog.string_agg(DISTINCT x.privilege_type, ', '), a.attname," +
		" CASE c.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, n.nspname, c.relname, t.rolname" +
		" FROM pg_catalog.pg_shdepend s" +
		" JOIN pg_catalog.pg_database d ON d.oid = s.dbid AND d.datname = pg_catalog.current_database()" +
		" JOIN pg_catalog.pg_class c ON c.oid = s.objid" +
		" JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace" +
		" LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = s.objsubid AND s.objsubid <> 0" +
		" CROSS JOIN LATERAL pg_catalog.aclexplode(CASE s.objsubid WHEN 0 THEN c.relacl ELSE a.attacl END) x" +
		" JOIN pg_catalog.pg_roles g ON g.oid = x.grantor" +
		" LEFT JOIN pg_catalog.pg_roles t ON t.oid = x.grantee" +
		" JOIN pg_catalog.pg_roles u ON u.rolname = current_user" +
		" WHERE s.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND s.deptype = 'a'" +
		" AND s.refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass AND s.refobjid = " + oidOf(role) +
		" AND (x.grantee = s.refobjid OR x.grantor = s.refobjid)" +
		" GROUP BY 1, 3, 4, 5, 6, 7, x.grantor = s.refobjid ORDER BY x.grantor = s.refobjid DESC, 5, 6, 3, 1, 7"
}

// drop drops the role, after what comes before in the same transaction, and counts what
// is left of it.
func drop(ctx context.Context, x *session, oid string, before []string) error {
	id := literal(oid) + "::pg_catalog.oid"
	got, err := x.run(ctx, append(before, "DROP ROLE "+identifier(x.role), "COMMIT",
		"SELECT (SELECT count(*) FROM pg_catalog.pg_roles WHERE rolname = "+literal(x.role)+"),"+
			" (SELECT count(*) FROM pg_catalog.pg_stat_activity WHERE usesysid = "+id+"),"+
			" (SELECT count(*) FROM pg_catalog.pg_shdepend WHERE refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass AND refobjid = "+id+")")...)
	if err != nil {
		return err
	}
	row, err := got.row(3)
	if err == nil && strings.Join(row, " ") != "0 0 0" {
		err = fmt.Errorf("after it was dropped there are %s roles of its name, %s sessions and %s objects", row[0], row[1], row[2])
	}
	return err
}

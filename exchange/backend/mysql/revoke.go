package mysql

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/exchange/backend/reach"
	"github.com/stepkey/stepkey/internal/secret"
)

// Revoke takes a lease's user out of the server. Its order is what makes it certain:
//
//  1. The lock of its name is taken, so that no statement that makes it is under way.
//  2. It is locked: nobody logs in any more.
//  3. Its sessions are killed until there is none.
//  4. What it defined is dropped, or else this is as far as it goes.
//  5. It is dropped, with all that it was granted.
//  6. What is left of it is counted: nothing. Whoever got in between 2 and 5 all the same
//     is found here, and once more.
func (b *Backend) Revoke(ctx context.Context, lease backend.LeaseID, h secret.String) error {
	user, named := userOf(lease)
	if !named || b.server == nil {
		return nil // Issue makes none for such an id
	}
	var known handle
	if !h.Empty() && json.Unmarshal([]byte(h.Reveal()), &known) != nil {
		known = handle{} // as if it were lost: the name is enough
	}
	b.ended.note(lease)
	if err := b.revoke(ctx, user, known); err != nil {
		return fmt.Errorf("revoking the MySQL user of lease %s: %w", lease, err)
	}
	return nil
}

func (b *Backend) revoke(ctx context.Context, user string, known handle) error {
	x, err := b.server.session(ctx, user)
	if err != nil {
		return err
	}
	defer x.end()
	if err := x.lockForEnd(ctx); err != nil {
		x.discard() // a lock may have been had all the same
		return err
	}
	defer x.unlock(ctx)
	var left remains
	for round := range rounds {
		hosts, err := x.hosts(ctx)
		if err != nil {
			return err
		}
		if round == 0 && len(hosts) == 0 && known.Server != "" && known.Server != b.server.at.address() {
			return fmt.Errorf("it was made on %s, and the configuration now names %s, which has no such user; configure the former until its leases are over",
				reach.OneLine(known.Server, maxName), b.server.at.address())
		}
		if err := b.remove(ctx, x, hosts); err != nil {
			return err
		}
		if left, err = x.remains(ctx); err != nil || left.nothing() {
			return err
		}
	}
	return fmt.Errorf("after it was dropped there are %s; trying again: %w", left, backend.ErrUnavailable)
}

const rounds = 3

// hosts are those for which there is an account of the user's name: it is found also if
// the configuration now says others.
func (x *session) hosts(ctx context.Context) (all []string, err error) {
	rows, err := x.rows(ctx, "SELECT Host FROM mysql.user WHERE User = "+literal(x.user), 1)
	for _, row := range rows {
		all = append(all, row[0])
	}
	return all, err
}

func (b *Backend) remove(ctx context.Context, x *session, hosts []string) error {
	for _, host := range hosts {
		if err := x.run(ctx, "ALTER USER IF EXISTS "+account(x.user, host)+" ACCOUNT LOCK"); err != nil {
			return fmt.Errorf("locking it: %w", err)
		}
	}
	if err := b.disconnect(ctx, x); err != nil {
		return err
	}
	if err := b.undefine(ctx, x); err != nil {
		return err
	}
	for _, host := range hosts {
		if err := x.run(ctx, "DROP USER IF EXISTS "+account(x.user, host)); err != nil {
			return fmt.Errorf("dropping it: %w", err)
		}
	}
	return nil
}

const (
	looks = 60 // at sessions that are ending; with pauses of 5 to 250 ms, 14 s
	// startingLooks is how often somebody who logs in is waited for, 155 ms in all: from
	// the moment at which the server has looked at an account, a login is a matter of
	// milliseconds. Who takes longer has not come that far, and is refused.
	startingLooks = 6
	firstPause    = 5 * time.Millisecond
	lastPause     = 250 * time.Millisecond
)

// disconnect kills sessions until there is none. One that has much to roll back takes its
// time, and may hold locks for as long.
func (b *Backend) disconnect(ctx context.Context, x *session) error {
	pause, open := firstPause, 0
	for look := range looks {
		if look > 0 {
			if err := b.pause(ctx, pause); err != nil {
				return fmt.Errorf("%w while %d sessions are still open: %w", err, open, backend.ErrUnavailable)
			}
			pause = min(2*pause, lastPause)
		}
		ids, starting, err := x.sessions(ctx)
		if err != nil {
			return err
		}
		open = len(ids)
		if open == 0 && (!starting || look >= startingLooks) {
			return nil
		}
		for _, id := range ids {
			if err := x.kill(ctx, id); err != nil {
				return err
			}
		}
	}
	return fmt.Errorf("%d sessions do not end although they were killed; trying again: %w", open, backend.ErrUnavailable)
}

// sessions are those of the user, and whether there is one of which nobody knows yet whose
// it is.
func (x *session) sessions(ctx context.Context) (ids []string, starting bool, err error) {
	rows, err := x.rows(ctx, "SELECT ID, USER FROM information_schema.PROCESSLIST WHERE USER IN ("+literal(x.user)+", 'unauthenticated user')", 2)
	for _, row := range rows {
		if row[1] == x.user {
			ids = append(ids, row[0])
		} else {
			starting = true
		}
	}
	return ids, starting, err
}

// defined is a view, routine, trigger or event that acts as the user.
type defined struct{ kind, database, name string }

// definitions leaves the views of sys out: the server opens each of its own hundred to say whose it is, which takes longer
// than all the rest.
func (x *session) definitions(ctx context.Context) (all []defined, err error) {
	by := fmt.Sprintf(" WHERE LEFT(DEFINER, %d) = %s", len(x.user)+1, literal(x.user+"@"))
	rows, err := x.rows(ctx, "SELECT 'EVENT', EVENT_SCHEMA, EVENT_NAME FROM information_schema.EVENTS"+by+
		" UNION ALL SELECT 'TRIGGER', TRIGGER_SCHEMA, TRIGGER_NAME FROM information_schema.TRIGGERS"+by+
		" UNION ALL SELECT ROUTINE_TYPE, ROUTINE_SCHEMA, ROUTINE_NAME FROM information_schema.ROUTINES"+by+
		" UNION ALL SELECT 'VIEW', TABLE_SCHEMA, TABLE_NAME FROM information_schema.VIEWS"+by+" AND TABLE_SCHEMA <> 'sys'", 3)
	for _, row := range rows {
		all = append(all, defined{row[0], row[1], row[2]})
	}
	return all, err
}

// undefine drops what the user defined. Nothing on these servers gives it to somebody else
// without making it anew, and with a definer that is not there it is of no use.
func (b *Backend) undefine(ctx context.Context, x *session) error {
	all, err := x.definitions(ctx)
	if err != nil || len(all) == 0 {
		return err
	}
	if !b.dropDefined {
		return fmt.Errorf("it defined %s, which act as it; they are not dropped, since the configuration does not have drop_defined: true: "+
			"make them anew with another definer, or drop them. Nobody can log in as it meanwhile", someOf(all))
	}
	for _, d := range all {
		if !dropped[d.kind] {
			return fmt.Errorf("it defined the %s %s in database %s, and what drops that is not known here; drop it by hand", strings.ToLower(d.kind), shown(d.name), shown(d.database))
		}
		if err := x.run(ctx, "DROP "+d.kind+" IF EXISTS "+identifier(d.database)+"."+identifier(d.name)); err != nil {
			return fmt.Errorf("dropping the %s %s in database %s, which it defined: %w", strings.ToLower(d.kind), shown(d.name), shown(d.database), err)
		}
	}
	return nil
}

// dropped are the kinds of things that DROP takes by the names that the server lists them under.
var dropped = map[string]bool{"EVENT": true, "TRIGGER": true, "PROCEDURE": true, "FUNCTION": true, "PACKAGE": true, "PACKAGE BODY": true, "VIEW": true}

func someOf(all []defined) string {
	var names []string
	for _, d := range all[:min(len(all), maxNamed)] {
		names = append(names, strings.ToLower(d.kind)+" "+shown(d.database)+"."+shown(d.name))
	}
	if more := len(all) - maxNamed; more > 0 {
		names = append(names, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(names, ", ")
}

// remains is how much of a user there is on the server.
type remains struct{ accounts, grants, sessions, definitions int }

func (r remains) nothing() bool { return r == remains{} }

func (r remains) String() string {
	return fmt.Sprintf("%d users of its name, %d grants, %d sessions and %d things that it defined", r.accounts, r.grants, r.sessions, r.definitions)
}

func (x *session) remains(ctx context.Context) (remains, error) {
	ids, _, err1 := x.sessions(ctx)
	all, err2 := x.definitions(ctx)
	hosts, err3 := x.hosts(ctx)
	grants, err4 := x.grants(ctx)
	return remains{accounts: len(hosts), grants: grants, sessions: len(ids), definitions: len(all)}, errors.Join(err1, err2, err3, err4)
}

// grants counts the rows that the server still keeps of what the user may do.
func (x *session) grants(ctx context.Context) (int, error) {
	tables := []string{"db", "tables_priv", "columns_priv", "procs_priv", "proxies_priv"}
	by := " WHERE User = " + literal(x.user)
	var all []string
	for _, table := range tables {
		all = append(all, "SELECT 1 FROM mysql."+table+by)
	}
	if x.about.mariaDB {
		all = append(all, "SELECT 1 FROM mysql.roles_mapping"+by)
	} else {
		all = append(all, "SELECT 1 FROM mysql.role_edges WHERE TO_USER = "+literal(x.user), "SELECT 1 FROM mysql.default_roles"+by)
	}
	rows, err := x.rows(ctx, strings.Join(all, " UNION ALL "), 1)
	return len(rows), err
}

package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/internal/secret"
)

const asMigrator = "{database: app, role: migrator}"

// What a session may be in the middle of when its lease ends.
var midst = map[string][]string{
	"nothing":                          {"SELECT 1"},
	"a transaction":                    {"BEGIN", "INSERT INTO orders (item) VALUES ('x')"},
	"a transaction that failed":        {"BEGIN", "DO 'BEGIN PERFORM 1/0; EXCEPTION WHEN OTHERS THEN END'", "SAVEPOINT a"},
	"a cursor":                         {"BEGIN", "DECLARE c CURSOR FOR SELECT generate_series(1, 100000)", "FETCH 5 FROM c"},
	"a cursor beyond its transaction":  {"BEGIN", "DECLARE c CURSOR WITH HOLD FOR SELECT generate_series(1, 10000)", "COMMIT"},
	"locks of its own":                 {"SELECT pg_advisory_lock(7)", "LISTEN news"},
	"a lock on everybody's table":      {"BEGIN", "LOCK TABLE notes IN ACCESS EXCLUSIVE MODE"},
	"acting as itself, making a table": {"SET ROLE NONE", "BEGIN", "CREATE TABLE midst (a int)"},
	"making itself a new password":     {"SET ROLE NONE", "ALTER ROLE CURRENT_USER PASSWORD 'known to nobody else'"},
}

func TestAnOpenSessionEndsWithItsLeaseWhateverItIsDoing(t *testing.T) {
	s := stage(t, choice{drop: true})
	if err := s.as(t.Context(), "app", "CREATE TABLE IF NOT EXISTS notes (words text); ALTER TABLE notes OWNER TO migrator; GRANT INSERT ON orders TO migrator; GRANT USAGE ON orders_id_seq TO migrator"); err != nil {
		t.Fatal(err)
	}
	for name, doing := range midst {
		t.Run(name, func(t *testing.T) {
			id, made := s.issue(asMigrator)
			c := s.login(made)
			s.must(c, doing...)
			s.end(id)
			if _, err := c.Exec(t.Context(), "SELECT 1"); err == nil {
				t.Errorf("the session goes on")
			}
			if _, err := login(t.Context(), made.Values); err == nil {
				t.Errorf("the role logs in again")
			}
			s.gone(id)
		})
	}
}

func TestARunningStatementEndsWithItsLease(t *testing.T) {
	s := stage(t, choice{})
	id, made := s.issue(asMigrator)
	c := s.login(made)
	ended := make(chan error, 1)
	go func() {
		_, err := c.Exec(context.Background(), "SELECT pg_sleep(600)")
		ended <- err
	}()
	s.eventually("the statement runs", "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%' AND state = 'active' AND usename = '"+roleOf(id)+"'")
	s.end(id)
	if err := <-ended; err == nil {
		t.Errorf("it ran to its end")
	}
	s.gone(id)
}

// eventually waits until a query answers anything but 0.
func (s *scene) eventually(what, query string) {
	s.Helper()
	again := time.NewTicker(5 * time.Millisecond)
	defer again.Stop()
	deadline := time.After(20 * time.Second)
	for s.number("app", query) == 0 {
		select {
		case <-deadline:
			s.Fatalf("never: %s", what)
		case <-again.C:
		}
	}
}

// Each of them has a session inside a transaction and a cursor, and owns things of many
// kinds.
func TestOfTwoHundredBusyLeasesNothingIsLeft(t *testing.T) {
	for name, drop := range map[string]bool{"dropped": true, "given away": false} {
		t.Run(name, func(t *testing.T) {
			s := stage(t, choice{drop: drop})
			const rounds, each = 5, 20
			var leases []string
			for round := range rounds {
				leases = append(leases, s.busyRound(fmt.Sprintf("%s_%d", strings.ReplaceAll(name, " ", "_"), round), each)...)
			}
			s.nothingLeft()
			roles := "SELECT count(*) FROM pg_roles WHERE rolname IN ('" + strings.Join(leases, "', '") + "')"
			if n := s.number("app", roles); n != 0 || len(leases) != rounds*each {
				t.Errorf("%d of %d roles are left", n, len(leases))
			}
			owned := "SELECT count(*) FROM pg_class WHERE relkind = 'r' AND relname LIKE 'busy\\_" + strings.ReplaceAll(name, " ", "_") + "%'"
			want := map[bool]int{true: 0, false: rounds * each}[drop]
			if n := s.number("app", owned); n != want {
				t.Errorf("%d tables are left, want %d", n, want)
			}
			if n := s.number("app", owned+" AND relowner <> 'migrator'::regrole"); n != 0 {
				t.Errorf("%d tables are not the owner's", n)
			}
			objects := "SELECT (SELECT count(*) FROM pg_proc WHERE proname LIKE 'busy%') + (SELECT count(*) FROM pg_type WHERE typname LIKE 'mood_busy%')" +
				" + (SELECT count(*) FROM pg_largeobject_metadata)"
			if n := s.number("app", objects); drop && n != 0 {
				t.Errorf("%d functions, types and large objects are left", n)
			}
			for _, clean := range []string{"DROP OWNED BY migrator CASCADE", "GRANT CONNECT ON DATABASE app TO migrator; GRANT USAGE, CREATE ON SCHEMA public TO migrator"} {
				if err := s.as(t.Context(), "app", clean); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// busyRound is many leases at a time, from their start to their end. It returns their roles.
func (s *scene) busyRound(name string, many int) (roles []string) {
	s.Helper()
	var leases []backend.LeaseID
	var open []*pgx.Conn
	for i := range many {
		id, made := s.issue(asMigrator)
		c := s.login(made)
		one := fmt.Sprintf("busy_%s_%d", name, i)
		s.must(c, "SET ROLE NONE",
			"CREATE TABLE "+one+" (id serial PRIMARY KEY, at timestamptz DEFAULT now())",
			"CREATE VIEW "+one+"_view AS SELECT id FROM "+one, "GRANT SELECT ON "+one+" TO migrator",
			"CREATE TYPE mood_"+one+" AS ENUM ('sad', 'happy')",
			"CREATE FUNCTION "+one+"() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'",
			"SELECT lo_create(0)", "ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO migrator",
			"BEGIN", "INSERT INTO "+one+" DEFAULT VALUES", "DECLARE c CURSOR FOR SELECT * FROM "+one, "FETCH 1 FROM c",
			"CREATE TABLE "+one+"_more (a int)")
		leases, roles, open = append(leases, id), append(roles, roleOf(id)), append(open, c)
	}
	faults := make(chan error, many)
	var all sync.WaitGroup
	for i, id := range leases {
		all.Go(func() { faults <- s.Revoke(s.Context(), id, secret.String{}) })
		if i%8 == 7 { // as many as the keeper ends at a time
			all.Wait()
		}
	}
	all.Wait()
	close(faults)
	for err := range faults {
		if err != nil {
			s.Error(err)
		}
	}
	for _, c := range open {
		if c.Ping(s.Context()) == nil {
			s.Errorf("a session goes on")
		}
	}
	return roles
}

// A role that acts as another can hang its own name on that one's things.
func TestARoleCannotMakeItselfStay(t *testing.T) {
	s := stage(t, choice{drop: true})
	id, made := s.issue(asMigrator)
	c, me := s.login(made), roleOf(id)
	s.must(c, "CREATE TABLE stay (a int, b int)", "GRANT ALL ON stay TO "+me+" WITH GRANT OPTION", "GRANT SELECT (a) ON stay TO "+me,
		"ALTER TABLE stay ENABLE ROW LEVEL SECURITY", "CREATE POLICY mine ON stay TO "+me+" USING (true)",
		"ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO "+me, "ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT EXECUTE ON FUNCTIONS TO "+me,
		"CREATE FUNCTION stays() RETURNS int LANGUAGE sql AS 'SELECT 1'", "GRANT EXECUTE ON FUNCTION stays() TO "+me+" WITH GRANT OPTION",
		"SET ROLE NONE", "GRANT SELECT ON stay TO PUBLIC", "GRANT UPDATE (b) ON stay TO PUBLIC", "GRANT EXECUTE ON FUNCTION stays() TO PUBLIC",
		"ALTER ROLE CURRENT_USER SET work_mem = '8MB'",
		// What others build on it does not hold it either.
		"CREATE TABLE base (id int PRIMARY KEY)", "GRANT ALL ON base TO migrator", "SET ROLE migrator",
		"CREATE TABLE above (id int REFERENCES base)", "CREATE VIEW over AS SELECT * FROM base", "SET ROLE NONE",
		"BEGIN", "CREATE TABLE promised (a int)", "PREPARE TRANSACTION 'it''s \\ mine'",
		"BEGIN", "CREATE TABLE promised_too (a int)", "SET LOCAL ROLE migrator", "PREPARE TRANSACTION 'its'")
	s.end(id)
	s.gone(id)
	if n := s.number("app", "SELECT count(*) FROM pg_class WHERE relname IN ('base', 'over', 'promised', 'promised_too')"); n != 0 {
		t.Errorf("%d of its tables are left", n)
	}
	if n := s.number("app", "SELECT count(*) FROM pg_class WHERE relname IN ('stay', 'above')"); n != 2 {
		t.Errorf("what was made as migrator is gone: %d", n)
	}
	if err := s.as(t.Context(), "app", "DROP TABLE stay, above; DROP FUNCTION stays()"); err != nil {
		t.Fatal(err)
	}
}

func TestWhatIsInAnotherDatabaseGoesToo(t *testing.T) {
	s := stage(t, choice{drop: true})
	if err := s.as(t.Context(), "other", "GRANT CONNECT, CREATE ON DATABASE other TO migrator"); err != nil {
		t.Fatal(err)
	}
	id, made := s.issue(asMigrator)
	there := strings.Replace(made.Values["url"].Reveal(), "/app?", "/other?", 1)
	c, err := pgx.Connect(t.Context(), there)
	if err != nil {
		t.Fatal(err)
	}
	s.must(c, "SET ROLE NONE", "CREATE SCHEMA mine", "CREATE TABLE mine.t (a int)", "BEGIN", "CREATE TABLE mine.u (a int)", "PREPARE TRANSACTION 'elsewhere'")
	s.must(s.login(made), "SET ROLE NONE", "CREATE TABLE here (a int)")
	s.end(id)
	s.gone(id)
	if n := s.number("other", "SELECT count(*) FROM pg_namespace WHERE nspname = 'mine'"); n != 0 {
		t.Errorf("its schema is left")
	}
}

// A commit whose answer was lost may not have happened yet when the end is asked for.
func TestARoleThatIsAboutToBeCommittedIsWaitedFor(t *testing.T) {
	for _, end := range []string{"COMMIT", "ROLLBACK"} {
		t.Run(end, func(t *testing.T) {
			s := stage(t, choice{})
			id := newLease()
			c, err := pgx.Connect(t.Context(), fmt.Sprintf("postgres://stepkey:%s@127.0.0.1:%d/app?sslmode=disable", s.password.Reveal(), s.port))
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = c.Close(context.Background()) }()
			s.must(c, "BEGIN", "CREATE ROLE "+roleOf(id)+" LOGIN")
			answer := make(chan error, 1)
			go func() { answer <- s.Revoke(context.Background(), id, secret.String{}) }()
			s.eventually("it waits", "SELECT count(*) FROM pg_locks WHERE NOT granted")
			select {
			case err := <-answer:
				t.Fatalf("it did not wait: %v", err)
			default:
			}
			s.must(c, end)
			if err := <-answer; err != nil {
				t.Error(err)
			}
			s.gone(id)
		})
	}
}

func TestASessionThatDoesNotEndIsNotCalledEnded(t *testing.T) {
	waits := 0
	s := stage(t, choice{pause: func(ctx context.Context, _ time.Duration) error { waits++; return ctx.Err() }})
	id, made := s.issue(asMigrator)
	c := s.login(made)
	process := int(c.PgConn().PID())
	if err := syscall.Kill(process, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Kill(process, syscall.SIGCONT) }()
	err := s.Revoke(t.Context(), id, secret.String{})
	if !errors.Is(err, backend.ErrUnavailable) || !strings.Contains(err.Error(), "1 sessions do not end") || waits != 59 {
		t.Errorf("after %d waits: %v", waits, err)
	}
	if gone, err := s.Gone(t.Context(), id, secret.String{}); gone || err != nil {
		t.Errorf("gone: %v, %v", gone, err)
	}
	if _, err := login(t.Context(), made.Values); err == nil {
		t.Errorf("it can log in all the same")
	}
	if err := syscall.Kill(process, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	s.eventually("the session ends", "SELECT (count(*) = 0)::int FROM pg_stat_activity WHERE usename = '"+roleOf(id)+"'")
	s.end(id)
	s.gone(id)
	if gone, err := s.Gone(t.Context(), id, secret.String{}); !gone || err != nil {
		t.Errorf("gone: %v, %v", gone, err)
	}
}

func TestASessionOfARoleThatWasDroppedByHandIsNotOverlooked(t *testing.T) {
	s := stage(t, choice{})
	id, made := s.issue(asMigrator)
	c := s.login(made)
	if err := s.as(t.Context(), "app", "DROP ROLE "+roleOf(id)); err != nil {
		t.Fatal(err)
	}
	err := s.Revoke(t.Context(), id, made.Handle)
	if err == nil || !strings.Contains(err.Error(), "1 of its sessions are still open") {
		t.Errorf("%v", err)
	}
	_ = c.Close(t.Context())
	s.eventually("the session ends", "SELECT (count(*) = 0)::int FROM pg_stat_activity WHERE usesysid IS NOT NULL AND usename IS NULL")
	if err := s.Revoke(t.Context(), id, made.Handle); err != nil {
		t.Error(err)
	}
}

func TestAnotherServerCannotSayThatARoleIsGone(t *testing.T) {
	s, moved := stage(t, choice{}), stage(t, choice{}) // the same server, by another address
	id, made := s.issue(asMigrator)
	if err := moved.Revoke(t.Context(), id, made.Handle); err != nil {
		t.Errorf("it is there, whatever the address: %v", err)
	}
	err := moved.Revoke(t.Context(), id, made.Handle)
	if err == nil || !strings.Contains(err.Error(), "it was made on 127.0.0.1:") {
		t.Errorf("it was made elsewhere, and might be there: %v", err)
	}
	for _, h := range []secret.String{{}, secret.New("no JSON")} {
		if err := moved.Revoke(t.Context(), id, h); err != nil {
			t.Errorf("where nothing says so, the name is enough: %v", err)
		}
	}
}

func TestManyWhoEndOneLeaseAllFindItGone(t *testing.T) {
	s := stage(t, choice{})
	for range 10 {
		id, made := s.issue("{database: app, grants: [" + customer + "]}")
		s.must(s.login(made), "BEGIN", "SELECT * FROM customers")
		faults := make(chan error, 6)
		for range cap(faults) {
			go func() { faults <- s.Revoke(context.Background(), id, made.Handle) }()
		}
		for range cap(faults) {
			if err := <-faults; err != nil {
				t.Error(err)
			}
		}
		s.gone(id)
	}
}

package mysql_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/internal/secret"
)

const asMigrator = "{database: app, role: migrator}"

// What a session may be in the middle of when its lease ends.
var midst = map[string][]string{
	"nothing":                      {"SELECT 1"},
	"a transaction":                {"START TRANSACTION", "INSERT INTO orders (item) VALUES ('x')"},
	"locks on rows":                {"START TRANSACTION", "SELECT * FROM customers FOR UPDATE"},
	"a lock on everybody's tables": {"LOCK TABLES orders WRITE, customers WRITE"},
	"a lock of its own":            {"SELECT GET_LOCK('mine', 0)"},
	"a temporary table":            {"CREATE TEMPORARY TABLE midst (a int)", "INSERT INTO midst VALUES (1)"},
	"a cursor":                     {"HANDLER customers OPEN", "HANDLER customers READ FIRST"},
	"a prepared statement":         {"PREPARE p FROM 'SELECT SLEEP(?)'"},
	"making itself a new password": {"SET PASSWORD = PASSWORD('known to nobody else')"},
	"another role":                 {"SET ROLE NONE"},
}

func TestAnOpenSessionEndsWithItsLeaseWhateverItIsDoing(t *testing.T) {
	s := stage(t, choice{})
	if err := s.as(t.Context(), "GRANT CREATE TEMPORARY TABLES, LOCK TABLES ON app.* TO migrator"); err != nil {
		t.Fatal(err)
	}
	for name, doing := range midst {
		t.Run(name, func(t *testing.T) {
			id, made := s.issue(asMigrator)
			c := s.login(made)
			s.must(c, doing...)
			s.end(id)
			s.gone(id) // before a login that is refused, which is listed as the user's for a moment
			if _, err := c.ExecContext(t.Context(), "SELECT 1"); err == nil {
				t.Errorf("the session goes on")
			}
			if other, err := login(t.Context(), made.Values); err == nil {
				_ = other.Close()
				t.Errorf("the user logs in again")
			}
			if err := s.as(t.Context(), "SET lock_wait_timeout = 2; LOCK TABLES app.orders WRITE, app.customers WRITE; UNLOCK TABLES"); err != nil {
				t.Errorf("its locks outlive it: %v", err)
			}
		})
	}
}

func TestARunningStatementEndsWithItsLease(t *testing.T) {
	s := stage(t, choice{})
	id, made := s.issue(asMigrator)
	c := s.login(made)
	ended := make(chan error, 1)
	go func() {
		_, err := c.ExecContext(context.Background(), "SELECT SLEEP(600)")
		ended <- err
	}()
	s.eventually("the statement runs", "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE INFO LIKE 'SELECT SLEEP%' AND USER = '"+userOf(id)+"'")
	s.end(id)
	if err := <-ended; err == nil {
		t.Errorf("it ran to its end")
	}
	s.gone(id)
}

// Each of them has a session inside a transaction, with a temporary table and a cursor, and
// defines things of every kind.
func TestOfTwoHundredBusyLeasesNothingIsLeft(t *testing.T) {
	s := stage(t, choice{})
	if err := s.as(t.Context(), "GRANT CREATE TEMPORARY TABLES, LOCK TABLES ON app.* TO migrator"); err != nil {
		t.Fatal(err)
	}
	const rounds, each = 10, 20
	ended := 0
	for round := range rounds {
		ended += s.busyRound(round, each)
	}
	s.nothingLeft()
	if ended != rounds*each {
		t.Errorf("%d leases had their end", ended)
	}
	if n := s.number("SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_SCHEMA = 'app' AND TABLE_NAME LIKE 'busy%'"); n != rounds*each {
		t.Errorf("%d tables are left, want %d: they have no owner, and stay", n, rounds*each)
	}
	for i := range rounds * each {
		if err := s.as(t.Context(), fmt.Sprintf("DROP TABLE app.busy_%d_%d", i/each, i%each)); err != nil {
			t.Error(err)
		}
	}
}

// busyRound is many leases at a time, from their start to their end.
func (s *scene) busyRound(round, many int) int {
	s.Helper()
	var leases []backend.LeaseID
	var open []*sql.Conn
	for i := range many {
		id, made := s.issue(asMigrator)
		c, name := s.login(made), fmt.Sprintf("busy_%d_%d", round, i)
		s.must(c,
			"CREATE TABLE "+name+" (a int)", "CREATE VIEW v"+name+" AS SELECT a FROM "+name,
			"CREATE TRIGGER t"+name+" BEFORE INSERT ON "+name+" FOR EACH ROW SET NEW.a = 1",
			"CREATE PROCEDURE p"+name+"() SELECT 1", "CREATE FUNCTION f"+name+"() RETURNS int RETURN 1",
			"CREATE EVENT e"+name+" ON SCHEDULE EVERY 1 DAY STARTS NOW() + INTERVAL 1 DAY DO SELECT 1",
			"CREATE TEMPORARY TABLE tmp (a int)", "HANDLER customers OPEN", "HANDLER customers READ FIRST",
			"START TRANSACTION", "INSERT INTO "+name+" VALUES (2)", "SELECT * FROM "+name+" FOR UPDATE",
		)
		leases, open = append(leases, id), append(open, c)
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
		if c.PingContext(s.Context()) == nil {
			s.Errorf("a session goes on")
		}
	}
	return len(leases)
}

func TestWhatALeaseDefinedHoldsItsEndUpUnlessItMayBeDropped(t *testing.T) {
	s, dropping := stage(t, choice{keep: true}), stage(t, choice{})
	id, made := s.issue(asMigrator)
	s.must(s.login(made), "CREATE VIEW seen AS SELECT name FROM customers", "CREATE DEFINER=CURRENT_ROLE VIEW stays AS SELECT name FROM customers")
	defer func() {
		if err := s.as(context.Background(), "DROP VIEW app.stays"); err != nil {
			t.Errorf("what is the role's does not stay: %v", err)
		}
	}()
	err := s.Revoke(t.Context(), id, made.Handle)
	if err == nil || !strings.Contains(err.Error(), "it defined view app.seen") || !strings.Contains(err.Error(), "drop_defined") {
		t.Errorf("%v", err)
	}
	if strings.Contains(fmt.Sprint(err), userOf(id)) {
		t.Errorf("the error has the user's name: %v", err)
	}
	if gone, err := s.Gone(t.Context(), id, made.Handle); gone || err != nil {
		t.Errorf("gone: %v, %v", gone, err)
	}
	if c, err := login(t.Context(), made.Values); err == nil {
		_ = c.Close()
		t.Errorf("it can log in all the same")
	}
	if err := dropping.Revoke(t.Context(), id, secret.String{}); err != nil {
		t.Error(err)
	}
	s.gone(id)
}

// The server begins sessions of a user's events whether or not the user may log in. MariaDB looks at no role there, so
// somebody granted this one what that takes.
func TestEventsThatKeepRunningDoNotOutliveTheirLease(t *testing.T) {
	s := stage(t, choice{})
	id, made := s.issue(asMigrator)
	if err := s.as(t.Context(), "GRANT EVENT ON app.* TO "+userOf(id)+"@'"+from+"'"); err != nil {
		t.Fatal(err)
	}
	s.must(s.login(made), "CREATE EVENT again ON SCHEDULE EVERY 1 SECOND DO DO SLEEP(600)")
	s.eventually("it runs", "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE INFO = 'DO SLEEP(600)' AND USER = '"+userOf(id)+"'")
	s.end(id)
	s.gone(id)
	if n := s.number("SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE INFO = 'DO SLEEP(600)'"); n != 0 {
		t.Errorf("%d of its events run", n)
	}
}

// The page says so: nothing on the server tells whose a prepared transaction is, and anybody may
// finish it.
func TestATransactionPreparedByALeaseIsAnybodysToFinish(t *testing.T) {
	s := stage(t, choice{})
	for finish, want := range map[string]int{"XA COMMIT": 1, "XA ROLLBACK": 0} {
		id, made := s.issue(asMigrator)
		s.must(s.login(made), "XA START 'held'", "INSERT INTO orders (item) VALUES ('"+finish+"')", "XA END 'held'", "XA PREPARE 'held'")
		s.end(id)
		s.gone(id)
		later, another := s.issue("{database: app, grants: [" + customer + "]}") // which may do nothing with orders
		s.eventually("the server has noticed the end", "SELECT COUNT(*) = 0 FROM information_schema.INNODB_TRX WHERE trx_mysql_thread_id <> 0")
		s.must(s.login(another), finish+" 'held'")
		if n := s.number("SELECT COUNT(*) FROM app.orders WHERE item = '" + finish + "'"); n != want {
			t.Errorf("%s: of what the first lease wrote there is %d, want %d", finish, n, want)
		}
		s.end(later)
	}
}

func TestASessionOfAUserWhoWasDroppedByHandIsNotOverlooked(t *testing.T) {
	s := stage(t, choice{})
	id, made := s.issue(asMigrator)
	c := s.login(made)
	if err := s.as(t.Context(), "DROP USER "+userOf(id)+"@'"+from+"'"); err != nil {
		t.Fatal(err)
	}
	s.end(id)
	if _, err := c.ExecContext(t.Context(), "SELECT 1"); err == nil {
		t.Errorf("the session goes on")
	}
	s.gone(id)
}

func TestAUserOfOtherHostsIsFoundByItsName(t *testing.T) {
	s := stage(t, choice{})
	id, _ := s.issue(asMigrator)
	for _, host := range []string{"%", "10.0.0.0/255.0.0.0", "a'b"} {
		if err := s.as(t.Context(), "CREATE USER "+userOf(id)+"@`"+host+"`"); err != nil {
			t.Fatal(err)
		}
	}
	s.end(id)
	s.gone(id)
}

func TestAnotherServerCannotSayThatAUserIsGone(t *testing.T) {
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
		s.must(s.login(made), "START TRANSACTION", "SELECT * FROM customers")
		faults := make(chan error, 6)
		for range cap(faults) {
			go func() { faults <- s.Revoke(context.Background(), id, made.Handle) }()
		}
		ended := 0
		for range cap(faults) {
			switch err := <-faults; {
			case err == nil:
				ended++
			case !errors.Is(err, backend.ErrUnavailable): // where all is slow one ends another, taking it for hung
				t.Error(err)
			}
		}
		if ended == 0 {
			t.Error("of several, none ended it")
		}
		s.gone(id)
	}
}

package mysql_test

import (
	"errors"
	"testing"

	driver "github.com/go-sql-driver/mysql"
)

// wantNumber holds an error against the server's own number for it; 0 is none.
func wantNumber(t *testing.T, what string, err error, number uint16) {
	t.Helper()
	var answer *driver.MySQLError
	switch {
	case number == 0 && err != nil:
		t.Errorf("%s: %v", what, err)
	case number != 0 && (!errors.As(err, &answer) || answer.Number != number):
		t.Errorf("%s: %v; want the server to refuse it with %d", what, err, number)
	}
}

// The server judges what a task may do: 0 is that it works.
func TestTheServerHoldsATaskToItsScope(t *testing.T) {
	for block, does := range map[string]map[string]uint16{
		"{database: app, grants: [" + insert + "]}": {
			"SELECT * FROM orders": 0, "INSERT INTO orders (item) VALUES ('x')": 0,
			"UPDATE orders SET item = 'y'": 1142, "DELETE FROM orders": 1142, "TRUNCATE orders": 1142, "DROP TABLE orders": 1142,
			"ALTER TABLE orders ADD b int": 1142, "CREATE INDEX i ON orders (id)": 1142, "LOCK TABLES orders READ": 1044,
			"SELECT * FROM customers": 1142, "CREATE TABLE t (a int)": 1142, "CREATE VIEW v AS SELECT 1": 1142,
			"CREATE TRIGGER t BEFORE INSERT ON orders FOR EACH ROW SET @a = 1": 1142, "CREATE PROCEDURE p() SELECT 1": 1044,
			"CREATE EVENT e ON SCHEDULE EVERY 1 DAY DO SELECT 1": 1044, "CREATE DATABASE d": 1044, "USE arXchive": 1044, "USE mysql": 1044,
			"SELECT * FROM mysql.global_priv": 1142, "SELECT * FROM orders INTO OUTFILE 'x'": 1227, "SET ROLE migrator": 1959,
			"GRANT SELECT ON app.orders TO migrator": 1142, "CREATE USER x": 1227, "SHUTDOWN": 1227, "FLUSH PRIVILEGES": 1227,
		},
		"{database: app, grants: [{tables: [orders], privileges: [update, delete]}, {database: arXchive, tables: all, privileges: [select]}]}": {
			"SELECT * FROM arXchive.old": 0,
		},
		"{database: 'ar_chive%', grants: [{tables: all, privileges: [select, lock tables]}]}": {
			"SELECT * FROM old": 0, "LOCK TABLES old READ; UNLOCK TABLES": 0, "SELECT * FROM arXchive.old": 1142, "DELETE FROM old": 1142,
		},
		asMigrator: {
			"CREATE TABLE scoped (a int)": 0, "DROP TABLE scoped": 0, "SELECT * FROM `ar_chive%`.old": 1142, "USE mysql": 1044, "SET ROLE NONE; SELECT * FROM orders": 1142,
		},
	} {
		t.Run(block, func(t *testing.T) {
			s := stage(t, choice{direct: true})
			o := s.order(block)
			made, err := s.Issue(t.Context(), o)
			if block != asMigrator && err != nil && len(does) == 1 { // update and delete are nothing that the page's account may give on
				wantRefused(t, err, "may not give it on")
				s.gone(o.Lease)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			for statement, number := range does {
				c := s.login(made)
				_, err := c.ExecContext(t.Context(), statement)
				wantNumber(t, statement, err, number)
				s.leave(c, o.Lease)
			}
			s.end(o.Lease)
			s.gone(o.Lease)
		})
	}
}

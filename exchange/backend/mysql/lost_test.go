package mysql_test

import (
	"errors"
	"testing"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/internal/secret"
)

// cuts are the two ways of losing a connection around a statement: the server carries it out
// and nobody hears so, or it never hears it.
func (s *scene) cuts() map[string]func(string) {
	return map[string]func(string){"the answer": s.net.LoseReply, "the statement": s.net.CutBefore}
}

// Wherever the connection is lost, a user who may exist is found, and none is denied who does.
func TestAConnectionLostWhileAUserIsMadeLeavesNobodyBehind(t *testing.T) {
	s := stage(t, choice{})
	for _, at := range []string{"SELECT GET_LOCK", "SCHEMATA", "CREATE USER", "GRANT SELECT", "SCHEMA_PRIVILEGES", "max_user_connections", "ACCOUNT UNLOCK"} {
		for what, cut := range s.cuts() {
			t.Run(at+", "+what, func(t *testing.T) {
				s.end(newLease()) // so that there is a connection, which has asked whom it leads to
				o := s.order("{database: app, grants: [" + insert + "]}")
				cut(at)
				made, err := s.Issue(t.Context(), o)
				if !errors.Is(err, backend.ErrUnavailable) {
					t.Errorf("it is not said that waiting helps: %v", err)
				}
				certain := errors.Is(err, backend.ErrNotCreated)
				if n := s.number("SELECT COUNT(*) FROM mysql.global_priv WHERE User = '" + userOf(o.Lease) + "'"); certain && n != 0 {
					t.Errorf("nothing was created, it says, and there is a user: %v", err)
				}
				if !certain && made.Handle.Empty() {
					t.Errorf("it may exist, and has no handle")
				}
				if err := s.Revoke(t.Context(), o.Lease, made.Handle); err != nil {
					t.Error(err)
				}
				s.gone(o.Lease)
			})
		}
	}
}

func TestAConnectionLostWhileAUserIsEndedIsNoEnd(t *testing.T) {
	s := stage(t, choice{})
	for _, at := range []string{"SELECT GET_LOCK", "ACCOUNT LOCK", "KILL CONNECTION", "PROCESSLIST", "DEFINER", "DROP VIEW", "DROP USER"} {
		for what, cut := range s.cuts() {
			t.Run(at+", "+what, func(t *testing.T) {
				id, made := s.issue(asMigrator)
				c := s.login(made)
				s.must(c, "CREATE VIEW passing AS SELECT name FROM customers", "START TRANSACTION", "SELECT * FROM customers FOR UPDATE")
				cut(at)
				if err := s.Revoke(t.Context(), id, secret.String{}); !errors.Is(err, backend.ErrUnavailable) {
					t.Errorf("its end was not confirmed, and yet: %v", err)
				}
				s.end(id)
				s.gone(id)
				if _, err := c.ExecContext(t.Context(), "SELECT 1"); err == nil {
					t.Errorf("the session goes on")
				}
			})
		}
	}
}

func TestALostReleaseOfTheLockHoldsNobodyUp(t *testing.T) {
	s := stage(t, choice{})
	for what, cut := range s.cuts() {
		t.Log(what)
		id, _ := s.issue(asMigrator)
		cut("RELEASE_LOCK")
		s.end(id)
		s.end(id)
		s.gone(id)
	}
}

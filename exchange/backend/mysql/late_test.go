package mysql_test

import (
	"context"
	"database/sql"
	"errors"
	"net"
	"strconv"
	"strings"
	"testing"

	driver "github.com/go-sql-driver/mysql"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/internal/secret"
)

// A statement of a process that is no more may still come to pass: here it waits behind
// somebody who has what the server keeps of users locked.
func TestAUserThatIsAboutToBeMadeIsWaitedFor(t *testing.T) {
	s, another := stage(t, choice{}), stage(t, choice{}) // another process, which knows the lease's id alone
	s.end(newLease())
	another.end(newLease()) // both know the server
	c, err := s.Root.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		_, _ = c.ExecContext(context.Background(), "UNLOCK TABLES")
		_ = c.Close()
	}()
	s.must(c, "LOCK TABLES mysql.global_priv READ")
	o := s.order(asMigrator)
	ctx, dies := context.WithCancel(t.Context())
	issued := make(chan error, 1)
	go func() {
		_, err := s.Issue(ctx, o)
		issued <- err
	}()
	s.eventually("it waits", "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE INFO LIKE 'CREATE USER%' AND STATE LIKE 'Waiting%'")
	dies()
	if err := <-issued; err == nil || errors.Is(err, backend.ErrNotCreated) {
		t.Errorf("its creation was under way: %v", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- another.Revoke(context.Background(), o.Lease, secret.String{}) }()
	s.eventually("the end waits", "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE INFO LIKE 'SELECT GET_LOCK%' AND STATE = 'User lock'")
	select {
	case err := <-ended:
		t.Errorf("it did not wait: %v", err)
	default:
	}
	s.must(c, "UNLOCK TABLES")
	if err := <-ended; err != nil {
		t.Error(err)
	}
	s.gone(o.Lease)
}

// Both at the same time: either the end finds the user, or the user is not made.
func TestAnEndBesideItsBeginningLeavesNobody(t *testing.T) {
	s := stage(t, choice{})
	for range 40 {
		o := s.order(asMigrator)
		made := make(chan error, 1)
		go func() {
			_, err := s.Issue(context.Background(), o)
			made <- err
		}()
		err := s.Revoke(t.Context(), o.Lease, secret.String{})
		if err != nil {
			t.Error(err)
		}
		if err := <-made; err != nil {
			t.Logf("the end came first: %v", err)
		}
		s.gone(o.Lease)
	}
}

func TestAUserOfTheLeasesNameIsNotTakenForNothing(t *testing.T) {
	s := stage(t, choice{})
	o := s.order(asMigrator)
	if err := s.as(t.Context(), "CREATE USER "+userOf(o.Lease)+"@'"+from+"'"); err != nil {
		t.Fatal(err)
	}
	if made, err := s.Issue(t.Context(), o); err == nil || errors.Is(err, backend.ErrNotCreated) || made.Handle.Empty() {
		t.Errorf("%v", err)
	}
	s.end(o.Lease)
	s.gone(o.Lease)
}

// asExchange is a connection of the exchange's account that the backend knows nothing of,
// as of an exchange that died.
func (s *scene) asExchange() *sql.Conn {
	s.Helper()
	c := driver.NewConfig()
	c.User, c.Passwd, c.Net, c.Addr = "stepkey", s.password.Reveal(), "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port))
	c.Logger = &driver.NopLogger{}
	connector, err := driver.NewConnector(c)
	if err != nil {
		s.Fatal(err)
	}
	db := sql.OpenDB(connector)
	db.SetMaxIdleConns(-1)
	x, err := db.Conn(s.Context())
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() { _ = db.Close() })
	return x
}

// Whoever is in the way for longer is ended: nobody listens to it any more.
func TestNobodyHoldsAnEndUpByItsLock(t *testing.T) {
	s := stage(t, choice{})
	for name, holder := range map[string]func() *sql.Conn{
		"an exchange that died": s.asExchange,
		"another lease": func() *sql.Conn {
			id, made := s.issue(asMigrator)
			t.Cleanup(func() {
				if err := s.Revoke(context.Background(), id, made.Handle); err != nil {
					t.Error(err)
				}
			})
			return s.login(made)
		},
	} {
		t.Run(name, func(t *testing.T) {
			id, made := s.issue(asMigrator)
			c := holder()
			s.must(c, "DO GET_LOCK('stepkey/"+userOf(id)+"', 0)")
			if err := s.Revoke(t.Context(), id, made.Handle); err != nil {
				t.Error(err)
			}
			if _, err := c.ExecContext(t.Context(), "SELECT 1"); err == nil {
				t.Errorf("who held the lock goes on")
			}
			s.gone(id)
		})
	}
}

func TestNothingIsMadeWhileOrAfterItsEndIsAskedFor(t *testing.T) {
	s := stage(t, choice{})
	o := s.order(asMigrator)
	c := s.asExchange()
	s.must(c, "DO GET_LOCK('stepkey/"+userOf(o.Lease)+"', 0)")
	if _, err := s.Issue(t.Context(), o); !errors.Is(err, backend.ErrNotCreated) || !errors.Is(err, backend.ErrUnavailable) {
		t.Errorf("while another holds the lock: %v", err)
	}
	_ = c.Close()
	s.end(o.Lease)
	if _, err := s.Issue(t.Context(), o); !errors.Is(err, backend.ErrNotCreated) || errors.Is(err, backend.ErrUnavailable) || !strings.Contains(err.Error(), "its end was asked for") {
		t.Errorf("after its end: %v", err)
	}
	s.gone(o.Lease)
}

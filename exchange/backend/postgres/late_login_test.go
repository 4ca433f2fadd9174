package postgres_test

import (
	"context"
	"errors"
	"net"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/internal/secret"
)

// sleepers have passed their login and cannot be seen.
const sleepers = "FROM pg_locks l WHERE l.locktype = 'virtualxid' AND l.pid NOT IN (SELECT pid FROM pg_stat_activity)" +
	" AND EXISTS (SELECT FROM pg_locks d WHERE d.pid = l.pid AND d.classid = 'pg_database'::regclass)"

// asleep logs in with a delay that anybody may ask for: after the server has looked whether
// the role may log in, and before the session is in any list. It returns once it sleeps, with
// its process; what becomes of the login comes later.
func (s *scene) asleep(url string, seconds int) (process int, login <-chan error) {
	s.Helper()
	before := s.number("app", "SELECT count(DISTINCT l.pid) "+sleepers)
	came := make(chan error, 1)
	go func() {
		c, err := pgx.Connect(context.Background(), url+"&options=-c%20post_auth_delay%3D"+strconv.Itoa(seconds))
		if err == nil {
			_, err = c.Exec(context.Background(), "SELECT 1")
			_ = c.Close(context.Background())
		}
		came <- err
	}()
	s.eventually("a session sleeps", "SELECT (count(DISTINCT l.pid) > "+strconv.Itoa(before)+")::int "+sleepers)
	return s.number("app", "SELECT max(l.pid) "+sleepers), came
}

func TestASessionThatSleepsWhileItLogsInEndsWithItsLease(t *testing.T) {
	s := stage(t, choice{})
	for name, block := range map[string]string{"a member": asMigrator, "with grants": "{database: app, grants: [" + customer + "]}"} {
		t.Run(name, func(t *testing.T) {
			id, made := s.issue(block)
			_, late := s.asleep(made.Values["url"].Reveal(), 8)
			s.end(id)
			if gone, err := s.Gone(t.Context(), id, made.Handle); !gone || err != nil {
				t.Errorf("gone: %v, %v", gone, err)
			}
			if err := <-late; err == nil {
				t.Errorf("it came up")
			}
			s.gone(id)
		})
	}
}

// On a server on which somebody else always logs in, a revocation ends, and they go on.
func TestOthersWhoLogInAreNeitherEndedNorWaitedFor(t *testing.T) {
	s := stage(t, choice{direct: true})
	if err := s.as(t.Context(), "app", "ALTER ROLE migrator LOGIN PASSWORD 'a password'"); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.as(context.Background(), "app", "ALTER ROLE migrator NOLOGIN PASSWORD NULL"); err != nil {
			t.Error(err)
		}
	}()
	_, other := s.issue(asMigrator)
	urls := map[string]string{"a superuser": s.DSN("app"), "another lease": other.Values["url"].Reveal()}
	for name, account := range map[string]string{"the exchange": "stepkey:" + s.password.Reveal(), "a role that the lease is a member of": "migrator:a%20password"} {
		urls[name] = "postgres://" + account + "@127.0.0.1:" + strconv.Itoa(s.port) + "/app?sslmode=disable"
	}
	id, made := s.issue(asMigrator)
	s.must(s.login(made), "SET ROLE NONE", "CREATE TABLE of_its_own (a int)")
	s.neverAnswers("migrator")
	late := map[string]<-chan error{}
	for name, url := range urls {
		_, late[name] = s.asleep(url, 4)
	}
	s.end(id)
	if n := s.number("app", "SELECT count(DISTINCT l.pid) "+sleepers); n != len(urls) {
		t.Errorf("of %d who slept, %d do when the lease is over", len(urls), n)
	}
	for name, came := range late {
		if err := <-came; err != nil {
			t.Errorf("%s was ended: %v", name, err)
		}
	}
	s.gone(id)
	if err := s.as(t.Context(), "app", "DROP TABLE of_its_own"); err != nil {
		t.Error(err)
	}
}

// neverAnswers begins to log in and does not show a password.
func (s *scene) neverAnswers(user string) {
	s.Helper()
	c, err := new(net.Dialer).DialContext(s.Context(), "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)))
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() { _ = c.Close() })
	wire := pgproto3.NewFrontend(c, c)
	wire.Send(&pgproto3.StartupMessage{ProtocolVersion: pgproto3.ProtocolVersion30, Parameters: map[string]string{"user": user, "database": "app"}})
	if err := wire.Flush(); err != nil {
		s.Fatal(err)
	}
	if asked, err := wire.Receive(); err != nil {
		s.Fatalf("%T, %v", asked, err)
	}
}

func TestASleeperThatDoesNotEndIsNotCalledEnded(t *testing.T) {
	waits := 0
	s := stage(t, choice{pause: func(ctx context.Context, _ time.Duration) error { waits++; return ctx.Err() }})
	id, made := s.issue(asMigrator)
	process, late := s.asleep(made.Values["url"].Reveal(), 600)
	if err := syscall.Kill(process, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Kill(process, syscall.SIGCONT) }()
	err := s.Revoke(t.Context(), id, made.Handle)
	if !errors.Is(err, backend.ErrUnavailable) || !strings.Contains(err.Error(), "1 sessions do not end") || waits != 59 {
		t.Errorf("after %d waits: %v", waits, err)
	}
	if gone, err := s.Gone(t.Context(), id, made.Handle); gone || err != nil {
		t.Errorf("gone: %v, %v", gone, err)
	}
	if err := syscall.Kill(process, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if err := <-late; err == nil {
		t.Errorf("it came up")
	}
	s.end(id)
	s.gone(id)
}

func TestOfASleeperWhoseRoleWasDroppedByHandNobodyCanSayWhoseItIs(t *testing.T) {
	s := stage(t, choice{})
	id, made := s.issue(asMigrator)
	process, late := s.asleep(made.Values["url"].Reveal(), 600)
	if err := s.as(t.Context(), "app", "DROP ROLE "+roleOf(id)); err != nil {
		t.Fatal(err)
	}
	err := s.Revoke(t.Context(), id, made.Handle)
	if !errors.Is(err, backend.ErrUnavailable) || !strings.Contains(err.Error(), "nobody can say") {
		t.Errorf("%v", err)
	}
	if gone, err := s.Gone(t.Context(), id, made.Handle); gone || err == nil {
		t.Errorf("gone: %v, %v", gone, err)
	}
	if err := s.as(t.Context(), "app", "SELECT pg_terminate_backend("+strconv.Itoa(process)+")"); err != nil {
		t.Fatal(err)
	}
	if err := <-late; err == nil {
		t.Errorf("it came up")
	}
	s.eventually("the session ends", "SELECT (count(*) = 0)::int FROM pg_stat_activity WHERE usesysid IS NOT NULL AND usename IS NULL")
	if err := s.Revoke(t.Context(), id, made.Handle); err != nil {
		t.Error(err)
	}
	if gone, err := s.Gone(t.Context(), id, made.Handle); !gone || err != nil {
		t.Errorf("gone: %v, %v", gone, err)
	}
}

func TestASessionOfADroppedRoleIsNotCalledGone(t *testing.T) {
	s := stage(t, choice{})
	id, made := s.issue(asMigrator)
	c := s.login(made)
	if err := s.as(t.Context(), "app", "DROP ROLE "+roleOf(id)); err != nil {
		t.Fatal(err)
	}
	if gone, err := s.Gone(t.Context(), id, made.Handle); gone || err != nil {
		t.Errorf("gone: %v, %v", gone, err)
	}
	_ = c.Close(t.Context())
	s.eventually("the session ends", "SELECT (count(*) = 0)::int FROM pg_stat_activity WHERE usesysid IS NOT NULL AND usename IS NULL")
}

// Where the role may not end its own sessions, that none is ended says nothing.
func TestASleeperThatNobodyMayEndIsNotCalledEnded(t *testing.T) {
	s := stage(t, choice{})
	const end = "FUNCTION pg_terminate_backend"
	if err := s.as(t.Context(), "app", "REVOKE EXECUTE ON "+end+" FROM PUBLIC; GRANT EXECUTE ON "+end+" TO stepkey"); err != nil {
		t.Fatal(err)
	}
	id, made := s.issue(asMigrator)
	_, late := s.asleep(made.Values["url"].Reveal(), 600)
	err := s.Revoke(t.Context(), id, secret.String{})
	if !errors.Is(err, backend.ErrUnavailable) || !strings.Contains(err.Error(), "GRANT EXECUTE") {
		t.Errorf("%v", err)
	}
	if err := s.as(t.Context(), "app", "GRANT EXECUTE ON "+end+" TO PUBLIC; REVOKE EXECUTE ON "+end+" FROM stepkey"); err != nil {
		t.Fatal(err)
	}
	s.end(id)
	if err := <-late; err == nil {
		t.Errorf("it came up")
	}
	s.gone(id)
}

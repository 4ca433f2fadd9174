package postgres_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/oklog/ulid/v2"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/exchange/backend/backendtest"
	"github.com/stepkey/stepkey/exchange/backend/postgres"
	"github.com/stepkey/stepkey/internal/needs"
	"github.com/stepkey/stepkey/internal/pgserver"
	"github.com/stepkey/stepkey/internal/secret"
	"github.com/stepkey/stepkey/internal/yamlfile"
)

// place is one PostgreSQL, set up as docs/backends/postgres.md says: by its very blocks.
type place struct {
	*pgserver.Server
	host     string
	port     int
	password secret.String // of the exchange's account
}

// One serves all tests of this package; it writes down every statement.
var setting = sync.OnceValues(func() (*place, error) {
	with := append(pgserver.Settings{"log_statement=all", "log_destination=jsonlog", "logging_collector=on", "log_directory=log",
		"log_filename=server", "log_rotation_size=0", "log_rotation_age=0", "max_prepared_transactions=20"}, pgserver.Quick...)
	return setUp(context.Background(), with)
})

func TestMain(m *testing.M) {
	code := m.Run()
	for _, started := range []func() (*place, error){setting, durable} {
		p, err := started()
		if err != nil {
			continue
		}
		if err := p.Close(); err != nil {
			fmt.Fprintln(os.Stderr, "stopping PostgreSQL:", err)
			code = 1
		}
	}
	os.Exit(code)
}

func setUp(ctx context.Context, with pgserver.Settings) (*place, error) {
	s, err := pgserver.Start(ctx, with)
	if err != nil {
		return nil, err
	}
	where, err := url.Parse(s.DSN("app"))
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	port, err := strconv.Atoi(where.Port())
	p := &place{Server: s, host: where.Hostname(), port: port, password: secret.New(rand.Text())}
	if err = errors.Join(err, p.furnish(ctx)); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return p, nil
}

// furnish makes the database of somebody who then reads the page.
func (p *place) furnish(ctx context.Context) error {
	// Everybody but the superuser shows a password, as on a server that is not a test's.
	rules := "local all all trust\nhost all admin 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 scram-sha-256\n"
	if err := os.WriteFile(filepath.Join(p.DataDir(), "pg_hba.conf"), []byte(rules), 0o600); err != nil {
		return err
	}
	if err := errors.Join(p.Exec(ctx, "SELECT pg_reload_conf()"), p.Exec(ctx, "CREATE DATABASE app"), p.Exec(ctx, "CREATE DATABASE other")); err != nil {
		return err
	}
	blocks, err := page.Read("sql")
	if err != nil || len(blocks) != 2 {
		return fmt.Errorf("the page has %d blocks of SQL, want one for the server and one for its database (%w)", len(blocks), err)
	}
	return errors.Join(
		p.as(ctx, "app", "CREATE TABLE orders (id serial PRIMARY KEY, item text); CREATE TABLE customers (id int PRIMARY KEY, name text); INSERT INTO customers VALUES (1, 'acme')"),
		p.as(ctx, "postgres", blocks[0]), p.as(ctx, "app", blocks[1]),
		p.as(ctx, "postgres", "ALTER ROLE stepkey PASSWORD '"+p.password.Reveal()+"'"),
	)
}

// as runs statements as the superuser.
func (p *place) as(ctx context.Context, database, statements string) error {
	c, err := pgx.Connect(ctx, p.DSN(database))
	if err != nil {
		return err
	}
	defer func() { _ = c.Close(ctx) }()
	if _, err := c.PgConn().Exec(ctx, statements).ReadAll(); err != nil {
		return fmt.Errorf("%w in %.200s", err, statements)
	}
	return nil
}

// scene is a backend on that server, behind a network that can be cut.
type scene struct {
	testing.TB
	*place
	*postgres.Backend
	net *backendtest.Cable
}

type choice struct {
	drop     bool // what is owned, instead of giving it to migrator
	owner    string
	pause    func(context.Context, time.Duration) error
	now      func() time.Time
	database string // default app
	direct   bool   // without the network that can be cut
}

func there(t testing.TB) *place {
	t.Helper()
	p, err := setting()
	needs.Started(t, err)
	return p
}

func stage(t testing.TB, c choice) *scene {
	t.Helper()
	return there(t).scene(t, c)
}

func (p *place) scene(t testing.TB, c choice) *scene {
	t.Helper()
	s := &scene{TB: t, place: p, net: backendtest.Lay(t, p.host+":"+strconv.Itoa(p.port))}
	at := postgres.Server{Host: "127.0.0.1", Port: s.net.Port(), SSLMode: "disable", User: "stepkey", Password: p.password}
	if c.direct {
		at.Port = p.port
	}
	o := postgres.Options{
		Limits: postgres.Limits{Databases: []string{"app"}, Roles: []string{"migrator"}}, Server: at, Owner: "migrator",
		Client: postgres.Client{Host: "localhost", Port: p.port}, Pause: c.pause, Now: c.now,
	}
	if c.drop {
		o.Owner = ""
	}
	if c.owner != "" {
		o.Owner = c.owner
	}
	if c.database != "" {
		o.Databases = []string{c.database}
	}
	b, err := postgres.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	s.Backend = b
	return s
}

func newLease() backend.LeaseID { return backend.LeaseID("lease_" + ulid.Make().String()) }

func roleOf(id backend.LeaseID) string { return "stepkey_" + strings.ToLower(string(id)) }

func node(t testing.TB, block string) backend.Block {
	t.Helper()
	root, err := yamlfile.Parse("task.yaml", []byte("credential:\n  postgres: "+block+"\n"))
	if err != nil {
		t.Fatal(err)
	}
	return root.Get("credential", "postgres")
}

func (s *scene) order(block string) backend.Order {
	s.Helper()
	scope, err := s.Scope(node(s, block))
	if err != nil {
		s.Fatal(err)
	}
	now := time.Now()
	return backend.Order{Lease: newLease(), Scope: scope, At: now, Until: now.Add(10 * time.Minute), For: "acme/widget, workflow release, run 7"}
}

func (s *scene) issue(block string) (backend.LeaseID, backend.Issued) {
	s.Helper()
	o := s.order(block)
	made, err := s.Issue(s.Context(), o)
	if err != nil {
		s.Fatal(err)
	}
	return o.Lease, made
}

func (s *scene) end(id backend.LeaseID) {
	s.Helper()
	if err := s.Revoke(s.Context(), id, secret.String{}); err != nil {
		s.Fatal(err)
	}
}

// login is a step's: with the credential's values, to the server itself.
func (s *scene) login(made backend.Issued) *pgx.Conn {
	s.Helper()
	c, err := login(s.Context(), made.Values)
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() { _ = c.Close(context.Background()) })
	return c
}

func login(ctx context.Context, values map[string]secret.String) (*pgx.Conn, error) {
	return pgx.Connect(ctx, values["url"].Reveal())
}

func (s *scene) must(c *pgx.Conn, statements ...string) {
	s.Helper()
	for _, one := range statements {
		if _, err := c.PgConn().Exec(s.Context(), one).ReadAll(); err != nil {
			s.Fatalf("%s: %v", one, err)
		}
	}
}

// number asks the superuser.
func (s *scene) number(database, query string) (n int) {
	s.Helper()
	c, err := pgx.Connect(context.Background(), s.DSN(database))
	if err != nil {
		s.Fatal(err)
	}
	defer func() { _ = c.Close(context.Background()) }()
	if err := c.QueryRow(context.Background(), query).Scan(&n); err != nil {
		s.Fatalf("%s: %v", query, err)
	}
	return n
}

// gone fails where anything of a lease's is left on the server.
func (s *scene) gone(id backend.LeaseID) {
	s.Helper()
	if n := s.number("postgres", "SELECT count(*) FROM pg_roles WHERE rolname = '"+roleOf(id)+"'"); n != 0 {
		s.Errorf("the role of %s is still there", id)
	}
	s.nothingLeft()
}

// nothingLeft: no session, object, privilege or prepared transaction is of a role that is
// not there any more.
func (s *scene) nothingLeft() {
	s.Helper()
	for what, query := range map[string]string{
		"sessions":     "SELECT count(*) FROM pg_stat_activity WHERE usesysid IS NOT NULL AND usename IS NULL",
		"dependencies": "SELECT count(*) FROM pg_shdepend WHERE refclassid = 'pg_authid'::regclass AND refobjid NOT IN (SELECT oid FROM pg_authid)",
		"memberships":  "SELECT count(*) FROM pg_auth_members WHERE member NOT IN (SELECT oid FROM pg_authid) OR roleid NOT IN (SELECT oid FROM pg_authid)",
		"settings":     "SELECT count(*) FROM pg_db_role_setting WHERE setrole <> 0 AND setrole NOT IN (SELECT oid FROM pg_authid)",
		"comments":     "SELECT count(*) FROM pg_shdescription WHERE classoid = 'pg_authid'::regclass AND objoid NOT IN (SELECT oid FROM pg_authid)",
		"transactions": "SELECT count(*) FROM pg_prepared_xacts",
	} {
		if n := s.number("app", query); n != 0 {
			s.Errorf("%d %s of dropped roles are left", n, what)
		}
	}
	if n := s.number("app", "SELECT count(*) FROM pg_class WHERE relowner NOT IN (SELECT oid FROM pg_authid)"); n != 0 {
		s.Errorf("%d tables of dropped roles are left", n)
	}
}

package mysql_test

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	driver "github.com/go-sql-driver/mysql"
	"github.com/oklog/ulid/v2"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/exchange/backend/backendtest"
	"github.com/stepkey/stepkey/exchange/backend/mysql"
	"github.com/stepkey/stepkey/internal/needs"
	"github.com/stepkey/stepkey/internal/realserver"
	"github.com/stepkey/stepkey/internal/secret"
	"github.com/stepkey/stepkey/internal/yamlfile"
)

// place is one MariaDB, set up as docs/backends/mysql.md says: by its very block.
type place struct {
	*realserver.MariaDB
	port     int
	password secret.String // of the exchange's account
}

// One serves all tests of this package; it writes down every statement.
var setting = sync.OnceValues(func() (*place, error) { return setUp(context.Background(), "--event-scheduler=ON") })

func TestMain(m *testing.M) {
	code := m.Run()
	for _, started := range []func() (*place, error){setting, durable} {
		p, err := started()
		if err != nil {
			continue
		}
		if err := p.Close(); err != nil {
			fmt.Fprintln(os.Stderr, "stopping MariaDB:", err)
			code = 1
		}
	}
	os.Exit(code)
}

func setUp(ctx context.Context, options ...string) (*place, error) {
	m, err := realserver.StartMariaDB(ctx, "127.0.0.1", options...)
	if err != nil {
		return nil, err
	}
	_, port, err := net.SplitHostPort(m.Address)
	p := &place{MariaDB: m, password: secret.New(rand.Text())}
	if err == nil {
		p.port, err = strconv.Atoi(port)
	}
	if err = errors.Join(err, p.furnish(ctx)); err != nil {
		return nil, errors.Join(err, m.Close())
	}
	return p, nil
}

// furnish makes the databases of somebody who then reads the page, and what tests need besides.
func (p *place) furnish(ctx context.Context) error {
	blocks, err := page.Read("sql")
	if err != nil || len(blocks) != 1 {
		return fmt.Errorf("the page has %d blocks of SQL, want one (%w)", len(blocks), err)
	}
	return errors.Join(
		p.as(ctx, "CREATE DATABASE app; CREATE TABLE app.orders (id int AUTO_INCREMENT PRIMARY KEY, item text);"+
			"CREATE TABLE app.customers (id int PRIMARY KEY, name text); INSERT INTO app.customers VALUES (1, 'acme');"+
			"CREATE DATABASE `ar_chive%`; CREATE TABLE `ar_chive%`.old (a int); CREATE DATABASE arXchive; CREATE TABLE arXchive.old (a int)"),
		p.as(ctx, strings.NewReplacer("10.0.%", from, "a long password", p.password.Reveal()).Replace(blocks[0])),
		p.as(ctx, "GRANT SELECT, LOCK TABLES ON `ar\\_chive\\%`.* TO stepkey@'"+from+"' WITH GRANT OPTION; GRANT SELECT ON arXchive.* TO stepkey@'"+from+"'"),
	)
}

const from = "127.0.0.%"

// as runs statements as root.
func (p *place) as(ctx context.Context, statements string) error {
	if _, err := p.Root.ExecContext(ctx, statements); err != nil {
		return fmt.Errorf("%w in %.200s", err, statements)
	}
	return nil
}

// scene is a backend on that server, behind a network that can be cut.
type scene struct {
	testing.TB
	*place
	*mysql.Backend
	net     *backendtest.Cable
	hostile int // leases on hostile names so far
}

type choice struct {
	keep      bool // what a lease defined
	direct    bool // without the network that can be cut
	plugin    string
	user      string // default stepkey
	password  secret.String
	databases []string
	pause     func(context.Context, time.Duration) error
	now       func() time.Time
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
	s := &scene{TB: t, place: p, net: backendtest.Lay(t, p.Address)}
	at := mysql.Server{Host: "127.0.0.1", Port: s.net.Port(), SSLMode: "disabled", User: "stepkey", Password: p.password}
	if c.direct {
		at.Port = p.port
	}
	if c.user != "" {
		at.User, at.Password = c.user, c.password
	}
	if c.databases == nil {
		c.databases = []string{"app", "ar_chive%", "arXchive", "nowhere"}
	}
	b, err := mysql.New(mysql.Options{
		Limits: mysql.Limits{Databases: c.databases, Roles: []string{"migrator"}}, Server: at, DropDefined: !c.keep,
		From: from, Authentication: c.plugin, Client: mysql.Client{Port: p.port}, Pause: c.pause, Now: c.now,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	s.Backend = b
	return s
}

func newLease() backend.LeaseID { return backend.LeaseID("lease_" + ulid.Make().String()) }

func userOf(id backend.LeaseID) string { return strings.ToLower(string(id)) }

func node(t testing.TB, block string) backend.Block {
	t.Helper()
	root, err := yamlfile.Parse("task.yaml", []byte("credential:\n  mysql: "+block+"\n"))
	if err != nil {
		t.Fatal(err)
	}
	return root.Get("credential", "mysql")
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
func (s *scene) login(made backend.Issued) *sql.Conn {
	s.Helper()
	c, err := login(s.Context(), made.Values)
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() { _ = c.Close() })
	return c
}

// leave closes a session and waits until the server has noticed: it counts them.
func (s *scene) leave(c *sql.Conn, id backend.LeaseID) {
	s.Helper()
	_ = c.Close()
	s.eventually("the session is closed", "SELECT COUNT(*) = 0 FROM information_schema.PROCESSLIST WHERE USER = '"+userOf(id)+"'")
}

// login makes one connection, which is closed with it.
func login(ctx context.Context, values map[string]secret.String) (*sql.Conn, error) {
	c := driver.NewConfig()
	c.User, c.Passwd, c.DBName = values["username"].Reveal(), values["password"].Reveal(), values["database"].Reveal()
	c.Net, c.Addr = "tcp", net.JoinHostPort(values["host"].Reveal(), values["port"].Reveal())
	c.Logger, c.MultiStatements = &driver.NopLogger{}, true
	if mode := values["ssl_mode"].Reveal(); mode != "disabled" {
		c.TLSConfig = "skip-verify"
	}
	connector, err := driver.NewConnector(c)
	if err != nil {
		return nil, err
	}
	db := sql.OpenDB(connector)
	db.SetMaxIdleConns(-1)
	return db.Conn(ctx)
}

func (s *scene) must(c *sql.Conn, statements ...string) {
	s.Helper()
	for _, one := range statements {
		if _, err := c.ExecContext(s.Context(), one); err != nil {
			s.Fatalf("%s: %v", one, err)
		}
	}
}

// number asks root.
func (s *scene) number(query string) (n int) {
	s.Helper()
	if err := s.Root.QueryRowContext(context.Background(), query).Scan(&n); err != nil {
		s.Fatalf("%s: %v", query, err)
	}
	return n
}

// gone fails where anything of a lease's is left on the server.
func (s *scene) gone(id backend.LeaseID) {
	s.Helper()
	for what, query := range leftOf {
		if n := s.number(fmt.Sprintf(query, "= '"+userOf(id)+"'")); n != 0 {
			s.Errorf("%d %s of %s are left", n, what, id)
		}
	}
}

// leftOf is where a user may have left something, by its name.
var leftOf = map[string]string{
	"users":                "SELECT COUNT(*) FROM mysql.global_priv WHERE User %s",
	"sessions":             "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE USER %s",
	"grants on databases":  "SELECT COUNT(*) FROM mysql.db WHERE User %s",
	"grants on tables":     "SELECT COUNT(*) FROM mysql.tables_priv WHERE User %s",
	"grants on columns":    "SELECT COUNT(*) FROM mysql.columns_priv WHERE User %s",
	"grants on routines":   "SELECT COUNT(*) FROM mysql.procs_priv WHERE User %s",
	"roles":                "SELECT COUNT(*) FROM mysql.roles_mapping WHERE User %s",
	"definers of views":    "SELECT COUNT(*) FROM information_schema.VIEWS WHERE SUBSTRING_INDEX(DEFINER, '@', 1) %s",
	"definers of triggers": "SELECT COUNT(*) FROM information_schema.TRIGGERS WHERE SUBSTRING_INDEX(DEFINER, '@', 1) %s",
	"definers of routines": "SELECT COUNT(*) FROM mysql.proc WHERE SUBSTRING_INDEX(definer, '@', 1) %s",
	"definers of events":   "SELECT COUNT(*) FROM mysql.event WHERE SUBSTRING_INDEX(definer, '@', 1) %s",
}

// nothingLeft: nothing is on the server of any lease.
func (s *scene) nothingLeft() {
	s.Helper()
	for what, query := range leftOf {
		if n := s.number(fmt.Sprintf(query, "LIKE 'lease\\_%'")); n != 0 {
			s.Errorf("%d %s of leases are left", n, what)
		}
	}
}

// eventually waits until a query answers anything but 0.
func (s *scene) eventually(what, query string) {
	s.Helper()
	ctx, done := context.WithTimeout(s.Context(), 20*time.Second)
	defer done()
	again := time.NewTicker(5 * time.Millisecond)
	defer again.Stop()
	for s.number(query) == 0 {
		select {
		case <-ctx.Done():
			s.Fatalf("never: %s", what)
		case <-again.C:
		}
	}
}

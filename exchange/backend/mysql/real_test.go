package mysql_test

import (
	"context"
	"database/sql"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	driver "github.com/go-sql-driver/mysql"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/exchange/backend/backendtest"
	"github.com/stepkey/stepkey/exchange/backend/mysql"
	"github.com/stepkey/stepkey/internal/realserver"
	"github.com/stepkey/stepkey/internal/secret"
)

// TestARealMySQLPassesTheSuite is for a server of one's own, MySQL or MariaDB; see the page.
func TestARealMySQLPassesTheSuite(t *testing.T) {
	name := os.Getenv("STEPKEY_TEST_MYSQL")
	if name == "" {
		t.Skip("there is no server of MySQL to be had; name one as STEPKEY_TEST_MYSQL, with an account that may do everything, and this runs on it")
	}
	at, err := driver.ParseDSN(name)
	if err != nil {
		t.Fatal(err)
	}
	root := ownServer(t, at)
	const good = "database: sktest\ngrants: [{tables: [orders], privileges: [select, insert]}"
	for name, h := range map[string]backendtest.Harness{
		"grants": {
			Good: good + "]", Narrower: "database: sktest\ngrants: [{tables: [orders], privileges: [select]}]\nconnections: 1",
			Wider: good + ", {tables: [customers], privileges: [select]}]", Says: grantsSay,
		},
		"a role": {
			Good: "database: sktest\nrole: sktest_role", Narrower: "database: sktest\nrole: sktest_role\nconnections: 1",
			Wider: "database: sktest\nrole: sktest_role\nconnections: 3", Says: roleSays,
		},
	} {
		may := deeds{use: running("INSERT INTO orders (item) VALUES ('widget')"), useLess: connecting(1), exceed: connecting(2), overstep: connecting(3)}
		if name == "grants" {
			may.exceed, may.overstep = nil, running("SELECT * FROM customers")
		}
		h.Hostile, h.Endless = hostile, endless
		h.Open = func(t testing.TB) backendtest.World {
			s := ownScene(t, at, root)
			w := s.world(may)
			w.Secrets = []string{at.Passwd}
			w.Backend = s.remembering()
			w.Live = func() int {
				return s.number("SELECT COUNT(*) FROM mysql.user WHERE User LIKE 'lease\\_%' AND " + notLocked(t, root))
			}
			return w
		}
		t.Run(name, func(t *testing.T) { backendtest.Run(t, h) })
	}
}

// ownServer furnishes it, and takes away what this brings.
func ownServer(t *testing.T, at *driver.Config) *sql.DB {
	t.Helper()
	c := at.Clone()
	c.MultiStatements, c.Logger = true, &driver.NopLogger{}
	connector, err := driver.NewConnector(c)
	if err != nil {
		t.Fatal(err)
	}
	root := sql.OpenDB(connector)
	t.Cleanup(func() { _ = root.Close() })
	with := "GRANT sktest_role TO CURRENT_USER() WITH ADMIN OPTION"
	if maria(t, root) {
		with = "DO 0" // whoever makes a role may give it on
	}
	for _, one := range []string{
		"CREATE DATABASE sktest", "CREATE TABLE sktest.orders (id int AUTO_INCREMENT PRIMARY KEY, item text)",
		"CREATE TABLE sktest.customers (id int)", "CREATE ROLE sktest_role", "GRANT SELECT, INSERT ON sktest.* TO sktest_role", with,
	} {
		if _, err := root.ExecContext(t.Context(), one); err != nil {
			t.Fatalf("%s: %v", one, err)
		}
	}
	t.Cleanup(func() {
		if _, err := root.ExecContext(context.Background(), "DROP DATABASE sktest; DROP ROLE sktest_role"); err != nil {
			t.Error(err)
		}
	})
	return root
}

func maria(t testing.TB, root *sql.DB) bool {
	t.Helper()
	var version string
	if err := root.QueryRowContext(context.Background(), "SELECT VERSION()").Scan(&version); err != nil {
		t.Fatal(err)
	}
	return strings.Contains(version, "MariaDB")
}

func notLocked(t testing.TB, root *sql.DB) string {
	t.Helper()
	if maria(t, root) { // whose mysql.user does not say so
		return "NOT EXISTS (SELECT 1 FROM mysql.global_priv g WHERE g.User = mysql.user.User AND JSON_VALUE(g.Priv, '$.account_locked'))"
	}
	return "account_locked = 'N'"
}

func ownScene(t testing.TB, at *driver.Config, root *sql.DB) *scene {
	t.Helper()
	host, port, err := net.SplitHostPort(at.Addr)
	if err != nil {
		t.Fatal(err)
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	mode := "disabled"
	if at.TLSConfig != "" {
		mode = "required"
	}
	s := &scene{TB: t, place: &place{MariaDB: &realserver.MariaDB{Root: root}}, net: backendtest.Lay(t, at.Addr)}
	s.Backend, err = mysql.New(mysql.Options{
		Limits:      mysql.Limits{Databases: []string{"sktest"}, Roles: []string{"sktest_role"}},
		Server:      mysql.Server{Host: "127.0.0.1", Port: s.net.Port(), SSLMode: mode, User: at.User, Password: secret.New(at.Passwd)},
		DropDefined: true, Client: mysql.Client{Host: host, Port: number}, Now: time.Now,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// remembering is the backend, and ends what the suite leaves alive: the server is somebody's.
type remembering struct {
	*mysql.Backend
	mu     sync.Mutex
	leases []backend.LeaseID
}

func (s *scene) remembering() *remembering {
	r := &remembering{Backend: s.Backend}
	s.Cleanup(func() {
		s.net.SetDown(false)
		for _, id := range r.leases {
			if err := r.Revoke(context.Background(), id, secret.String{}); err != nil {
				s.Error(err)
			}
		}
	})
	return r
}

func (r *remembering) Issue(ctx context.Context, o backend.Order) (backend.Issued, error) {
	r.mu.Lock()
	r.leases = append(r.leases, o.Lease)
	r.mu.Unlock()
	return r.Backend.Issue(ctx, o)
}

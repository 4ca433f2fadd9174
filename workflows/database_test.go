package workflows_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stepkey/stepkey/internal/needs"
	"github.com/stepkey/stepkey/internal/pgserver"
)

// database is a PostgreSQL that jobs and the exchange reach, set up as
// docs/backends/postgres.md says: by its very blocks.
type database struct {
	*pgserver.Server
	address, port string
	password      string // of the exchange's account
	authority     string // PEM, of a server that lets in over TLS alone
}

// records are what is in app before anybody has a task: orders are the tasks', and
// salaries nobody's.
const records = `CREATE TABLE orders (id serial PRIMARY KEY, item text, done boolean NOT NULL);
CREATE TABLE customers (id int PRIMARY KEY, name text);
CREATE TABLE salaries (name text, amount int);
INSERT INTO orders (item, done) SELECT 'item ' || n, n % 2 = 0 FROM generate_series(1, 1000) n;
INSERT INTO customers VALUES (1, 'acme');
INSERT INTO salaries VALUES ('the boss', 1)`

func startDatabase(t *testing.T, address string) *database {
	t.Helper()
	needs.Programs(t, "psql", "pg_dump")
	server, err := pgserver.StartOn(t.Context(), address, pgserver.Quick)
	needs.Started(t, err)
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	where, err := url.Parse(server.DSN("app"))
	if err != nil {
		t.Fatal(err)
	}
	d := &database{Server: server, address: address, port: where.Port(), password: rand.Text()}
	// Everybody but the superuser shows a password.
	rules := "host all admin samenet trust\nhost all all samenet scram-sha-256\n"
	if err := os.WriteFile(filepath.Join(d.DataDir(), "pg_hba.conf"), []byte(rules), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, one := range []string{"SELECT pg_reload_conf()", "CREATE DATABASE app", "CREATE DATABASE ledger", "REVOKE CONNECT ON DATABASE ledger FROM PUBLIC"} {
		d.do(t, one)
	}
	blocks := page("postgres.md").Blocks(t, "sql")
	if len(blocks) != 2 {
		t.Fatalf("the page has %d blocks of SQL, want one for the server and one for its database", len(blocks))
	}
	d.as(t, "app", records)
	d.as(t, "postgres", blocks[0])
	d.as(t, "app", blocks[1])
	d.do(t, "ALTER ROLE stepkey PASSWORD '"+d.password+"'")
	return d
}

func (d *database) do(t *testing.T, statement string) {
	t.Helper()
	if err := d.Exec(t.Context(), statement); err != nil {
		t.Fatalf("%.60s: %v", statement, err)
	}
}

// as has the superuser run statements, and returns what they say.
func (d *database) as(t *testing.T, database, statements string) string {
	t.Helper()
	said, err := d.ask(t.Context(), database, statements)
	if err != nil {
		t.Fatal(err)
	}
	return said
}

func (d *database) ask(ctx context.Context, database, statements string) (string, error) {
	said, err := exec.CommandContext(ctx, "psql", "-XqAt", "-v", "ON_ERROR_STOP=1", "-d", d.DSN(database), "-c", statements).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%.60s: %w: %s", statements, err, said)
	}
	return strings.TrimSpace(string(said)), nil
}

// becomes waits until a question is answered so.
func (d *database) becomes(ctx context.Context, question, want string) error {
	ctx, stop := context.WithTimeout(ctx, patience)
	defer stop()
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	for {
		said, err := d.ask(ctx, "app", question)
		if err == nil && said == want {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: want %s, and it is %s (%w)", question, want, said, err)
		case <-again.C:
		}
	}
}

// Logins are the roles of leases; a session may be one of a role that is gone.
const (
	logins   = `SELECT count(*) FROM pg_roles WHERE rolname LIKE 'stepkey\_%'`
	sessions = `SELECT count(*) FROM pg_stat_activity WHERE usename LIKE 'stepkey\_%' OR usesysid IS NOT NULL AND usename IS NULL`
	orphans  = `SELECT count(*) FROM pg_shdepend WHERE refclassid = 'pg_authid'::regclass AND refobjid NOT IN (SELECT oid FROM pg_authid)`
)

// wantNobody: of no lease there is a login, a session or an object.
func (d *database) wantNobody(t *testing.T) {
	t.Helper()
	for what, question := range map[string]string{"logins of leases": logins, "sessions of theirs": sessions, "objects of a role that is gone": orphans} {
		if n := d.as(t, "app", question); n != "0" {
			t.Errorf("%s %s are left", n, what)
		}
	}
}

func (d *database) want(t *testing.T, question, want string) {
	t.Helper()
	if got := d.as(t, "app", question); got != want {
		t.Errorf("%s: it is %s, want %s", question, got, want)
	}
}

// overTLS gives the server a certificate for its address, and has it let in over TLS alone.
func (d *database) overTLS(t *testing.T) {
	t.Helper()
	certificate, key := certified(t, d.address)
	d.authority = string(certificate)
	rules := "host all admin samenet trust\nhostssl all all samenet scram-sha-256\n"
	for name, content := range map[string][]byte{"server.crt": certificate, "server.key": key, "pg_hba.conf": []byte(rules)} {
		d.keep(t, name, content)
	}
	d.do(t, "ALTER SYSTEM SET ssl = on")
	d.do(t, "SELECT pg_reload_conf()")
	if err := d.becomes(t.Context(), "SHOW ssl", "on"); err != nil {
		t.Fatal(err)
	}
}

// keep writes a file of the server's own, who refuses a key that others may read.
func (d *database) keep(t *testing.T, name string, content []byte) {
	t.Helper()
	path := filepath.Join(d.DataDir(), name)
	write(t, path, content)
	info, err := os.Stat(d.DataDir())
	if err != nil {
		t.Fatal(err)
	}
	if owner, ok := info.Sys().(*syscall.Stat_t); ok {
		if err := os.Chown(path, int(owner.Uid), int(owner.Gid)); err != nil {
			t.Fatal(err)
		}
	}
}

// certified makes a certificate for an address, which signed itself, and its key, PEM.
func certified(t *testing.T, address string) (certificate, key []byte) {
	t.Helper()
	own, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: address}, IPAddresses: []net.IP{net.ParseIP(address)}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	public, err1 := x509.CreateCertificate(rand.Reader, template, template, own.Public(), own)
	private, err2 := x509.MarshalPKCS8PrivateKey(own)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: public}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})
}

// configured is what the exchange's configuration says of it.
func (d *database) configured(roles string) string {
	tls := "sslmode: disable"
	if d.authority != "" {
		tls = "root_certificate: postgres.crt"
	}
	return fmt.Sprintf("  postgres: {host: %s, port: %s, %s, user: stepkey, password_file: postgres.password, databases: [app], roles: [%s], owner: migrator}\n",
		d.address, d.port, tls, roles)
}

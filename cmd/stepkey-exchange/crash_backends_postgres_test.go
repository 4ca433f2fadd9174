package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/stepkey/stepkey/exchange/client"
	"github.com/stepkey/stepkey/internal/needs"
	"github.com/stepkey/stepkey/internal/pgserver"
)

// crashPostgres is one PostgreSQL with a database for each lane: those who are in the
// middle of a grant hold up others in their database.
type crashPostgres struct {
	*pgserver.Server
	password  string // of the exchange's account
	mu        sync.Mutex
	databases map[int]*url.URL // by lane
}

func startPostgres(t *testing.T) func(*crashRun) outsider {
	t.Helper()
	server, err := pgserver.Start(t.Context(), pgserver.Quick)
	needs.Started(t, err)
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	p := &crashPostgres{Server: server, password: rand.Text(), databases: map[int]*url.URL{}}
	// Everybody but the superuser shows a password, as on a server that is not a test's.
	rules := "local all all trust\nhost all admin 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 scram-sha-256\n"
	if err := os.WriteFile(filepath.Join(server.DataDir(), "pg_hba.conf"), []byte(rules), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, statement := range []string{"SELECT pg_reload_conf()", "CREATE ROLE migrator NOLOGIN",
		"CREATE ROLE stepkey LOGIN CREATEROLE PASSWORD '" + p.password + "'", "GRANT migrator TO stepkey WITH ADMIN OPTION"} {
		if err := server.Exec(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	return func(*crashRun) outsider { return &postgresRoles{at: p} }
}

// database is the lane's.
func (p *crashPostgres) database(r *crashRun) *url.URL {
	p.mu.Lock()
	defer p.mu.Unlock()
	if at := p.databases[r.outside.lane]; at != nil {
		return at
	}
	where, err := p.Database(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	at, err := url.Parse(where)
	if err != nil {
		r.t.Fatal(err)
	}
	c := dial(r, where)
	name := `"` + at.Path[1:] + `"`
	r.ran(c, "REVOKE CONNECT, TEMPORARY ON DATABASE "+name+" FROM PUBLIC; GRANT CONNECT ON DATABASE "+name+" TO stepkey WITH GRANT OPTION;"+
		"GRANT CONNECT ON DATABASE "+name+" TO migrator; CREATE TABLE orders (id int, item text); GRANT USAGE ON SCHEMA public TO stepkey WITH GRANT OPTION;"+
		"GRANT SELECT, INSERT ON orders TO stepkey WITH GRANT OPTION; GRANT USAGE, CREATE ON SCHEMA public TO migrator")
	p.databases[r.outside.lane] = at
	return at
}

func dial(r *crashRun, where string) *pgx.Conn {
	c, err := pgx.Connect(r.t.Context(), where)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = c.Close(context.Background()) })
	return c
}

func (r *crashRun) ran(c *pgx.Conn, statements string) {
	if _, err := c.PgConn().Exec(r.t.Context(), statements).ReadAll(); err != nil {
		r.t.Fatalf("%v in %s", err, statements)
	}
}

// postgresRoles are those of one run.
type postgresRoles struct {
	at    *crashPostgres
	where *url.URL
	admin *pgx.Conn
}

func (p *postgresRoles) configure(r *crashRun) (backend, credential string) {
	p.where = p.at.database(r)
	p.admin = dial(r, p.where.String())
	port := lay(r.t, &cable{passage: &r.outside.passage, to: p.where.Host, name: verbs})
	write(r.t, r.dir, "postgres.password", []byte(p.at.password))
	database := p.where.Path[1:]
	backend = fmt.Sprintf("postgres: {host: 127.0.0.1, port: %d, sslmode: disable, user: stepkey, password_file: postgres.password, databases: [%q], roles: [migrator], owner: migrator, client: {host: 127.0.0.1, port: %s}}",
		port, database, p.where.Port())
	credential = fmt.Sprintf("postgres: {database: %q, grants: [{schema: public, tables: [orders], privileges: [select, insert]}]}", database)
	if r.outside.form == "role" || r.point.at.phase == "" && r.seed%2 == 1 {
		credential = fmt.Sprintf("postgres: {database: %q, role: migrator}", database)
	}
	return backend, credential
}

// verbs are the kinds of a message's statements, or what else it is.
func verbs(message []byte) string {
	switch {
	case message[0] == 0:
		return "connect"
	case message[0] == 'p':
		return "password"
	case message[0] != 'Q' || len(message) < 6:
		return "other"
	}
	var all []string
	for statement := range strings.SplitSeq(string(message[5:len(message)-1]), ";\n") {
		verb, _, _ := strings.Cut(strings.TrimSpace(statement), " ")
		if len(all) == 0 || all[len(all)-1] != verb {
			all = append(all, verb)
		}
	}
	return strings.Join(all, " ")
}

// use opens a session, which has the lease's name.
func (p *postgresRoles) use(r *crashRun, g *client.Grant) {
	config, err := pgx.ParseConfig(g.Values["url"].Reveal())
	if err != nil {
		r.t.Fatal(err)
	}
	config.RuntimeParams["application_name"] = sessionOf + g.LeaseID
	c, err := pgx.ConnectConfig(r.t.Context(), config)
	if err != nil {
		return // its deadline may have been faster
	}
	r.t.Cleanup(func() { _ = c.Close(context.Background()) })
	_, _ = c.Exec(r.t.Context(), "BEGIN; SELECT * FROM orders")
}

const sessionOf = "step of "

// alive are roles, told by the owner of the run's repositories in their comments, and
// sessions, also of roles that are gone.
func (p *postgresRoles) alive(r *crashRun) map[string]string {
	alive := map[string]string{}
	rows, err := p.admin.Query(r.t.Context(), `SELECT rolname, 'a role' FROM pg_roles WHERE rolname LIKE 'stepkey\_lease\_%' AND shobj_description(oid, 'pg_authid') LIKE '% ' || $1 || '/%'
		UNION ALL SELECT 'stepkey_' || substr(application_name, $2), 'a session' FROM pg_stat_activity WHERE datname = $3 AND application_name LIKE $4 || 'lease\_%'`,
		r.owner(), len(sessionOf)+1, p.where.Path[1:], sessionOf)
	if err != nil {
		r.t.Fatal(err)
	}
	var role, what string
	_, err = pgx.ForEachRow(rows, []any{&role, &what}, func() error {
		kind, id, cut := strings.Cut(strings.TrimPrefix(role, "stepkey_"), "_")
		if !cut {
			return errors.New("a role of another form: " + role)
		}
		alive[kind+"_"+strings.ToUpper(id)] += what + " "
		return nil
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return alive
}

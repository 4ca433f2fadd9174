package postgres_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/stepkey/stepkey/exchange/backend/backendtest"
	"github.com/stepkey/stepkey/internal/secret"
)

// deeds are what may and may not be done with a block's role.
type deeds struct{ use, useLess, exceed, overstep backendtest.Deed }

// hold keeps a session open, in the middle of a transaction.
func (s *scene) hold(ctx context.Context, values map[string]secret.String) (func() bool, error) {
	c, err := login(ctx, values)
	if err != nil {
		return nil, err
	}
	s.Cleanup(func() { _ = c.Close(context.WithoutCancel(ctx)) })
	_, err = c.Exec(ctx, "BEGIN")
	return func() bool {
		_, err := c.Exec(ctx, "SELECT 1")
		return err == nil
	}, err
}

// endless is true of all roles: VALID UNTIL stops logins, and no more.
const endless = "PostgreSQL ends no session of a role whose time is over"

// world is the scene as the suite sees it, with what may and may not be done.
func (s *scene) world(may deeds) backendtest.World {
	return backendtest.World{
		Backend: s.Backend, Now: time.Now, Secrets: []string{s.password.Reveal()},
		Use: may.use, UseLess: may.useLess, Exceed: may.exceed, Overstep: may.overstep, Hold: s.hold,
		Live: func() int {
			return s.number("postgres", `SELECT count(*) FROM pg_roles WHERE rolname LIKE 'stepkey\_%' AND rolcanlogin`)
		},
		LoseReply: func() { s.net.LoseReply("\x0bCOMMIT\x00") }, // a message of eleven bytes: a commit alone
		LoseEnd: func() func() bool {
			s.net.LoseReply("DROP ROLE") // which travels with its commit
			return s.net.Lost
		},
		Down: func() { s.net.SetDown(true) },
		Up:   func() { s.net.SetDown(false) },
	}
}

// running runs statements as a step does.
func running(statements string) func(context.Context, map[string]secret.String) error {
	return func(ctx context.Context, values map[string]secret.String) error {
		c, err := login(ctx, values)
		if err != nil {
			return err
		}
		defer func() { _ = c.Close(ctx) }()
		_, err = c.PgConn().Exec(ctx, statements).ReadAll()
		return err
	}
}

// connecting opens several connections at the same time.
func connecting(many int) func(context.Context, map[string]secret.String) error {
	return func(ctx context.Context, values map[string]secret.String) error {
		var open []*pgx.Conn
		defer func() {
			for _, c := range open {
				_ = c.Close(ctx)
			}
		}()
		for range many {
			c, err := login(ctx, values)
			if err != nil {
				return err
			}
			open = append(open, c)
		}
		return nil
	}
}

var hostile = map[string]string{
	"nothing granted":              "database: app",
	"no grant":                     "database: app\ngrants: []",
	"no database":                  "role: migrator",
	"another database":             "database: postgres\nrole: migrator",
	"a role not listed":            "database: app\nrole: admin",
	"the exchange's own role":      "database: app\nrole: stepkey",
	"another lease's role":         "database: app\nrole: stepkey_lease_01",
	"a role of PostgreSQL's":       "database: app\nrole: pg_execute_server_program",
	"role and grants":              "database: app\nrole: migrator\ngrants: [{schema: public, tables: all, privileges: [select]}]",
	"no connection":                "database: app\nrole: migrator\nconnections: 0",
	"without limit":                "database: app\nrole: migrator\nconnections: -1",
	"a schema of catalogs":         "database: app\ngrants: [{schema: pg_catalog, tables: [pg_authid], privileges: [select]}]",
	"every privilege":              "database: app\ngrants: [{schema: public, tables: all, privileges: [all]}]",
	"a privilege to act as others": "database: app\ngrants: [{schema: public, tables: [orders], privileges: [trigger]}]",
	"SQL for a privilege":          "database: app\ngrants: [{schema: public, tables: [orders], privileges: ['select on orders to public; --']}]",
	"a word for a list":            "database: app\ngrants: [{schema: public, tables: everything, privileges: [select]}]",
	"nothing to grant on":          "database: app\ngrants: [{schema: public, privileges: [select]}]",
	"a line end":                   "database: app\ngrants: [{schema: public, tables: [\"a\\nb\"], privileges: [select]}]",
	"a zero":                       "database: app\ngrants: [{schema: public, tables: [\"a\\0b\"], privileges: [select]}]",
	"text the wrong way round":     "database: app\ngrants: [{schema: public, tables: [\"a\\u202eb\"], privileges: [select]}]",
	"a name to be cut off":         "database: app\ngrants: [{schema: public, tables: [" + strings.Repeat("a", 64) + "], privileges: [select]}]",
	"an unknown key":               "database: app\nrole: migrator\nsuperuser: true",
	"a very long name":             "database: " + strings.Repeat("a", 5000) + "\nrole: migrator",
}

const (
	insert   = "{schema: public, tables: [orders], privileges: [select, insert]}, {schema: public, sequences: [orders_id_seq], privileges: [usage]}"
	customer = "{schema: public, tables: [customers], privileges: [select]}"
)

func TestRolesWithGrantsPassTheSuite(t *testing.T) {
	backendtest.Run(t, backendtest.Harness{
		Open: func(t testing.TB) backendtest.World {
			return stage(t, choice{}).world(deeds{
				use: running("INSERT INTO orders (item) VALUES ('widget') RETURNING id"), useLess: running("SELECT count(*) FROM orders"),
				overstep: running("SELECT name FROM customers"),
			})
		},
		Says: backendtest.Phrases{
			Good:     []string{"select, insert on table orders of schema public", "2 connections"},
			Narrower: []string{"select on table orders of schema public", "1 connection at"},
			Wider:    []string{"select, insert on table orders of schema public", "2 connections", "select on table customers"},
		},
		Endless:  endless,
		Good:     "database: app\ngrants: [" + insert + "]",
		Narrower: "database: app\ngrants: [{schema: public, tables: [orders], privileges: [select]}]\nconnections: 1",
		Wider:    "database: app\ngrants: [" + insert + ", " + customer + "]",
		Hostile:  hostile,
	})
}

func TestRolesThatAreMembersPassTheSuite(t *testing.T) {
	backendtest.Run(t, backendtest.Harness{
		Open: func(t testing.TB) backendtest.World {
			return stage(t, choice{drop: true}).world(deeds{
				use: running("CREATE TABLE IF NOT EXISTS notes (words text); INSERT INTO notes VALUES ('x')"), useLess: connecting(1),
				exceed: connecting(2), overstep: connecting(3),
			})
		},
		Says: backendtest.Phrases{
			Good: []string{"the role migrator", "2 connections"}, Narrower: []string{"the role migrator", "1 connection at"},
			Wider: []string{"the role migrator", "3 connections"},
		},
		Endless:  endless,
		Good:     "database: app\nrole: migrator",
		Narrower: "database: app\nrole: migrator\nconnections: 1",
		Wider:    "database: app\nrole: migrator\nconnections: 3",
		Hostile:  hostile,
	})
}

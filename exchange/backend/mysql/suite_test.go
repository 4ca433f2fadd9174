package mysql_test

import (
	"context"
	"database/sql"
	"strings"
	"testing"
	"time"

	"github.com/stepkey/stepkey/exchange/backend/backendtest"
	"github.com/stepkey/stepkey/internal/secret"
)

// deeds are what may and may not be done with a block's user.
type deeds struct{ use, useLess, exceed, overstep backendtest.Deed }

// hold keeps a session open, in the middle of a transaction.
func (s *scene) hold(ctx context.Context, values map[string]secret.String) (func() bool, error) {
	c, err := login(ctx, values)
	if err != nil {
		return nil, err
	}
	s.Cleanup(func() { _ = c.Close() })
	_, err = c.ExecContext(ctx, "START TRANSACTION")
	return func() bool {
		_, err := c.ExecContext(ctx, "DO 1")
		return err == nil
	}, err
}

// endless is true of all users.
const endless = "the server can let a password expire, and no login with it"

// world is the scene as the suite sees it, with what may and may not be done.
func (s *scene) world(may deeds) backendtest.World {
	return backendtest.World{
		Backend: s.Backend, Now: time.Now, Secrets: []string{s.password.Reveal()},
		Use: may.use, UseLess: may.useLess, Exceed: may.exceed, Overstep: may.overstep, Hold: s.hold,
		Live: func() int {
			return s.number(`SELECT COUNT(*) FROM mysql.global_priv WHERE User LIKE 'lease\_%' AND NOT COALESCE(JSON_VALUE(Priv, '$.account_locked'), 0)`)
		},
		LoseReply: func() { s.net.LoseReply("ACCOUNT UNLOCK") },
		LoseEnd: func() func() bool {
			s.net.LoseReply("DROP USER")
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
		defer func() { _ = c.Close() }()
		_, err = c.ExecContext(ctx, statements)
		return err
	}
}

// connecting opens several connections at the same time.
func connecting(many int) func(context.Context, map[string]secret.String) error {
	return func(ctx context.Context, values map[string]secret.String) error {
		var open []*sql.Conn
		defer func() {
			for _, c := range open {
				_ = c.Close()
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
	"another database":             "database: secrets\nrole: migrator",
	"the server's own database":    "database: mysql\nrole: migrator",
	"a grant in another database":  "database: app\ngrants: [{database: mysql, tables: [user], privileges: [select]}]",
	"nothing in its own database":  "database: app\ngrants: [{database: arXchive, tables: all, privileges: [select]}]",
	"a role not listed":            "database: app\nrole: admin",
	"the exchange's own account":   "database: app\nrole: stepkey",
	"another lease's user":         "database: app\nrole: lease_01",
	"everybody":                    "database: app\nrole: PUBLIC",
	"role and grants":              "database: app\nrole: migrator\ngrants: [{tables: all, privileges: [select]}]",
	"no connection":                "database: app\nrole: migrator\nconnections: 0",
	"without limit":                "database: app\nrole: migrator\nconnections: -1",
	"every privilege":              "database: app\ngrants: [{tables: all, privileges: [all]}]",
	"a privilege to act as others": "database: app\ngrants: [{tables: [orders], privileges: [trigger]}]",
	"a privilege to give on":       "database: app\ngrants: [{tables: [orders], privileges: [grant option]}]",
	"locks of one table":           "database: app\ngrants: [{tables: [orders], privileges: [lock tables]}]",
	"SQL for a privilege":          "database: app\ngrants: [{tables: [orders], privileges: ['select on *.* to x; --']}]",
	"a word for a list":            "database: app\ngrants: [{tables: everything, privileges: [select]}]",
	"nothing to grant on":          "database: app\ngrants: [{privileges: [select]}]",
	"a line end":                   "database: app\ngrants: [{tables: [\"a\\nb\"], privileges: [select]}]",
	"a zero":                       "database: app\ngrants: [{tables: [\"a\\0b\"], privileges: [select]}]",
	"text the wrong way round":     "database: app\ngrants: [{tables: [\"a\\u202eb\"], privileges: [select]}]",
	"a name that is another":       "database: app\ngrants: [{tables: ['#mysql50#orders'], privileges: [select]}]",
	"a name to be cut off":         "database: app\ngrants: [{tables: [" + strings.Repeat("a", 65) + "], privileges: [select]}]",
	"a space at the end":           "database: app\ngrants: [{tables: ['orders '], privileges: [select]}]",
	"an unknown key":               "database: app\nrole: migrator\nsuper: true",
	"a very long name":             "database: " + strings.Repeat("a", 5000) + "\nrole: migrator",
}

const (
	insert   = "{tables: [orders], privileges: [select, insert]}"
	customer = "{tables: [customers], privileges: [select]}"
)

var (
	grantsSay = backendtest.Phrases{
		Good:     []string{"select, insert on table orders", "2 connections"},
		Narrower: []string{"select on table orders", "1 connection at"},
		Wider:    []string{"select, insert on table orders", "2 connections", "select on table customers"},
	}
	roleSays = backendtest.Phrases{
		Good: []string{"the role", "2 connections"}, Narrower: []string{"the role", "1 connection at"}, Wider: []string{"the role", "3 connections"},
	}
)

func TestUsersWithGrantsPassTheSuite(t *testing.T) {
	backendtest.Run(t, backendtest.Harness{
		Open: func(t testing.TB) backendtest.World {
			return stage(t, choice{}).world(deeds{
				use: running("INSERT INTO orders (item) VALUES ('widget') RETURNING id"), useLess: running("SELECT COUNT(*) FROM orders"),
				overstep: running("SELECT name FROM customers"),
			})
		},
		Says: grantsSay, Endless: endless,
		Good:     "database: app\ngrants: [" + insert + "]",
		Narrower: "database: app\ngrants: [{tables: [orders], privileges: [select]}]\nconnections: 1",
		Wider:    "database: app\ngrants: [" + insert + ", " + customer + "]",
		Hostile:  hostile,
	})
}

func TestUsersWithARolePassTheSuite(t *testing.T) {
	backendtest.Run(t, backendtest.Harness{
		Open: func(t testing.TB) backendtest.World {
			return stage(t, choice{}).world(deeds{
				use: running("CREATE TABLE IF NOT EXISTS notes (words text); INSERT INTO notes VALUES ('x')"), useLess: connecting(1),
				exceed: connecting(2), overstep: connecting(3),
			})
		},
		Says: roleSays, Endless: endless,
		Good:     "database: app\nrole: migrator",
		Narrower: "database: app\nrole: migrator\nconnections: 1",
		Wider:    "database: app\nrole: migrator\nconnections: 3",
		Hostile:  hostile,
	})
}

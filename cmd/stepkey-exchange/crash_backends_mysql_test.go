package main

import (
	"context"
	"crypto/rand"
	"database/sql"
	"fmt"
	"net"
	"strings"
	"testing"

	driver "github.com/go-sql-driver/mysql"

	"github.com/stepkey/stepkey/exchange/backend/backendtest"
	"github.com/stepkey/stepkey/exchange/client"
	"github.com/stepkey/stepkey/internal/needs"
	"github.com/stepkey/stepkey/internal/realserver"
)

// crashMariaDB is one MariaDB for all runs, set up as docs/backends/mysql.md says.
type crashMariaDB struct {
	*realserver.MariaDB
	password string // of the exchange's account
}

func startMySQL(t *testing.T) func(*crashRun) outsider {
	t.Helper()
	m, err := realserver.StartMariaDB(t.Context(), "127.0.0.1")
	needs.Started(t, err)
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	block := backendtest.Page("../../docs/backends/mysql.md").Blocks(t, "sql")[0]
	at := &crashMariaDB{m, rand.Text()}
	for _, statements := range []string{
		"CREATE DATABASE app; CREATE TABLE app.orders (id int, item text); CREATE TABLE app.customers (id int)",
		strings.NewReplacer("10.0.%", "127.0.0.1", "a long password", at.password).Replace(block),
	} {
		if _, err := m.Root.ExecContext(t.Context(), statements); err != nil {
			t.Fatal(err)
		}
	}
	return func(*crashRun) outsider { return &mysqlUsers{at: at} }
}

// mysqlUsers are those of one run. Where they may log in from is the same for all, and
// written in another way in each lane.
type mysqlUsers struct {
	at   *crashMariaDB
	from string
	open map[int64]string // session -> its lease
}

func (m *mysqlUsers) configure(r *crashRun) (backend, credential string) {
	mask := net.IP(net.CIDRMask(8+r.outside.lane, 32))
	m.from, m.open = "127.0.0.0/"+mask.String(), map[int64]string{}
	host, port, err := net.SplitHostPort(m.at.Address)
	if err != nil {
		r.t.Fatal(err)
	}
	cable := lay(r.t, &cable{passage: &r.outside.passage, to: m.at.Address, name: command})
	write(r.t, r.dir, "mysql.password", []byte(m.at.password))
	credential = "mysql: {database: app, grants: [{tables: [orders], privileges: [select, insert]}]}"
	if r.outside.form == "role" {
		credential = "mysql: {database: app, role: migrator}"
	}
	return fmt.Sprintf("mysql: {host: %s, port: %d, ssl_mode: disabled, user: stepkey, password_file: mysql.password, databases: [app], roles: [migrator], from: %s, client: {host: %s, port: %s}}", host, cable, m.from, host, port), credential
}

// command is the first words of a statement, or what else the message is. The settings of
// a session are sent in another order each time: what they are says nothing.
func command(message []byte) string {
	switch {
	case len(message) < 5 || message[3] != 0:
		return "connect"
	case message[4] != 3:
		return fmt.Sprintf("command %d", message[4])
	}
	words := strings.Fields(ownNames.ReplaceAllString(string(message[5:]), "X"))
	if len(words) > 0 && words[0] == "SET" {
		return "SET"
	}
	return strings.Join(words[:min(2, len(words))], " ")
}

// use opens a session.
func (m *mysqlUsers) use(r *crashRun, g *client.Grant) {
	c := driver.NewConfig()
	c.User, c.Passwd, c.Net, c.Addr = g.Values["username"].Reveal(), g.Values["password"].Reveal(), "tcp", m.at.Address
	c.Logger = &driver.NopLogger{}
	connector, err := driver.NewConnector(c)
	if err != nil {
		r.t.Fatal(err)
	}
	db := sql.OpenDB(connector)
	r.t.Cleanup(func() { _ = db.Close() })
	session, err := db.Conn(context.WithoutCancel(r.t.Context()))
	if err != nil {
		return // its deadline may have been faster
	}
	var id int64
	if err := session.QueryRowContext(r.t.Context(), "SELECT CONNECTION_ID()").Scan(&id); err == nil {
		m.open[id] = g.LeaseID
	}
}

func (m *mysqlUsers) alive(r *crashRun) map[string]string {
	alive := map[string]string{}
	rows, err := m.at.Root.QueryContext(r.t.Context(), "SELECT User, 0 FROM mysql.user WHERE User LIKE 'lease\\_%' AND Host = ? UNION ALL SELECT USER, ID FROM information_schema.PROCESSLIST WHERE USER LIKE 'lease\\_%'", m.from)
	if err != nil {
		r.t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var user string
		var session int64
		if err := rows.Scan(&user, &session); err != nil {
			r.t.Fatal(err)
		}
		switch id := "lease_" + strings.ToUpper(strings.TrimPrefix(user, "lease_")); {
		case session == 0:
			alive[id] += "a user "
		case m.open[session] == id:
			alive[id] += "a session "
		}
	}
	if err := rows.Err(); err != nil {
		r.t.Fatal(err)
	}
	return alive
}

package mysql

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/internal/secret"
)

// handle is what is sealed. The user is found by the lease's name, too; what a name cannot
// say is whether this is the server that it was made on.
type handle struct {
	Server string `json:"server"` // host:port as configured then
	User   string `json:"user"`
}

// Issue makes a user with exactly the order's scope.
//
// The user is made locked, then gets what it may do, is looked at, and is unlocked with
// the last statement. So whatever fails before leaves nobody who could log in; it is
// dropped again, and only where that is not certain the error says that it may exist.
func (b *Backend) Issue(ctx context.Context, o backend.Order) (backend.Issued, error) {
	want, ours := o.Scope.(*scope)
	user, named := userOf(o.Lease)
	switch {
	case !ours || want == nil || b.server == nil:
		return backend.Issued{}, fmt.Errorf("issuing a MySQL user: the order's scope is not one of this backend: %w", backend.ErrNotCreated)
	case !named:
		return backend.Issued{}, fmt.Errorf("issuing a MySQL user: the lease's id cannot be a user's name: %w", backend.ErrNotCreated)
	case !b.now().Before(o.Until):
		return backend.Issued{}, fmt.Errorf("issuing a MySQL user for %s: the lease ends at %s, which is past: %w", want, o.Until.UTC().Format(time.RFC3339), backend.ErrNotCreated)
	}
	password, err := newPassword(b.rand)
	if err != nil {
		return backend.Issued{}, fmt.Errorf("issuing a MySQL user: %w: %w", err, backend.ErrNotCreated)
	}
	if err := b.create(ctx, o.Lease, user, creation{scope: want, password: password}); err != nil {
		issued := backend.Issued{}
		if !errors.Is(err, backend.ErrNotCreated) {
			issued.Handle = b.handle(user)
		}
		return issued, fmt.Errorf("issuing a MySQL user for %s: %w", want, err)
	}
	issued := b.credential(want.database, user, password)
	issued.Handle, issued.Granted, issued.DiesAt = b.handle(user), want, backend.Never
	return issued, nil
}

func (b *Backend) handle(user string) secret.String {
	text, err := json.Marshal(handle{Server: b.server.at.address(), User: user})
	if err != nil {
		return secret.New("{}") // two texts are always JSON
	}
	return secret.New(string(text))
}

func (b *Backend) credential(database, user string, password secret.String) backend.Issued {
	port := strconv.Itoa(b.client.Port)
	where := url.URL{
		Scheme: "mysql", User: url.UserPassword(user, password.Reveal()), Host: net.JoinHostPort(b.client.Host, port),
		Path: "/" + database, RawPath: "/" + url.PathEscape(database),
	}
	values := map[string]secret.String{
		"username": secret.New(user), "password": password, "host": secret.New(b.client.Host), "port": secret.New(port),
		"database": secret.New(database), "ssl_mode": secret.New(b.client.SSLMode), "url": secret.New(where.String()),
	}
	return backend.Issued{
		Values: values, Public: []string{"username", "host", "port", "database", "ssl_mode"},
		Env: map[string]string{
			"MYSQL_HOST": "host", "MYSQL_TCP_PORT": "port", "MYSQL_USER": "username", "MYSQL_PWD": "password",
			"MYSQL_DATABASE": "database", "DATABASE_URL": "url",
		},
	}
}

// creation is what a user is made of.
type creation struct {
	scope    *scope
	password secret.String
	hashed   hashed
	secure   bool // it may log in over TLS alone
}

// create makes the user while nobody else makes or ends it.
func (b *Backend) create(ctx context.Context, lease backend.LeaseID, user string, c creation) error {
	x, err := b.server.session(ctx, user)
	if err != nil {
		return fmt.Errorf("%w: %w", err, backend.ErrNotCreated)
	}
	defer x.end()
	if err := x.lock(ctx, 0); err != nil {
		x.discard() // a lock may have been had all the same
		return fmt.Errorf("%w: %w", err, backend.ErrNotCreated)
	}
	defer x.unlock(ctx)
	p, err := pluginFor(b.plugin, x.about)
	if err == nil {
		c.hashed, err = hash(p, c.password, b.rand)
	}
	if err == nil && b.ended.has(lease) {
		err = errors.New("its end was asked for before it was made")
	}
	if err == nil {
		err = x.exist(ctx, c.scope.databases())
	}
	if err != nil {
		return fmt.Errorf("%w: %w", err, backend.ErrNotCreated)
	}
	c.secure = b.client.SSLMode != disabled
	return c.on(ctx, x, account(user, b.from), grantee(user+"@"+b.from))
}

// exist looks for databases: all of one that is not there could be granted as well.
func (x *session) exist(ctx context.Context, databases []string) error {
	var named []string
	for _, name := range databases {
		named = append(named, literal(name))
	}
	row, err := x.row(ctx, "SELECT COUNT(*) FROM information_schema.SCHEMATA WHERE SCHEMA_NAME IN ("+strings.Join(named, ", ")+")", 1)
	if err != nil {
		return err
	}
	if row[0] != strconv.Itoa(len(databases)) {
		return fmt.Errorf("of the databases %s the exchange's account sees %s: either there is no such database, or the account was granted nothing in it; %s",
			listed(databases), row[0], hintFor(1049))
	}
	return nil
}

// on makes the account on the server, from its first statement to its last.
func (c creation) on(ctx context.Context, x *session, account, grantee string) error {
	err := x.run(ctx, c.create(account, x.about))
	switch {
	case number(err) == cannotUser:
		return err // of this lease's name there is one: that is not nothing
	case answered(err):
		return fmt.Errorf("%w: %w", err, backend.ErrNotCreated)
	case err != nil:
		return fmt.Errorf("the answer to its creation was lost, so the user may exist, locked: %w", err)
	}
	for _, one := range c.grants(account, x.about) {
		if err = x.run(ctx, one); err != nil {
			break
		}
	}
	if err == nil {
		err = c.check(ctx, x, grantee)
	}
	if err == nil {
		err = x.run(ctx, "ALTER USER "+account+" ACCOUNT UNLOCK")
	}
	if err == nil {
		return nil
	}
	ctx, done := context.WithTimeout(context.WithoutCancel(ctx), cleanWithin)
	defer done()
	if dropped := x.run(ctx, "DROP USER "+account); dropped != nil {
		return fmt.Errorf("it was not finished, so the user may exist: %w", err)
	}
	return fmt.Errorf("%w: %w", err, backend.ErrNotCreated)
}

func (c creation) create(account string, s *about) string {
	require := ""
	if c.secure {
		require = " REQUIRE SSL"
	}
	return fmt.Sprintf("CREATE USER %s %s%s WITH MAX_USER_CONNECTIONS %d ACCOUNT LOCK", account, c.hashed.identified(s), require, c.scope.connections)
}

func (c creation) grants(account string, s *about) []string {
	if role := c.scope.role; role != "" {
		act := "ALTER USER " + account + " DEFAULT ROLE " + identifier(role)
		if s.mariaDB {
			act = "SET DEFAULT ROLE " + identifier(role) + " FOR " + account
		}
		return []string{"GRANT " + identifier(role) + " TO " + account, act}
	}
	var all []string
	for _, g := range c.scope.grants {
		all = append(all, "GRANT "+strings.ToUpper(strings.Join(g.privileges, ", "))+" ON "+g.target()+" TO "+account)
	}
	return all
}

func (g grant) target() string {
	if g.table == "" {
		return ofDatabase(g.database)
	}
	return identifier(g.database) + "." + identifier(g.table)
}

// granted asks for all that an account was granted, each privilege with its database and
// table, and whether it may be given on.
func granted(grantee string) string {
	of := " WHERE GRANTEE = " + literal(grantee)
	return "SELECT '', '', PRIVILEGE_TYPE, IS_GRANTABLE FROM information_schema.USER_PRIVILEGES" + of + " AND PRIVILEGE_TYPE <> 'USAGE'" +
		" UNION ALL SELECT TABLE_SCHEMA, '', PRIVILEGE_TYPE, IS_GRANTABLE FROM information_schema.SCHEMA_PRIVILEGES" + of +
		" UNION ALL SELECT TABLE_SCHEMA, TABLE_NAME, PRIVILEGE_TYPE, IS_GRANTABLE FROM information_schema.TABLE_PRIVILEGES" + of +
		" UNION ALL SELECT TABLE_SCHEMA, TABLE_NAME, PRIVILEGE_TYPE, 'of a column' FROM information_schema.COLUMN_PRIVILEGES" + of
}

// check holds what the server made of it against the order, before anybody can log in: not
// more, not less.
func (c creation) check(ctx context.Context, x *session, grantee string) error {
	rows, err := x.rows(ctx, granted(grantee), 4)
	if err != nil {
		return err
	}
	var got, want []string
	for _, row := range rows {
		got = append(got, strings.ToLower(strings.Join(row, "\x00")))
	}
	for _, g := range c.scope.grants {
		database := g.database
		if g.table == "" {
			database = patternOf(database)
		}
		for _, p := range g.privileges {
			want = append(want, strings.ToLower(strings.Join([]string{database, g.table, p, "NO"}, "\x00")))
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		return fmt.Errorf("the server made another user than was asked for: it has %d privileges, and %d are meant", len(got), len(want))
	}
	return c.checkUser(ctx, x)
}

// checkUser looks at the rest: its limit, whether it is bound to TLS, and its roles.
func (c creation) checkUser(ctx context.Context, x *session) error {
	name := literal(x.user)
	roles := "SELECT COUNT(*) FROM mysql.role_edges WHERE TO_USER = " + name
	if x.about.mariaDB {
		roles = "SELECT COUNT(*) FROM mysql.roles_mapping WHERE User = " + name
	}
	row, err := x.row(ctx, "SELECT max_user_connections, ssl_type, ("+roles+") FROM mysql.user WHERE User = "+name, 3)
	if err != nil {
		return err
	}
	want := []string{strconv.Itoa(c.scope.connections), "", "0"}
	if c.secure {
		want[1] = "ANY"
	}
	if c.scope.role != "" {
		want[2] = "1"
	}
	if !slices.Equal(row, want) {
		return errors.New("the server made another user than was asked for, with other connections, another need of TLS or other roles")
	}
	return nil
}

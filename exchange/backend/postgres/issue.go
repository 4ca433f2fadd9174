package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/exchange/backend/reach"
	"github.com/stepkey/stepkey/internal/secret"
)

// handle is what is sealed. The role is found by the lease's name, too; what a name
// cannot say is whether this is the server that it was made on, and which sessions were
// its, once somebody dropped it by hand.
type handle struct {
	Server string `json:"server"` // host:port as configured then
	Role   string `json:"role"`
	OID    string `json:"oid"`
}

// handleOf is empty where it is lost, or is none: the name is enough then.
func handleOf(h secret.String) (known handle) {
	if !h.Empty() && json.Unmarshal([]byte(h.Reveal()), &known) != nil {
		return handle{}
	}
	return known
}

// Issue makes a login role with exactly the order's scope.
//
// All is one transaction in the scope's database, and its COMMIT is not sent before
// everything else was answered. So whatever fails before it is certain not to exist, and
// a COMMIT whose answer is lost is one whose role a later CREATE ROLE of the same name
// has to wait for: Revoke does that.
func (b *Backend) Issue(ctx context.Context, o backend.Order) (backend.Issued, error) {
	want, ours := o.Scope.(*scope)
	role, named := roleOf(o.Lease)
	switch {
	case !ours || want == nil || b.server == nil:
		return backend.Issued{}, fmt.Errorf("issuing a PostgreSQL role: the order's scope is not one of this backend: %w", backend.ErrNotCreated)
	case !named:
		return backend.Issued{}, fmt.Errorf("issuing a PostgreSQL role: the lease's id cannot be part of a role's name: %w", backend.ErrNotCreated)
	case !b.now().Before(o.Until):
		return backend.Issued{}, fmt.Errorf("issuing a PostgreSQL role for %s: the lease ends at %s, which is past: %w", want, o.Until.UTC().Format(time.RFC3339), backend.ErrNotCreated)
	}
	password, err := newPassword(b.rand)
	if err != nil {
		return backend.Issued{}, fmt.Errorf("issuing a PostgreSQL role: %w: %w", err, backend.ErrNotCreated)
	}
	proof, err := verifier(password, b.rand)
	if err != nil {
		return backend.Issued{}, fmt.Errorf("issuing a PostgreSQL role: %w: %w", err, backend.ErrNotCreated)
	}
	oid, err := b.create(ctx, role, creation{scope: want, order: o, verifier: proof, owner: b.owner})
	if err != nil {
		issued := backend.Issued{}
		if !errors.Is(err, backend.ErrNotCreated) {
			issued.Handle = b.handle(role, oid)
		}
		return issued, fmt.Errorf("issuing a PostgreSQL role for %s: %w", want, err)
	}
	issued := b.credential(want.database, role, password)
	issued.Handle, issued.Granted, issued.DiesAt = b.handle(role, oid), want, backend.Never
	return issued, nil
}

func (b *Backend) handle(role, oid string) secret.String {
	text, err := json.Marshal(handle{Server: b.server.at.address(), Role: role, OID: oid})
	if err != nil {
		return secret.New("{}") // three texts are always JSON
	}
	return secret.New(string(text))
}

func (b *Backend) credential(database, role string, password secret.String) backend.Issued {
	port := strconv.Itoa(b.client.Port)
	where := url.URL{
		Scheme: "postgresql", User: url.UserPassword(role, password.Reveal()), Host: net.JoinHostPort(b.client.Host, port),
		Path: "/" + database, RawPath: "/" + url.PathEscape(database), RawQuery: "sslmode=" + b.client.SSLMode,
	}
	values := map[string]secret.String{
		"username": secret.New(role), "password": password, "host": secret.New(b.client.Host), "port": secret.New(port),
		"database": secret.New(database), "sslmode": secret.New(b.client.SSLMode), "url": secret.New(where.String()),
	}
	return backend.Issued{Values: values, Public: []string{"username", "host", "port", "database", "sslmode"}, Env: map[string]string{
		"PGHOST": "host", "PGPORT": "port", "PGUSER": "username", "PGPASSWORD": "password", "PGDATABASE": "database",
		"PGSSLMODE": "sslmode", "DATABASE_URL": "url",
	}}
}

// creation is what a role is made of.
type creation struct {
	scope    *scope
	order    backend.Order
	verifier string
	owner    string // gets what it leaves behind; empty: it is dropped
}

// create makes the role and returns its OID, which is empty where it is not known.
func (b *Backend) create(ctx context.Context, role string, c creation) (oid string, err error) {
	err = b.unlessDisturbed(ctx, func() error {
		oid, err = b.createOnce(ctx, role, c)
		return err
	})
	return oid, err
}

const disturbances = 5

// unlessDisturbed does something again that PostgreSQL gave up because somebody else
// made or changed the same entry of a catalog at the same moment: of GRANT and ALTER ROLE
// it says so with a duplicate key or an internal error ("tuple concurrently updated").
func (b *Backend) unlessDisturbed(ctx context.Context, do func() error) error {
	pause := 10 * time.Millisecond
	for range disturbances {
		err := do()
		if c := code(err); c != internalError && c != uniqueViolation || b.pause(ctx, pause) != nil {
			return err
		}
		pause *= 2
	}
	return do()
}

func (b *Backend) createOnce(ctx context.Context, role string, c creation) (string, error) {
	x, err := b.server.session(ctx, c.scope.database, role)
	if err != nil {
		return "", fmt.Errorf("%w: %w", err, backend.ErrNotCreated)
	}
	defer x.end(ctx)
	got, err := x.run(ctx, c.statements(role)...)
	switch {
	case code(err) == duplicateObject, code(err) == uniqueViolation:
		return "", err // of this lease's name there is one: that is not nothing
	case err != nil:
		return "", fmt.Errorf("%w: %w", err, backend.ErrNotCreated)
	case x.withheld() != "":
		return "", fmt.Errorf("PostgreSQL says: %s; %s: %w", x.withheld(), hintFor(notPermitted), backend.ErrNotCreated)
	}
	oid, err := c.check(got)
	if err != nil {
		return "", fmt.Errorf("%w: %w", err, backend.ErrNotCreated)
	}
	return oid, commit(ctx, x)
}

func commit(ctx context.Context, x *session) error {
	got, err := x.run(ctx, "COMMIT")
	var f *fault
	switch {
	case errors.As(err, &f) && f.clear:
		return fmt.Errorf("%w: %w", err, backend.ErrNotCreated)
	case err != nil:
		return fmt.Errorf("the answer to the commit was lost, so the role may exist: %w", err)
	case len(got) != 1 || got[0].CommandTag.String() != "COMMIT":
		return fmt.Errorf("PostgreSQL rolled the transaction back: %w", backend.ErrNotCreated)
	}
	return nil
}

// grantsLock keeps those apart who change the grants on one database's objects: to
// PostgreSQL these are entries of one row, and two at a time are one too many.
const grantsLock = "SELECT pg_catalog.pg_advisory_xact_lock(8317438911)"

const maxComment = 200 // characters of the workload's words

func (c creation) statements(role string) []string {
	name, s := identifier(role), c.scope
	inherit := "NOINHERIT"
	if s.role != "" {
		inherit = "INHERIT"
	}
	create := fmt.Sprintf("CREATE ROLE %s WITH LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS %s CONNECTION LIMIT %d VALID UNTIL %s PASSWORD %s",
		name, inherit, s.connections, literal(c.until()), literal(c.verifier))
	comment := "COMMENT ON ROLE " + name + " IS " + literal("a lease of stepkey, for "+reach.OneLine(c.order.For, maxComment))
	if s.role != "" {
		return []string{
			"BEGIN", create + " IN ROLE " + identifier(s.role), comment,
			// What a step makes belongs to the role, not to the lease, and stays.
			"ALTER ROLE " + name + " SET role = " + literal(s.role),
			c.readBack(role),
		}
	}
	all := []string{"BEGIN", grantsLock, create, comment, "GRANT CONNECT ON DATABASE " + identifier(s.database) + " TO " + name}
	schema := ""
	for _, g := range s.groups() {
		if g.schema != schema {
			schema = g.schema
			all = append(all, "GRANT USAGE ON SCHEMA "+identifier(schema)+" TO "+name)
		}
		all = append(all, "GRANT "+strings.ToUpper(strings.Join(g.privileges, ", "))+" ON "+g.target()+" TO "+name)
	}
	return append(all, c.readBack(role))
}

func (c creation) until() string {
	return c.order.Until.UTC().Truncate(time.Microsecond).Format("2006-01-02 15:04:05.999999+00")
}

func (g group) target() string {
	if len(g.objects) == 0 {
		return "ALL " + string(g.kind) + "S IN SCHEMA " + identifier(g.schema)
	}
	var names []string
	for _, object := range g.objects {
		names = append(names, identifier(g.schema)+"."+identifier(object))
	}
	return string(g.kind) + " " + strings.Join(names, ", ")
}

// readBack asks what PostgreSQL made of it, before it is committed: its OID, whether it
// has no attribute more, its limit, its end, whether it can connect, how many roles it
// is a member of, whether it is one of the role meant, and what is wrong with its heir.
func (c creation) readBack(role string) string {
	member := "'-'"
	if c.scope.role != "" {
		member = "pg_catalog.pg_has_role(r.oid, " + literal(c.scope.role) + ", 'USAGE')"
	}
	return "SELECT r.oid, r.rolsuper OR r.rolcreatedb OR r.rolcreaterole OR r.rolreplication OR r.rolbypassrls, r.rolconnlimit," +
		" r.rolvaliduntil = " + literal(c.until()) + "::pg_catalog.timestamptz," +
		" pg_catalog.has_database_privilege(r.oid, pg_catalog.current_database(), 'CONNECT')," +
		" (SELECT count(DISTINCT m.roleid) FROM pg_catalog.pg_auth_members m WHERE m.member = r.oid), " + member + ", " + heirFault(c.owner) +
		" FROM pg_catalog.pg_roles r WHERE r.rolname = " + literal(role)
}

// check holds PostgreSQL's answer against the order: not more, not less, not longer.
func (c creation) check(got answers) (oid string, err error) {
	row, err := got.row(8)
	if err != nil {
		return "", err
	}
	memberships, member := "0", "-"
	if c.scope.role != "" {
		memberships, member = "1", "t"
	}
	switch {
	case row[1] != "f" || row[2] != strconv.Itoa(c.scope.connections) || row[3] != "t" || row[5] != memberships:
		return "", errors.New("PostgreSQL made another role than was asked for, with more attributes, connections, time or memberships")
	case row[6] != member:
		return "", errors.New("the role does not have what its membership should bring")
	case row[4] != "t":
		return "", fmt.Errorf("the role %s may not connect to database %s, so its members may not either; GRANT CONNECT ON DATABASE to it",
			shown(c.scope.role), shown(c.scope.database))
	}
	if row[7] != "" {
		return "", fmt.Errorf("owner: %s cannot get what the lease leaves behind: %s", shown(c.owner), reach.OneLine(row[7], maxWords))
	}
	return row[0], nil
}

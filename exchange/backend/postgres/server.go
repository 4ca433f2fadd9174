package postgres

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/stepkey/stepkey/internal/yamlfile"
)

const (
	// connections to one database: the keeper ends eight leases at a time.
	connections    = 8
	idleFor        = time.Minute
	connectWithin  = 5 * time.Second
	pingWithin     = time.Second
	rollbackWithin = 2 * time.Second
)

// settings of every session. What a lease made must not come between us and the
// catalogs, so nothing is looked for outside of them; no wait is longer than a
// revocation may take; and a session of a process that died ends by itself.
var settings = map[string]string{
	"application_name":                    "stepkey-exchange",
	"search_path":                         "pg_catalog",
	"standard_conforming_strings":         "on",
	"client_encoding":                     "UTF8",
	"client_min_messages":                 "warning",
	"lock_timeout":                        "5s",
	"statement_timeout":                   "12s",
	"idle_in_transaction_session_timeout": "15s",
}

// server is the exchange's own connections, a pool for each database.
type server struct {
	at     Server
	config *pgxpool.Config
	mu     sync.Mutex
	pools  map[string]*pgxpool.Pool // by database
}

var hostForm = regexp.MustCompile(`\A[0-9A-Za-z][0-9A-Za-z._-]{0,252}\z`)

func checkAddress(host string, port int, sslmode string) error {
	_, noAddress := netip.ParseAddr(host)
	switch {
	case noAddress != nil && !hostForm.MatchString(host):
		return fmt.Errorf("host: want a name or an address alone, as db.example.com, and the port as port; found %s", yamlfile.Quote(host))
	case port < 1 || port > 65535:
		return fmt.Errorf("port: want 1 to 65535; found %d", port)
	case !slices.Contains([]string{"disable", "require", "verify-ca", "verify-full"}, sslmode):
		return fmt.Errorf("sslmode: want verify-full, verify-ca, require or disable; found %s", yamlfile.Quote(sslmode))
	}
	return nil
}

// ours are all that the driver would else take from the process's environment, or from files in the home of whoever
// runs it, PGSERVICE excepted: who says nothing of a setting here has it from there. TLS is ours alone, see encryption.
var ours = url.Values{
	"sslmode": {"disable"}, "sslrootcert": {""}, "sslcert": {""}, "sslkey": {""}, "sslcertmode": {"disable"}, "sslnegotiation": {"postgres"},
	"passfile": {""}, "connect_timeout": {"5"}, "target_session_attrs": {"any"}, "min_protocol_version": {"3.0"}, "max_protocol_version": {"3.0"},
	"channel_binding": {"prefer"}, "require_auth": {"scram-sha-256"},
}

func newServer(at Server) (*server, error) {
	if at.Port == 0 {
		at.Port = 5432
	}
	if at.SSLMode == "" {
		at.SSLMode = "verify-full"
	}
	if err := checkAddress(at.Host, at.Port, at.SSLMode); err != nil {
		return nil, err
	}
	encryption, err := at.encryption()
	if err != nil {
		return nil, err
	}
	where := url.URL{Scheme: "postgres", User: url.User(at.User), Host: at.address(), Path: "/postgres", RawQuery: ours.Encode()}
	config, err := pgxpool.ParseConfig(where.String())
	if err != nil { // nothing of where can be at fault
		return nil, fmt.Errorf("preparing connections to PostgreSQL: unset PGSERVICE and others of PostgreSQL's variables; the exchange needs none, and its driver cannot read one of them: %w", err)
	}
	c := config.ConnConfig
	c.User, c.Password, c.RuntimeParams, c.Fallbacks, c.ValidateConnect = at.User, at.Password.Reveal(), settings, nil, nil
	c.TLSConfig = encryption
	c.ConnectTimeout, c.OnNotice = connectWithin, keepWithheld
	config.MaxConns, config.MinConns, config.MaxConnIdleTime = connections, 0, idleFor
	// A connection that died is found out before anything of a lease is said on it.
	config.ShouldPing, config.PingTimeout = func(context.Context, pgxpool.ShouldPingParams) bool { return true }, pingWithin
	return &server{at: at, config: config, pools: map[string]*pgxpool.Pool{}}, nil
}

func (s Server) address() string { return net.JoinHostPort(s.Host, strconv.Itoa(s.Port)) }

func (s *server) pool(database string) (*pgxpool.Pool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if pool, open := s.pools[database]; open {
		return pool, nil
	}
	config := s.config.Copy()
	config.ConnConfig.Database = database
	pool, err := pgxpool.NewWithConfig(context.Background(), config) // connects to nothing yet
	if err != nil {
		return nil, fmt.Errorf("preparing connections to PostgreSQL: %w", err)
	}
	s.pools[database] = pool
	return pool, nil
}

func (s *server) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, pool := range s.pools {
		pool.Close()
	}
}

// privilegeNotGranted is PostgreSQL's warning that a GRANT granted less than it says, or
// nothing, for want of grant options.
const privilegeNotGranted = "01007"

func keepWithheld(c *pgconn.PgConn, n *pgconn.Notice) {
	if n.Code == privilegeNotGranted {
		c.CustomData()[privilegeNotGranted] = n.Message
	}
}

// session is one connection to one database, about one lease's role.
type session struct {
	conn *pgxpool.Conn
	role string // not to be named in errors, since it is a value of the credential
}

// session begins one. Errors are *fault.
func (s *server) session(ctx context.Context, database, role string) (*session, error) {
	pool, err := s.pool(database)
	if err != nil {
		return nil, err
	}
	conn, err := pool.Acquire(ctx)
	if err != nil {
		return nil, faultOf(fmt.Sprintf("connecting to database %s", shown(database)), err, role)
	}
	return &session{conn, role}, nil
}

// end gives the connection back. A transaction that is open is rolled back.
func (x *session) end(ctx context.Context) {
	if c := x.conn.Conn().PgConn(); !c.IsClosed() && c.TxStatus() != 'I' {
		ctx, done := context.WithTimeout(context.WithoutCancel(ctx), rollbackWithin)
		defer done()
		_, _ = c.Exec(ctx, "ROLLBACK").ReadAll() // a connection on which this fails is closed
	}
	x.conn.Release()
}

// discard closes the connection, so that nobody gets it after us.
func (x *session) discard(ctx context.Context) {
	ctx, done := context.WithTimeout(context.WithoutCancel(ctx), rollbackWithin)
	defer done()
	_ = x.conn.Conn().Close(ctx)
}

// run sends statements in one message and returns what each answered. Errors are *fault.
func (x *session) run(ctx context.Context, statements ...string) (answers, error) {
	c := x.conn.Conn().PgConn()
	delete(c.CustomData(), privilegeNotGranted)
	all, err := c.Exec(ctx, strings.Join(statements, ";\n")).ReadAll()
	if err != nil {
		f := faultOf("", err, x.role)
		f.after = len(all)
		return nil, f
	}
	return all, nil
}

// withheld is what the statements of the last run would have granted and did not.
func (x *session) withheld() string {
	words, _ := x.conn.Conn().PgConn().CustomData()[privilegeNotGranted].(string)
	return hide(words, x.role)
}

// answers are the results of statements that were sent together.
type answers []*pgconn.Result

var errShort = errors.New("PostgreSQL's answer is shorter than the question")

// row is the one row of the last answer; NULL is empty.
func (a answers) row(columns int) ([]string, error) {
	rows, err := a.rows(0, columns)
	if err != nil || len(rows) != 1 {
		return nil, errors.Join(err, errShort)
	}
	return rows[0], nil
}

// rows are those of the answer that is so many from the end.
func (a answers) rows(fromEnd, columns int) ([][]string, error) {
	if len(a) <= fromEnd {
		return nil, errShort
	}
	var all [][]string
	for _, values := range a[len(a)-1-fromEnd].Rows {
		if len(values) != columns {
			return nil, errShort
		}
		row := make([]string, columns)
		for i, value := range values {
			row[i] = string(value)
		}
		all = append(all, row)
	}
	return all, nil
}

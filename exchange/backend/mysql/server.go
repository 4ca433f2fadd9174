package mysql

import (
	"context"
	"crypto/tls"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/stepkey/stepkey/exchange/backend/reach"
	"github.com/stepkey/stepkey/internal/yamlfile"
)

const (
	connections   = 8 // the keeper ends eight leases at a time
	idleFor       = time.Minute
	connectWithin = 5 * time.Second
	answersWithin = 12 * time.Second
	cleanWithin   = 5 * time.Second
)

// settings of every session, as expressions. No wait is longer than a revocation may take;
// a backslash means nothing in a text, nor any text in another alphabet; and MariaDB makes
// no user whom a GRANT names by mistake. MySQL reads what is between /*M! and */ as a
// comment.
var settings = map[string]string{
	"sql_mode":                 "CONCAT('NO_BACKSLASH_ESCAPES,STRICT_ALL_TABLES'/*M!100101 ,',NO_AUTO_CREATE_USER'*/)",
	"character_set_client":     "utf8mb4",
	"character_set_connection": "utf8mb4",
	"character_set_results":    "utf8mb4",
	"lock_wait_timeout":        "5",
	"innodb_lock_wait_timeout": "5",
	"autocommit":               "1",
}

// server is the exchange's own connections, and what is known of whom they lead to.
type server struct {
	at Server
	db *sql.DB

	mu    sync.Mutex
	about *about // nil until its account was found good
}

var hostForm = regexp.MustCompile(`\A[0-9A-Za-z:][0-9A-Za-z.:%_-]{0,252}\z`)

const (
	disabled       = "disabled"
	required       = "required"
	verifyCA       = "verify-ca"
	verifyIdentity = "verify-identity"
)

func checkAddress(host string, port int, mode string) error {
	switch {
	case !isHost(host):
		return fmt.Errorf("host: want a name or an address, as db.example.com, with its port as port; found %s", yamlfile.Quote(host))
	case port < 1 || port > 65535:
		return fmt.Errorf("port: want 1 to 65535; found %d", port)
	case !slices.Contains([]string{disabled, required, verifyCA, verifyIdentity}, mode):
		return fmt.Errorf("ssl_mode: want verify-identity, verify-ca, required or disabled; found %s", yamlfile.Quote(mode))
	}
	return nil
}

// isHost takes : and % in addresses alone: a name with its port would be looked up as one name, and
// only when the first lease is made.
func isHost(host string) bool {
	if !hostForm.MatchString(host) {
		return false
	}
	_, err := netip.ParseAddr(host)
	return err == nil || !strings.ContainsAny(host, ":%")
}

func newServer(at Server) (*server, error) {
	if at.Port == 0 {
		at.Port = 3306
	}
	if at.SSLMode == "" {
		at.SSLMode = verifyIdentity
	}
	if err := checkAddress(at.Host, at.Port, at.SSLMode); err != nil {
		return nil, err
	}
	c := mysql.NewConfig()
	c.User, c.Passwd, c.Net, c.Addr = at.User, at.Password.Reveal(), "tcp", at.address()
	c.Params, c.Logger = settings, &mysql.NopLogger{}
	c.Timeout, c.ReadTimeout, c.WriteTimeout = connectWithin, answersWithin, answersWithin
	var err error
	if c.TLS, err = at.encryption(); err != nil {
		return nil, err
	}
	connector, err := mysql.NewConnector(c)
	if err != nil {
		return nil, fmt.Errorf("preparing connections to the server: %w", err)
	}
	db := sql.OpenDB(connector)
	db.SetMaxOpenConns(connections)
	db.SetMaxIdleConns(connections)
	db.SetConnMaxIdleTime(idleFor)
	return &server{at: at, db: db}, nil
}

func (s Server) address() string { return net.JoinHostPort(s.Host, strconv.Itoa(s.Port)) }

// encryption is nil where there is to be none.
func (s Server) encryption() (*tls.Config, error) {
	if s.SSLMode == disabled {
		return nil, nil //nolint:nilnil // which the driver takes for none
	}
	return reach.Encryption{
		Host: s.Host, RootCertificate: s.RootCertificate, Authority: s.SSLMode == verifyCA, Identity: s.SSLMode == verifyIdentity,
	}.Config()
}

// session is one connection, about one lease's user.
type session struct {
	conn  *sql.Conn
	user  string // not to be named in errors, since it is a value of the credential
	about *about
}

// session begins one. Errors are *fault.
func (s *server) session(ctx context.Context, user string) (*session, error) {
	conn, err := s.db.Conn(ctx)
	if err != nil {
		return nil, faultOf("connecting to the server", err, user)
	}
	x := &session{conn: conn, user: user}
	if x.about, err = s.knownBy(ctx, x); err != nil {
		x.end()
		return nil, err
	}
	return x, nil
}

func (x *session) end() { _ = x.conn.Close() } // it goes back to the others

// discard closes the connection, so that the server forgets what it held.
func (x *session) discard() {
	_ = x.conn.Raw(func(any) error { return driver.ErrBadConn }) // which says to close it
}

// run sends one statement. Errors are *fault.
func (x *session) run(ctx context.Context, statement string) error {
	if _, err := x.conn.ExecContext(ctx, statement); err != nil {
		return faultOf("", err, x.user)
	}
	return nil
}

// rows asks for rows of texts; NULL is empty. Errors are *fault.
func (x *session) rows(ctx context.Context, query string, columns int) (all [][]string, err error) {
	answer, err := x.conn.QueryContext(ctx, query)
	if err != nil {
		return nil, faultOf("", err, x.user)
	}
	defer func() { _ = answer.Close() }()
	for answer.Next() {
		values := make([]sql.NullString, columns)
		into := make([]any, columns)
		for i := range values {
			into[i] = &values[i]
		}
		if err := answer.Scan(into...); err != nil {
			return nil, faultOf("reading the server's answer", err, x.user)
		}
		row := make([]string, columns)
		for i, value := range values {
			row[i] = value.String
		}
		all = append(all, row)
	}
	if err := answer.Err(); err != nil {
		return nil, faultOf("", err, x.user)
	}
	return all, nil
}

// row asks for the one row that there is.
func (x *session) row(ctx context.Context, query string, columns int) ([]string, error) {
	all, err := x.rows(ctx, query, columns)
	if err == nil && len(all) != 1 {
		err = fmt.Errorf("the server answers with %d rows where there is one", len(all))
	}
	if err != nil {
		return nil, err
	}
	return all[0], nil
}

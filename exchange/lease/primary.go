package lease

import (
	"context"
	"database/sql"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
)

// A store goes on by itself when another server has become PostgreSQL's primary. That
// takes bounds: a machine that falls off the network closes no connection, and TCP alone
// would wait for it for a quarter of an hour.
const (
	// answerWithin is what a transaction may take, or one statement that only reads:
	// longer than finding the new primary does, with one server that is silent.
	answerWithin = 10 * time.Second
	// connectWithin is what one of several servers may take, where the store's name has
	// no connect_timeout; then the next one is tried.
	connectWithin = 3 * time.Second
	// pingWithin is what a connection that has been idle may take to show that
	// somebody is at its other end.
	pingWithin = time.Second
	idleFor    = time.Second
)

// readOnlyTransaction is PostgreSQL's error of that name.
const readOnlyTransaction = "25006"

// toPrimary makes a pool of connections to whichever of the servers named is the
// primary: a replica may not know yet which subject tokens are used.
func toPrimary(config *pgx.ConnConfig, readOnly bool) *sql.DB {
	if config.ConnectTimeout == 0 {
		config.ConnectTimeout = answerWithin
		if hasAnother(config) {
			config.ConnectTimeout = connectWithin
		}
	}
	config.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite
	if readOnly { // such a session is never "read-write", whoever serves it
		config.RuntimeParams["default_transaction_read_only"] = "on"
		config.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsPrimary
	}
	goesOn := config.OnPgError // false closes the connection
	config.OnPgError = func(c *pgconn.PgConn, e *pgconn.PgError) bool {
		return goesOn(c, e) && e.Code != readOnlyTransaction
	}
	db := stdlib.OpenDB(*config, stdlib.OptionShouldPing(silent))
	db.SetMaxOpenConns(postgresConnections)
	db.SetMaxIdleConns(postgresConnections)
	return db
}

// hasAnother: pgx also lists one server twice, with TLS and without.
func hasAnother(config *pgx.ConnConfig) bool {
	return slices.ContainsFunc(config.Fallbacks, func(f *pgconn.FallbackConfig) bool {
		return f.Host != config.Host || f.Port != config.Port
	})
}

// silent closes an idle connection that does not answer, so that the pool takes another.
// The pool's own ping has the time of the whole statement and would use it up.
func silent(ctx context.Context, p stdlib.ShouldPingParams) bool {
	if p.IdleDuration < idleFor {
		return false
	}
	ctx, done := context.WithTimeout(ctx, pingWithin)
	defer done()
	return p.Conn.Ping(ctx) != nil // true pings again, which finds it closed
}

// statements is what a pool and a transaction have in common.
type statements interface {
	ExecContext(context.Context, string, ...any) (sql.Result, error)
	QueryContext(context.Context, string, ...any) (*sql.Rows, error)
	QueryRowContext(context.Context, string, ...any) *sql.Row
}

// inTime runs statements that do not wait for an answer for ever.
type inTime struct {
	on    statements
	bound func(context.Context) context.Context
}

func (t inTime) ExecContext(ctx context.Context, q string, args ...any) (sql.Result, error) {
	return t.on.ExecContext(t.bound(ctx), q, args...)
}

func (t inTime) QueryContext(ctx context.Context, q string, args ...any) (*sql.Rows, error) {
	return t.on.QueryContext(t.bound(ctx), q, args...)
}

func (t inTime) QueryRowContext(ctx context.Context, q string, args ...any) *sql.Row {
	return t.on.QueryRowContext(t.bound(ctx), q, args...)
}

// eachBounded bounds one statement from its start to the last of its rows. When those
// have been read is not seen here, so what the bound holds goes when its time is over.
func eachBounded(ctx context.Context) context.Context {
	ctx, end := context.WithTimeout(ctx, answerWithin)
	context.AfterFunc(ctx, end)
	return ctx
}

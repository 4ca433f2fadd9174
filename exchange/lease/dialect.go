package lease

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/pressly/goose/v3"
	_ "modernc.org/sqlite" // the database/sql driver "sqlite"
)

// A dialect is what the two engines say differently. The schema and every statement
// are otherwise the same, written with ? for a parameter.
type dialect struct {
	goose    goose.Dialect
	driver   string
	schema   string // folder below schema/
	numbered bool   // parameters are $1, $2, …

	// SQLite lets one transaction write at a time, so what another one reads cannot
	// change below it. PostgreSQL lets many, and must be told what to hold on to.
	forUpdate  string // after a SELECT of a row that this transaction will change
	skipLocked string // after a SELECT of work that nobody else is at
	lockJob    string // a statement that makes the leases of one job and task wait for each other
	lockRun    string // a statement that waits for those who hold the same run by shareRun, and they for it
	shareRun   string
}

var (
	sqlite   = dialect{goose: goose.DialectSQLite3, driver: "sqlite", schema: "sqlite"}
	postgres = dialect{
		goose: goose.DialectPostgres, driver: "pgx", schema: "postgres", numbered: true,
		forUpdate: " FOR UPDATE", skipLocked: " FOR UPDATE SKIP LOCKED",
		lockJob:  `SELECT pg_advisory_xact_lock(hashtextextended(?, 0))`,
		lockRun:  `SELECT pg_advisory_xact_lock(hashtextextended(?, 0))`,
		shareRun: `SELECT pg_advisory_xact_lock_shared(hashtextextended(?, 0))`,
	}
)

// IsPostgres reports whether a configuration's store is a PostgreSQL database, and
// not the path of a SQLite file.
func IsPostgres(where string) bool { return engine(where).driver == postgres.driver }

// engine tells which store a configuration means: postgres://… or the path of a
// SQLite file.
func engine(where string) dialect {
	if strings.HasPrefix(where, "postgres://") || strings.HasPrefix(where, "postgresql://") {
		return postgres
	}
	return sqlite
}

// connect opens the pool that writes and the pool that reads.
func (d dialect) connect(where string, readOnly bool) (write, read *sql.DB, err error) {
	if d.driver == "pgx" {
		config, err := pgx.ParseConfig(where)
		if err != nil {
			return nil, nil, errors.New("opening the store: the name of the PostgreSQL database is not of the form postgres://user@host/database") // not err: it may quote a password
		}
		db := toPrimary(config, readOnly)
		return db, db, nil
	}
	writing := []string{"journal_mode(WAL)", "synchronous(FULL)", "busy_timeout(5000)", "trusted_schema(0)"}
	reading := []string{"busy_timeout(5000)", "trusted_schema(0)", "query_only(1)"}
	mode := "rwc"
	if readOnly {
		writing, mode = reading, "rw" // not "ro": beside a file that nobody has open it cannot make the index of the WAL
	}
	if write, err = sql.Open(d.driver, sqliteName(where, mode, writing)); err != nil {
		return nil, nil, fmt.Errorf("opening the store: %w", err)
	}
	write.SetMaxOpenConns(1) // waiting for the one connection is fairer than SQLite's busy loop
	if read, err = sql.Open(d.driver, sqliteName(where, mode, reading)); err != nil {
		return nil, nil, fmt.Errorf("opening the store: %w", err)
	}
	read.SetMaxOpenConns(4)
	return write, read, nil
}

// postgresConnections of one process; three replicas stay well below PostgreSQL's
// default of 100.
const postgresConnections = 16

// sqliteName is the driver's name of a file. Transactions take the write lock at
// their start: one that reads first and then writes could fail halfway. Only the mode rwc
// makes a file that is not there.
func sqliteName(path, mode string, pragmas []string) string {
	query := url.Values{"_pragma": pragmas, "_txlock": {"immediate"}, "mode": {mode}}
	return (&url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath(), RawQuery: query.Encode()}).String()
}

// A session runs statements, on a pool or in a transaction, in the engine's spelling.
type session struct {
	on statements
	dialect
}

func (s session) exec(ctx context.Context, statement string, args ...any) (sql.Result, error) {
	return s.on.ExecContext(ctx, s.spell(statement), args...)
}

func (s session) query(ctx context.Context, statement string, args ...any) (*sql.Rows, error) {
	return s.on.QueryContext(ctx, s.spell(statement), args...)
}

func (s session) row(ctx context.Context, statement string, args ...any) *sql.Row {
	return s.on.QueryRowContext(ctx, s.spell(statement), args...)
}

// spell numbers the parameters. No statement of ours has a ? in a text.
func (d dialect) spell(statement string) string {
	if !d.numbered {
		return statement
	}
	var out strings.Builder
	n := 0
	for _, part := range strings.SplitAfter(statement, "?") {
		out.WriteString(strings.TrimSuffix(part, "?"))
		if strings.HasSuffix(part, "?") {
			n++
			out.WriteString("$" + strconv.Itoa(n))
		}
	}
	return out.String()
}

package lease

import (
	"context"
	"crypto/rand"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"time"

	"github.com/pressly/goose/v3"
	_ "modernc.org/sqlite" // the database/sql driver "sqlite"

	"github.com/stepkey/stepkey/exchange/audit"
)

//go:embed schema
var schema embed.FS

// A Store keeps leases, used subject tokens and the audit log in one database, so
// that what belongs together is committed together. Safe for concurrent use.
type Store struct {
	write *sql.DB // one connection: SQLite has one writer, and waiting here is fairer than its busy loop
	read  *sql.DB
	keys  *Keys
	now   func() time.Time
	rand  io.Reader
}

// Options are what a store needs beside its file; the zero value is real time and
// real randomness.
type Options struct {
	Now  func() time.Time
	Rand io.Reader
}

// Open opens or makes the SQLite file at path and brings its schema up to date.
// Every commit is on the disk before it returns (WAL, synchronous FULL).
func Open(ctx context.Context, path string, keys *Keys, o Options) (*Store, error) {
	s, err := connect(path, keys, o)
	if err != nil {
		return nil, err
	}
	if err := s.migrate(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// OpenToRead opens an existing store for looking only, beside the service that
// owns it. It has no keys, so it cannot see a handle.
func OpenToRead(ctx context.Context, path string) (*Store, error) {
	s, err := connect(path, nil, Options{})
	if err != nil {
		return nil, err
	}
	if _, err := s.Lives(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("%s is no store of this service: %w", path, err), s.Close())
	}
	return s, nil
}

func connect(path string, keys *Keys, o Options) (*Store, error) {
	s := &Store{keys: keys, now: o.Now, rand: o.Rand}
	if s.now == nil {
		s.now = time.Now
	}
	if s.rand == nil {
		s.rand = rand.Reader
	}
	writing := []string{"journal_mode(WAL)", "synchronous(FULL)", "busy_timeout(5000)", "trusted_schema(0)"}
	reading := []string{"busy_timeout(5000)", "trusted_schema(0)", "query_only(1)"}
	if keys == nil {
		writing = reading
	}
	var err error
	if s.write, err = sql.Open("sqlite", sqliteName(path, writing)); err != nil {
		return nil, fmt.Errorf("opening the store: %w", err)
	}
	s.write.SetMaxOpenConns(1)
	if s.read, err = sql.Open("sqlite", sqliteName(path, reading)); err != nil {
		return nil, fmt.Errorf("opening the store: %w", err)
	}
	s.read.SetMaxOpenConns(4)
	return s, nil
}

// sqliteName is the driver's name of a file. Transactions take the write lock at
// their start: one that reads first and then writes could fail halfway.
func sqliteName(path string, pragmas []string) string {
	query := url.Values{"_pragma": pragmas, "_txlock": {"immediate"}}
	return (&url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath(), RawQuery: query.Encode()}).String()
}

// Close gives the file back. Leases stay as they are.
func (s *Store) Close() error { return errors.Join(s.read.Close(), s.write.Close()) }

// Ready reports whether the store can take a lease right now: it can be written to.
// It changes nothing.
func (s *Store) Ready(ctx context.Context) error {
	return s.transact(ctx, "asking the store whether it can be written to", func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `UPDATE leases SET attempts = attempts WHERE id = ''`)
		return err
	})
}

func (s *Store) migrate(ctx context.Context) error {
	files, err := fs.Sub(schema, "schema/sqlite")
	if err != nil {
		return fmt.Errorf("reading the schema: %w", err)
	}
	provider, err := goose.NewProvider(goose.DialectSQLite3, s.write, files, goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return fmt.Errorf("reading the schema: %w", err)
	}
	if _, err := provider.Up(ctx); err != nil {
		return fmt.Errorf("bringing the store's schema up to date: %w", err)
	}
	return nil
}

// transact runs what in one transaction; any error undoes all of it.
func (s *Store) transact(ctx context.Context, doing string, what func(*sql.Tx) error) error {
	tx, err := s.write.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	if err := what(tx); err != nil {
		return errors.Join(fmt.Errorf("%s: %w", doing, err), undone(tx))
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("%s: committing: %w", doing, err)
	}
	return nil
}

func undone(tx *sql.Tx) error {
	if err := tx.Rollback(); err != nil && !errors.Is(err, sql.ErrTxDone) {
		return fmt.Errorf("undoing: %w", err)
	}
	return nil
}

// Write puts an entry that belongs to no move of a lease into the audit log, such
// as a denial, and returns it with its id and time.
func (s *Store) Write(ctx context.Context, e audit.Entry) (audit.Entry, error) {
	err := s.transact(ctx, "writing the audit log", func(tx *sql.Tx) error {
		var err error
		e, err = s.enter(ctx, tx, e)
		return err
	})
	return e, err
}

func (s *Store) enter(ctx context.Context, tx *sql.Tx, e audit.Entry) (audit.Entry, error) {
	e.At = s.now().UTC()
	var err error
	if e.ID, err = audit.NewID(e.At, s.rand); err != nil {
		return e, err
	}
	_, err = tx.ExecContext(ctx,
		`INSERT INTO audit (id, at, event, lease, task, issuer, job, granted, rule, reason, credential) VALUES (?,?,?,?,?,?,?,?,?,?,?)`,
		e.ID, e.At.UnixMicro(), string(e.Event), e.Lease, e.Task, e.Issuer, e.Job, e.Granted, e.Rule, e.Reason, e.Credential)
	return e, err
}

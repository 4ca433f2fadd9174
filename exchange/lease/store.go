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
	"os"
	"time"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"

	"github.com/stepkey/stepkey/exchange/audit"
)

//go:embed schema
var schema embed.FS

// A Store keeps leases, used subject tokens and the audit log in one database, so
// that what belongs together is committed together. Safe for concurrent use, and on
// PostgreSQL for any number of processes.
type Store struct {
	write *sql.DB
	read  *sql.DB
	speak dialect
	where string
	keys  *Keys
	now   func() time.Time
	rand  io.Reader
}

// Options are what a store needs beside its database; the zero value is real time
// and real randomness.
type Options struct {
	Now  func() time.Time
	Rand io.Reader
}

// Open opens the store at where, postgres://… or the path of a SQLite file, which is
// made if it is not there, and brings its schema up to date.
//
// A commit is durable before it returns: SQLite is opened in WAL mode with
// synchronous FULL; PostgreSQL must not run with synchronous_commit off.
func Open(ctx context.Context, where string, keys *Keys, o Options) (*Store, error) {
	s, err := connect(where, keys, o)
	if err != nil {
		return nil, err
	}
	if err := s.migrate(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// OpenToRead opens an existing store for looking only, beside the service that
// owns it. It has no keys, so it cannot see a handle. Where there is none, none is made, and
// the error wraps fs.ErrNotExist.
func OpenToRead(ctx context.Context, where string) (*Store, error) {
	if !IsPostgres(where) {
		if _, err := os.Stat(where); errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("there is no store %s: stepkey-exchange serve makes it, unless store in the configuration is meant to name another: %w", where, err)
		}
	}
	s, err := connect(where, nil, Options{})
	if err != nil {
		return nil, err
	}
	if _, err := s.Lives(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("this is no store of the exchange: %w", err), s.Close())
	}
	return s, nil
}

func connect(where string, keys *Keys, o Options) (*Store, error) {
	s := &Store{speak: engine(where), where: where, keys: keys, now: o.Now, rand: o.Rand}
	if s.now == nil {
		s.now = time.Now
	}
	if s.rand == nil {
		s.rand = rand.Reader
	}
	var err error
	s.write, s.read, err = s.speak.connect(where, keys == nil)
	return s, err
}

// Close gives the database back. Leases stay as they are.
func (s *Store) Close() error { return errors.Join(s.read.Close(), s.write.Close()) }

// reading is for what belongs to no transaction.
func (s *Store) reading() session {
	if s.speak.driver != postgres.driver {
		return session{s.read, s.speak}
	}
	return session{inTime{s.read, eachBounded}, s.speak}
}

// Ready reports whether the store can take a lease right now: it can be written to.
// It changes nothing.
func (s *Store) Ready(ctx context.Context) error {
	return s.transact(ctx, "asking the store whether it can be written to", func(tx session) error {
		_, err := tx.exec(ctx, `UPDATE leases SET attempts = attempts WHERE id = ''`)
		return err
	})
}

func (s *Store) migrate(ctx context.Context) error {
	files, err := fs.Sub(schema, "schema/"+s.speak.schema)
	if err != nil {
		return fmt.Errorf("reading the schema: %w", err)
	}
	options := []goose.ProviderOption{goose.WithDisableGlobalRegistry(true)}
	if s.speak.driver == postgres.driver { // replicas that start together take turns
		turns, err := lock.NewPostgresSessionLocker()
		if err != nil {
			return fmt.Errorf("reading the schema: %w", err)
		}
		options = append(options, goose.WithSessionLocker(turns))
	}
	provider, err := goose.NewProvider(s.speak.goose, s.write, files, options...)
	if err != nil {
		return fmt.Errorf("reading the schema: %w", err)
	}
	if _, err := provider.Up(ctx); err != nil {
		return fmt.Errorf("bringing the store's schema up to date: %w", err)
	}
	return nil
}

// transact runs what in one transaction; any error undoes all of it, and so does
// PostgreSQL's not answering in time. It wraps ErrUnavailable where later may help.
func (s *Store) transact(ctx context.Context, doing string, what func(session) error) error {
	return unavailable(ctx, s.attempt(ctx, doing, what))
}

func (s *Store) attempt(ctx context.Context, doing string, what func(session) error) error {
	if s.speak.driver == postgres.driver {
		bounded, done := context.WithTimeout(ctx, answerWithin)
		defer done()
		ctx = bounded
	}
	tx, err := s.write.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	if err := what(session{inTime{tx, func(context.Context) context.Context { return ctx }}, s.speak}); err != nil {
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
	err := s.transact(ctx, "writing the audit log", func(tx session) error {
		var err error
		e, err = s.enter(ctx, tx, e)
		return err
	})
	return e, err
}

func (s *Store) enter(ctx context.Context, tx session, e audit.Entry) (audit.Entry, error) {
	e.At = s.now().UTC()
	var err error
	if e.ID, err = audit.NewID(e.At, s.rand); err != nil {
		return e, err
	}
	_, err = tx.exec(ctx,
		`INSERT INTO audit (id, at, event, lease, task, issuer, job, granted, rule, reason, credential) VALUES (?,?,?,?,?,?,?,?,?,?,?)`,
		e.ID, e.At.UnixMicro(), string(e.Event), e.Lease, e.Task, e.Issuer, e.Job, e.Granted, e.Rule, e.Reason, e.Credential)
	return e, err
}

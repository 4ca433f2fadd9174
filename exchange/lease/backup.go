package lease

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
)

// ErrOwnBackup: PostgreSQL is backed up by its own means.
var ErrOwnBackup = errors.New("a PostgreSQL store is backed up with pg_dump, or with whatever backs up the rest of the database")

// Backup writes a consistent copy of a SQLite store to a new file, beside the service
// that owns the store. The copy holds handles sealed as they are in the store: it is
// as good as nothing without the key file, which belongs elsewhere.
func (s *Store) Backup(ctx context.Context, path string) error {
	if s.speak.driver != sqlite.driver {
		return ErrOwnBackup
	}
	// Made first, for its owner alone: VACUUM INTO fills an empty file and refuses any other.
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("making the backup: %w", err)
	}
	if err := file.Close(); err != nil {
		return fmt.Errorf("making the backup: %w", err)
	}
	// A connection of its own, so that nobody waits for it. It writes another file, and
	// could not under query_only.
	db, err := sql.Open(s.speak.driver, sqliteName(s.where, "rw", []string{"busy_timeout(5000)"}))
	if err == nil {
		_, err = db.ExecContext(ctx, `VACUUM INTO ?`, path)
		err = errors.Join(err, db.Close())
	}
	if err != nil {
		return errors.Join(fmt.Errorf("making the backup: %w", err), os.Remove(path))
	}
	return nil
}

package lease

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"

	"github.com/jackc/pgx/v5/pgconn"
	sqlitedriver "modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// ErrUnavailable: the store does not answer, or takes nothing at the moment; later may
// help. What was asked for may have been done all the same, unless a transaction undid it.
var ErrUnavailable = errors.New("the exchange's store does not answer")

// unavailable marks a failure of the store's as one that may pass. A caller that went away
// is none: asked is the context as the caller gave it, without the store's own bound.
func unavailable(asked context.Context, err error) error {
	if err == nil || asked.Err() != nil || !passing(err) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, err)
}

func passing(err error) bool {
	if _, ok := errors.AsType[*pgconn.ConnectError](err); ok {
		return true // whoever answers there: it is not the primary, or does not let us in
	}
	if refused, ok := errors.AsType[*pgconn.PgError](err); ok {
		return passingState(refused.Code)
	}
	if refused, ok := errors.AsType[*sqlitedriver.Error](err); ok {
		switch refused.Code() & 0xff { // the rest of an extended code says more of the same
		case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN:
			return true
		}
		return false
	}
	if pgconn.SafeToRetry(err) { // nothing was sent: the connection was closed before
		return true
	}
	if _, ok := errors.AsType[net.Error](err); ok {
		return true
	}
	for _, lost := range []error{driver.ErrBadConn, sql.ErrConnDone, sql.ErrTxDone, io.EOF, io.ErrUnexpectedEOF, net.ErrClosed, context.DeadlineExceeded} {
		if errors.Is(err, lost) {
			return true
		}
	}
	return false
}

// passingState: what PostgreSQL says of itself and not of a statement. The classes are those
// of its appendix "PostgreSQL Error Codes", or who lost against another transaction.
func passingState(code string) bool {
	if len(code) != 5 {
		return false
	}
	switch code[:2] {
	case "08", "53", "57", "58": // connection, resources, operator, system
		return true
	}
	switch code {
	case readOnlyTransaction, "40001", "40P01", "55P03": // serialization, deadlock, lock not available
		return true
	}
	return false
}

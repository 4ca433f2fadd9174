package lease

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
)

// A store that takes nothing at the moment says so, and takes the same again later; what
// is wrong with the one who asks is told apart from it.
func TestAStoreThatTakesNothingNowSaysSo(t *testing.T) {
	h := openAt(t, filepath.Join(t.TempDir(), "stepkey.db"))
	h.begin(t, "jti-1", "job-1")
	ask := func(ctx context.Context, jti string) error {
		_, err := h.Begin(ctx, Ask{Workload: workload(jti, "job of "+jti), Grant: grant()}, anHour)
		return err
	}
	if err := ask(t.Context(), "jti-1"); !errors.Is(err, ErrTokenUsed) || errors.Is(err, ErrUnavailable) {
		t.Errorf("a used subject token: %v", err)
	}

	pages := func(most int) {
		t.Helper()
		if _, err := h.write.ExecContext(t.Context(), fmt.Sprintf("PRAGMA max_page_count = %d", most)); err != nil {
			t.Fatal(err)
		}
	}
	pages(1) // no more than there are: the disk is full
	var err error
	for n := 0; err == nil && n < 1000; n++ { // what is free in the file is taken first
		err = ask(t.Context(), fmt.Sprint("jti-more-", n))
	}
	if !errors.Is(err, ErrUnavailable) {
		t.Fatalf("on a full disk: %v", err)
	}
	pages(1 << 20)
	if err := ask(t.Context(), "jti-2"); err != nil {
		t.Errorf("with room again: %v", err)
	}

	gone, leave := context.WithCancel(t.Context())
	leave()
	if err := ask(gone, "jti-3"); err == nil || errors.Is(err, ErrUnavailable) {
		t.Errorf("one who went away: %v", err)
	}
}

func TestWhatMayPassIsToldFromWhatIsWrong(t *testing.T) {
	for _, c := range []struct {
		what   string
		err    error
		passes bool
	}{
		{"the server is shut down", &pgconn.PgError{Code: "57P01"}, true},
		{"too many connections", &pgconn.PgError{Code: "53300"}, true},
		{"a standby", &pgconn.PgError{Code: readOnlyTransaction}, true},
		{"a deadlock", &pgconn.PgError{Code: "40P01"}, true},
		{"nobody listens", &net.OpError{Op: "dial", Err: errors.New("connection refused")}, true},
		{"the answer breaks off", fmt.Errorf("receiving: %w", io.ErrUnexpectedEOF), true},
		{"no answer in time", context.DeadlineExceeded, true},
		{"a table that is not there", &pgconn.PgError{Code: "42P01"}, false},
		{"what is there already", &pgconn.PgError{Code: "23505"}, false},
		{"no code of PostgreSQL's", &pgconn.PgError{Code: "5"}, false},
		{"a lease that moved on", ErrMoved, false},
		{"a used subject token", fmt.Errorf("writing: %w", ErrTokenUsed), false},
	} {
		if err := unavailable(t.Context(), c.err); errors.Is(err, ErrUnavailable) != c.passes || !errors.Is(err, c.err) {
			t.Errorf("%s: %v", c.what, err)
		}
	}
}

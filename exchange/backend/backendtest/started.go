package backendtest

import (
	"errors"
	"os"
	"testing"

	"github.com/stepkey/stepkey/internal/pgserver"
	"github.com/stepkey/stepkey/internal/realserver"
)

// Started looks at what the start of a real server returned. Where its program is missing
// the test is left out with a line that says so, except in CI: there all must run.
func Started(t testing.TB, err error) {
	t.Helper()
	var missing realserver.Missing
	switch {
	case err == nil:
	case os.Getenv("CI") == "" && (errors.As(err, &missing) || errors.Is(err, pgserver.ErrMissing)):
		t.Skip(err)
	default:
		t.Fatal(err)
	}
}

package lease

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stepkey/stepkey/internal/needs"
	"github.com/stepkey/stepkey/internal/pgserver"
)

// One PostgreSQL serves all tests of this package, each in a database of its own.
var server = sync.OnceValues(func() (*pgserver.Server, error) {
	return pgserver.Start(context.Background(), pgserver.Quick)
})

func TestMain(m *testing.M) {
	code := m.Run()
	if s, err := server(); err == nil {
		if err := s.Close(); err != nil {
			fmt.Fprintln(os.Stderr, "stopping PostgreSQL:", err)
			code = 1
		}
	}
	os.Exit(code)
}

// pgdatabase makes an empty database. Without PostgreSQL the test is left out on a
// laptop and fails where everything must run.
func pgdatabase(t testing.TB) string {
	t.Helper()
	s, err := server()
	needs.Started(t, err)
	where, err := s.Database(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return where
}

// filesOf are all files in which an engine keeps a store, its log of changes too.
func filesOf(t *testing.T, where string) []string {
	t.Helper()
	if engine(where).driver == sqlite.driver {
		files, err := filepath.Glob(where + "*")
		if err != nil {
			t.Fatal(err)
		}
		return files
	}
	s, err := server()
	if err == nil {
		err = s.Exec(t.Context(), "CHECKPOINT")
	}
	if err != nil {
		t.Fatal(err)
	}
	var files []string
	for _, part := range []string{"base", "pg_wal"} {
		err = errors.Join(err, filepath.WalkDir(filepath.Join(s.DataDir(), part), func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.Type().IsRegular() {
				files = append(files, path)
			}
			return err
		}))
	}
	if err != nil || len(files) < 100 {
		t.Fatalf("%d files of PostgreSQL: %v", len(files), err)
	}
	return files
}

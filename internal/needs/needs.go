// Package needs says what becomes of a test whose machine lacks something.
//
// It hides one rule: on a laptop such a test is left out, with a line that says what is
// missing; in CI, where everything must run, it fails.
package needs

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"testing"
)

// Missing is the error of what is not on this machine.
type Missing struct {
	What string
	Get  string // how to get it; may be empty
}

func (m Missing) Error() string {
	if m.Get == "" {
		return m.What + " is not on this machine"
	}
	return m.What + " is not on this machine; to get it: " + m.Get
}

// Started looks at what the start of a server, or of anything else, returned. An error that
// is not Missing fails the test everywhere.
func Started(t testing.TB, err error) {
	t.Helper()
	var missing Missing
	switch {
	case err == nil:
	case os.Getenv("CI") == "" && errors.As(err, &missing):
		t.Skip(err)
	default:
		t.Fatal(err)
	}
}

// Programs looks for programs on PATH, or by their path.
func Programs(t testing.TB, programs ...string) {
	t.Helper()
	for _, program := range programs {
		if _, err := exec.LookPath(program); err != nil {
			Started(t, Missing{What: program})
		}
	}
}

// Working runs a program that is of use only if something else answers, such as docker.
func Working(t testing.TB, program string, args ...string) {
	t.Helper()
	Programs(t, program)
	if err := exec.CommandContext(t.Context(), program, args...).Run(); err != nil { //nolint:gosec // a test names it
		Started(t, fmt.Errorf("%w: %w", Missing{What: program + " that works"}, err))
	}
}

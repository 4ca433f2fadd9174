package needs_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stepkey/stepkey/internal/needs"
)

// asked is a test that only says what became of it.
type asked struct {
	testing.TB
	became string
}

func (a *asked) Helper() {}

func (a *asked) Skip(args ...any) { a.end("skipped: ", args) }

func (a *asked) Fatal(args ...any) { a.end("failed: ", args) }

func (a *asked) end(how string, args []any) {
	if a.became == "" {
		a.became = how + fmt.Sprint(args...)
	}
}

func TestWhatIsMissingIsSaidOnALaptopAndFailsInCI(t *testing.T) {
	lost := needs.Missing{What: "minio", Get: "make servers"}
	for name, c := range map[string]struct {
		ci, want string
		ask      func(testing.TB)
	}{
		"nothing":              {"", "", func(t testing.TB) { needs.Started(t, nil) }},
		"nothing, in CI":       {"true", "", func(t testing.TB) { needs.Started(t, nil) }},
		"a server":             {"", "skipped: starting: minio is not on this machine; to get it: make servers", func(t testing.TB) { needs.Started(t, fmt.Errorf("starting: %w", lost)) }},
		"a server, in CI":      {"true", "failed: minio is not on this machine; to get it: make servers", func(t testing.TB) { needs.Started(t, lost) }},
		"another trouble":      {"", "failed: the disk is full", func(t testing.TB) { needs.Started(t, errors.New("the disk is full")) }},
		"a program":            {"", "skipped: no-such-program is not on this machine", func(t testing.TB) { needs.Programs(t, "sh", "no-such-program") }},
		"a program, in CI":     {"true", "failed: no-such-program is not on this machine", func(t testing.TB) { needs.Programs(t, "no-such-program") }},
		"a program that fails": {"", "skipped: false that works is not on this machine: exit status 1", func(t testing.TB) { needs.Working(t, "false") }},
		"one that works":       {"true", "", func(t testing.TB) { needs.Working(t, "true") }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("CI", c.ci)
			a := &asked{TB: t}
			c.ask(a)
			if a.became != c.want {
				t.Errorf("it is %q, want %q", a.became, c.want)
			}
		})
	}
}

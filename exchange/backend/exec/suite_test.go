package exec_test

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	osexec "os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/exchange/backend/backendtest"
	"github.com/stepkey/stepkey/exchange/backend/exec"
	"github.com/stepkey/stepkey/internal/secret"
	"github.com/stepkey/stepkey/internal/yamlfile"
)

const page = backendtest.Page("../../../docs/backends/exec.md")

// built is where the page's program is, once TestMain has made room for it.
var built struct {
	sync.Once
	dir  string
	path string
	err  error
}

func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "program" {
		syscall.Exit(act(os.Args[2:])) // os.Exit of a binary with the race detector waits for a second
	}
	dir, err := os.MkdirTemp("", "stepkey-exec-")
	if err != nil {
		panic(err)
	}
	built.dir = dir
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// pageProgram is the program of docs/backends/exec.md, as it stands there.
func pageProgram(t testing.TB) string {
	t.Helper()
	built.Do(func() {
		write := func(name, text string) {
			built.err = errors.Join(built.err, os.WriteFile(filepath.Join(built.dir, name), []byte(text), 0o600))
		}
		write("main.go", page.Blocks(t, "go")[0])
		write("go.mod", "module example.com/stepkey-tokens\n\ngo 1.26.0\n")
		built.path = filepath.Join(built.dir, "stepkey-tokens")
		build := osexec.Command("go", "build", "-o", built.path, ".")
		build.Dir = built.dir
		if said, err := build.CombinedOutput(); err != nil {
			built.err = fmt.Errorf("building the page's program: %w\n%s", err, said)
		}
	})
	if built.err != nil {
		t.Fatal(built.err)
	}
	return built.path
}

// clock is the one that the service and the backend share.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func newClock() *clock { return &clock{at: time.Date(2026, 11, 23, 15, 0, 0, 0, time.UTC)} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// service is the reports service: it reads the file of tokens at each request.
type service struct {
	*clock
	dir string
}

func newService(t testing.TB) *service {
	t.Helper()
	s := &service{clock: newClock(), dir: filepath.Join(t.TempDir(), "reports")}
	if err := os.Mkdir(s.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.tokens(), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *service) tokens() string { return filepath.Join(s.dir, "tokens") }

// entries are the lines of tokens that have not ended.
func (s *service) entries() (lines [][]string) {
	file, err := os.Open(s.tokens())
	if err != nil {
		panic(err)
	}
	defer file.Close()
	for in := bufio.NewScanner(file); in.Scan(); {
		fields := strings.Fields(in.Text())
		if until, err := time.Parse(time.RFC3339, fields[1]); err == nil && s.now().Before(until) {
			lines = append(lines, fields)
		}
	}
	return lines
}

func (s *service) try(token secret.String, verb string) error {
	sum := fmt.Sprintf("%x", sha256.Sum256([]byte(token.Reveal())))
	for _, fields := range s.entries() {
		if fields[0] == sum && fields[2] == "figures" && slices.Contains(strings.Split(fields[3], ","), verb) {
			return nil
		}
	}
	return errors.New("the reports service refuses the token")
}

// world is the service behind the page's program. The program stands behind a script that
// throws an answer away when told to.
func (s *service) world(t testing.TB, options string) backendtest.World {
	t.Helper()
	lose, away := filepath.Join(filepath.Dir(s.dir), "lose"), s.dir+".away"
	wrapper := filepath.Join(filepath.Dir(s.dir), "wrapper")
	script := fmt.Sprintf("#!/bin/sh\nif rm %q 2>/dev/null; then %q %q >/dev/null; exit 1; fi\nexec %q %q\n",
		lose, pageProgram(t), s.tokens(), pageProgram(t), s.tokens())
	if err := os.WriteFile(wrapper, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	must := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	may := func(verb string) backendtest.Deed {
		return func(_ context.Context, values map[string]secret.String) error { return s.try(values["token"], verb) }
	}
	const own = "the-operators-own-password"
	return backendtest.World{
		Backend: open(t, s.now, fmt.Sprintf("tokens: {command: [%q], environment: {PASSWORD: %s}, %s parameters: {%s}}", wrapper, own, options, forms)),
		Now:     s.now, Advance: s.advance, Secrets: []string{own},
		Use: may("write"), UseLess: may("read"), Overstep: may("burn"),
		Live:      func() int { return len(s.entries()) },
		LoseReply: func() { must(os.WriteFile(lose, nil, 0o600)) },
		LoseEnd: func() func() bool {
			must(os.WriteFile(lose, nil, 0o600))
			return func() bool {
				_, err := os.Stat(lose)
				return errors.Is(err, os.ErrNotExist)
			}
		},
		Down: func() { must(os.Rename(s.dir, away)) },
		Up:   func() { must(os.Rename(away, s.dir)) },
	}
}

const forms = "area: {pattern: '[a-z]+', max_length: 20}, can: {list: true, enum: [read, write, burn]}, note: {pattern: '.*', optional: true}"

// configured reads programs as a configuration has them.
func configured(t testing.TB, programs string) exec.Config {
	t.Helper()
	node, err := yamlfile.Parse("stepkey.yaml", []byte("exec:\n  programs: {"+programs+"}\n"))
	if err != nil {
		t.Fatal(err)
	}
	var c exec.Config
	if err := node.Get("exec").Decode(&c); err != nil {
		t.Fatal(err)
	}
	return c
}

func open(t testing.TB, now func() time.Time, programs string) *exec.Backend {
	t.Helper()
	b, err := configured(t, programs).Open(now, os.LookupEnv)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func node(t testing.TB, block string) backend.Block {
	t.Helper()
	root, err := yamlfile.Parse("task.yaml", []byte("credential:\n  exec: "+block+"\n"))
	if err != nil {
		t.Fatal(err)
	}
	return root.Get("credential", "exec")
}

const (
	good     = "program: tokens\nparameters: {area: figures, can: [read, write]}"
	narrower = "program: tokens\nparameters: {can: [read], area: figures}"
	wider    = "program: tokens\nparameters: {area: figures, can: [write, read, burn]}"
)

var hostile = map[string]string{
	"no program":              "parameters: {area: figures, can: [read]}",
	"an unknown program":      "program: token\nparameters: {area: figures, can: [read]}",
	"a path as program":       "program: /bin/sh\nparameters: {area: figures, can: [read]}",
	"a command":               "program: tokens\ncommand: [/bin/sh]\nparameters: {area: figures, can: [read]}",
	"an unknown parameter":    "program: tokens\nparameters: {area: figures, can: [read], until: forever}",
	"a parameter less":        "program: tokens\nparameters: {area: figures}",
	"an empty list":           "program: tokens\nparameters: {area: figures, can: []}",
	"a text for a list":       "program: tokens\nparameters: {area: figures, can: read}",
	"a list for a text":       "program: tokens\nparameters: {area: [figures], can: [read]}",
	"a second line":           "program: tokens\nparameters: {area: \"figures\\nroot\", can: [read]}",
	"a line's end":            "program: tokens\nparameters: {area: \"figures\\n\", can: [read]}",
	"a zero byte":             "program: tokens\nparameters: {area: \"figures\\0\", can: [read]}",
	"a way out of the folder": "program: tokens\nparameters: {area: ../figures, can: [read]}",
	"a shell's words":         "program: tokens\nparameters: {area: \"figures; rm -rf /\", can: [read]}",
	"text that runs backward": "program: tokens\nparameters: {area: figures, can: [read], note: \"a\\u202eb\"}",
	"a very long text":        "program: tokens\nparameters: {area: " + strings.Repeat("a", 5000) + ", can: [read]}",
	"the same thing twice":    "program: tokens\nparameters: {area: figures, can: [read, read]}",
	"a number":                "program: tokens\nparameters: {area: 7, can: [read]}",
	"a mapping":               "program: tokens\nparameters: {area: {a: b}, can: [read]}",
	"parameters that are one": "program: tokens\nparameters: figures",
}

// harness is the page's program with options of its configuration.
func harness(options string) backendtest.Harness {
	return backendtest.Harness{
		Open: func(t testing.TB) backendtest.World { return newService(t).world(t, options) },
		Good: good, Narrower: narrower, Wider: wider, Hostile: hostile,
		Says: backendtest.Phrases{
			Good: []string{`"read"`, `"write"`}, Narrower: []string{`"read"`}, Wider: []string{`"read"`, `"write"`, `"burn"`},
		},
		Overtime:  time.Minute, // of clocks that differ
		Unproven:  "the configuration does not say that the program has a probe",
		NeverHeld: "the service looks for the token at each request",
	}
}

func TestThePagesProgramPassesTheSuite(t *testing.T) {
	t.Run("until the lease's end", func(t *testing.T) { backendtest.Run(t, harness("")) })
	t.Run("with a probe and a longest life", func(t *testing.T) {
		h := harness("probe: true, longest_life: 30m,")
		h.Unproven, h.Overtime = "", 22*time.Minute // the longest life counts from the order, and may be longer than the lease
		backendtest.Run(t, h)
	})
}

// The same program, of which the configuration says that it cannot revoke.
func TestAProgramThatCannotRevokePassesTheSuite(t *testing.T) {
	h := harness("revoke: false,")
	h.Nameless = "the program is not asked to end anything"
	backendtest.Run(t, h)
}

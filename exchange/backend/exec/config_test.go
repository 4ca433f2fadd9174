package exec_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/exchange/backend/exec"
	"github.com/stepkey/stepkey/internal/secret"
	"github.com/stepkey/stepkey/internal/yamlfile"
)

func TestAConfigurationThatCannotBeMeantIsRefused(t *testing.T) {
	dir := t.TempDir()
	file := func(name string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte("#!/bin/sh\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	fine, loose, plain := file("fine", 0o755), file("loose", 0o775), file("plain", 0o644)
	many := make([]string, 33)
	for i := range many {
		many[i] = fmt.Sprintf("p%d: {enum: [a]}", i)
	}
	for programs, says := range map[string]string{
		"":                                       "name at least one",
		"Tokens: {command: [/bin/true]}":         "want a name",
		"tokens: {command: []}":                  "whole path",
		"tokens: {command: [run]}":               "whole path",
		"tokens: {command: [/bin/../true]}":      "whole path",
		`tokens: {command: [/bin/true, "a\0b"]}`: "zero byte",
		fmt.Sprintf("tokens: {command: [%q]}", dir+"/none"):                                           "no such file",
		fmt.Sprintf("tokens: {command: [%q], retired: true}", dir+"/none"):                            "no such file",
		fmt.Sprintf("tokens: {command: [%q]}", dir):                                                   "no program that can be run",
		fmt.Sprintf("tokens: {command: [%q]}", plain):                                                 "no program that can be run",
		fmt.Sprintf("tokens: {command: [%q]}", loose):                                                 "chmod go-w",
		fmt.Sprintf("tokens: {command: [%q], directory: %q}", fine, dir+"/none"):                      "is none",
		fmt.Sprintf("tokens: {command: [%q], directory: here}", fine):                                 "want a whole path",
		fmt.Sprintf("tokens: {command: [%q], timeout: 1m}", fine):                                     "want up to 15s",
		fmt.Sprintf("tokens: {command: [%q], longest_life: 10000h}", fine):                            "want up to",
		fmt.Sprintf("tokens: {command: [%q], about: \"a\\nb\"}", fine):                                "in one line",
		fmt.Sprintf("tokens: {command: [%q], environment: {\"A=B\": c}}", fine):                       "no variable's name",
		fmt.Sprintf("tokens: {command: [%q], environment: {A: c}, pass_environment: [A]}", fine):      "is given under environment, too",
		fmt.Sprintf("tokens: {command: [%q], parameters: {A: {enum: [a]}}}", fine):                    "want a name",
		fmt.Sprintf("tokens: {command: [%q], parameters: {a: {}}}", fine):                             "either pattern or enum",
		fmt.Sprintf("tokens: {command: [%q], parameters: {a: {enum: [a], pattern: a}}}", fine):        "either pattern or enum",
		fmt.Sprintf("tokens: {command: [%q], parameters: {a: {pattern: \"(\"}}}", fine):               "missing closing )",
		fmt.Sprintf("tokens: {command: [%q], parameters: {a: {enum: [\"a\\nb\"]}}}", fine):            "cannot be seen",
		fmt.Sprintf("tokens: {command: [%q], parameters: {a: {enum: [a], max_items: 3}}}", fine):      "add list: true",
		fmt.Sprintf("tokens: {command: [%q], parameters: {a: {pattern: a, max_length: 5000}}}", fine): "want 1 to 1024",
		fmt.Sprintf("tokens: {command: [%q], parameters: {%s}}", fine, strings.Join(many, ", ")):      "32 is the most",
	} {
		if _, err := configured(t, programs).Open(nil, os.LookupEnv); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s\n  %v\n  want …%s…", programs, err, says)
		}
	}
	if _, err := configured(t, fmt.Sprintf("tokens: {command: [%q]}", fine)).Open(nil, os.LookupEnv); err != nil {
		t.Errorf("a good one: %v", err)
	}
}

// A pattern means the whole text, whatever is or-ed in it.
func TestAPatternIsOfTheWholeText(t *testing.T) {
	b := blank(t, "p: {command: [/bin/true], parameters: {x: {pattern: 'a|b'}}}")
	for text, taken := range map[string]bool{"a": true, "b": true, "ab": false, "ax": false, "xb": false} {
		if _, err := b.Scope(node(t, "{program: p, parameters: {x: "+text+"}}")); (err == nil) != taken {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// What the page shows is read by what reads it in earnest. (Its program is what the suite
// runs over.)
func TestThePagesConfigurationAndTaskAreTaken(t *testing.T) {
	var c struct {
		Backends struct {
			Exec exec.Config `yaml:"exec"`
		} `yaml:"backends"`
	}
	root, err := yamlfile.Parse("stepkey.yaml", []byte(page.Blocks(t, "yaml")[0]))
	if err != nil {
		t.Fatal(err)
	}
	if err := root.Decode(&c); err != nil {
		t.Fatal(err)
	}
	o, err := c.Backends.Exec.Options()
	if err != nil {
		t.Fatal(err)
	}
	task, err := yamlfile.Parse("task.yaml", []byte(page.Blocks(t, "yaml")[1]))
	if err != nil {
		t.Fatal(err)
	}
	scope, err := exec.New(o).Scope(task.Get("credential", "exec"))
	if err != nil {
		t.Fatal(err)
	}
	if want := `program tokens (a token of the reports service): area "figures", can "read" and "write"`; scope.String() != want {
		t.Errorf("it is said as %s", scope)
	}
}

// The page's commands, in a folder with the program.
func TestThePagesCommandsWork(t *testing.T) {
	dir := t.TempDir()
	out := shell(t, dir, filepath.Dir(pageProgram(t)), page.Blocks(t, "sh")[0])
	if lines := strings.Split(strings.TrimSpace(out), "\n"); len(lines) != 2 || !strings.Contains(lines[0], `"values":{"token":"`) || lines[1] != `{"gone":true}` {
		t.Errorf("they print:\n%s", out)
	}
	if left, err := os.ReadFile(filepath.Join(dir, "tokens")); err != nil || len(left) != 0 {
		t.Errorf("left is %q, %v", left, err)
	}
}

// It makes a credential, whose handle nobody keeps, and is then retired, with its entry left
// beside its successor's. The credential ends.
func TestARetiredProgramMakesNothingAndStillEnds(t *testing.T) {
	s := newService(t)
	entry := fmt.Sprintf("{command: [%q, %q], parameters: {%s}, ", pageProgram(t), s.tokens(), forms)
	before := open(t, s.now, "tokens: "+entry+"}")
	scope, err := before.Scope(node(t, "{program: tokens, parameters: {area: figures, can: [read]}}"))
	if err != nil {
		t.Fatal(err)
	}
	o := backend.Order{Lease: "lease_1", Scope: scope, At: s.now(), Until: s.now().Add(time.Minute)}
	if _, err := before.Issue(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	after := open(t, s.now, "tokens: "+entry+"retired: true}, tokens-v2: {command: ["+strconv.Quote(pageProgram(t))+", "+strconv.Quote(newService(t).tokens())+"]}")
	if _, err := after.Scope(node(t, "{program: tokens, parameters: {area: figures, can: [read]}}")); err == nil || !strings.Contains(err.Error(), "is retired in the configuration") {
		t.Errorf("a task that names it: %v", err)
	}
	if _, err := after.Scope(node(t, "{program: token}")); err == nil || strings.Contains(err.Error(), `"tokens"`) {
		t.Errorf("a task is advised to name it: %v", err)
	}
	if _, err := after.Issue(t.Context(), o); !errors.Is(err, backend.ErrNotCreated) {
		t.Errorf("an order from before: %v", err)
	}
	if err := after.Revoke(t.Context(), o.Lease, secret.String{}); err != nil || len(s.entries()) != 0 {
		t.Errorf("%d tokens are left, %v", len(s.entries()), err)
	}
}

func TestOneThatIsRetiredPromisesNothing(t *testing.T) {
	b := blank(t, "old: {command: [/bin/true], longest_life: 20h, retired: true}, new: {command: [/bin/true], longest_life: 1h}")
	if _, longest := b.Lifetimes(); longest != time.Hour {
		t.Errorf("the longest life is %s", longest)
	}
}

func TestThePagesTablesNameEveryKey(t *testing.T) {
	page.TellsOf(t, yamlfile.KeysOf[exec.Program](), "issue", "revoke", "probe", "message", "not_created", "unavailable", "lost")
}

// Where a new file has no room, the page's program says so, and the old one stays whole: no
// token is handed out that the service does not know, none that lives is called gone, and
// nobody else's is dropped.
func TestThePagesProgramLosesNothingWhereThereIsNoRoom(t *testing.T) {
	dir := t.TempDir()
	var lines strings.Builder
	for n := range 40 {
		fmt.Fprintf(&lines, "%064x 2030-01-01T00:00:00Z figures read lease_%d\n", n, n)
	}
	path := filepath.Join(dir, "tokens")
	if err := os.WriteFile(path, []byte(lines.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, asks := range []string{
		`{"version":1,"verb":"issue","lease":"lease_new","until":"2030-01-01T00:00:00Z","parameters":{"area":"figures","can":["read"]}}`,
		`{"version":1,"verb":"revoke","lease":"lease_39"}`,
		`{"version":1,"verb":"revoke","lease":"lease_0"}`,
	} {
		// A limit of a file's size stands in for a full disk: there, too, a write is cut off anywhere.
		said := shell(t, dir, filepath.Dir(pageProgram(t)), "ulimit -f 1; echo '"+asks+"' | stepkey-tokens tokens")
		if !strings.Contains(said, `"error":{"message":"write `) || !strings.Contains(said, `"not_created":true`) || strings.Contains(said, "values") || strings.Contains(said, "gone") {
			t.Errorf("%s\n  %s", asks, said)
		}
		if left, err := os.ReadFile(path); err != nil || string(left) != lines.String() {
			t.Errorf("%s: of %d bytes %d are left, %v", asks, lines.Len(), len(left), err)
		}
	}
}

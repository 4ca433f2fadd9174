package exec_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stepkey/stepkey/exchange/backend/exec"
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

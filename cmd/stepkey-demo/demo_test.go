package main

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stepkey/stepkey/internal/githubsim"
)

// binaries builds what the demo runs, once for all tests.
func binaries(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	c := exec.CommandContext(t.Context(), "go", "build", "-o", dir, "../stepkey", "../stepkey-exchange", ".")
	c.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return dir
}

func TestTheDemo(t *testing.T) {
	bin := binaries(t)
	t.Run("is told to its end", func(t *testing.T) {
		c := exec.CommandContext(t.Context(), filepath.Join(bin, "stepkey-demo"))
		c.Env = []string{"TMPDIR=" + t.TempDir()}
		out, err := c.CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		if !strings.Contains(string(out), "As told.") || strings.Contains(string(out), "✗") || strings.Count(string(out), "✓") < 23 {
			t.Errorf("told:\n%s", out)
		}
		for _, line := range shown(t) {
			if !strings.Contains(string(out), strings.TrimSpace(line)) {
				t.Errorf("the first page shows a line that is not told: %s", line)
			}
		}
		for line := range strings.Lines(string(out)) {
			if utf8.RuneCountInString(strings.TrimRight(line, " \n")) > width {
				t.Errorf("wider than a screenshot: %s", line)
			}
		}
		if strings.Contains(string(out), "\x1b[") {
			t.Error("colours where there is no terminal")
		}
		if left, _ := os.ReadDir(c.Env[0][len("TMPDIR="):]); len(left) != 0 {
			t.Errorf("it left %v", left)
		}
	})
	for name, fault := range map[string]func(*http.Request) *githubsim.Fault{
		"another repository can be read": func(r *http.Request) *githubsim.Fault {
			if strings.Contains(r.URL.Path, "/acme/gadget") {
				return &githubsim.Fault{Before: http.StatusOK, Body: `{}`}
			}
			return nil
		},
		"the token still works after its end": func(r *http.Request) *githubsim.Fault {
			if r.Method == http.MethodDelete {
				return &githubsim.Fault{Before: http.StatusNoContent}
			}
			return nil
		},
	} {
		t.Run("fails when "+name, func(t *testing.T) {
			w, err := build(t.Context(), bin, t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			w.gh.Fault(fault)
			var out bytes.Buffer
			if err := tell(context.Background(), w, &out); !errors.Is(err, errNotAsTold) || !strings.Contains(out.String(), "✗") {
				t.Errorf("%v\n%s", err, out.String())
			}
			if err := w.close(); err != nil {
				t.Error(err)
			}
		})
	}
}

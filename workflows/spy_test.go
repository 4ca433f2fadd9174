package workflows_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stepkey/stepkey/exchange/backend/backendtest"
)

// spy is an eavesdropper in the same job, who stands where a program is looked for.
type spy struct {
	canary string // what is kept, out of the job's reach
	memory string // where files are that ought to stay in memory
}

// spyOn has run steps find, under the name of a program, a script that does something and
// then becomes the program. $CANARY is the folder in which it keeps what it got.
func (w *world) spyOn(t *testing.T, name, does string) {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatal(err)
	}
	w.spy = &spy{canary: t.TempDir(), memory: inMemory(t)}
	bin := t.TempDir()
	program(t, filepath.Join(bin, name), fmt.Sprintf("#!/bin/sh\nls \"$XDG_RUNTIME_DIR\" >\"$CANARY/%s\"\n%sexec %s \"$@\"\n", heldFile, does, path))
	w.runner.Host["PATH"] = bin + string(os.PathListSeparator) + w.runner.Host["PATH"]
	w.runner.Host["CANARY"], w.runner.Host["XDG_RUNTIME_DIR"] = w.spy.canary, w.spy.memory
}

// heldFile lists, in the canary's folder, what was in memory while the command ran.
const heldFile = "held"

// inMemory is a folder of the test's own where the machine keeps files in memory.
func inMemory(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "stepkey-test-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// program writes one that can be run.
func program(t *testing.T, path, text string) {
	t.Helper()
	write(t, path, []byte(text))
	if err := os.Chmod(path, 0o700); err != nil {
		t.Fatal(err)
	}
}

// wantNothingInMemory: the files of commands that have ended are gone, and were there.
func (w *world) wantNothingInMemory(t *testing.T) {
	t.Helper()
	if held := read(t, filepath.Join(w.spy.canary, heldFile)); !strings.Contains(held, "stepkey-exec-") {
		t.Errorf("while the command ran there was only %q", held)
	}
	if left, err := os.ReadDir(w.spy.memory); err != nil || len(left) > 0 {
		t.Errorf("files of commands are left: %v, %v", left, err)
	}
}

// appears is closed once a file is there, or is not there in time.
func appears(t *testing.T, file string) <-chan struct{} {
	t.Helper()
	there := make(chan struct{})
	ctx, done := context.WithTimeout(t.Context(), patience)
	go func() {
		defer done()
		defer close(there)
		again := time.NewTicker(20 * time.Millisecond)
		defer again.Stop()
		for {
			if _, err := os.Stat(file); err == nil {
				return
			}
			select {
			case <-again.C:
			case <-ctx.Done():
				t.Errorf("%s never came", filepath.Base(file))
				return
			}
		}
	}()
	return there
}

// page is a backend's.
func page(name string) backendtest.Page {
	return backendtest.Page(filepath.Join(root, "docs", "backends", name))
}

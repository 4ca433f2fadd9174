package workflows_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
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
	w.spy = &spy{canary: t.TempDir(), memory: t.TempDir()}
	bin := t.TempDir()
	program(t, filepath.Join(bin, name), fmt.Sprintf("#!/bin/sh\n%sexec %s \"$@\"\n", does, path))
	w.runner.Host["PATH"] = bin + string(os.PathListSeparator) + w.runner.Host["PATH"]
	w.runner.Host["CANARY"], w.runner.Host["XDG_RUNTIME_DIR"] = w.spy.canary, w.spy.memory
}

// program writes one that can be run.
func program(t *testing.T, path, text string) {
	t.Helper()
	write(t, path, []byte(text))
	if err := os.Chmod(path, 0o700); err != nil {
		t.Fatal(err)
	}
}

// wantNothingInMemory: the files of commands that have ended are gone.
func (w *world) wantNothingInMemory(t *testing.T) {
	t.Helper()
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

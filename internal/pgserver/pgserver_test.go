package pgserver

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stepkey/stepkey/internal/needs"
)

func TestAServerThatCannotStartSaysWhyAndAtOnce(t *testing.T) {
	ctx, done := context.WithTimeout(t.Context(), readyWithin)
	defer done()
	s, err := Start(ctx, Settings{"shared_buffers=much"})
	if s != nil {
		t.Error(s.Close())
	}
	if err == nil || !strings.Contains(err.Error(), "it ended at once") || !strings.Contains(err.Error(), `"shared_buffers": "much"`) || ctx.Err() != nil {
		needs.Started(t, err)
		t.Errorf("%v", err)
	}
}

func TestAServerWhoseStartIsGivenUpIsEnded(t *testing.T) {
	s, err := Start(t.Context(), Quick)
	needs.Started(t, err)
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(s.dir); !os.IsNotExist(err) {
			t.Errorf("its files are left: %v", err)
		}
	})
	if err := s.Kill(); err != nil {
		t.Fatal(err)
	}
	ctx, done := context.WithCancel(t.Context())
	done()
	if err := s.Restart(ctx); err == nil || s.process != nil {
		t.Fatalf("it is started: %v", err)
	}
	all, err := filepath.Glob("/proc/[0-9]*/cwd")
	if err != nil {
		t.Fatal(err)
	}
	for _, link := range all {
		if where, err := os.Readlink(link); err == nil && where == s.DataDir() {
			t.Errorf("a process is left: %s", link)
		}
	}
	if err := s.Restart(t.Context()); err != nil {
		t.Fatalf("and cannot be started again: %v", err)
	}
}

func TestAServerThatEndedByItselfIsNotMistakenForAnother(t *testing.T) {
	s, err := Start(t.Context(), Quick)
	needs.Started(t, err)
	if err := s.process.cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	<-s.process.over
	if err := s.Kill(); err == nil || !strings.Contains(err.Error(), "does not run any more") {
		t.Errorf("%v", err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// Package realserver runs the servers that backends are tested against, each with a
// directory of its own, on a free port, for as long as a test needs it.
//
// It hides where a machine keeps their programs, how each is made ready, started as
// whoever runs the tests, known to be ready, and ended.
package realserver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/stepkey/stepkey/internal/needs"
)

const (
	readyWithin = time.Minute // two cores may be busy with something else
	endsWithin  = 10 * time.Second
)

// Journal is what a process has printed. It may be read while the process writes.
type Journal struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (j *Journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(p)
}

func (j *Journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

// process is one running server.
type process struct {
	Log  *Journal
	name string
	cmd  *exec.Cmd
	over chan struct{} // closed when it has ended
}

// launch starts a server, and returns once it is ready or has shown that it never is.
// The process ends with Close, and with this process, however that ends.
func launch(ctx context.Context, cmd *exec.Cmd, ready func(context.Context) error) (*process, error) {
	p := &process{Log: &Journal{}, name: filepath.Base(cmd.Path), cmd: cmd, over: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = p.Log, p.Log
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", p.name, err)
	}
	go func() {
		_ = cmd.Wait() // how it ended is in its log
		close(p.over)
	}()
	if err := p.until(ctx, ready); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

// until asks again and again whether the server is ready.
func (p *process) until(ctx context.Context, ready func(context.Context) error) error {
	ctx, done := context.WithTimeout(ctx, readyWithin)
	defer done()
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for {
		err := ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-p.over:
			return fmt.Errorf("%s ended at once; it said:\n%s", p.name, p.Log)
		case <-ctx.Done():
			return fmt.Errorf("%s does not get ready: %w; it said:\n%s", p.name, err, p.Log)
		case <-again.C:
		}
	}
}

// Close ends the server: kindly, and then by force.
func (p *process) Close() error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("ending %s: %w", p.name, err)
	}
	late := time.NewTimer(endsWithin)
	defer late.Stop()
	select {
	case <-p.over:
		return nil
	case <-late.C:
	}
	if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("ending %s: %w", p.name, err)
	}
	<-p.over
	return nil
}

// installed finds a program on PATH or in one of the places where Debian keeps it.
func installed(program, get string, places ...string) (string, error) {
	for _, name := range append([]string{program}, places...) {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", needs.Missing{What: program, Get: get}
}

// built finds a program that "make servers" builds from a module below testdata/servers:
// there is no package of it.
func built(program string) (string, error) {
	dir, err := os.Getwd() // a test's own package
	if err != nil {
		return "", fmt.Errorf("finding %s: %w", program, err)
	}
	for ; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return installed(filepath.Join(dir, "bin", "servers", program), "make servers")
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("finding %s: no go.mod here or above", program)
		}
	}
}

// freePort was free on that address a moment ago.
func freePort(ctx context.Context, address string) (string, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", net.JoinHostPort(address, "0"))
	if err != nil {
		return "", fmt.Errorf("finding a free port: %w", err)
	}
	_, port, err := net.SplitHostPort(l.Addr().String())
	return port, errors.Join(err, l.Close())
}

// answers says whether somebody accepts connections there.
func answers(address string) func(context.Context) error {
	return func(ctx context.Context) error {
		c, err := new(net.Dialer).DialContext(ctx, "tcp", address)
		if err != nil {
			return err
		}
		return c.Close()
	}
}

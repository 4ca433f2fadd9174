package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// An invocation is a command that was looked up.
type invocation struct {
	path string
	args []string // with its name as it was given
}

// What a shell exits with where it cannot start a command, and adds to a signal's number.
const (
	exitNotExecutable = 126
	exitNotFound      = 127
	exitSignal        = 128
)

// findProgram looks a command up as a shell does. The error is an exit's code with words.
func findProgram(args []string, path string) (invocation, error) {
	name := args[0]
	if strings.ContainsRune(name, '/') {
		return invocation{name, args}, executable(name)
	}
	var found error
	for _, dir := range filepath.SplitList(path) {
		at := filepath.Join(dir, name)
		if !strings.ContainsRune(at, '/') {
			at = "./" + at // an empty entry of PATH is the current folder
		}
		err := executable(at)
		if err == nil {
			return invocation{at, args}, nil
		}
		if info, statErr := os.Stat(at); statErr == nil && info.Mode().IsRegular() && found == nil {
			found = err
		}
	}
	if found == nil {
		found = &unstartable{exitNotFound, name + ": command not found"}
	}
	return invocation{}, found
}

// unstartable is why a command was not started, with the exit code that a shell has for
// that.
type unstartable struct {
	code int
	text string
}

func (u *unstartable) Error() string { return u.text }

func executable(path string) error {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return &unstartable{exitNotExecutable, path + ": permission denied"}
	case err != nil:
		return &unstartable{exitNotFound, path + ": no such file"}
	case info.IsDir():
		return &unstartable{exitNotExecutable, path + " is a folder"}
	case unix.Access(path, unix.X_OK) != nil:
		return &unstartable{exitNotExecutable, path + " is not executable"}
	}
	return nil
}

// A child is the command, in a process group of its own.
type child struct {
	pid     int // and its group's
	changes chan change
}

// A change is a stop of the command, or its end.
type change struct {
	status syscall.WaitStatus
	reaped bool
	err    error // it cannot be waited for
}

func (c change) stopped() bool { return c.err == nil && c.status.Stopped() }

// startChild starts p with our own stdin, stdout and stderr. It gets the terminal front,
// if that is not nil.
func startChild(p invocation, environ []string, front *terminal) (*child, error) {
	sys := &syscall.SysProcAttr{Setpgid: true}
	if front != nil {
		sys.Foreground, sys.Ctty = true, front.fd()
	}
	dieTogether(sys)
	attr := &syscall.ProcAttr{Env: environ, Files: []uintptr{0, 1, 2}, Sys: sys}

	c := &child{changes: make(chan change)}
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // for good: see dieTogether
		var err error
		c.pid, err = syscall.ForkExec(p.path, p.args, attr)
		if errors.Is(err, syscall.ENOEXEC) { // no #! line: shells take it for theirs (POSIX, 2.9.1.1)
			c.pid, err = syscall.ForkExec("/bin/sh", append([]string{"sh", p.path}, p.args[1:]...), attr)
		}
		started <- err
		for err == nil {
			var ch change
			ch.status, ch.reaped, ch.err = waitFor(c.pid)
			c.changes <- ch
			if !ch.stopped() {
				return
			}
		}
	}()
	if err := <-started; err != nil {
		code := exitNotExecutable
		if errors.Is(err, fs.ErrNotExist) {
			code = exitNotFound
		}
		return nil, &unstartable{code, fmt.Sprintf("%s: %v", p.args[0], err)}
	}
	return c, nil
}

// signal goes to the whole group. That nobody is left in it is no error.
func (c *child) signal(sig syscall.Signal) { _ = syscall.Kill(-c.pid, sig) }

// endGroup ends what the command left running: it would keep the credential. First it is
// told to, then made to. How the command itself ended is returned.
func (c *child) endGroup(ch change, patience time.Duration) (syscall.WaitStatus, error) {
	if ch.err != nil {
		c.signal(syscall.SIGKILL)
		return 0, ch.err
	}
	c.signal(syscall.SIGTERM)
	c.signal(syscall.SIGCONT)
	for !ch.reaped {
		_, err := syscall.Wait4(c.pid, &ch.status, 0, nil)
		if err != nil && !errors.Is(err, syscall.EINTR) {
			return 0, fmt.Errorf("waiting for the command: %w", err)
		}
		ch.reaped = err == nil
	}
	const look = 2 * time.Millisecond
	tick := time.NewTicker(look)
	defer tick.Stop()
	for waited := time.Duration(0); c.leftGroup(); waited += look {
		if waited >= 2*patience { // dead, and not ours to collect; or not to be killed
			break
		}
		if waited >= patience {
			c.signal(syscall.SIGKILL)
		}
		<-tick.C
	}
	return ch.status, nil
}

// leftGroup reports whether anyone is left in the group, and collects who is not.
func (c *child) leftGroup() bool {
	for {
		pid, err := syscall.Wait4(-c.pid, nil, syscall.WNOHANG, nil)
		if err != nil && !errors.Is(err, syscall.EINTR) || err == nil && pid == 0 {
			return syscall.Kill(-c.pid, 0) == nil
		}
	}
}

// exitStatus is what a shell's $? would be.
func exitStatus(status syscall.WaitStatus) int {
	if status.Signaled() {
		return exitSignal + int(status.Signal())
	}
	return status.ExitStatus()
}

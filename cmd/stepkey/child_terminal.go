package main

import (
	"os"
	"os/signal"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
)

// A terminal is the controlling one. Only one process group at a time has its keyboard
// and gets its signals: the foreground. A command in a group of its own must be put
// there, and what a shell does for its jobs must be done for it.
type terminal struct {
	file  *os.File
	group int  // our own
	wants bool // the command is to be in the foreground whenever we are
	given bool // it is
}

// openTerminal returns nil where there is none.
func openTerminal() *terminal {
	f, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return nil
	}
	t := &terminal{file: f, group: syscall.Getpgrp()}
	// In a pipeline the others share our group: a pager needs the keyboard more than what
	// feeds it. If the command does need it, it will be stopped for trying (see pause).
	t.wants = isTerminal(os.Stdin) && isTerminal(os.Stdout)
	return t
}

func (t *terminal) fd() int { return int(t.file.Fd()) }

// ours: this process's group is in the foreground.
func (t *terminal) ours() bool {
	front, err := unix.IoctlGetInt(t.fd(), unix.TIOCGPGRP)
	return err == nil && front == t.group
}

// give puts the group in the foreground, if we are there and it wants that.
func (t *terminal) give(group int) {
	if t != nil && t.wants && t.ours() {
		t.given = unix.IoctlSetPointerInt(t.fd(), unix.TIOCSPGRP, group) == nil
	}
}

// takeBack puts ourselves in the foreground again.
func (t *terminal) takeBack() {
	if t != nil && t.given {
		_ = unix.IoctlSetPointerInt(t.fd(), unix.TIOCSPGRP, t.group)
		t.given = false
	}
}

// canBeContinued: somebody could continue us, if we stopped. A group whose parents are not of
// the session has nobody who would (an orphaned process group; POSIX, 3.264).
func canBeContinued() bool {
	group, session := syscall.Getpgrp(), sessionOf(0)
	parent := os.Getppid()
	for parent > 0 {
		of, err := syscall.Getpgid(parent)
		if err != nil {
			return false
		}
		if of != group {
			return sessionOf(parent) == session
		}
		parent = parentOf(parent)
	}
	return false
}

func sessionOf(pid int) int {
	session, err := unix.Getsid(pid)
	if err != nil {
		return -1
	}
	return session
}

// pause follows the command in its stop, so that the shell that started us sees its job
// stop and takes the keyboard back. It returns when we are continued, with what was
// signalled meanwhile.
func (t *terminal) pause(c *child, why syscall.Signal, signals <-chan os.Signal) (meanwhile []os.Signal) {
	if t == nil { // no job control: who stopped it may continue it
		return nil
	}
	keyboard := why == syscall.SIGTTIN || why == syscall.SIGTTOU
	t.wants = t.wants || keyboard
	t.takeBack()
	if !canBeContinued() {
		if !keyboard || t.ours() { // else it waits for what nobody can give it
			t.resume(c)
		}
		return nil
	}
	defer t.resume(c)
	if keyboard && t.ours() { // it was only kept out by us
		return nil
	}
	if !signal.Ignored(syscall.SIGTSTP) {
		// The rest of our job first: a pipeline's other ends, a script around us.
		_ = syscall.Kill(0, syscall.SIGTSTP)
		var told os.Signal
		meanwhile, told = await(signals, syscall.SIGTSTP, syscall.SIGCONT)
		if told == syscall.SIGCONT || keyboard && t.ours() { // we were brought to the front just now
			return meanwhile
		}
	}
	_ = syscall.Kill(os.Getpid(), syscall.SIGSTOP)
	more, _ := await(signals, syscall.SIGCONT)
	return append(meanwhile, more...)
}

// await reads signals up to one of those that end it, and returns the others.
func await(signals <-chan os.Signal, ending ...os.Signal) (others []os.Signal, last os.Signal) {
	for last = range signals {
		if slices.Contains(ending, last) {
			break
		}
		others = append(others, last)
	}
	return others, last
}

// resume continues the command, in the foreground if we are.
func (t *terminal) resume(c *child) {
	t.give(c.pid)
	c.signal(syscall.SIGCONT)
}

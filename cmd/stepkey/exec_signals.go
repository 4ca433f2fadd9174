package main

import (
	"context"
	"os"
	"os/signal"
	"slices"
	"sync/atomic"
	"syscall"
	"time"
)

// stopSignals tell a command to end.
var stopSignals = []os.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT}

// signals are those that this process gets in its command's place.
type signals struct {
	all        chan os.Signal
	told       atomic.Int32 // the first that told us to stop
	stops      int          // how many of those the command was passed
	atKeyboard bool         // the command had the keyboard to itself
}

// listen catches signals. The context ends with the first that tells us to stop. Signals
// that whoever started us had ignored (nohup, a shell's background) stay ignored, and the
// command inherits that.
func listen(ctx context.Context) (context.Context, *signals) {
	s := &signals{all: make(chan os.Signal, 64)}
	ctx, cancel := context.WithCancel(ctx)
	caught := make(chan os.Signal, 64)
	for _, sig := range append(slices.Clone(stopSignals), syscall.SIGUSR1, syscall.SIGUSR2) {
		if !signal.Ignored(sig) {
			signal.Notify(caught, sig)
		}
	}
	// A reader of our stderr that is gone must not end us before the credential is.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	go func() {
		for sig := range caught {
			if number, ok := sig.(syscall.Signal); ok && slices.Contains(stopSignals, sig) {
				s.told.CompareAndSwap(0, int32(number)) //nolint:gosec // signals are small
				cancel()
			}
			select {
			case s.all <- sig:
			default: // nobody passes signals on any more
			}
		}
	}()
	return ctx, s
}

// first is the signal that told us to stop. Zero: none did.
func (s *signals) first() syscall.Signal { return syscall.Signal(s.told.Load()) }

// jobControl adds the signals that mean something only once there is a command.
func (s *signals) jobControl() {
	signal.Notify(s.all, syscall.SIGCONT, syscall.SIGWINCH)
	if !signal.Ignored(syscall.SIGTSTP) {
		signal.Notify(s.all, syscall.SIGTSTP)
	}
}

// started: there is a command, which would have inherited what is ignored.
func (s *signals) started() {
	signal.Ignore(syscall.SIGTTOU) // we take the foreground back from the background
}

func (s *signals) forward(sig os.Signal, c *child, tty *terminal) {
	if sig == syscall.SIGCONT {
		tty.give(c.pid)
	}
	if number, ok := sig.(syscall.Signal); ok {
		c.signal(number)
	}
	if !slices.Contains(stopSignals, sig) {
		return
	}
	s.stops++
	c.signal(syscall.SIGCONT) // a stopped one would hear of it only when somebody continues it
}

// passOn ends us like a command that Ctrl-C ended while it had the keyboard to itself. A
// script around us would otherwise go on: its shell was sent nothing, and asks whether
// what it ran died of that signal.
func (s *signals) passOn(status syscall.WaitStatus) {
	if !s.atKeyboard || !status.Signaled() || status.Signal() != syscall.SIGINT || signal.Ignored(syscall.SIGINT) {
		return
	}
	signal.Reset(syscall.SIGINT)
	_ = syscall.Kill(0, syscall.SIGINT)
	<-time.NewTimer(time.Second).C // it is on its way
}

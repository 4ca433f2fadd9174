package runnersim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"
)

// The grace that GitHub's runner gives a step that is to stop: SIGINT, then SIGTERM,
// then the end.
const (
	graceInterrupt = 7500 * time.Millisecond
	graceTerminate = 2500 * time.Millisecond
)

// drain bounds how long the output of a program that has ended is waited for, when a
// child that it left behind holds the pipe open.
const drain = 2 * time.Second

// invocation is one program to run for one half of a step.
type invocation struct {
	path    string
	args    []string // with argv[0]
	dir     string
	env     map[string]string
	inherit bool   // env comes on top of this process's own (the docker CLI needs it)
	kill    func() // ends what killing the program does not end; may be nil
}

// ending is how an invocation ended.
type ending struct {
	exit       int
	conclusion Conclusion
}

// invoke runs a program to its end, whichever comes first: its own, the step's
// timeout, the job's cancellation (unless the step's condition holds even then), or
// the runner's death.
func (j *jobRun) invoke(ctx context.Context, h half, inv invocation, out io.Writer) (ending, error) {
	cmd := &exec.Cmd{Path: inv.path, Args: inv.args, Dir: inv.dir, Stdout: out, Stderr: out, WaitDelay: drain}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a Ctrl-C of the person watching is not the job's
	if inv.inherit {
		cmd.Env = cmd.Environ()
	}
	cmd.Env = append(cmd.Env, environ(inv.env)...)
	if err := cmd.Start(); err != nil {
		return ending{}, fmt.Errorf("starting %s: %w", inv.args[0], err)
	}
	j.groups = append(j.groups, cmd.Process.Pid)
	stop := stopping{job: j, half: h, pid: cmd.Process.Pid, kill: inv.kill, cancel: j.job.Cancel, expiry: j.expiry}
	if h.timeout > 0 {
		stop.timeout = j.options.After(h.timeout)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	err := stop.wait(ctx, ended)
	if stop.died {
		return ending{exit: -1, conclusion: Lost}, errDied
	}
	return stop.conclude(err, cmd.ProcessState.ExitCode())
}

func environ(env map[string]string) []string {
	var list []string
	for name, v := range env {
		list = append(list, name+"="+v)
	}
	slices.Sort(list)
	return list
}

// stopping watches one program for all that may end it early.
type stopping struct {
	job  *jobRun
	half half
	pid  int
	kill func()

	cancel                 <-chan struct{}
	expiry, timeout, grace <-chan time.Time
	sent                   int // signals so far
	cancelled, late, died  bool
}

func (s *stopping) wait(ctx context.Context, ended <-chan error) error {
	for {
		select {
		case err := <-ended:
			return err
		case <-s.cancel:
			s.cancel = nil
			s.onCancel()
		case <-s.expiry:
			s.expiry, s.job.expired = nil, true
			s.onCancel()
		case <-s.timeout:
			s.timeout, s.late = nil, true
			s.escalate()
		case <-s.grace:
			s.escalate()
		case <-s.job.job.Die:
			return s.die(ended)
		case <-ctx.Done():
			return s.die(ended)
		}
	}
}

// onCancel leaves a half alone whose condition holds for a cancelled job too:
// always() means always.
func (s *stopping) onCancel() {
	goOn, err := s.job.contexts().holds(s.half.condition, status{failed: s.job.failed, cancelled: true})
	if s.sent == 0 && (err != nil || !goOn) {
		s.cancelled = true
		s.escalate()
	}
}

func (s *stopping) escalate() {
	s.sent++
	switch s.sent {
	case 1:
		_ = syscall.Kill(s.pid, syscall.SIGINT) // it may have ended meanwhile
		s.grace = s.job.options.After(graceInterrupt)
	case 2:
		_ = syscall.Kill(s.pid, syscall.SIGTERM)
		s.grace = s.job.options.After(graceTerminate)
	default:
		s.grace = nil
		s.destroy()
	}
}

func (s *stopping) destroy() {
	_ = syscall.Kill(-s.pid, syscall.SIGKILL)
	if s.kill != nil {
		s.kill()
	}
}

func (s *stopping) die(ended <-chan error) error {
	s.died = true
	s.destroy()
	return <-ended
}

// conclude turns a program's end into a step's. A step that was told to stop counts as
// cancelled whatever its exit code; one that was too slow has failed.
func (s *stopping) conclude(err error, exit int) (ending, error) {
	var status *exec.ExitError
	switch {
	case s.late:
		s.job.log.printf("##[error]The action '%s' has timed out after %s.", s.half.name, s.half.timeout)
		return ending{exit, Failure}, nil
	case s.cancelled:
		s.job.log.printf("##[error]The operation was canceled.")
		return ending{exit, Cancelled}, nil
	case err == nil, errors.Is(err, exec.ErrWaitDelay):
		return ending{0, Success}, nil
	case errors.As(err, &status):
		s.job.log.printf("##[error]Process completed with exit code %d.", exit)
		return ending{exit, Failure}, nil
	default:
		return ending{}, fmt.Errorf("running %s: %w", strings.ToLower(s.half.name), err)
	}
}

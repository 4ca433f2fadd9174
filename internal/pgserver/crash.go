package pgserver

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// Kill ends the server as a power cut would, as far as a process can: SIGKILL to all of
// it at one moment, with no checkpoint and no farewell to its clients. What the kernel
// has in its caches stays. It returns when nothing of it runs any more, so that Restart
// finds the data directory free. Not to be called beside another method.
func (s *Server) Kill() error {
	if s.process == nil {
		return nil
	}
	all, err := s.everyProcess()
	if err != nil {
		return err
	}
	for _, pid := range all {
		err = errors.Join(err, ignoreGone(syscall.Kill(pid, syscall.SIGKILL)))
	}
	err = errors.Join(err, s.process.fault())
	s.process = nil
	return errors.Join(err, until(context.Background(), "the end of PostgreSQL", func(context.Context) error { return allGone(all) }))
}

// Freeze stops the server where it is. Its connections stay open and new ones are
// taken by the kernel, and nothing is ever answered: to its clients it is a machine that
// has fallen off the network. Kill ends it then, too.
func (s *Server) Freeze() error {
	_, err := s.everyProcess()
	return err
}

// Restart starts a server that was killed on what it has left on the disk, under the
// same name, and returns when it takes connections.
func (s *Server) Restart(ctx context.Context) error { return s.launch(ctx) }

// everyProcess lists the server's processes, the first of them first, and stops them
// all. The first one must stand still while the others are looked for, and must not
// see one of them die before it does: it would start them all anew. Each is in a session
// of its own, so a signal to the group would not reach them.
func (s *Server) everyProcess() ([]int, error) {
	if s.process == nil || s.process.ended() { // its number may be another's by now
		return nil, fmt.Errorf("PostgreSQL does not run any more; it said:\n%s", s.said())
	}
	first := s.process.cmd.Process.Pid
	if err := syscall.Kill(first, syscall.SIGSTOP); err != nil {
		return nil, fmt.Errorf("stopping PostgreSQL: %w", err)
	}
	if err := until(context.Background(), "PostgreSQL to stand still", func(context.Context) error { return standsStill(first) }); err != nil {
		return nil, err
	}
	all := []int{first}
	lists, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", first))
	if err != nil || len(lists) == 0 {
		return nil, errors.Join(err, errors.New("finding PostgreSQL's processes: /proc does not list them"))
	}
	for _, list := range lists {
		text, err := os.ReadFile(list)
		if err != nil {
			return nil, fmt.Errorf("finding PostgreSQL's processes: %w", err)
		}
		for _, field := range strings.Fields(string(text)) {
			pid, err := strconv.Atoi(field)
			if err != nil {
				return nil, fmt.Errorf("finding PostgreSQL's processes: %w", err)
			}
			if err := ignoreGone(syscall.Kill(pid, syscall.SIGSTOP)); err != nil {
				return nil, fmt.Errorf("stopping PostgreSQL: %w", err)
			}
			all = append(all, pid)
		}
	}
	return all, nil
}

func ignoreGone(err error) error {
	if errors.Is(err, syscall.ESRCH) {
		return nil
	}
	return err
}

// stateOf is the letter that /proc has for what a process is doing; empty when it is gone.
func stateOf(pid int) string {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ""
	}
	_, after, _ := strings.Cut(string(text), ") ")
	state, _, _ := strings.Cut(after, " ")
	return state
}

func standsStill(pid int) error {
	if state := stateOf(pid); state != "T" {
		return fmt.Errorf("process %d is in state %q", pid, state)
	}
	return nil
}

// allGone counts what nobody has buried yet as gone: it holds nothing any more.
func allGone(all []int) error {
	for _, pid := range all {
		if state := stateOf(pid); state != "" && state != "Z" && state != "X" {
			return fmt.Errorf("process %d is in state %q", pid, state)
		}
	}
	return nil
}

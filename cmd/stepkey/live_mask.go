package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// stepLog opens the stream that the runner reads this step's log from. A masking command
// holds the value in plain: in `stepkey exec … 2>&1 | tee build.log` our own stderr would
// write it into a file. So the stream is one of the step's first process, and a pipe that
// nobody in the step reads.
//
// Each step has an output file of its own, whose path tells the processes of this step
// from the runner above them.
func stepLog(outputFile string) (io.Writer, error) {
	if outputFile == "" {
		return nil, errors.New("GITHUB_OUTPUT is not set, by which the runner's log is found")
	}
	ofStep := func(pid int) (bool, error) {
		environ, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
		return strings.Contains("\x00"+string(environ), "\x00GITHUB_OUTPUT="+outputFile+"\x00"), err
	}
	first := os.Getpid()
	for parent := parentOf(first); parent > 0; parent = parentOf(first) { // 0: the first of a container
		in, err := ofStep(parent)
		if err != nil {
			return nil, errors.New("the processes of this step cannot be told from others (is this one run as another user?)")
		}
		if !in {
			break
		}
		first = parent
	}
	for _, stream := range []int{2, 1} { // some shells redirect their own stderr while a command runs
		log, pipe, err := openPipe(fmt.Sprintf("/proc/%d/fd/%d", first, stream))
		if err != nil {
			continue
		}
		if !readInStep(pipe, ofStep) {
			return log, nil
		}
		_ = log.Close()
	}
	return nil, errors.New("what this step prints does not go straight to the runner")
}

// openPipe opens a process's stream for writing, and only a pipe: runners read from
// pipes, and anything else may keep what is written.
func openPipe(path string) (f *os.File, pipe string, err error) {
	if pipe, err = os.Readlink(path); err != nil || !strings.HasPrefix(pipe, "pipe:") {
		return nil, "", errors.New("it is no pipe")
	}
	f, err = os.OpenFile(path, os.O_WRONLY|syscall.O_NONBLOCK, 0) // not to wait for a reader that is gone
	if err != nil {
		return nil, "", errors.New("it cannot be opened")
	}
	return f, pipe, nil
}

// readInStep looks for a process of this step that reads the pipe, as tee does in
// `exec > >(tee build.log)`.
func readInStep(pipe string, ofStep func(pid int) (bool, error)) bool {
	processes, err := os.ReadDir("/proc")
	if err != nil {
		return true
	}
	for _, process := range processes {
		pid, err := strconv.Atoi(process.Name())
		if err != nil {
			continue
		}
		if in, err := ofStep(pid); err != nil || !in {
			continue
		}
		streams, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
		if err != nil {
			continue // it is gone
		}
		for _, stream := range streams {
			to, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%s", pid, stream.Name()))
			if err == nil && to == pipe && opensForReading(pid, stream.Name()) {
				return true
			}
		}
	}
	return false
}

func opensForReading(pid int, stream string) bool {
	info, err := os.ReadFile(fmt.Sprintf("/proc/%d/fdinfo/%s", pid, stream))
	if err != nil {
		return false // it is gone
	}
	for line := range strings.Lines(string(info)) {
		if octal, found := strings.CutPrefix(line, "flags:"); found {
			flags, err := strconv.ParseUint(strings.TrimSpace(octal), 8, 64)
			return err != nil || flags&syscall.O_ACCMODE != syscall.O_WRONLY
		}
	}
	return true
}

// parentOf reads the parent's process id. Zero: there is none, or it cannot be known.
func parentOf(pid int) int {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	// The second field is a name in parentheses, which may hold anything; then the state.
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	if len(fields) < 2 {
		return 0
	}
	parent, _ := strconv.Atoi(fields[1])
	return parent
}

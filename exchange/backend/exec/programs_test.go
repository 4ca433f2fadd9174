package exec_test

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	osexec "os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// act is what this test binary does where it stands in for a program of the operator's.
// The first word says how it behaves. It returns the exit status.
func act(words []string) int {
	how, rest := words[0], words[1:]
	switch how {
	case "says": // the same to every question; the status first
		status, _ := strconv.Atoi(rest[0])
		_, _ = io.Copy(io.Discard, os.Stdin)
		fmt.Fprint(os.Stdout, rest[1])
		return status
	case "answers": // by verb: verb, answer, verb, answer
		var asked struct{ Verb string }
		_ = json.NewDecoder(os.Stdin).Decode(&asked)
		for i := 0; i+1 < len(rest); i += 2 {
			if rest[i] == asked.Verb {
				fmt.Fprint(os.Stdout, rest[i+1])
			}
		}
	case "tells": // writes what it was given to a file
		input, _ := io.ReadAll(os.Stdin)
		_ = os.WriteFile(rest[0], input, 0o600)
		fmt.Fprint(os.Stdout, `{"gone": true}`)
	case "shows": // what it runs with, as the token
		fmt.Fprint(os.Stdout, surroundings())
	case "hangs", "hangs with a child", "leaves a child":
		return hang(how, rest)
	case "floods":
		_, _ = fmt.Fprint(os.Stdout, `{"values": {"token": "`)
		for range 300 {
			if _, err := fmt.Fprint(os.Stdout, strings.Repeat("x", 1<<14)); err != nil {
				break
			}
		}
		fmt.Fprint(os.Stdout, `"}}`)
	case "dies": // by a signal, after an answer that says that nothing was created
		fmt.Fprint(os.Stdout, `{"error": {"message": "no", "not_created": true}}`)
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	}
	return 0
}

// hang waits for ever, or leaves a child that does. It tells the test's ear who it is that
// waits, where there is one.
func hang(how string, rest []string) int {
	waits := os.Getpid()
	if how != "hangs" {
		child := osexec.Command("/bin/sleep", "1000")
		if err := child.Start(); err != nil {
			return 1
		}
		waits = child.Process.Pid
	}
	if len(rest) > 0 {
		_ = os.WriteFile(rest[0], []byte(strconv.Itoa(waits)+"\n"), 0o600)
	}
	if how == "leaves a child" {
		fmt.Fprint(os.Stdout, `{"values": {"token": "of-the-parent"}}`)
		return 0
	}
	<-time.NewTimer(time.Hour).C // an empty select would be seen as a deadlock
	return 1
}

// surroundings are an answer whose values say what the program runs with.
func surroundings() string {
	var core syscall.Rlimit
	_, _ = io.Copy(io.Discard, os.Stdin) // the limit is set before the first byte
	_ = syscall.Getrlimit(syscall.RLIMIT_CORE, &core)
	dir, _ := os.Getwd()
	var open []string
	files, _ := os.ReadDir("/proc/self/fd")
	for _, one := range files {
		// Go's own are of no interest: its poller, and the folder that is being read.
		if target, err := os.Readlink(filepath.Join("/proc/self/fd", one.Name())); err == nil && !strings.HasPrefix(target, "anon_inode:") {
			open = append(open, one.Name()+"="+target)
		}
	}
	text, _ := json.Marshal(map[string]any{"values": map[string]string{
		"environment": strings.Join(os.Environ(), "\n"), "directory": dir, "core": fmt.Sprint(core.Cur, " ", core.Max),
		"open": strings.Join(open, "\n"), "group": fmt.Sprint(syscall.Getpgrp() == os.Getpid()),
	}})
	return string(text)
}

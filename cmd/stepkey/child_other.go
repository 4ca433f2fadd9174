//go:build unix && !linux

package main

import (
	"errors"
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

// dieTogether: this system cannot tie one process's life to another's.
func dieTogether(*syscall.SysProcAttr) {}

// beUnreadable: dumps are forbidden by limit alone, once the command has started.
func beUnreadable() error { return nil }

// adopt: the system's init collects what is left behind.
func adopt() {}

// waitFor waits until process pid has stopped or is gone; then it is reaped.
func waitFor(pid int) (status syscall.WaitStatus, reaped bool, err error) {
	for {
		_, err := syscall.Wait4(pid, &status, unix.WUNTRACED, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
		case err != nil:
			return 0, false, fmt.Errorf("waiting for the command: %w", err)
		default:
			return status, !status.Stopped(), nil
		}
	}
}

// inMemory: no folder of this system is known to be.
func inMemory(string) bool { return false }

package main

import (
	"errors"
	"fmt"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// dieTogether has the kernel kill the command when this process is killed: without us
// there is nobody to end its credential before the deadline. The kernel means the thread
// that starts it, which is why startChild keeps that one.
func dieTogether(sys *syscall.SysProcAttr) { sys.Pdeathsig = syscall.SIGKILL }

// beUnreadable keeps this process's memory from core dumps and from other processes of
// the same user. What it starts is not affected: exec(2) sets that anew.
func beUnreadable() error {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("forbidding core dumps: %w", err)
	}
	return nil
}

// adopt makes this process the parent of whatever the command's descendants leave behind,
// so that their end can be seen even where there is no init to collect the dead.
func adopt() { _ = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) }

// childInfo is the kernel's siginfo_t as waitid(2) fills it: on machines of 64 bits what
// follows the code is aligned to 8 bytes.
type childInfo struct {
	_, _, code int32
	_          [unsafe.Sizeof(uintptr(0)) / 8]int32
	pid, _     int32
	status     int32
	_          [unsafe.Sizeof(unix.Siginfo{}) - unsafe.Sizeof(uintptr(0))/8*4 - 24]byte
}

// waitFor waits until process pid has stopped or is gone. One that is gone is still to be
// reaped: until then the number of its group belongs to nobody else. Other children, which
// were adopted, are reaped on the way.
func waitFor(pid int) (status syscall.WaitStatus, reaped bool, err error) {
	const codeStopped = 5 // CLD_STOPPED of sigaction(2)
	for {
		var info childInfo
		err := unix.Waitid(unix.P_ALL, 0, (*unix.Siginfo)(unsafe.Pointer(&info)), unix.WEXITED|unix.WSTOPPED|unix.WNOWAIT, nil) //nolint:gosec // the package does not name the members
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return 0, false, fmt.Errorf("waiting for the command: %w", err)
		case int(info.pid) != pid:
			_, _ = syscall.Wait4(int(info.pid), nil, syscall.WUNTRACED|syscall.WNOHANG, nil)
		case info.code != codeStopped:
			return 0, false, nil
		default:
			if err := unix.Waitid(unix.P_PID, pid, nil, unix.WSTOPPED|unix.WNOHANG, nil); err != nil { // not to be told again
				return 0, false, fmt.Errorf("waiting for the command: %w", err)
			}
			return syscall.WaitStatus(0x7f | info.status<<8), false, nil //nolint:gosec // as wait(2) has it
		}
	}
}

// inMemory: swap aside, these never reach a disk.
func inMemory(path string) bool {
	var at unix.Statfs_t
	return unix.Statfs(path, &at) == nil && (uint32(at.Type) == unix.TMPFS_MAGIC || uint32(at.Type) == unix.RAMFS_MAGIC) //nolint:gosec,unconvert // 32 bits, whatever the machine
}

package exec

import (
	"errors"
	"fmt"
	"os"
	osexec "os/exec"
	"strconv"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// family is a program and all that it starts and that stays in its process group.
type family struct {
	cmd  *osexec.Cmd
	mu   sync.Mutex
	over bool // the group's number may be somebody else's from now on
}

func newFamily(cmd *osexec.Cmd) *family {
	f := &family{cmd: cmd}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = f.kill
	return f
}

func (f *family) kill() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.over {
		return os.ErrProcessDone
	}
	return syscall.Kill(-f.cmd.Process.Pid, syscall.SIGKILL)
}

// confine is called before the program is given its input, which may be a secret: from
// then on it leaves no core. One that runs as another user by itself is not ours to
// limit, and such a one leaves none.
func (f *family) confine() error {
	err := unix.Prlimit(f.cmd.Process.Pid, unix.RLIMIT_CORE, &unix.Rlimit{}, nil)
	if err != nil && !errors.Is(err, unix.EPERM) {
		return fmt.Errorf("limiting it to no core: %w", err)
	}
	return nil
}

// await returns when the program is over, and then kills what it left behind. It does
// not reap: until somebody does, the group's number stays taken, so that nobody else is
// killed.
func (f *family) await() {
	for errors.Is(unix.Waitid(unix.P_PID, f.cmd.Process.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil), unix.EINTR) {
		continue
	}
	_ = f.kill()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.over = true
}

// closeOnExec keeps what the exchange itself was started with (sockets of a service
// manager, say) from every program. What Go opens never reaches one.
func closeOnExec() error {
	open, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return fmt.Errorf("listing them: %w", err)
	}
	for _, one := range open {
		if fd, err := strconv.Atoi(one.Name()); err == nil && fd > 2 {
			syscall.CloseOnExec(fd)
		}
	}
	return nil
}

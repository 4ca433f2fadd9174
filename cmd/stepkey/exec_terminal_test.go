package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/stepkey/stepkey/internal/needs"
)

// A screen is a terminal with a person before it.
type screen struct {
	t *testing.T
	*theWorld
	keys  *os.File
	cmd   *exec.Cmd
	dir   string
	ended chan error

	mu    sync.Mutex
	shown strings.Builder
	seen  int // of what was shown, what was expected already
	news  chan struct{}
}

// sitDown starts a program as the leader of a terminal's session.
func sitDown(t *testing.T, name string, args ...string) *screen {
	t.Helper()
	keys, tty := openTerminalPair(t)
	w := newWorld()
	s := &screen{t: t, theWorld: w, keys: keys, dir: t.TempDir(), ended: make(chan error, 1), news: make(chan struct{}, 1)}
	s.cmd = exec.Command(name, args...)
	s.cmd.Dir = s.dir
	s.cmd.Stdin, s.cmd.Stdout, s.cmd.Stderr = tty, tty, tty
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	s.cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + s.dir, "TERM=xterm", "PS1=ready> ", "NOW=" + storyBegins, "GORACE=atexit_sleep_ms=0",
		"STEPKEY_EXCHANGE=" + w.server.URL, "ACTIONS_ID_TOKEN_REQUEST_URL=" + w.server.URL + "/idtoken?api-version=2.0", "ACTIONS_ID_TOKEN_REQUEST_TOKEN=runtime-token",
	}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = tty.Close()
	go s.watch()
	go func() { s.ended <- s.cmd.Wait() }()
	t.Cleanup(func() {
		_ = s.cmd.Process.Kill()
		_ = keys.Close()
		w.close()
	})
	return s
}

func openTerminalPair(t *testing.T) (keys, tty *os.File) {
	t.Helper()
	keys, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		needs.Started(t, fmt.Errorf("%w: %w", needs.Missing{What: "a pseudo-terminal"}, err))
	}
	raw, err := keys.SyscallConn() // Fd would make reads wait in the kernel, and Close with them
	if err != nil {
		t.Fatal(err)
	}
	var number int
	if controlErr := raw.Control(func(fd uintptr) {
		if number, err = unix.IoctlGetInt(int(fd), unix.TIOCGPTN); err == nil {
			err = unix.IoctlSetPointerInt(int(fd), unix.TIOCSPTLCK, 0)
		}
		if err == nil {
			err = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: 200})
		}
	}); controlErr != nil {
		t.Fatal(controlErr)
	}
	if err == nil {
		tty, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	return keys, tty
}

func (s *screen) watch() {
	buffer := make([]byte, 4096)
	for {
		n, err := s.keys.Read(buffer)
		s.mu.Lock()
		s.shown.Write(buffer[:n])
		s.mu.Unlock()
		select {
		case s.news <- struct{}{}:
		default:
		}
		if err != nil {
			return
		}
	}
}

// sees waits for text that was not expected before, and returns all up to it.
func (s *screen) sees(text string) string {
	s.t.Helper()
	late := time.After(20 * time.Second)
	for {
		s.mu.Lock()
		fresh := s.shown.String()[s.seen:]
		at := strings.Index(fresh, text)
		if at >= 0 {
			s.seen += at + len(text)
		}
		s.mu.Unlock()
		if at >= 0 {
			return fresh[:at+len(text)]
		}
		select {
		case <-s.news:
		case <-late:
			s.t.Fatalf("%q did not come; after what was expected there is:\n%s\nall:\n%q", text, fresh, s.all())
		}
	}
}

func (s *screen) all() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.shown.String()
}

func (s *screen) types(keys string) {
	s.t.Helper()
	if _, err := s.keys.WriteString(keys); err != nil {
		s.t.Fatal(err)
	}
}

// leaves waits for the end of the program, and that no credential outlived it.
func (s *screen) leaves() error {
	s.t.Helper()
	select {
	case err := <-s.ended:
		s.noneLives()
		return err
	case <-time.After(20 * time.Second):
		s.t.Fatalf("it does not end; shown:\n%s", s.all())
		return nil
	}
}

func (s *screen) noneLives() {
	s.t.Helper()
	if alive := s.living.at(time.Time{}); len(alive) > 0 {
		s.t.Errorf("%q lives", alive)
	}
}

const ctrlC, ctrlZ = "\x03", "\x1a"

// inFront is what shows that a command was brought to the front again.
const inFront = "\x1b]2;publish-release 5:00 left\x1b\\"

func TestOnATerminalThereIsALiveLine(t *testing.T) {
	s := sitDown(t, "stepkey", "exec", "--task", "publish-release", "--", "sh", "-c", `test -t 0 && test -t 1 && test -t 2 && read x && echo "got $x"; stty size`)
	s.sees("asking for publish-release ...")
	s.sees("\r\x1b[Kstepkey: publish-release: contents: write on acme/widget, 5:00 left (lease lease_01)")
	s.sees("\x1b]2;publish-release 5:00 left\x1b\\")
	s.types("a word\n")
	s.sees("got a word")
	s.sees("24 200")
	s.sees("\x1b[23;2t") // the title that was there
	s.sees("\r\x1b[Kstepkey: publish-release: revoked in 0 ms (lease lease_01)")
	if err := s.leaves(); err != nil {
		t.Error(err)
	}
}

func TestQuietMeansQuietOnATerminalToo(t *testing.T) {
	s := sitDown(t, "stepkey", "exec", "--quiet", "--task", "publish-release", "--", "echo", "done")
	if err := s.leaves(); err != nil {
		t.Error(err)
	}
	if got := s.sees("done\r\n"); got != "done\r\n" || strings.Contains(s.all(), "stepkey") {
		t.Errorf("%q", s.all())
	}
}

// The command alone has the keyboard. That it died of Ctrl-C is passed on.
func TestCtrlCReachesTheCommand(t *testing.T) {
	s := sitDown(t, "stepkey", "exec", "--task", "publish-release", "--", "sh", "-c", "echo up; exec sleep 1000")
	s.sees("up\r\n")
	s.types(ctrlC)
	s.sees("revoked in")
	died, ok := errors.AsType[*exec.ExitError](s.leaves())
	if !ok || died.Sys().(syscall.WaitStatus).Signal() != syscall.SIGINT {
		t.Errorf("%v, want a death by SIGINT", died)
	}
}

func TestACommandMayTakeNoNoticeOfCtrlC(t *testing.T) {
	s := sitDown(t, "stepkey", "exec", "--task", "publish-release", "--", "sh", "-c", `trap "caught=yes" INT; echo up; until test "$caught"; do sleep 0.01; done; echo caught; read x; echo "got $x"; exit 3`)
	s.sees("up\r\n")
	s.types(ctrlC)
	s.sees("caught\r\n")
	s.types("word\n")
	s.sees("got word")
	if failed, ok := errors.AsType[*exec.ExitError](s.leaves()); !ok || failed.ExitCode() != 3 {
		t.Errorf("%v, want exit code 3", failed)
	}
}

// A script around it ends with Ctrl-C, as it would without stepkey, unless the command
// took care of it.
func TestCtrlCEndsAScript(t *testing.T) {
	s := sitDown(t, "sh", "-c", `stepkey exec --task publish-release -- sh -c "echo up; exec sleep 1000"; echo not reached`)
	s.sees("up\r\n")
	s.types(ctrlC)
	if err := s.leaves(); err == nil || strings.Contains(s.all(), "not reached") {
		t.Errorf("%v\n%s", err, s.all())
	}
	s = sitDown(t, "sh", "-c", `stepkey exec --task publish-release -- sh -c "trap 'exit 4' INT; echo up; while :; do sleep 0.01; done"; echo "code $?"`)
	s.sees("up\r\n")
	s.types(ctrlC)
	s.sees("code 4")
	if err := s.leaves(); err != nil {
		t.Error(err)
	}
}

// inShells tells the same story in each shell with job control that there is.
func inShells(t *testing.T, story func(*screen)) {
	for _, shell := range [][]string{{"sh", "-i"}, {"bash", "--norc", "--noprofile", "--noediting", "-i"}} {
		t.Run(shell[0], func(t *testing.T) {
			needs.Programs(t, shell[0])
			s := sitDown(t, shell[0], shell[1:]...)
			s.sees("ready> ")
			story(s)
			s.types("exit\n")
			_ = s.leaves()
		})
	}
}

func TestJobControl(t *testing.T) { inShells(t, jobControl) }

func jobControl(s *screen) {
	s.types("stepkey exec --task publish-release -- sh -c 'echo u\"\"p; read x; echo \"got $x\"; exit 6'\n")
	s.sees("up\r\n")
	for range 3 {
		s.types(ctrlZ)
		s.sees("Stopped")
		s.sees("ready> ")
		s.types("echo in the she\"\"ll\n")
		s.sees("in the shell\r\n")
		s.sees("ready> ")
		s.types("fg\n")
		s.sees(inFront)
	}
	s.types("a word\n")
	s.sees("got a word")
	s.sees("revoked in")
	s.types("echo code $?\n")
	s.sees("code 6")
	s.noneLives()

	// A stopped one can be killed, and its credential dies.
	s.types("stepkey exec --task publish-release -- sh -c 'echo u\"\"p; exec sleep 1000'\n")
	s.sees("up\r\n")
	s.types(ctrlZ)
	s.sees("Stopped")
	s.types("kill %1; fg; echo code $?\n")
	s.sees("revoked in")
	s.sees("code 143")
	s.noneLives()
}

// In the background it does without the keyboard until it is brought to the front.
func TestInTheBackground(t *testing.T) { inShells(t, inTheBackground) }

func inTheBackground(s *screen) {
	s.types("stepkey exec --task publish-release -- sh -c 'echo u\"\"p; read x; echo \"got $x\"' &\n")
	s.sees("up\r\n")
	s.types("echo in the she\"\"ll\n")
	s.sees("in the shell\r\n")
	// It stops for want of the keyboard. A shell that did not see that yet would not
	// continue it.
	s.types("until jobs >jobs; grep -q Stopped jobs; do :; done; fg\n")
	s.sees(inFront)
	s.types("a word\n")
	s.sees("got a word")
	s.sees("revoked in")
	s.noneLives()

	s.types("stepkey exec --task publish-release -- sh -c 'echo u\"\"p; exec sleep 1000' &\n")
	s.sees("up\r\n")
	s.types("fg\n")
	s.sees(inFront)
	s.types(ctrlZ)
	s.sees("Stopped")
	s.types("bg; kill -INT %1; wait %1; echo code $?\n")
	s.sees("code 130")
	s.noneLives()
}

// In a pipeline the keyboard stays with the others, until the command asks for it.
func TestInAPipeline(t *testing.T) { inShells(t, inAPipeline) }

func inAPipeline(s *screen) {
	s.types("stepkey exec --task publish-release -- sh -c 'echo u\"\"p; exec sleep 1000' | cat\n")
	s.sees("up\r\n")
	s.types(ctrlC)
	s.sees("ready> ")
	s.types("stepkey exec --task publish-release -- sh -c 'echo u\"\"p; exec sleep 1000' | cat\n")
	s.sees("up\r\n")
	s.types(ctrlZ)
	s.sees("Stopped")
	s.types("fg\n")
	s.sees(inFront)
	s.types(ctrlC)
	s.sees("ready> ")
	s.types("echo ag\"\"ain\n")
	s.sees("again\r\n")
	s.types("stepkey exec --task publish-release -- sh -c 'read x </dev/tty; echo \"got $x\"' | cat\n")
	s.sees("left (lease")
	s.types("a word\n")
	s.sees("got a word") // by way of cat, so perhaps after the last line of ours
	s.types("echo d\"\"one\n")
	s.sees("done\r\n")
	s.noneLives()
}

// Where nobody could continue it, Ctrl-Z stops nothing.
func TestCtrlZWithoutAShell(t *testing.T) {
	s := sitDown(t, "stepkey", "exec", "--task", "publish-release", "--", "sh", "-c", `echo up; read x; echo "got $x"`)
	s.sees("up\r\n")
	s.types(ctrlZ)
	s.types("a word\n")
	s.sees("got a word")
	if err := s.leaves(); err != nil {
		t.Error(err)
	}
}

// A terminal that goes away takes the command with it, and the credential.
func TestTheTerminalIsClosed(t *testing.T) {
	s := sitDown(t, "stepkey", "exec", "--task", "publish-release", "--", "sh", "-c", "echo up; exec sleep 1000")
	s.sees("up\r\n")
	_ = s.keys.Close()
	_ = s.leaves()
}

// Killed outright, stepkey can give nothing back; but the command dies with it.
func TestKilledOutright(t *testing.T) {
	s := sitDown(t, "stepkey", "exec", "--task", "publish-release", "--", "sh", "-c", "echo $$ >pid; echo up; exec sleep 1000")
	s.sees("up\r\n")
	if err := s.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := <-s.ended; err == nil {
		t.Error("it was killed, and says that all is well")
	}
	text, err := os.ReadFile(filepath.Join(s.dir, "pid"))
	if err != nil {
		t.Fatal(err)
	}
	var pid int
	if _, err := fmt.Sscan(string(text), &pid); err != nil {
		t.Fatal(err)
	}
	late := time.After(10 * time.Second)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil || strings.Contains(string(stat), ") Z ") { // without an init nobody collects it
			return
		}
		select {
		case <-tick.C:
		case <-late:
			t.Fatal("the command lives on with a credential")
		}
	}
}

package exec_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/exchange/backend/exec"
	"github.com/stepkey/stepkey/internal/needs"
	"github.com/stepkey/stepkey/internal/secret"
)

// acting is a backend with one program, other, which behaves as the words say.
func acting(t testing.TB, options string, words ...string) (*exec.Backend, backend.Order) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	command, err := json.Marshal(append([]string{self, "program"}, words...))
	if err != nil {
		t.Fatal(err)
	}
	clock := newClock()
	b := open(t, clock.now, fmt.Sprintf("other: {command: %s, %s parameters: {can: {list: true, enum: [read, write], optional: true}}}", command, options))
	scope, err := b.Scope(node(t, "{program: other, parameters: {can: [read]}}"))
	if err != nil {
		t.Fatal(err)
	}
	return b, backend.Order{Lease: "lease_1", Scope: scope, At: clock.now(), Until: clock.now().Add(10 * time.Minute), For: "acme/widget"}
}

func TestAProgramRunsWithNothingOfTheExchanges(t *testing.T) {
	if runtime.GOOS != "linux" {
		needs.Started(t, needs.Missing{What: "Linux, which alone limits what a program runs with,"})
	}
	t.Setenv("EXCHANGE_SECRET", "canary-in-the-environment")
	t.Setenv("PROXY", "passed")
	// A file of the kind that a service manager hands over: not closed on exec.
	inherited, err := syscall.Open(os.DevNull, syscall.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Close(inherited) }()
	dir := t.TempDir()
	b, o := acting(t, fmt.Sprintf("directory: %q, environment: {MODE: plain}, pass_environment: [PROXY, NOT_SET],", dir), "shows")
	issued, err := b.Issue(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"environment": "MODE=plain\nPATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\nPROXY=passed",
		"directory":   dir, "core": "0 0", "group": "true",
	} {
		if got := issued.Values[name].Reveal(); got != want {
			t.Errorf("%s: the program has\n%s\nwant\n%s", name, got, want)
		}
	}
	for _, file := range strings.Split(issued.Values["open"].Reveal(), "\n") {
		number, target, _ := strings.Cut(file, "=")
		own := strings.HasPrefix(target, "/proc/") || strings.HasPrefix(target, "/sys/fs/cgroup/") // Go's runtime opens them itself
		if n, _ := strconv.Atoi(number); n > 2 && !own {
			t.Errorf("the program has the open file %s", file)
		}
	}
}

func TestAProgramThatDoesNotAnswerIsKilledWithAllItStarted(t *testing.T) {
	if runtime.GOOS != "linux" {
		needs.Started(t, needs.Missing{What: "Linux, where alone process groups are killed,"})
	}
	for how, want := range map[string]string{"hangs": "did not answer in time", "hangs with a child": "did not answer in time", "leaves a child": ""} {
		t.Run(how, func(t *testing.T) {
			child := filepath.Join(t.TempDir(), "child")
			limit := "timeout: 3s,"
			if want == "" {
				limit = "timeout: 15s,"
			}
			b, o := acting(t, limit, how, child)
			issued, err := b.Issue(t.Context(), o)
			switch {
			case want == "":
				if err != nil || issued.Values["token"].Reveal() != "of-the-parent" {
					t.Errorf("the parent's answer is lost: %v", err)
				}
			case err == nil || !strings.Contains(err.Error(), want) || !errors.Is(err, backend.ErrUnavailable):
				t.Errorf("it ended with %v", err)
			case errors.Is(err, backend.ErrNotCreated) || issued.Handle.Empty():
				t.Errorf("nobody knows what it did by then, and the error says more, or the way back is lost: %v", err)
			}
			if how != "hangs" {
				gone(t, child)
			}
		})
	}
}

// gone waits until a process is no more, or a zombie that somebody else is to reap.
func gone(t *testing.T, file string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	deadline, done := context.WithTimeout(t.Context(), 10*time.Second)
	defer done()
	for deadline.Err() == nil {
		stat, err := os.ReadFile("/proc/" + string(text) + "/stat")
		if err != nil || strings.Contains(string(stat), ") Z ") {
			return
		}
		runtime.Gosched()
	}
	t.Errorf("the child %s still runs", text)
}

func TestARequestThatIsOverStopsItsProgram(t *testing.T) {
	b, o := acting(t, "timeout: 15s,", "hangs")
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	began := time.Now()
	issued, err := b.Issue(ctx, o)
	if err == nil || errors.Is(err, backend.ErrNotCreated) || issued.Handle.Empty() {
		t.Errorf("it ended with %v", err)
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("it took %s", took)
	}
}

func TestMoreAnswerThanAnyAnswerNeedsIsNotRead(t *testing.T) {
	b, o := acting(t, "", "floods")
	issued, err := b.Issue(t.Context(), o)
	if err == nil || !strings.Contains(err.Error(), "longer than 1048576 bytes") || issued.Handle.Empty() {
		t.Errorf("it ended with %v", err)
	}
}

func TestAProgramThatIsNotThereHasDoneNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(path, []byte("#!/nowhere/sh\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	clock := newClock()
	b := open(t, clock.now, fmt.Sprintf("other: {command: [%q]}", path))
	scope, err := b.Scope(node(t, "{program: other}"))
	if err != nil {
		t.Fatal(err)
	}
	o := backend.Order{Lease: "lease_1", Scope: scope, At: clock.now(), Until: clock.now().Add(time.Minute)}
	_, err = b.Issue(t.Context(), o)
	if !errors.Is(err, backend.ErrNotCreated) || !errors.Is(err, backend.ErrUnavailable) {
		t.Errorf("issuing: %v", err)
	}
	if err := b.Revoke(t.Context(), o.Lease, secret.String{}); !errors.Is(err, backend.ErrUnavailable) || errors.Is(err, backend.ErrLost) {
		t.Errorf("revoking: %v", err)
	}
}

// While as many programs run as may, others wait for a place and not for ever; an end
// never waits for those that issue.
func TestEndsDoNotWaitForThoseWhoAsk(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "told")
	c := configured(t, fmt.Sprintf("slow: {command: [%q, program, hangs], timeout: 5s}, quick: {command: [%q, program, tells, %q]}", self, self, file))
	c.AtOnce = 1
	clock := newClock()
	b, err := c.Open(clock.now, os.LookupEnv)
	if err != nil {
		t.Fatal(err)
	}
	scope, err := b.Scope(node(t, "{program: slow}"))
	if err != nil {
		t.Fatal(err)
	}
	o := backend.Order{Lease: "lease_1", Scope: scope, At: clock.now(), Until: clock.now().Add(time.Minute)}
	holding, release := context.WithCancel(t.Context())
	ended := make(chan error, 2)
	for range 2 {
		go func() { _, err := b.Issue(holding, o); ended <- err }()
	}
	handle := secret.New(`{"program":"quick","lease":"lease_1","handle":"its own"}`)
	if err := b.Revoke(t.Context(), "lease_1", handle); err != nil {
		t.Errorf("revoking while issuing is full: %v", err)
	}
	release()
	never := 0
	for range 2 {
		if err := <-ended; errors.Is(err, backend.ErrNotCreated) {
			never++
		}
	}
	if never == 0 {
		t.Error("both ran, and only one may")
	}
	text, err := os.ReadFile(file)
	if want := `{"version":1,"verb":"revoke","lease":"lease_1","program":"quick","handle":"its own"}`; err != nil || string(text) != want {
		t.Errorf("the program was told %s, %v\nwant %s", text, err, want)
	}
}

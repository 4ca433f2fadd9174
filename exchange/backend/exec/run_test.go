package exec_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
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

// ear is a pipe with a name, on which programs say that they have come so far. How long that
// takes on a busy machine decides nothing.
type ear struct {
	path  string
	pipe  *os.File
	lines *bufio.Reader
}

func newEar(t testing.TB) *ear {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ear")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	pipe, err := os.OpenFile(path, os.O_RDWR, 0) // both ends, so that no program's end is the pipe's
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = pipe.Close() })
	return &ear{path, pipe, bufio.NewReader(pipe)}
}

// hear waits for the next line; it is empty where there will be none.
func (e *ear) hear() string {
	line, _ := e.lines.ReadString('\n')
	return strings.TrimSpace(line)
}

// nothingMore lets hear return.
func (e *ear) nothingMore() { _, _ = e.pipe.WriteString("\n") }

func TestAProgramThatIsStoppedIsKilledWithAllItStarted(t *testing.T) {
	if runtime.GOOS != "linux" {
		needs.Started(t, needs.Missing{What: "Linux, where alone process groups are killed,"})
	}
	for how, want := range map[string]string{"hangs": "context canceled", "hangs with a child": "context canceled", "leaves a child": ""} {
		t.Run(how, func(t *testing.T) {
			ear := newEar(t)
			b, o := acting(t, "timeout: 15s,", how, ear.path)
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			waits := make(chan string, 1)
			go func() {
				waits <- ear.hear()
				if want != "" {
					stop()
				}
			}()
			issued, err := b.Issue(ctx, o)
			ear.nothingMore()
			if want != "" {
				stopped(t, issued, err, want)
			} else if err != nil || issued.Values["token"].Reveal() != "of-the-parent" {
				t.Errorf("the parent's answer is lost: %v", err)
			}
			gone(t, <-waits)
		})
	}
}

// stopped: nobody knows what the program did by then, so the way back stays.
func stopped(t *testing.T, issued backend.Issued, err error, why string) {
	t.Helper()
	switch {
	case err == nil || !strings.Contains(err.Error(), "did not answer in time") || !strings.Contains(err.Error(), why) || !errors.Is(err, backend.ErrUnavailable):
		t.Errorf("it ended with %v", err)
	case errors.Is(err, backend.ErrNotCreated) || issued.Handle.Empty():
		t.Errorf("the error says more than anybody knows, or the way back is lost: %v", err)
	}
}

// gone waits until a process is no more, or a zombie that somebody else is to reap.
func gone(t *testing.T, number string) {
	t.Helper()
	if number == "" {
		t.Error("the program never came so far")
		return
	}
	deadline, done := context.WithTimeout(t.Context(), 10*time.Second)
	defer done()
	for deadline.Err() == nil {
		stat, err := os.ReadFile("/proc/" + number + "/stat")
		if err != nil || strings.Contains(string(stat), ") Z ") {
			return
		}
		runtime.Gosched()
	}
	t.Errorf("the process %s still runs", number)
}

func TestAProgramHasItsOwnTimeAndNoMore(t *testing.T) {
	for _, limit := range []string{"1s", "4s", "15s"} {
		b, o := acting(t, "timeout: "+limit+",", "hangs")
		issued, err := b.Issue(t.Context(), o)
		if errors.Is(err, backend.ErrNotCreated) && strings.Contains(err.Error(), "was not run") && limit != "15s" {
			continue // a machine so busy that it was not started in that time
		}
		stopped(t, issued, err, "deadline exceeded")
		return
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
	c := configured(t, fmt.Sprintf("slow: {command: [%q, program, hangs], timeout: 15s}, quick: {command: [%q, program, tells, %q]}", self, self, file))
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

// A program that hangs, with as many ends as may run and more that wait, is a matter of its
// own leases.
func TestAProgramThatHangsKeepsNobodyFromAnother(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ear, clock := newEar(t), newClock()
	c := configured(t, fmt.Sprintf(`hanging: {command: [%q, program, hangs, %q], timeout: 15s}, healthy: {command: [%q, program, answers, issue, '{"values":{"token":"a"}}', revoke, '{"gone":true}']}`, self, ear.path, self))
	c.AtOnce = 2
	b, err := c.Open(clock.now, os.LookupEnv)
	if err != nil {
		t.Fatal(err)
	}
	order := func(program string) backend.Order {
		scope, err := b.Scope(node(t, "{program: "+program+"}"))
		if err != nil {
			t.Fatal(err)
		}
		return backend.Order{Lease: "lease_1", Scope: scope, At: clock.now(), Until: clock.now().Add(time.Minute)}
	}
	hanging, healthy := order("hanging"), order("healthy")
	holding, release := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for range 6 {
		all.Go(func() { _, _ = b.Issue(holding, hanging) })
		all.Go(func() { _ = b.Revoke(holding, "lease_1", secret.New(`{"program":"hanging","lease":"lease_1"}`)) })
	}
	for range 4 {
		ear.hear()
	}
	bounded, done := context.WithTimeout(t.Context(), 10*time.Second) // less than the others have
	defer done()
	if _, err := b.Issue(bounded, healthy); err != nil {
		t.Errorf("issuing by the healthy program: %v", err)
	}
	if err := b.Revoke(bounded, "lease_1", secret.New(`{"program":"healthy","lease":"lease_1"}`)); err != nil {
		t.Errorf("revoking by the healthy program: %v", err)
	}
	release()
	all.Wait()
}

// What does not fit is taken back within the time of an end, though the program's places
// are all taken.
func TestTakingBackWaitsNoLongerThanAnEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, o := acting(t, "", "answers", "issue", `{"values":{"token":"a"},"gone":true}`, "revoke", `{"gone":true}`)
		exec.FillEnds(b, "other")
		began := time.Now()
		issued, err := b.Issue(t.Context(), o)
		if took := time.Since(began); took != 15*time.Second {
			t.Errorf("it took %s", took)
		}
		if err == nil || errors.Is(err, backend.ErrNotCreated) || issued.Handle.Empty() || !strings.Contains(err.Error(), "belongs to another verb") || !strings.Contains(err.Error(), "at_once") {
			t.Errorf("it ended with %v", err)
		}
	})
}

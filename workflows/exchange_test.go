package workflows_test

import (
	"archive/tar"
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience is how long an event is waited for that must come.
const patience = time.Minute

// exchange is a running one, as its operator sees it.
type exchange struct {
	url  string
	log  *lines
	tell []string // the command that runs stepkey-exchange where its store is
}

// serve runs the exchange as a process that listens on address, in a directory of its own.
func serve(t *testing.T, address string, files func(url, listen string) map[string][]byte) *exchange {
	t.Helper()
	listen := freePort(t, address)
	x := &exchange{url: "http://" + listen}
	dir := t.TempDir()
	for name, content := range files(x.url, listen) {
		write(t, filepath.Join(dir, name), content)
	}
	config := filepath.Join(dir, "stepkey.yaml")
	x.tell = []string{binary(t, "stepkey-exchange"), "audit", "--config", config}
	command(t, binary(t, "stepkey-exchange"), "keys", "create", filepath.Join(dir, "stepkey.keys"))
	run := exec.CommandContext(t.Context(), binary(t, "stepkey-exchange"), "serve", config)
	run.Env = []string{"SSL_CERT_FILE=" + filepath.Join(dir, "ca.pem")}
	x.run(t, run)
	return x
}

// serveInContainer runs the exchange's own image in a network, with its files in the
// volume that the image asks for, as an operator would.
func serveInContainer(t *testing.T, network string, files func(url, listen string) map[string][]byte) *exchange {
	t.Helper()
	image, err := exchangeImage()
	if err != nil {
		t.Fatal(err)
	}
	name := network + "-exchange"
	x := &exchange{url: "http://exchange:8700", tell: []string{"docker", "exec", name, "/stepkey-exchange", "audit"}}
	command(t, "docker", "volume", "create", "--label", "runnersim", name)
	t.Cleanup(func() { dockerAfter(t, "volume", "rm", name) })
	command(t, "docker", "run", "--rm", "--network", "none", "-v", name+":/data", image, "keys", "create", "stepkey.keys")
	command(t, "docker", "create", "--name", name, "--label", "runnersim", "--network", network, "--network-alias", "exchange",
		"-v", name+":/data", "-e", "SSL_CERT_FILE=/data/ca.pem", image)
	t.Cleanup(func() { dockerAfter(t, "rm", "--force", name) })
	copyIn := exec.CommandContext(t.Context(), "docker", "cp", "-", name+":/data")
	copyIn.Stdin = pack(t, files(x.url, "0.0.0.0:8700"))
	if out, err := copyIn.CombinedOutput(); err != nil {
		t.Fatalf("docker cp: %v\n%s", err, out)
	}
	x.run(t, exec.CommandContext(t.Context(), "docker", "start", "--attach", name))
	return x
}

// run starts it, waits until it says that it serves, and stops it when the test is over.
func (x *exchange) run(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 15 * time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	x.log = follow(stderr)
	t.Cleanup(func() { // t.Context has ended by now, which told it to stop
		x.log.wait()
		if err := cmd.Wait(); err != nil && cmd.ProcessState.ExitCode() != 0 {
			t.Errorf("the exchange ended badly: %v\n%s", err, x.log)
		}
		if t.Failed() {
			t.Logf("the exchange said:\n%s", x.log)
		}
	})
	x.said(t, `"msg":"serving"`)
}

// said waits until the exchange logs a line that holds all the words.
func (x *exchange) said(t *testing.T, words ...string) {
	t.Helper()
	if !x.log.await(time.After(patience), words) {
		t.Fatalf("the exchange did not say %q; it said:\n%s", words, x.log)
	}
}

// entry is a line of the audit log, as the operator's command prints it.
type entry struct {
	At      time.Time `json:"at"`
	Event   string    `json:"event"`
	Lease   string    `json:"lease"`
	Job     string    `json:"job"`
	Granted string    `json:"granted"`
	Reason  string    `json:"reason"`
}

func (x *exchange) audit(t *testing.T) []entry {
	t.Helper()
	var all []entry
	for in := json.NewDecoder(strings.NewReader(command(t, x.tell[0], append(slices.Clone(x.tell[1:]), "--json")...))); in.More(); {
		var e entry
		if err := in.Decode(&e); err != nil {
			t.Fatalf("the audit log: %v", err)
		}
		all = append(all, e)
	}
	return all
}

func events(log []entry) []string {
	names := []string{}
	for _, e := range log {
		names = append(names, e.Event)
	}
	return names
}

// lines is a log under way.
type lines struct {
	mu    sync.Mutex
	all   []string
	more  chan struct{} // closed with every new line
	ended chan struct{}
}

func follow(r io.Reader) *lines {
	l := &lines{more: make(chan struct{}), ended: make(chan struct{})}
	go func() {
		defer close(l.ended)
		for in := bufio.NewScanner(r); in.Scan(); {
			l.add(in.Text())
		}
	}()
	return l
}

func (l *lines) add(line string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, line)
	close(l.more)
	l.more = make(chan struct{})
}

// grows is closed by the next line, or by the log's end.
func (l *lines) grows() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.more
}

// await reports whether a line that holds all the words came, or had come, in time.
func (l *lines) await(late <-chan time.Time, words []string) bool {
	for {
		l.mu.Lock()
		found, more := l.has(words), l.more
		l.mu.Unlock()
		if found {
			return true
		}
		select {
		case <-more:
		case <-l.ended:
			l.mu.Lock()
			defer l.mu.Unlock()
			return l.has(words)
		case <-late:
			return false
		}
	}
}

// has is called with l.mu held.
func (l *lines) has(words []string) bool {
	return slices.ContainsFunc(l.all, func(line string) bool {
		return !slices.ContainsFunc(words, func(word string) bool { return !strings.Contains(line, word) })
	})
}

func (l *lines) wait() { <-l.ended }

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.all, "\n")
}

func listen(t *testing.T, address string) net.Listener {
	t.Helper()
	var config net.ListenConfig
	l, err := config.Listen(t.Context(), "tcp", address+":0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// freePort asks the system for a port of an address that nothing listens on.
func freePort(t *testing.T, address string) string {
	t.Helper()
	l := listen(t, address)
	defer l.Close()
	return l.Addr().String()
}

func write(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// nobody is the user that the exchange's image runs as.
const nobody = 65532

// pack makes an archive of files that nobody but the image's user may read.
func pack(t *testing.T, files map[string][]byte) io.Reader {
	t.Helper()
	var archive bytes.Buffer
	out := tar.NewWriter(&archive)
	for name, content := range files {
		if dir := filepath.Dir(name); dir != "." {
			header := &tar.Header{Name: dir + "/", Typeflag: tar.TypeDir, Mode: 0o700, Uid: nobody, Gid: nobody}
			if err := out.WriteHeader(header); err != nil {
				t.Fatal(err)
			}
		}
		header := &tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o600, Uid: nobody, Gid: nobody, Size: int64(len(content))}
		if err := out.WriteHeader(header); err != nil {
			t.Fatal(err)
		}
		if _, err := out.Write(content); err != nil {
			t.Fatal(err)
		}
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
	return &archive
}

// dockerAfter cleans up when the test's context has ended.
func dockerAfter(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command("docker", args...).CombinedOutput(); err != nil {
		t.Errorf("docker %v: %v\n%s", args, err, out)
	}
}

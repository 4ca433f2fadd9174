package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stepkey/stepkey/exchange"
	"github.com/stepkey/stepkey/exchange/audit"
	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/exchange/client"
	"github.com/stepkey/stepkey/exchange/lease"
	"github.com/stepkey/stepkey/internal/secret"
)

// crashing is the command that the test binary has for itself: serve, as it is, with
// a fuse between the exchange and its store.
const crashing = "crashing-exchange"

// hastened is a clock that several processes share and that runs faster than theirs:
// what a dead process leaves behind is taken up within a second, not within half a
// minute.
type hastened struct {
	Since time.Time
	Times time.Duration // how much faster
}

const haste = 20

func (c hastened) now() time.Time { return c.Since.Add(c.Times * time.Since(c.Since)) }

// fuse says where a process ends itself, and which answers of its store it never sees.
// A place is "before" or "after" and the name of a method of exchange.Leases.
type fuse struct {
	Clock hastened
	Dies  string   // a place; empty: nowhere
	Nth   int      // when it gets there for the nth time
	Lost  []string // places: before it, the store is out of reach; after it, the commit's answer is
	// Fells is where the store is felled, by the test; the process stands still until it
	// has been, except "during" a method, which runs on as the store falls.
	Fells string
	// Made is a file that gets every credential as soon as there is one, so that the test
	// also knows those that nobody was given; empty: none.
	Made string

	mu   sync.Mutex
	gone map[string]int
	fell func() // the test's part of that
}

// farewell is the last that a process says which its fuse ends.
const farewell = "the fuse is burnt"

// felling is what a process says where its store is to fall.
const felling = "fell the store"

var errLost = errors.New("the store does not answer")

func (f *fuse) at(place string) error {
	f.mu.Lock()
	f.gone[place]++
	now, falls := place == f.Dies && f.gone[place] == f.Nth, place == f.Fells && f.gone[place] == f.Nth
	f.mu.Unlock()
	if falls {
		fmt.Fprintln(os.Stderr, felling)
		if !strings.HasPrefix(place, "during") {
			_, _ = os.Stdin.Read(make([]byte, 1))
		}
	}
	if now {
		fmt.Fprintln(os.Stderr, farewell)
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {} // what comes after must not begin, however late the signal is
	}
	if slices.Contains(f.Lost, place) {
		return errLost
	}
	return nil
}

// credential is one that was made, whoever has it.
type credential struct {
	Lease  backend.LeaseID
	Values map[string]string
}

func (f *fuse) made(id backend.LeaseID, made backend.Issued) error {
	if f.Made == "" {
		return nil
	}
	one := credential{id, map[string]string{}}
	for name, value := range made.Values {
		one.Values[name] = value.Reveal()
	}
	text, err := json.Marshal(one)
	if err != nil {
		return err
	}
	file, err := os.OpenFile(f.Made, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(append(text, '\n'))
	return errors.Join(err, file.Close())
}

func around[T any](f *fuse, method string, do func() (T, error)) (T, error) {
	var none T
	if err := f.at("before " + method); err != nil {
		return none, err
	}
	if err := f.at("during " + method); err != nil {
		return none, err
	}
	v, err := do()
	if err != nil {
		return v, err
	}
	if err := f.at("after " + method); err != nil {
		return none, err
	}
	return v, nil
}

// fusedLeases are the exchange's leases with the fuse around every method that writes.
type fusedLeases struct {
	exchange.Leases
	fuse *fuse
}

func (l fusedLeases) Begin(ctx context.Context, ask lease.Ask, terms func(backend.Order) backend.Terms) (lease.Intent, error) {
	return around(l.fuse, "Begin", func() (lease.Intent, error) { return l.Leases.Begin(ctx, ask, terms) })
}

func (l fusedLeases) Activate(ctx context.Context, i lease.Intent, made backend.Issued) (active lease.Lease, token secret.String, err error) {
	if err := l.fuse.made(i.Lease().ID, made); err != nil {
		return active, token, err
	}
	active, err = around(l.fuse, "Activate", func() (lease.Lease, error) {
		var now lease.Lease
		now, token, err = l.Leases.Activate(ctx, i, made)
		return now, err
	})
	return active, token, err
}

func (l fusedLeases) Fail(ctx context.Context, i lease.Intent, reason string) error {
	_, err := around(l.fuse, "Fail", func() (struct{}, error) { return struct{}{}, l.Leases.Fail(ctx, i, reason) })
	return err
}

func (l fusedLeases) Keep(ctx context.Context, i lease.Intent, handle secret.String, reason string) error {
	_, err := around(l.fuse, "Keep", func() (struct{}, error) { return struct{}{}, l.Leases.Keep(ctx, i, handle, reason) })
	return err
}

func (l fusedLeases) StartEnding(ctx context.Context, id backend.LeaseID, why string) (lease.Held, error) {
	return around(l.fuse, "StartEnding", func() (lease.Held, error) { return l.Leases.StartEnding(ctx, id, why) })
}

func (l fusedLeases) Conclude(ctx context.Context, held lease.Held, v lease.Verdict) (lease.Lease, error) {
	return around(l.fuse, "Conclude", func() (lease.Lease, error) { return l.Leases.Conclude(ctx, held, v) })
}

func (l fusedLeases) Write(ctx context.Context, e audit.Entry) (audit.Entry, error) {
	return around(l.fuse, "Write", func() (audit.Entry, error) { return l.Leases.Write(ctx, e) })
}

// crash is what the process runs: crashing-exchange CONFIG FUSE.
func crash() {
	if err := serveWithFuse(context.Background(), os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// serveWithFuse is serveCommand.Run with another clock, and the fuse put in.
func serveWithFuse(ctx context.Context, file, text string) error {
	f := &fuse{gone: map[string]int{}}
	if err := json.Unmarshal([]byte(text), f); err != nil {
		return err
	}
	log := slog.New(slog.NewJSONHandler(os.Stderr, nil))
	c, err := readConfig(file)
	if err != nil {
		return err
	}
	c.now = f.Clock.now
	s, err := open(ctx, c, log)
	if err != nil {
		return err
	}
	s.server.Exchange.Leases = fusedLeases{s.server.Exchange.Leases, f}
	end := s.keeper.End
	s.keeper.End = func(ctx context.Context, l lease.Lease, why string) error {
		if err := f.at("after Claim"); err != nil {
			return err
		}
		return end(ctx, l, why)
	}
	public, err := listen(ctx, c.Listen)
	if err != nil {
		return err
	}
	admin, err := listen(ctx, c.Admin)
	if err != nil {
		return err
	}
	log.InfoContext(ctx, "serving", "listen", public.Addr().String())
	return s.run(ctx, public, admin)
}

// process is one life of the exchange, as the test sees it from outside.
type process struct {
	command *exec.Cmd
	address string
	client  *client.Client
	moved   chan struct{} // something was logged since one last looked
	ended   chan struct{} // first: it has ended a lease, or tried
	failed  chan struct{} // first: it has logged an error
	gone    chan struct{}

	fell   func()    // fells the store, when the process asks for that
	felled io.Writer // says that it has fallen

	mu  sync.Mutex
	log bytes.Buffer
}

var listens = regexp.MustCompile(`"msg":"serving".*"listen":"([^"]+)"`)

func startCrashing(t *testing.T, dir string, f *fuse) *process {
	t.Helper()
	text, err := json.Marshal(f)
	if err != nil {
		t.Fatal(err)
	}
	p := &process{
		command: exec.CommandContext(t.Context(), crashing, "stepkey.yaml", string(text)),
		moved:   make(chan struct{}, 1), ended: make(chan struct{}), failed: make(chan struct{}), gone: make(chan struct{}),
	}
	p.command.Dir = dir
	log, err := p.command.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if p.felled, err = p.command.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := p.command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.kill)
	serving := make(chan string, 1)
	p.fell = f.fell
	go p.read(bufio.NewScanner(log), serving)
	select {
	case p.address = <-serving:
		if p.client, err = client.New(audience, client.Options{HTTP: at(p.address), AllowHTTP: true, Now: f.Clock.now}); err != nil {
			t.Fatal(err)
		}
	case <-p.gone:
		t.Fatalf("the exchange did not serve:\n%s", p.said())
	case <-time.After(patience):
		t.Fatalf("the exchange does not serve after %s:\n%s", patience, p.said())
	}
	return p
}

// at calls a life of the exchange by the name that all of them have.
func at(address string) *http.Client {
	var dialer net.Dialer
	return &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return dialer.DialContext(ctx, network, address)
	}}}
}

func (p *process) read(lines *bufio.Scanner, serving chan<- string) {
	for lines.Scan() {
		p.mu.Lock()
		p.log.Write(append(lines.Bytes(), '\n'))
		p.mu.Unlock()
		if at := listens.FindSubmatch(lines.Bytes()); at != nil {
			serving <- string(at[1])
		}
		if bytes.Contains(lines.Bytes(), []byte(`"attempts":`)) {
			closeOnce(&p.mu, p.ended)
		}
		if bytes.Contains(lines.Bytes(), []byte(`"level":"ERROR"`)) {
			closeOnce(&p.mu, p.failed)
		}
		if lines.Text() == felling {
			p.fell()
			_, _ = io.WriteString(p.felled, ".") // it may be gone
		}
		select {
		case p.moved <- struct{}{}:
		default:
		}
	}
	_ = p.command.Wait()
	close(p.gone)
}

// kill returns when the process is gone; it may be gone before.
func (p *process) kill() {
	_ = p.command.Process.Kill()
	<-p.gone
}

func (p *process) over() bool {
	select {
	case <-p.gone:
		return true
	default:
		return false
	}
}

func (p *process) said() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.String()
}

func closeOnce(mu *sync.Mutex, c chan struct{}) {
	mu.Lock()
	defer mu.Unlock()
	select {
	case <-c:
	default:
		close(c)
	}
}

package main

import (
	"context"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stepkey/stepkey/exchange/client"
	"github.com/stepkey/stepkey/exchange/lease"
)

// The phases of a run, as far as messages go.
const (
	onIssue  = "issue"
	onRevoke = "revoke"
	later    = "a later life"
)

// What becomes of a message that the exchange sends to an outside system. The process, or
// the program that sent it for the process, is killed by it.
const (
	arrives       = "arrives"
	done          = "is done"
	lands         = "lands after the restart"
	landsLast     = "lands after a try to end it failed"
	programBefore = "arrives, its program dies alone"
	programAfter  = "is done, its program dies alone"
	through       = ""
	cut           = "cut"
)

// strike is the nth message of a phase that says this, and what becomes of it. A server that
// takes its time is asked more often by some runs than by others, so that a message's place
// among all of them says little.
type strike struct {
	phase string
	says  string // empty: anything
	nth   int
	fate  string
}

// meets reports whether the last of a phase's messages is the one.
func (s strike) meets(phase string, names []string) bool {
	if s.phase != phase || s.says != "" && s.says != names[len(names)-1] {
		return false
	}
	n := len(names)
	if s.says != "" {
		n = occurrences(names, s.says)
	}
	return n == s.nth
}

func occurrences(names []string, name string) int {
	n := 0
	for _, one := range names {
		if one == name {
			n++
		}
	}
	return n
}

// passage is what stands between the exchange and an outside system, in one run.
type passage struct {
	watch func(*client.Grant) // as soon as it was given

	mu      sync.Mutex
	strikes []strike // the first of them is waited for
	hit     bool     // one of them was met
	most    int      // messages that the first life may send; 0: all
	phase   string
	by      time.Time           // an issue that takes longer is cut off
	names   map[string][]string // of the messages, by phase
	first   map[string][]string // those of the first life
	life    *process
	lived   int
	late    sync.WaitGroup // messages that are held back
	restart *gate
	tried   *gate
	clock   hastened
}

func (p *passage) lives(now *process) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.life = now
	if p.lived++; p.lived > 1 {
		if p.lived == 2 {
			p.first = p.names
		}
		p.phase, p.names = later, map[string][]string{}
	}
}

// begins a phase. A backend gets IssueFor for an issue, in real time: here, where the
// clock is hastened, it is the passage that keeps to it.
func (p *passage) begins(phase string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.lived > 1 {
		return
	}
	p.phase, p.by = phase, p.clock.now().Add(lease.IssueFor)
	if p.names == nil {
		p.names = map[string][]string{}
	}
}

func (p *passage) counted() map[string][]string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.names
}

// unsent: the first life sent such a message, and not as often as when it was counted. A
// server that is asked until something is over is asked as often as that takes.
func (p *passage) unsent(s strike) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := occurrences(p.first[s.phase], s.says)
	return 0 < n && n < s.nth
}

func (p *passage) struck() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.hit
}

// meet says what becomes of a message.
func (p *passage) meet(name string) (fate string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.names == nil {
		return through
	}
	p.names[p.phase] = append(p.names[p.phase], name)
	if len(p.strikes) > 0 && p.strikes[0].meets(p.phase, p.names[p.phase]) {
		fate = p.strikes[0].fate
		p.strikes = p.strikes[1:]
		p.hit = true
		if fate == lands || fate == landsLast {
			p.late.Add(1)
		}
		return fate
	}
	switch {
	case p.phase == onIssue && p.clock.now().After(p.by):
		return cut
	case p.lived == 1 && p.most > 0 && len(p.names[onIssue])+len(p.names[onRevoke]) > p.most:
		return cut
	}
	return through
}

// kill ends the life that sent the message.
func (p *passage) kill() {
	p.mu.Lock()
	life := p.life
	p.mu.Unlock()
	life.kill()
}

// holdBack returns when a message is to land. One of an issue lands before its time is
// over, also where the restart takes longer: that is what backends reckon with. Only one
// that ends wait for has no time.
func (p *passage) holdBack(fate, phase string) {
	if fate == landsLast {
		<-p.tried.c
		return
	}
	p.mu.Lock()
	left := p.by.Sub(p.clock.now()) / p.clock.Times
	p.mu.Unlock()
	if phase != onIssue {
		left = patience
	}
	latest := time.NewTimer(left)
	defer latest.Stop()
	select {
	case <-p.restart.c:
	case <-latest.C:
	}
}

func (p *passage) allLanded() <-chan struct{} {
	all := make(chan struct{})
	go func() {
		p.late.Wait()
		close(all)
	}()
	return all
}

// release lets go what is held back, so that a run that failed can be left.
func (p *passage) release() {
	p.restart.open()
	p.tried.open()
}

// cable is a passage for a protocol in which each side waits for the other: what comes in
// one piece is one message.
type cable struct {
	*passage
	to   string
	name func([]byte) string
}

// lay opens a cable to an address, and returns its port.
func lay(t *testing.T, w *cable) int {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = l.Close()
		w.release()
	})
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go w.join(c)
		}
	}()
	return l.Addr().(*net.TCPAddr).Port
}

func (w *cable) join(from net.Conn) {
	defer from.Close()
	to, err := (&net.Dialer{}).DialContext(context.Background(), "tcp", w.to)
	if err != nil {
		return
	}
	defer to.Close()
	back := &replies{cable: w, to: from, came: make(chan struct{}, 1)}
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		defer from.Close() // nobody replies any more
		back.pass(to)
	}()
	for buffer := make([]byte, 64<<10); ; {
		n, err := from.Read(buffer)
		if err != nil {
			return
		}
		fate := w.meet(w.name(buffer[:n]))
		switch fate {
		case cut:
			return
		case arrives:
			w.kill()
			return
		case done:
			back.stop()
		case lands, landsLast:
			w.land(to, buffer[:n], late{fate, back, gone})
			return
		}
		if _, err := to.Write(buffer[:n]); err != nil {
			return
		}
	}
}

// late is a message that is held back.
type late struct {
	fate string
	back *replies
	gone <-chan struct{}
}

func (w *cable) land(to net.Conn, message []byte, l late) {
	defer w.late.Done()
	phase := w.phaseNow()
	w.kill()
	select {
	case <-l.back.came: // of the message before
	default:
	}
	w.holdBack(l.fate, phase)
	if _, err := to.Write(message); err != nil {
		return
	}
	select {
	case <-l.back.came:
	case <-l.gone:
	}
}

func (p *passage) phaseNow() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.phase
}

// replies go back to the exchange, until one is to be the last it does not see.
type replies struct {
	*cable
	to      net.Conn
	came    chan struct{}
	mu      sync.Mutex
	stopped bool
}

func (a *replies) stop() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.stopped = true
}

func (a *replies) pass(from net.Conn) {
	for buffer := make([]byte, 64<<10); ; {
		n, err := from.Read(buffer)
		a.mu.Lock()
		stopped := a.stopped
		a.mu.Unlock()
		if stopped {
			a.kill()
			return
		}
		if err != nil {
			return
		}
		select {
		case a.came <- struct{}{}:
		default:
		}
		_, _ = a.to.Write(buffer[:n]) // it may be gone, and what was sent before goes on
	}
}

// web is a passage for HTTP.
type web struct {
	*passage
	to     http.Handler
	secure bool
}

func serveWeb(t *testing.T, w *web) *httptest.Server {
	t.Helper()
	s := httptest.NewUnstartedServer(w)
	if w.secure {
		s.StartTLS()
	} else {
		s.Start()
	}
	t.Cleanup(func() {
		w.release()
		s.Close()
	})
	return s
}

// forward is a real server behind a web. What was signed for the one is not changed.
func forward(r *crashRun, to string, through http.RoundTripper) *httputil.ReverseProxy {
	at, err := url.Parse(to)
	if err != nil {
		r.t.Fatal(err)
	}
	quiet := log.New(io.Discard, "", 0) // that clients are killed is what this is for
	return &httputil.ReverseProxy{Transport: through, ErrorLog: quiet, Rewrite: func(q *httputil.ProxyRequest) {
		q.SetURL(at)
		q.Out.Host = q.In.Host
	}}
}

// ownNames are other ones in each run.
var ownNames = regexp.MustCompile(`(?i)lease[_-][0-9a-z]{26}|acme\d+`)

// called is what a request is, in few words.
func called(r *http.Request) string {
	parts := strings.Split(ownNames.ReplaceAllString(r.URL.Path, "X"), "/")
	return r.Method + " " + strings.Join(parts[max(0, len(parts)-3):], "/")
}

func (w *web) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	ask := func() *httptest.ResponseRecorder {
		again := r.Clone(context.WithoutCancel(r.Context()))
		again.Body = io.NopCloser(strings.NewReader(string(body)))
		answer := httptest.NewRecorder()
		w.to.ServeHTTP(answer, again)
		return answer
	}
	fate := w.meet(called(r))
	phase := w.phaseNow()
	if fate == through {
		answer := ask()
		for name, values := range answer.Header() {
			rw.Header()[name] = values
		}
		rw.WriteHeader(answer.Code)
		_, _ = rw.Write(answer.Body.Bytes())
		return
	}
	if fate == done || fate == programAfter {
		ask()
	}
	w.strikeDown(fate, r)
	if fate == lands || fate == landsLast {
		w.holdBack(fate, phase)
		ask()
		w.late.Done()
	}
	panic(http.ErrAbortHandler)
}

// strikeDown kills the exchange, or the program that asks for it.
func (w *web) strikeDown(fate string, r *http.Request) {
	switch fate {
	case cut:
	case programBefore, programAfter:
		if pid, err := strconv.Atoi(r.Header.Get("Program")); err == nil && pid > 1 {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	default:
		w.kill()
	}
}

package backendtest

import (
	"bytes"
	"context"
	"io"
	"net"
	"sync"
	"testing"
)

// Cable is between a backend and its server, for a protocol in which each waits for the
// other. It can be down, and it can lose a message or the answer to it. Safe for
// concurrent use.
type Cable struct {
	to       string
	listener net.Listener
	mu       sync.Mutex
	down     bool
	lose     []byte // of which message; nil: of none
	early    bool   // the message itself is lost, too
	open     map[net.Conn]bool
}

// Lay opens a cable to an address, for as long as the test runs.
func Lay(t testing.TB, to string) *Cable {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n := &Cable{to: to, listener: l, open: map[net.Conn]bool{}}
	t.Cleanup(func() {
		_ = l.Close()
		n.SetDown(true)
	})
	go n.accept()
	return n
}

// Port is where the cable is on this machine.
func (n *Cable) Port() int {
	if at, ok := n.listener.Addr().(*net.TCPAddr); ok {
		return at.Port
	}
	return 0
}

// SetDown cuts all connections and takes none, or takes them again.
func (n *Cable) SetDown(to bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.down = to
	if to {
		for c := range n.open {
			_ = c.Close()
		}
	}
}

// LoseReply loses the answer to the next message that holds such words.
func (n *Cable) LoseReply(words string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.lose, n.early = []byte(words), false
}

// Lost reports whether what was to be lost has been.
func (n *Cable) Lost() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.lose == nil
}

// CutBefore loses the connection before the server hears the next message that holds such
// words.
func (n *Cable) CutBefore(words string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.lose, n.early = []byte(words), true
}

// takes reports whether a connection may be, and remembers it.
func (n *Cable) takes(both ...net.Conn) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, c := range both {
		if n.down {
			_ = c.Close()
		} else {
			n.open[c] = true
		}
	}
	return !n.down
}

func (n *Cable) accept() {
	for {
		client, err := n.listener.Accept()
		if err != nil {
			return
		}
		if !n.takes(client) {
			continue
		}
		server, err := (&net.Dialer{}).DialContext(context.Background(), "tcp", n.to)
		if err != nil {
			_ = client.Close()
			continue
		}
		if n.takes(client, server) {
			n.join(client, server)
		}
	}
}

func (n *Cable) join(client, server net.Conn) {
	answers := make(chan bool, 1) // false: the next answer is lost
	hangUp := func() { _, _ = client.Close(), server.Close() }
	go func() {
		defer hangUp()
		pass(server, client, func(sent []byte) bool {
			lost, early := n.loses(sent)
			if lost && !early {
				answers <- false
			}
			return !early
		})
	}()
	go func() {
		defer hangUp()
		pass(client, server, func([]byte) bool {
			select {
			case <-answers:
				return false
			default:
				return true
			}
		})
	}()
}

// loses: the message holds the words, and its answer is to be lost; early, it is, too.
func (n *Cable) loses(sent []byte) (lost, early bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.lose == nil || !bytes.Contains(sent, n.lose) {
		return false, false
	}
	n.lose = nil
	return true, n.early
}

// pass hands on what comes until on says no, which is before it is handed on.
func pass(to io.Writer, from io.Reader, on func([]byte) bool) {
	buffer := make([]byte, 32<<10)
	for {
		read, err := from.Read(buffer)
		if read > 0 {
			if !on(buffer[:read]) {
				return
			}
			if _, err := to.Write(buffer[:read]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

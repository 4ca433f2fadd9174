package mysql_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"sync"
	"testing"
)

// network is between a backend and its server. It can be down, and it can lose the
// answer to the next statement of some words after the server gave it.
type network struct {
	to       string
	listener net.Listener
	mu       sync.Mutex
	down     bool
	lose     []byte // of which statement; nil: of none
	early    bool   // the statement itself is lost, too
	open     map[net.Conn]bool
}

func cable(t testing.TB, to string) *network {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n := &network{to: to, listener: l, open: map[net.Conn]bool{}}
	t.Cleanup(func() {
		_ = l.Close()
		n.setDown(true)
	})
	go n.accept()
	return n
}

func (n *network) port() int {
	if at, ok := n.listener.Addr().(*net.TCPAddr); ok {
		return at.Port
	}
	return 0
}

func (n *network) setDown(to bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.down = to
	if to {
		for c := range n.open {
			_ = c.Close()
		}
	}
}

// loseReply loses the answer to the next statement that holds such words.
func (n *network) loseReply(words string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.lose, n.early = []byte(words), false
}

// cutBefore loses the connection before the server hears the next statement that holds
// such words.
func (n *network) cutBefore(words string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.lose, n.early = []byte(words), true
}

// takes reports whether a connection may be, and remembers it.
func (n *network) takes(both ...net.Conn) bool {
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

func (n *network) accept() {
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

func (n *network) join(client, server net.Conn) {
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
func (n *network) loses(sent []byte) (lost, early bool) {
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

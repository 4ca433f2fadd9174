package ssh_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	cryptossh "golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/stepkey/stepkey/internal/needs"
	"github.com/stepkey/stepkey/internal/realserver"
	"github.com/stepkey/stepkey/internal/secret"
)

// sshd is the real server on loopback. It trusts one authority, goes by one list, and
// takes two principals for the user that runs the test.
type sshd struct {
	testing.TB
	*realserver.SSHD
	ca    cryptossh.Signer
	caKey ed25519.PrivateKey
}

func newSigner(t testing.TB) (ed25519.PrivateKey, cryptossh.Signer) {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := cryptossh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return key, signer
}

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func privatePEM(t testing.TB, key ed25519.PrivateKey) string {
	t.Helper()
	block, err := cryptossh.MarshalPrivateKey(key, "")
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(block))
}

// startSSHD starts the server. Its list must be put there before anybody can log in.
func startSSHD(t testing.TB) *sshd {
	t.Helper()
	server, err := realserver.StartSSHD(t.Context(), t.TempDir(), "127.0.0.1")
	needs.Started(t, err)
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	s := &sshd{TB: t, SSHD: server}
	s.caKey, s.ca = newSigner(t)
	write(t, s.CA, string(publicLine(s.ca)))
	write(t, s.Principals(s.User), "deploy\nbackup\n")
	return s
}

func (s *sshd) await(what string, holds func() bool) {
	s.Helper()
	ctx, done := context.WithTimeout(s.Context(), 20*time.Second)
	defer done()
	again := time.NewTicker(2 * time.Millisecond)
	defer again.Stop()
	for !holds() {
		select {
		case <-ctx.Done():
			s.Fatalf("sshd: not seen that it %s; it says:\n%s", what, s.SSHD.Log)
		case <-again.C:
		}
	}
}

// dial logs in with a credential, as the host web1.example.com that its known_hosts has.
func (s *sshd) dial(ctx context.Context, values map[string]secret.String) (*cryptossh.Client, error) {
	return s.dialFrom(ctx, net.IPv4(127, 0, 0, 1), values)
}

// dialFrom is dial from another address of this machine.
func (s *sshd) dialFrom(ctx context.Context, from net.IP, values map[string]secret.String) (*cryptossh.Client, error) {
	signer, err := certified(values)
	if err != nil {
		return nil, err
	}
	known := filepath.Join(s.TempDir(), "known_hosts")
	if err := os.WriteFile(known, []byte(values["known_hosts"].Reveal()), 0o600); err != nil {
		return nil, err
	}
	isKnown, err := knownhosts.New(known)
	if err != nil {
		return nil, err
	}
	c, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: from}}).DialContext(ctx, "tcp", s.Address)
	if err != nil {
		return nil, err
	}
	conn, channels, requests, err := cryptossh.NewClientConn(c, "web1.example.com:22", &cryptossh.ClientConfig{
		User: s.User, Auth: []cryptossh.AuthMethod{cryptossh.PublicKeys(signer)}, HostKeyCallback: isKnown,
		HostKeyAlgorithms: []string{cryptossh.KeyAlgoED25519},
	})
	if err != nil {
		c.Close()
		return nil, err
	}
	return cryptossh.NewClient(conn, channels, requests), nil
}

func certified(values map[string]secret.String) (cryptossh.Signer, error) {
	signer, err := cryptossh.ParsePrivateKey([]byte(values["key"].Reveal()))
	if err != nil {
		return nil, err
	}
	public, _, _, _, err := cryptossh.ParseAuthorizedKey([]byte(values["certificate"].Reveal()))
	if err != nil {
		return nil, err
	}
	certificate, ok := public.(*cryptossh.Certificate)
	if !ok {
		return nil, errors.New("the value certificate is none")
	}
	return cryptossh.NewCertSigner(certificate, signer)
}

// run logs in and runs a command. It returns what that prints.
func (s *sshd) run(ctx context.Context, values map[string]secret.String, command string) (string, error) {
	client, err := s.dial(ctx, values)
	if err != nil {
		return "", err
	}
	defer client.Close()
	return output(client, command)
}

// output runs a command on an open connection.
func output(client *cryptossh.Client, command string) (string, error) {
	session, err := client.NewSession()
	if err != nil {
		return "", err
	}
	defer session.Close()
	said, err := session.CombinedOutput(command)
	return strings.TrimSpace(string(said)), err
}

// refuses fails unless the server refuses the login and says why in its log.
func (s *sshd) refuses(values map[string]secret.String, why string) {
	s.Helper()
	if said, err := s.run(s.Context(), values, "echo in"); err == nil {
		s.Fatalf("it is let in: %s", said)
	}
	s.await(fmt.Sprintf("refuses with %q", why), func() bool { return strings.Contains(s.SSHD.Log.String(), why) })
}

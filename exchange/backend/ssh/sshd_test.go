package ssh_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	cryptossh "golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/stepkey/stepkey/internal/secret"
)

const sshdProgram = "/usr/sbin/sshd"

// needs leaves a test out where a program is missing, and fails where everything must
// run.
func needs(t testing.TB, programs ...string) {
	t.Helper()
	for _, program := range programs {
		_, err := exec.LookPath(program)
		switch {
		case err == nil:
		case os.Getenv("CI") != "":
			t.Fatalf("OpenSSH's %s is missing: %v", program, err)
		default:
			t.Skipf("this needs OpenSSH, and %s is missing: %v", program, err)
		}
	}
}

// sshd is the real server on loopback. It trusts one authority, goes by one list, and
// takes the principals of its file for the user that runs the test.
type sshd struct {
	testing.TB
	dir     string
	address string
	user    string
	hostKey string // as in a .pub file
	ca      cryptossh.Signer
	log     *journal
}

// journal is what a process says, read while it says it.
type journal struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(p)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
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

// startSSHD starts the server. Its list is the file "krl", which must be put there
// before anybody can log in.
func startSSHD(t testing.TB) *sshd {
	t.Helper()
	needs(t, sshdProgram)
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	if me.Uid == "0" {
		if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
			t.Fatal(err)
		}
	}
	s := &sshd{TB: t, dir: t.TempDir(), user: me.Username, log: &journal{}}
	hostKey, host := newSigner(t)
	s.hostKey = strings.TrimSpace(string(cryptossh.MarshalAuthorizedKey(host.PublicKey())))
	_, s.ca = newSigner(t)
	write(t, s.path("host"), privatePEM(t, hostKey))
	write(t, s.path("ca.pub"), string(cryptossh.MarshalAuthorizedKey(s.ca.PublicKey())))
	write(t, s.path("principals"), "deploy\nbackup\n")
	s.address = freePort(t)
	_, port, _ := net.SplitHostPort(s.address)
	write(t, s.path("sshd_config"), strings.Join([]string{
		"Port " + port, "ListenAddress 127.0.0.1", "HostKey " + s.path("host"), "PidFile none", "UsePAM no", "StrictModes no",
		"PasswordAuthentication no", "KbdInteractiveAuthentication no", "AuthorizedKeysFile none", "LogLevel VERBOSE", "MaxStartups 100",
		"TrustedUserCAKeys " + s.path("ca.pub"), "AuthorizedPrincipalsFile " + s.path("principals"), "RevokedKeys " + s.path("krl"), "",
	}, "\n"))
	server := exec.CommandContext(context.Background(), sshdProgram, "-D", "-e", "-f", s.path("sshd_config"))
	server.Stdout, server.Stderr = s.log, s.log
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = server.Process.Kill()
		_ = server.Wait()
	})
	s.await("listens", func() bool {
		c, err := new(net.Dialer).DialContext(t.Context(), "tcp", s.address)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	return s
}

func freePort(t testing.TB) string {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func (s *sshd) path(name string) string { return filepath.Join(s.dir, name) }

func (s *sshd) await(what string, holds func() bool) {
	s.Helper()
	ctx, done := context.WithTimeout(s.Context(), 20*time.Second)
	defer done()
	again := time.NewTicker(2 * time.Millisecond)
	defer again.Stop()
	for !holds() {
		select {
		case <-ctx.Done():
			s.Fatalf("sshd: not seen that it %s; it says:\n%s", what, s.log)
		case <-again.C:
		}
	}
}

// dial logs in with a credential, as the host web1.example.com that its known_hosts has.
func (s *sshd) dial(ctx context.Context, values map[string]secret.String) (*cryptossh.Client, error) {
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
	c, err := new(net.Dialer).DialContext(ctx, "tcp", s.address)
	if err != nil {
		return nil, err
	}
	conn, channels, requests, err := cryptossh.NewClientConn(c, "web1.example.com:22", &cryptossh.ClientConfig{
		User: s.user, Auth: []cryptossh.AuthMethod{cryptossh.PublicKeys(signer)}, HostKeyCallback: isKnown,
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
	s.await(fmt.Sprintf("refuses with %q", why), func() bool { return strings.Contains(s.log.String(), why) })
}

package realserver

import (
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

	"golang.org/x/crypto/ssh"
)

// SSHD is OpenSSH's server. It takes certificates alone: of the authorities in the file
// CA that are not on the list KRL, with a principal that Principals has for the user. It
// reads all three at each login, and without the list it lets nobody in.
type SSHD struct {
	*process
	Address string // ADDRESS:PORT
	User    string // who can log in, since the server runs as nobody else
	HostKey string // as in a .pub file
	CA, KRL string // files, to be put there

	dir string
}

// StartSSHD keeps its files below dir, and listens on an address of this machine.
func StartSSHD(ctx context.Context, dir, address string) (*SSHD, error) {
	program, err := installed("sshd", "apt-get install openssh-server", "/usr/sbin/sshd")
	if err != nil {
		return nil, err
	}
	port, err := freePort(ctx, address)
	if err != nil {
		return nil, err
	}
	me, err := user.Current()
	if err != nil {
		return nil, fmt.Errorf("preparing sshd: %w", err)
	}
	s := &SSHD{
		Address: net.JoinHostPort(address, port), User: me.Username,
		CA: filepath.Join(dir, "ca.pub"), KRL: filepath.Join(dir, "krl"), dir: dir,
	}
	if err := s.writeFiles(me.Uid == "0"); err != nil {
		return nil, fmt.Errorf("preparing sshd: %w", err)
	}
	cmd := exec.CommandContext(context.WithoutCancel(ctx), program, "-D", "-e", "-f", filepath.Join(dir, "sshd_config")) //nolint:gosec // a program of this machine
	s.process, err = launch(ctx, cmd, answers(s.Address))
	return s, err
}

// Principals is the file of those that may log in as a user, one a line.
func (s *SSHD) Principals(user string) string { return filepath.Join(s.dir, "principals", user) }

func (s *SSHD) writeFiles(root bool) error {
	public, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	block, err := ssh.MarshalPrivateKey(key, "")
	if err != nil {
		return err
	}
	host, err := ssh.NewPublicKey(public)
	if err != nil {
		return err
	}
	s.HostKey = strings.TrimSpace(string(ssh.MarshalAuthorizedKey(host)))
	address, port, err := net.SplitHostPort(s.Address)
	if err != nil {
		return err
	}
	hostKey := filepath.Join(s.dir, "host")
	config := strings.Join([]string{
		"Port " + port, "ListenAddress " + address, "HostKey " + hostKey, "PidFile none", "UsePAM no", "StrictModes no",
		"PasswordAuthentication no", "KbdInteractiveAuthentication no", "AuthorizedKeysFile none", "LogLevel VERBOSE", "MaxStartups 100",
		"TrustedUserCAKeys " + s.CA, "AuthorizedPrincipalsFile " + s.Principals("%u"), "RevokedKeys " + s.KRL, "",
	}, "\n")
	if root {
		err = os.MkdirAll("/run/sshd", 0o755) // where it gives up its rights
	}
	return errors.Join(err,
		os.WriteFile(hostKey, pem.EncodeToMemory(block), 0o600),
		os.WriteFile(filepath.Join(s.dir, "sshd_config"), []byte(config), 0o600),
		os.MkdirAll(s.Principals(""), 0o755),
	)
}

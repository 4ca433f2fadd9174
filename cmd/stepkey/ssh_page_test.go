package main

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"encoding/pem"
	"net"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/stepkey/stepkey/exchange/client"
	"github.com/stepkey/stepkey/internal/needs"
	"github.com/stepkey/stepkey/internal/realserver"
)

// sshTask is the page's, and its block runs against a real host below.
const sshTask = "--task deploy-web"

// Wherever a file of an SSH credential is asked for, it is one that the backend gives.
func TestTheTextsNameWhatTheSSHBackendGives(t *testing.T) {
	gives := keysOf(t, "ssh", "values", "map[string]secret.String")
	if !slices.Equal(gives, []string{"certificate", "key", "known_hosts"}) {
		t.Fatalf("the backend gives %q: are these its values?", gives)
	}
	page, err := os.ReadFile(cliPage)
	if err != nil {
		t.Fatal(err)
	}
	_, refusal := readFileWishes([]string{"SSH_KEY"}, nil)
	for where, text := range map[string]string{"the help": execAbout, "the refusal": refusal.Error(), "the page": string(page)} {
		wishes := regexp.MustCompile(`--file (SSH_[A-Z_]+)=(\S+?)[\s,]`).FindAllStringSubmatch(text, -1)
		if len(wishes) == 0 {
			t.Errorf("%s shows no file of SSH", where)
		}
		for _, wish := range wishes {
			if !slices.Contains(gives, wish[2]) {
				t.Errorf("%s says %s, and the backend gives %q", where, strings.TrimSpace(wish[0]), gives)
			}
		}
		if all := len(wishes); all > 1 && all != len(gives) {
			t.Errorf("%s leaves out some of %q", where, gives)
		}
	}
}

// The page's command logs in to a real host, with what it gets and nothing else, and leaves
// no file behind.
func TestThePagesSSHCommandLogsIn(t *testing.T) {
	needs.Programs(t, "bash", "ssh", "ssh-keygen")
	text, err := os.ReadFile(cliPage)
	if err != nil {
		t.Fatal(err)
	}
	block := regexp.MustCompile("(?s)```sh\n([^`]*" + sshTask + " .*?)```").FindSubmatch(text)
	if block == nil {
		t.Fatal("the page has no block for SSH")
	}
	host, err := realserver.StartSSHD(t.Context(), t.TempDir(), "127.0.0.1")
	needs.Started(t, err)
	t.Cleanup(func() { _ = host.Close() })

	p := &pageReader{T: t, world: newWorld(), dir: t.TempDir()}
	t.Cleanup(p.world.close)
	p.furnish()
	values := loginTo(t, host)
	grant := client.TokenResponse{
		AccessToken: "x", IssuedTokenType: client.TokenTypeAccessToken, TokenType: "Bearer", Scope: "deploy-web",
		Lease:      client.Lease{ID: "lease_01", Token: "skl_handle", EndsAt: "2026-11-23T15:05:00Z", DiesAt: "2026-11-23T15:06:00Z", Revocable: true, Granted: "SSH login"},
		Credential: client.Credential{Kind: "ssh", Values: values},
	}
	answer, err := json.Marshal(grant)
	if err != nil {
		t.Fatal(err)
	}
	p.world.script("/token", scripted{status: 200, body: string(answer)})
	const target = "deploy@web1.example.com"
	if !bytes.Contains(block[1], []byte(target)) {
		t.Fatalf("the block does not log in to %s", target)
	}
	memory := t.TempDir()
	got := p.run(strings.ReplaceAll(string(block[1]), target, "ssh://"+host.User+"@"+host.Address), append(p.service(), "XDG_RUNTIME_DIR="+memory, "DISKS_ONLY=yes")...)
	want, err := exec.CommandContext(t.Context(), "uname", "-n").Output()
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("the host answered %q, not %q: %s\n%s", got, want, p.said, host.Log)
	}
	if alive := p.world.living.at(time.Time{}); len(alive) > 0 {
		t.Errorf("%q lives", alive)
	}
	if left, err := os.ReadDir(memory); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// loginTo has a host trust a new authority, and makes what the backend gives of it.
func loginTo(t *testing.T, host *realserver.SSHD) map[string]string {
	t.Helper()
	signer := func() (ssh.Signer, ed25519.PrivateKey) {
		_, key, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		s, err := ssh.NewSignerFromKey(key)
		if err != nil {
			t.Fatal(err)
		}
		return s, key
	}
	authority, _ := signer()
	own, key := signer()
	certificate := &ssh.Certificate{Key: own.PublicKey(), CertType: ssh.UserCert, ValidPrincipals: []string{"web1"}, ValidBefore: ssh.CertTimeInfinity}
	if err := certificate.SignCert(rand.Reader, authority); err != nil {
		t.Fatal(err)
	}
	file, err := ssh.MarshalPrivateKey(key, "")
	if err != nil {
		t.Fatal(err)
	}
	for path, text := range map[string][]byte{host.CA: ssh.MarshalAuthorizedKey(authority.PublicKey()), host.Principals(host.User): []byte("web1\n")} {
		if err := os.WriteFile(path, text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.CommandContext(t.Context(), "ssh-keygen", "-k", "-f", host.KRL).CombinedOutput(); err != nil { // nobody is revoked
		t.Fatalf("%v: %s", err, out)
	}
	address, port, err := net.SplitHostPort(host.Address)
	if err != nil {
		t.Fatal(err)
	}
	return map[string]string{
		"key": string(pem.EncodeToMemory(file)), "certificate": string(ssh.MarshalAuthorizedKey(certificate)),
		"known_hosts": "[" + address + "]:" + port + " " + host.HostKey + "\n",
	}
}

package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stepkey/stepkey/exchange/client"
	"github.com/stepkey/stepkey/internal/githubsim"
	"github.com/stepkey/stepkey/internal/needs"
	"github.com/stepkey/stepkey/internal/pgserver"
	"github.com/stepkey/stepkey/internal/secret"
)

// yard is a place for exchanges that sign SSH certificates, all with one key and one
// store.
type yard struct {
	*testing.T
	gh     *githubsim.GitHub
	binary string
	ca     string
	store  string
}

// signer is one exchange of the yard, in a folder of its own.
type signer struct {
	running
	dir, url string
}

func yardOn(t *testing.T, store string) yard {
	t.Helper()
	needs.Programs(t, "ssh-keygen")
	y := yard{T: t, gh: acme(t), store: store, binary: filepath.Join(t.TempDir(), "stepkey-exchange")}
	y.ca = filepath.Join(filepath.Dir(y.binary), "ssh_ca")
	output(t, "../..", "go", "build", "-o", y.binary, "./cmd/stepkey-exchange")
	output(t, ".", "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", y.ca)
	output(t, filepath.Dir(y.binary), y.binary, "keys", "create", "stepkey.keys")
	return y
}

// open starts an exchange in dir, which it fills when it is new.
func (y yard) open(dir string) signer {
	y.Helper()
	s := signer{dir: dir, url: "http://" + freeAddress(y.T)}
	public, err := os.ReadFile(y.ca + ".pub")
	if err != nil {
		y.Fatal(err)
	}
	write(y.T, dir, "tasks/deploy.yaml", []byte("task: deploy\npurpose: Log in and deploy.\nallow:\n  - issuer: github\n    claims: {repository_id: \"456789\", event_name: push}\n"+
		"credential:\n  ssh: {principals: [deploy], hosts: [web1.example.com]}\nlimits: {ttl: 10m}\n"))
	write(y.T, dir, "stepkey.yaml", fmt.Appendf(nil, "url: https://lease.example.com\nlisten: %s\nadmin: 127.0.0.1:0\ntasks: tasks\nstore: %s\nkeys: %s\nissuers:\n  github: {kind: github, url: %q, private_network: true}\n"+
		"backends:\n  ssh:\n    ca: [%s]\n    principals: [deploy]\n    hosts: {web1.example.com: [%q]}\n    krl: krl\n",
		strings.TrimPrefix(s.url, "http://"), y.store, filepath.Join(filepath.Dir(y.binary), "stepkey.keys"), y.gh.IssuerURL(), y.ca, strings.TrimSpace(string(public))))
	if _, err := os.Stat(dir + "/stepkey-exchange"); err != nil {
		if err := os.Symlink(y.binary, dir+"/stepkey-exchange"); err != nil {
			y.Fatal(err)
		}
	}
	s.running = serve(y.T, dir)
	return s
}

// lease gets a certificate and keeps it in a file.
func (y yard) lease(s signer) (*client.Grant, string) {
	y.Helper()
	subject, err := y.gh.StartJob(githubsim.JobSpec{Repository: "acme/widget", IDToken: true}).IDToken("https://lease.example.com")
	if err != nil {
		y.Fatal(err)
	}
	grant, err := s.client.Token(y.Context(), client.TokenRequest{SubjectToken: secret.New(subject), Task: "deploy"})
	if err != nil {
		y.Fatal(err)
	}
	if !grant.Revocable || grant.Remains != "a session that is open" {
		y.Errorf("who asks is told revocable %t, and of what remains %q", grant.Revocable, grant.Remains)
	}
	dir := y.TempDir()
	write(y.T, dir, "id-cert.pub", []byte(grant.Values["certificate"].Reveal()))
	return grant, dir + "/id-cert.pub"
}

// revokes reports whether OpenSSH finds a certificate in the list of a file.
func (y yard) revokes(list, certificate string) bool {
	out, err := exec.CommandContext(y.Context(), "ssh-keygen", "-Q", "-f", list, certificate).CombinedOutput()
	var code *exec.ExitError
	if err != nil && (!errors.As(err, &code) || !strings.Contains(string(out), "REVOKED")) {
		y.Logf("%v: %s", err, out)
	}
	return err != nil && strings.Contains(string(out), "REVOKED")
}

// served is the list that an exchange answers with, in a file.
func (y yard) served(s signer) string {
	y.Helper()
	req, err := http.NewRequestWithContext(y.Context(), http.MethodGet, s.url+"/ssh/krl", nil)
	if err != nil {
		y.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		y.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK || resp.Header.Get("Cache-Control") != "no-store" {
		y.Fatalf("the list: %s, %v: %.200s", resp.Status, err, text)
	}
	dir := y.TempDir()
	write(y.T, dir, "krl", text)
	return dir + "/krl"
}

func (y yard) await(what string, holds func() bool) {
	y.Helper()
	deadline := time.Now().Add(30 * time.Second)
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	for !holds() {
		if time.Now().After(deadline) {
			y.Fatalf("not seen: %s", what)
		}
		<-again.C
	}
}

func TestARevokedCertificateIsListedAndStaysSoOverARestart(t *testing.T) {
	y := yardOn(t, "stepkey.db")
	dir := t.TempDir()
	s := y.open(dir)
	grant, revoked := y.lease(s)
	_, living := y.lease(s)
	if _, err := s.client.Revoke(t.Context(), grant.LeaseToken); err != nil {
		t.Fatal(err)
	}
	check := func(when string) {
		t.Helper()
		for where, list := range map[string]string{"the file": dir + "/krl", "the answer": y.served(s)} {
			if !y.revokes(list, revoked) || y.revokes(list, living) {
				t.Errorf("%s: %s does not say which is revoked", when, where)
			}
		}
	}
	check("at once")
	kill(t, s.running)
	if err := os.Remove(dir + "/krl"); err != nil {
		t.Fatal(err)
	}
	s = y.open(dir)
	y.await("the file is there again", func() bool { return y.revokes(dir+"/krl", revoked) })
	check("after a restart")

	// Another process, with the same End, on the same file.
	c := exec.CommandContext(t.Context(), "./stepkey-exchange", "revoke", "--all")
	c.Dir = dir
	if out, err := c.CombinedOutput(); err != nil || !y.revokes(dir+"/krl", living) {
		t.Errorf("revoke --all: %v\n%s", err, out)
	}
}

func TestReplicasServeOneListOfWhatAnyOfThemRevoked(t *testing.T) {
	pg, err := pgserver.Start(t.Context(), pgserver.Quick)
	needs.Started(t, err)
	t.Cleanup(func() { _ = pg.Close() })
	where, err := pg.Database(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	y := yardOn(t, where)
	one, two := y.open(t.TempDir()), y.open(t.TempDir())
	grant, revoked := y.lease(one)
	if y.revokes(y.served(two), revoked) {
		t.Error("it is listed before it is revoked")
	}
	if _, err := one.client.Revoke(t.Context(), grant.LeaseToken); err != nil {
		t.Fatal(err)
	}
	if !y.revokes(y.served(one), revoked) || !y.revokes(one.dir+"/krl", revoked) {
		t.Error("where it was revoked, it is not listed")
	}
	y.await("the other serves it, too", func() bool { return y.revokes(y.served(two), revoked) })
	y.await("the other's file has it, too", func() bool { return y.revokes(two.dir+"/krl", revoked) })
}

package main

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stepkey/stepkey/internal/githubsim"
)

// Somebody moves over from octo-sts by docs/octo-sts.md: its files are written and its
// commands run, in order, and a client of octo-sts gets what it always got.
func TestMovingFromOctoSTSWorksAsWritten(t *testing.T) {
	gh := acme(t)
	dir := t.TempDir()
	for _, folder := range []string{"bin", "tasks"} {
		if err := os.Mkdir(filepath.Join(dir, folder), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	output(t, "../..", "go", "build", "-o", filepath.Join(dir, "bin")+"/", "./cmd/stepkey-exchange")
	app := gh.AddApp(githubsim.App{ClientID: "Iv1.x", Permissions: map[string]string{"contents": "write"}})
	gh.Install(app, "acme")
	write(t, dir, "app.pem", app.KeyPEM())
	output(t, dir, "bin/stepkey-exchange", "keys", "create", "stepkey.keys")
	listen := freeAddress(t)
	config := "url: https://lease.example.com\nlisten: " + listen + "\nadmin: 127.0.0.1:0\ntasks: tasks\nissuers:\n  github: {kind: github, url: \"" + gh.IssuerURL() +
		"\", private_network: true}\nbackends:\n  github: {api: \"" + gh.URL() + "\", client_id: Iv1.x, private_key: app.pem}\n"
	write(t, dir, "stepkey.yaml", []byte(config))

	var last string
	served := false
	for _, b := range blocks(t, "../../docs/octo-sts.md") {
		switch {
		case b.kind == "yaml" && strings.HasPrefix(b.text, "# more of stepkey.yaml\n"):
			write(t, dir, "stepkey.yaml", []byte(config+b.text))
		case b.kind == "yaml":
			name, _, _ := strings.Cut(strings.TrimPrefix(b.text, "# "), "\n")
			write(t, dir, name, []byte(b.text))
		case b.kind == "sh" && strings.Contains(b.text, "exchange serve"):
			askAsOctoSTSDoes(t, gh, dir, "http://"+listen)
			served = true
		case b.kind == "sh":
			last = output(t, dir, "bash", "-euc", b.text)
		case b.kind == "text":
			if !strings.Contains(last, b.text) {
				t.Errorf("the page shows\n%s\nand the command before prints\n%s", b.text, last)
			}
		}
	}
	if !served || !strings.Contains(last, "active") || !strings.Contains(last, "contents: write on acme/widget") {
		t.Errorf("the audit log after it has\n%s", last)
	}
}

func askAsOctoSTSDoes(t *testing.T, gh *githubsim.GitHub, dir, url string) {
	t.Helper()
	r := serve(t, dir)
	idToken, err := gh.StartJob(githubsim.JobSpec{Repository: "acme/widget", IDToken: true}).IDToken("sts.example.com")
	if err != nil {
		t.Fatal(err)
	}
	a := octoAction{url, "acme/widget", "release", idToken}
	token, err := a.main(t)
	if err != nil {
		t.Fatal(err)
	}
	a.post(t, gh.URL(), token)
	if n := len(gh.LiveTokens()); n != 0 {
		t.Errorf("%d tokens live", n)
	}
	if err := r.process.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := r.process.Wait(); err != nil {
		t.Errorf("stopping it: %v", err)
	}
}

// freeAddress is one on loopback that nobody listens on now.
func freeAddress(t *testing.T) string {
	t.Helper()
	var config net.ListenConfig
	l, err := config.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

package main

import (
	"bufio"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stepkey/stepkey/exchange/client"
	"github.com/stepkey/stepkey/internal/githubsim"
	"github.com/stepkey/stepkey/internal/secret"
)

// A newcomer follows docs/quickstart.md: every block of it is written or run, in
// order, in a folder of its own. Only GitHub's addresses are exchanged for the
// simulated ones, the way the page itself tells for other hosts.
func TestTheQuickstartWorksAsWritten(t *testing.T) {
	gh := acme(t)
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "bin"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "tasks"), 0o700); err != nil {
		t.Fatal(err)
	}
	output(t, "../..", "go", "build", "-o", filepath.Join(dir, "bin")+"/", "./cmd/stepkey", "./cmd/stepkey-exchange")
	app := gh.AddApp(githubsim.App{ClientID: "Iv1.0123456789abcdef", Permissions: map[string]string{"contents": "write"}})
	gh.Install(app, "acme")
	write(t, dir, "app.pem", app.KeyPEM())
	toLoopback := strings.NewReplacer(
		"https://token.actions.githubusercontent.com", gh.IssuerURL()+"\n    private_network: true",
		"client_id:", "api: "+gh.URL()+"\n    client_id:",
		"127.0.0.1:8700", "127.0.0.1:0", "127.0.0.1:8701", "127.0.0.1:0",
	)

	var last string
	served := false
	for _, b := range blocks(t, "../../docs/quickstart.md") {
		switch {
		case b.kind == "yaml":
			name := strings.TrimPrefix(strings.SplitN(b.text, "\n", 2)[0], "# ")
			write(t, dir, name, []byte(toLoopback.Replace(b.text)))
		case b.kind == "sh" && strings.Contains(b.text, "exchange serve"):
			askForATask(t, gh, dir)
			served = true
		case b.kind == "sh" && strings.Contains(b.text, "audit"):
			out := output(t, dir, "bash", "-euc", b.text)
			if !strings.Contains(out, "active") || !strings.Contains(out, "revoked") || !strings.Contains(out, "contents: write on acme/widget") {
				t.Errorf("%s prints:\n%s", b.text, out)
			}
		case b.kind == "sh":
			last = output(t, dir, "bash", "-euc", strings.Replace(b.text, "make build", "true", 1)) // what it builds is there already
		case b.kind == "text":
			if collapse(last) != collapse(b.text) {
				t.Errorf("the page shows\n%s\nand the command before prints\n%s", b.text, last)
			}
		}
	}
	operateAsWritten(t, dir)
	if !served {
		t.Error("the page does not serve the exchange")
	}
}

// The commands of docs/operate.md, in the folder that the quickstart leaves.
func operateAsWritten(t *testing.T, dir string) {
	t.Helper()
	for _, b := range blocks(t, "../../docs/operate.md") {
		switch b.kind {
		case "sh":
			output(t, dir, "bash", "-euc", b.text)
		case "yaml":
			write(t, dir, "webhook.secret", []byte("a secret of GitHub and the exchange"))
			config, err := os.ReadFile(filepath.Join(dir, "stepkey.yaml"))
			if err != nil {
				t.Fatal(err)
			}
			write(t, dir, "stepkey.yaml", withBlock(config, b.text))
			output(t, dir, "bin/stepkey-exchange", "check", "tasks", "--config", "stepkey.yaml")
			if strings.HasPrefix(b.text, "store:") {
				write(t, dir, "stepkey.yaml", config) // no database here goes by those names
			}
		case "text":
			for line := range strings.Lines(b.text) {
				if out := mayFail(t, dir, "bash", "-euc", "bin/"+line); !strings.Contains(out, "no live lease") && !strings.Contains(out, "No live lease") {
					t.Errorf("%s prints:\n%s", line, out)
				}
			}
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "store-backup.db")); err != nil {
		t.Error(err)
	}
}

// withBlock adds a block to the configuration, or puts it in the place of the line with
// its key.
func withBlock(config []byte, block string) []byte {
	key, _, _ := strings.Cut(block, ":")
	line := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(key) + `:.*\n`)
	if line.Match(config) {
		return line.ReplaceAllLiteral(config, []byte(block))
	}
	return append(config, block...)
}

// What the quickstart says that errors say is what they say: each text of its table
// stands in the code.
func TestTheErrorsOfTheQuickstartAreTheCodes(t *testing.T) {
	page, err := os.ReadFile("../../docs/quickstart.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(page), "## When it says no")
	table, _, _ = strings.Cut(table, "\n## ")
	sources := output(t, "../..", "git", "grep", "-hi", "-e", ".", "--", "cmd/*.go", "exchange/*.go", ":!*_test.go")
	sources = strings.ToLower(regexp.MustCompile(`%[sdo]`).ReplaceAllString(sources, "…"))
	rows := regexp.MustCompile("(?m)^\\| (`.*?) \\|").FindAllStringSubmatch(table, -1)
	if len(rows) < 10 {
		t.Fatalf("only %d rows in the table of errors", len(rows))
	}
	for _, row := range rows {
		for _, text := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(row[1], -1) {
			want := strings.ToLower(strings.TrimSuffix(strings.ReplaceAll(text[1], "holds 1 of", "holds … of"), " …"))
			if !strings.Contains(sources, want) {
				t.Errorf("no error says %q", text[1])
			}
		}
	}
}

// askForATask serves, gets the page's task with a job's token, gives it back, and
// stops the exchange by SIGTERM.
func askForATask(t *testing.T, gh *githubsim.GitHub, dir string) {
	t.Helper()
	r := serve(t, dir)
	job := gh.StartJob(githubsim.JobSpec{Repository: "acme/widget", Ref: "refs/tags/v1.2.3", Environment: "release", IDToken: true})
	subject, err := job.IDToken("https://lease.example.com")
	if err != nil {
		t.Fatal(err)
	}
	grant, err := r.client.Token(t.Context(), client.TokenRequest{SubjectToken: secret.New(subject), Task: "publish-release"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.client.Revoke(t.Context(), grant.LeaseToken); err != nil || len(gh.LiveTokens()) != 0 {
		t.Errorf("giving it back: %v, %d tokens live", err, len(gh.LiveTokens()))
	}
	if err := r.process.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := r.process.Wait(); err != nil {
		t.Errorf("stopping it: %v", err)
	}
}

// A process that is killed leaves its leases to the next one.
func TestTheNextStartEndsWhatAKilledExchangeLeft(t *testing.T) {
	gh := acme(t)
	dir := t.TempDir()
	app := gh.AddApp(githubsim.App{ClientID: "Iv1.x", Permissions: map[string]string{"contents": "write"}})
	gh.Install(app, "acme")
	write(t, dir, "app.pem", app.KeyPEM())
	write(t, dir, "tasks/brief.yaml", []byte("task: brief\npurpose: Over in a moment.\nallow:\n  - issuer: github\n    claims: {repository_id: \"456789\", event_name: push}\n"+
		"credential:\n  github: {repository_ids: [456789], permissions: {contents: read}}\nlimits: {ttl: 5s}\n"))
	write(t, dir, "stepkey.yaml", []byte("url: https://lease.example.com\nlisten: 127.0.0.1:0\nadmin: 127.0.0.1:0\ntasks: tasks\nissuers:\n  github: {kind: github, url: \""+gh.IssuerURL()+
		"\", private_network: true}\nbackends:\n  github: {api: \""+gh.URL()+"\", client_id: Iv1.x, private_key: app.pem}\n"))
	output(t, "../..", "go", "build", "-o", dir+"/", "./cmd/stepkey-exchange")
	output(t, dir, "./stepkey-exchange", "keys", "create", "stepkey.keys")

	first := serve(t, dir)
	subject, err := gh.StartJob(githubsim.JobSpec{Repository: "acme/widget", IDToken: true}).IDToken("https://lease.example.com")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := first.client.Token(t.Context(), client.TokenRequest{SubjectToken: secret.New(subject), Task: "brief"}); err != nil {
		t.Fatal(err)
	}
	if err := first.process.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = first.process.Wait()
	if len(gh.LiveTokens()) != 1 {
		t.Fatal("the lease was over before the kill: nothing was left behind")
	}

	ended := make(chan struct{})
	var once sync.Once
	gh.Fault(func(r *http.Request) *githubsim.Fault {
		if r.Method == http.MethodDelete {
			once.Do(func() { close(ended) })
		}
		return nil
	})
	second := serve(t, dir)
	select {
	case <-ended:
	case <-time.After(30 * time.Second):
		t.Error("the next start did not end it")
	}
	if err := second.process.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := second.process.Wait(); err != nil {
		t.Error(err)
	}
	if n := len(gh.LiveTokens()); n != 0 {
		t.Errorf("%d tokens live", n)
	}
}

// running is an exchange in a process of its own.
type running struct {
	process *exec.Cmd
	client  *client.Client
}

// serve starts the binary of a folder and waits until it says where it listens.
func serve(t *testing.T, dir string) running {
	t.Helper()
	binary := filepath.Join(dir, "bin/stepkey-exchange")
	if _, err := os.Stat(binary); err != nil {
		binary = filepath.Join(dir, "stepkey-exchange")
	}
	c := exec.CommandContext(t.Context(), binary, "serve", "stepkey.yaml")
	c.Dir = dir
	log, err := c.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	address := regexp.MustCompile(`"listen":"([^"]+)"`)
	for lines := bufio.NewScanner(log); lines.Scan(); {
		if at := address.FindStringSubmatch(lines.Text()); at != nil {
			speaks, err := client.New("http://"+at[1], client.Options{})
			if err != nil {
				t.Fatal(err)
			}
			go func() { _, _ = io.Copy(io.Discard, log) }()
			return running{c, speaks}
		}
		t.Log(lines.Text())
	}
	t.Fatal("the exchange ended")
	return running{}
}

func acme(t *testing.T) *githubsim.GitHub {
	t.Helper()
	gh, err := githubsim.Start(githubsim.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(gh.Close)
	gh.AddRepository(githubsim.Repository{ID: 456789, Owner: "acme", OwnerID: 123456, Name: "widget", Private: true})
	return gh
}

// block is a fenced block of a page.
type block struct{ kind, text string }

var fence = regexp.MustCompile("(?ms)^```(\\w+)\n(.*?)^```$")

func blocks(t *testing.T, page string) []block {
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	var all []block
	for _, m := range fence.FindAllStringSubmatch(string(text), -1) {
		all = append(all, block{m[1], m[2]})
	}
	if len(all) == 0 {
		t.Fatalf("%s has no fenced block", page)
	}
	return all
}

// collapse makes columns of any width equal.
func collapse(table string) string {
	var lines []string
	for _, line := range strings.Split(strings.TrimSpace(table), "\n") {
		lines = append(lines, strings.Join(strings.Fields(line), " "))
	}
	return strings.Join(lines, "\n")
}

func write(t *testing.T, dir, name string, content []byte) {
	t.Helper()
	err := errors.Join(os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700), os.WriteFile(filepath.Join(dir, name), content, 0o600))
	if err != nil {
		t.Fatal(err)
	}
}

// mayFail is output for a command whose exit code does not count.
func mayFail(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	c := exec.CommandContext(t.Context(), name, args...)
	c.Dir = dir
	out, _ := c.CombinedOutput()
	return string(out)
}

func output(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	c := exec.CommandContext(t.Context(), name, args...)
	c.Dir = dir
	out, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return string(out)
}

package main

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/stepkey/stepkey/exchange/client"
	"github.com/stepkey/stepkey/internal/githubsim"
)

//go:embed publish-release.yaml
var taskFile []byte

const (
	task      = "publish-release"
	tag       = "v1.2.3"
	appClient = "Iv1.stepkeydemo"
)

// world is what the story happens in.
type world struct {
	bin      string // where the other binaries are
	dir      string // everything the demo writes; removed at the end
	gh       *githubsim.GitHub
	url      string // the exchange's
	exchange *exec.Cmd
	log      processLog // the exchange's, shown when something goes wrong
	client   *client.Client
	http     *http.Client
}

// processLog is read, and written by more than one process, while the exchange runs.
type processLog struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *processLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *processLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// build starts GitHub and, as a process, the exchange, and waits until it is ready.
func build(ctx context.Context, bin, dir string) (*world, error) {
	w := &world{bin: bin, dir: dir, http: &http.Client{Timeout: 30 * time.Second}}
	var err error
	if w.gh, err = githubsim.Start(githubsim.Options{}); err != nil {
		return nil, fmt.Errorf("starting GitHub on loopback: %w", err)
	}
	if err := w.startExchange(ctx); err != nil {
		w.gh.Close()
		return nil, err
	}
	w.client, err = client.New(w.url, client.Options{})
	return w, err
}

func (w *world) startExchange(ctx context.Context) error {
	w.gh.AddRepository(githubsim.Repository{ID: 456789, Owner: "acme", OwnerID: 123456, Name: "widget", Private: true})
	w.gh.AddRepository(githubsim.Repository{ID: 456790, Owner: "acme", OwnerID: 123456, Name: "gadget", Private: true})
	w.gh.AddRelease("acme", "widget", tag)
	app := w.gh.AddApp(githubsim.App{ClientID: appClient, Slug: "acme-stepkey", Permissions: map[string]string{"contents": "write", "issues": "write"}})
	w.gh.Install(app, "acme")

	ports, err := freePorts(ctx, 2)
	if err != nil {
		return err
	}
	w.url = "http://" + ports[0]
	config := fmt.Sprintf("url: %s\nlisten: %s\nadmin: %s\ntasks: tasks\nowners: [\"123456\"]\nissuers:\n  github: {kind: github, url: %q, private_network: true}\nbackends:\n  github: {api: %q, client_id: %s, private_key: app.pem}\n",
		w.url, ports[0], ports[1], w.gh.IssuerURL(), w.gh.URL(), appClient)
	err = errors.Join(
		os.Mkdir(filepath.Join(w.dir, "tasks"), 0o700),
		w.write("tasks/publish-release.yaml", taskFile), w.write("stepkey.yaml", []byte(config)), w.write("app.pem", app.KeyPEM()))
	if err != nil {
		return fmt.Errorf("writing the exchange's files: %w", err)
	}
	if out, err := w.command(ctx, "stepkey-exchange", "keys", "create", filepath.Join(w.dir, "stepkey.keys")).CombinedOutput(); err != nil {
		return fmt.Errorf("making the exchange's keys: %w: %s", err, out)
	}
	w.exchange = w.command(context.WithoutCancel(ctx), "stepkey-exchange", "serve", filepath.Join(w.dir, "stepkey.yaml"))
	w.exchange.Stderr = &w.log
	if err := w.exchange.Start(); err != nil {
		return fmt.Errorf("starting the exchange: %w", err)
	}
	return w.waitUntilReady(ctx, "http://"+ports[1]+"/readyz")
}

func (w *world) write(name string, content []byte) error {
	return os.WriteFile(filepath.Join(w.dir, name), content, 0o600)
}

// command is one of our binaries. It ends by a signal that it can act on.
func (w *world) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	c := exec.CommandContext(ctx, filepath.Join(w.bin, name), args...)
	c.Env = []string{}
	c.Cancel = func() error { return c.Process.Signal(syscall.SIGTERM) }
	c.WaitDelay = 10 * time.Second
	return c
}

func (w *world) waitUntilReady(ctx context.Context, url string) error {
	ctx, done := context.WithTimeout(ctx, 15*time.Second)
	defer done()
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		if answer, err := w.http.Do(r); err == nil {
			answer.Body.Close()
			if answer.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the exchange did not become ready; it said:\n%s", w.log.String())
		case <-again.C:
		}
	}
}

func (w *world) close() error {
	err := w.exchange.Process.Signal(syscall.SIGTERM)
	if errors.Is(err, os.ErrProcessDone) {
		err = nil // an interrupt at the terminal reached it, too
	}
	err = errors.Join(err, w.exchange.Wait())
	w.gh.Close()
	if err != nil {
		return fmt.Errorf("stopping the exchange: %w; it said:\n%s", err, w.log.String())
	}
	return nil
}

// hold keeps everything running until it is interrupted.
func (w *world) hold(ctx context.Context) {
	job := w.job()
	env := job.Env()
	fmt.Printf("\nStill running: GitHub on %s, the exchange on %s. Try, in another terminal:\n\n", w.gh.URL(), w.url)
	fmt.Printf("  id=$(curl -s -H 'Authorization: bearer %s' '%s&audience=%s' | sed 's/.*\"value\":\"\\([^\"]*\\)\".*/\\1/')\n",
		env["ACTIONS_ID_TOKEN_REQUEST_TOKEN"], env["ACTIONS_ID_TOKEN_REQUEST_URL"], w.url)
	fmt.Printf("  curl -s %s/token -d grant_type=%s -d subject_token_type=%s -d scope=%s -d subject_token=$id\n", w.url, client.GrantTypeTokenExchange, client.TokenTypeIDToken, task)
	fmt.Printf("  curl -s %s/revoke -d token=TOKEN    # the lease's token, or the credential itself\n", w.url)
	fmt.Printf("  %s audit --config %s\n\nThe job may hold one credential at a time. Ctrl-C ends it all.\n", filepath.Join(w.bin, "stepkey-exchange"), filepath.Join(w.dir, "stepkey.yaml"))
	<-ctx.Done()
}

// job is a run of the release workflow for the tag.
func (w *world) job() *githubsim.Job {
	return w.gh.StartJob(githubsim.JobSpec{Repository: "acme/widget", Ref: "refs/tags/" + tag, Environment: "release", IDToken: true})
}

// freePorts asks the system for ports that nothing listens on.
func freePorts(ctx context.Context, n int) ([]string, error) {
	var free []string
	for range n {
		var config net.ListenConfig
		l, err := config.Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return nil, fmt.Errorf("finding a free port: %w", err)
		}
		defer l.Close()
		free = append(free, l.Addr().String())
	}
	return free, nil
}

// step runs one half of the action as the runner would, and returns its log.
func (w *world) step(ctx context.Context, half string, job *githubsim.Job, state map[string]string) (string, error) {
	c := w.command(ctx, "stepkey", half)
	for name, value := range job.Env() {
		c.Env = append(c.Env, name+"="+value)
	}
	for name, value := range map[string]string{"EXCHANGE": w.url, "TASK": task, "EXPORT-ENV": "false", "SUMMARY": "true"} {
		c.Env = append(c.Env, "INPUT_"+name+"="+value)
	}
	for name, value := range state {
		c.Env = append(c.Env, "STATE_"+name+"="+value)
	}
	for _, file := range []string{"GITHUB_OUTPUT", "GITHUB_STATE", "GITHUB_STEP_SUMMARY", "GITHUB_ENV"} {
		path := filepath.Join(w.dir, half+"-"+strings.ToLower(file))
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			return "", fmt.Errorf("making the runner's files: %w", err)
		}
		c.Env = append(c.Env, file+"="+path)
	}
	out, err := c.Output()
	return string(out), err
}

// fileCommand reads back what a half wrote for the runner: NAME<<DELIMITER, value,
// DELIMITER.
func (w *world) fileCommand(half, file string) (map[string]string, error) {
	text, err := os.ReadFile(filepath.Join(w.dir, half+"-"+strings.ToLower(file)))
	if err != nil {
		return nil, fmt.Errorf("reading what the step left: %w", err)
	}
	values := map[string]string{}
	lines := strings.Split(string(text), "\n")
	for i := 0; i < len(lines); i++ {
		name, delimiter, found := strings.Cut(lines[i], "<<")
		if !found {
			continue
		}
		var value []string
		for i++; i < len(lines) && lines[i] != delimiter; i++ {
			value = append(value, lines[i])
		}
		values[name] = strings.Join(value, "\n")
	}
	return values, nil
}

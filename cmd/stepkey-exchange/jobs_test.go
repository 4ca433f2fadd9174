package main

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stepkey/stepkey/exchange/client"
	"github.com/stepkey/stepkey/exchange/lease"
	"github.com/stepkey/stepkey/internal/githubsim"
	"github.com/stepkey/stepkey/internal/secret"
)

const jobsTask = `task: upload
purpose: Upload.
allow:
  - issuer: github
    claims: {repository_id: "456789", event_name: push}
credential:
  github: {repository_ids: [456789], permissions: {contents: write}}
limits: {ttl: 10m}
`

// wired is the service as its configuration wires it, with a clock that is turned.
type wired struct {
	*service
	gh     *githubsim.GitHub
	app    githubsim.App
	url    string
	client *client.Client
	mu     sync.Mutex
	at     time.Time
}

func (w *wired) now() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.at
}

func wire(t *testing.T, log *said, actions string) *wired {
	t.Helper()
	return wireTask(t, log, actions, jobsTask)
}

func wireTask(t *testing.T, log *said, actions, task string) *wired {
	t.Helper()
	w := &wired{at: time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)}
	var err error
	if w.gh, err = githubsim.Start(githubsim.Options{Now: w.now}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.gh.Close)
	w.gh.AddRepository(githubsim.Repository{ID: 456789, Owner: "acme", Name: "widget", Private: true})
	permissions := map[string]string{"contents": "write"}
	if actions != "" {
		permissions["actions"] = actions
	}
	w.app = w.gh.AddApp(githubsim.App{ClientID: "Iv1.x", Permissions: permissions})
	w.gh.Install(w.app, "acme")
	dir := t.TempDir()
	write(t, dir, "app.pem", w.app.KeyPEM())
	write(t, dir, "webhook.secret", []byte("0123456789abcdef0123\n"))
	write(t, dir, "tasks/upload.yaml", []byte(task))
	write(t, dir, "stepkey.yaml", []byte("url: https://lease.example.com\ntasks: tasks\nissuers:\n  github: {kind: github, url: \""+w.gh.IssuerURL()+
		"\", private_network: true}\nbackends:\n  github: {api: \""+w.gh.URL()+"\", client_id: Iv1.x, private_key: app.pem}\n"+
		"webhooks:\n  github: {issuer: github, secret_file: webhook.secret}\n"))
	if err := lease.CreateKeys(filepath.Join(dir, "stepkey.keys")); err != nil {
		t.Fatal(err)
	}
	c, err := readConfig(filepath.Join(dir, "stepkey.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	c.now = w.now
	if w.service, err = open(t.Context(), c, slog.New(slog.NewTextHandler(log, nil))); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.store.Close() })
	web := httptest.NewServer(w.server.Public())
	t.Cleanup(web.Close)
	w.url = web.URL
	if w.client, err = client.New(web.URL, client.Options{}); err != nil {
		t.Fatal(err)
	}
	return w
}

// give runs a job and gets its credential.
func (w *wired) give(t *testing.T) (*githubsim.Job, *client.Grant) {
	t.Helper()
	job := w.gh.StartJob(githubsim.JobSpec{Repository: "acme/widget", IDToken: true})
	subject, err := job.IDToken("https://lease.example.com")
	if err != nil {
		t.Fatal(err)
	}
	given, err := w.client.Token(t.Context(), client.TokenRequest{SubjectToken: secret.New(subject), Task: "upload"})
	if err != nil {
		t.Fatal(err)
	}
	return job, given
}

func TestWhatIsConfiguredEndsWhatAJobLeavesBehind(t *testing.T) {
	var log said
	w := wire(t, &log, "read")
	hook := w.gh.AddWebhook(w.app, w.url+"/webhooks/github", "0123456789abcdef0123")
	hook.Hold()
	told, _ := w.give(t)
	lost, _ := w.give(t)
	if n := len(w.gh.LiveTokens()); n != 2 {
		t.Fatalf("%d tokens live", n)
	}
	told.Complete("success")
	all := hook.Deliveries()
	if status, err := hook.Deliver(all[len(all)-1].ID); status != 204 || err != nil || len(w.gh.LiveTokens()) != 1 {
		t.Errorf("told: %d, %v; %d tokens live", status, err, len(w.gh.LiveTokens()))
	}
	lost.Complete("failure")
	w.mu.Lock()
	w.at = w.at.Add(90 * time.Second)
	w.mu.Unlock()
	w.jobs.sweeps.Sweep(t.Context())
	live := w.gh.LiveTokens()
	if len(live) != 1 || live[0].Permissions["contents"] != "" {
		t.Errorf("not told, live are %+v; want the one that reads jobs alone\n%s", live, &log)
	}
	w.jobs.close(t.Context())
	if n := len(w.gh.LiveTokens()); n != 0 {
		t.Errorf("after stopping, %d tokens live", n)
	}
}

func TestTheServiceHeedsThatItsAppLosesAccessAndThatItIsBack(t *testing.T) {
	var log said
	w := wire(t, &log, "read")
	hook := w.gh.AddWebhook(w.app, w.url+"/webhooks/github", "0123456789abcdef0123")
	hook.Hold()
	deliver := func(action string) {
		t.Helper()
		for _, d := range hook.Deliveries() {
			if d.Action != action {
				continue
			}
			if status, err := hook.Deliver(d.ID); status != http.StatusNoContent || err != nil {
				t.Errorf("%s: %d, %v", d.Event, status, err)
			}
		}
	}
	ended := func() map[lease.State]int {
		lives, err := w.store.Lives(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return lives
	}
	w.give(t)
	again := w.gh.Install(w.app, "acme") // anew: tokens of the one before are dead, and access is there
	deliver("deleted")
	if lives := ended(); lives[lease.Active] != 1 {
		t.Errorf("access is back: %v", lives)
	}
	w.give(t)
	made := 0
	for _, r := range w.gh.Requests() {
		if r.Method == http.MethodPost && strings.HasSuffix(r.Path, "/access_tokens") {
			made++
		}
	}
	if made != 2 {
		t.Errorf("%d tokens were asked for, want 2: one of an installation that is gone", made)
	}
	w.gh.Suspend(again)
	deliver("suspend")
	if lives := ended(); len(lives) != 0 {
		t.Errorf("access is gone: %v\n%s", lives, &log)
	}
}

func TestAnAppThatMayNotAskIsSaidOnce(t *testing.T) {
	var log said
	w := wire(t, &log, "")
	w.jobs.run(t.Context()) // returns, since there is nothing to do
	if got := strings.Count(log.String(), "lacks the permission Actions: read"); got != 1 {
		t.Errorf("said %d times:\n%s", got, &log)
	}
}

func TestAGitHubThatDoesNotAnswerIsAskedLater(t *testing.T) {
	var log said
	w := wire(t, &log, "read")
	ctx, stop := context.WithCancel(t.Context())
	w.gh.Fault(func(r *http.Request) *githubsim.Fault {
		if r.URL.Path != "/api/v3/app" {
			t.Errorf("asked for %s", r.URL.Path)
		}
		return &githubsim.Fault{Before: http.StatusForbidden, Body: `{"message":"try later"}`}
	})
	running := make(chan struct{})
	go func() { defer close(running); w.jobs.run(ctx) }()
	select {
	case <-running:
		t.Error("no answer was taken for a no")
	case <-log.said("trying as if it might"):
	}
	stop()
	<-running
}

func TestTheSecretOfTheWebhookIsReadWithCare(t *testing.T) {
	dir := t.TempDir()
	for name, c := range map[string]struct{ content, says string }{
		"none":  {"", "reading the secret of the webhook"},
		"short": {"guess\n", "has 5 characters; want at least 16"},
		"long":  {strings.Repeat("x", maxSecretFile+1), "4097 characters"},
		"good":  {"0123456789abcdef\n", ""},
	} {
		if c.content != "" {
			write(t, dir, name, []byte(c.content))
		}
		conf := config{file: filepath.Join(dir, "stepkey.yaml"), Webhooks: webhooksConfig{GitHub: &githubWebhookConfig{Issuer: "github", SecretFile: name}}}
		hook, err := conf.webhook()
		switch {
		case c.says == "" && (err != nil || hook.Secret.Reveal() != "0123456789abcdef" || hook.Issuer != "github"):
			t.Errorf("%s: %+v, %v", name, hook, err)
		case c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "guess")):
			t.Errorf("%s: %v", name, err)
		}
	}
}

// said is a log that can be waited on.
type said struct {
	mu   sync.Mutex
	text strings.Builder
	wait map[string]chan struct{}
}

func (s *said) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.text.Write(p)
	for words, c := range s.wait {
		if strings.Contains(s.text.String(), words) {
			close(c)
			delete(s.wait, words)
		}
	}
	return len(p), nil
}

func (s *said) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// said is closed once the log holds these words.
func (s *said) said(words string) <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := make(chan struct{})
	if strings.Contains(s.text.String(), words) {
		close(c)
		return c
	}
	if s.wait == nil {
		s.wait = map[string]chan struct{}{}
	}
	s.wait[words] = c
	return c
}

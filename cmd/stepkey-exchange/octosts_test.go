package main

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stepkey/stepkey/exchange/lease"
	"github.com/stepkey/stepkey/internal/githubsim"
	"github.com/stepkey/stepkey/internal/secret"
)

// octoWorld is the service as a configuration with octo_sts wires it, with a clock
// that is turned.
type octoWorld struct {
	*service
	gh  *githubsim.GitHub
	url string
	log said
	mu  sync.Mutex
	at  time.Time
}

func (w *octoWorld) now() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.at
}

func (w *octoWorld) advance(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.at = w.at.Add(d)
}

func newOctoWorld(t *testing.T) *octoWorld {
	t.Helper()
	w := &octoWorld{at: time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)}
	var err error
	if w.gh, err = githubsim.Start(githubsim.Options{Now: w.now}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.gh.Close)
	w.gh.AddRepository(githubsim.Repository{ID: 456789, Owner: "acme", Name: "widget", Private: true})
	app := w.gh.AddApp(githubsim.App{ClientID: "Iv1.x", Permissions: map[string]string{"contents": "write"}})
	w.gh.Install(app, "acme")
	c := w.config(t, app, "octo_sts:\n  audience: sts.example.com\n  tasks:\n    - {scope: acme/widget, identity: release, task: upload}\n")
	if w.service, err = open(t.Context(), c, slog.New(slog.NewTextHandler(&w.log, nil))); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.store.Close() })
	web := httptest.NewServer(w.server.Public())
	t.Cleanup(web.Close)
	w.url = web.URL
	return w
}

// config is one with three tasks, of which one needs an input, and one a bound token.
func (w *octoWorld) config(t *testing.T, app githubsim.App, octo string) config {
	t.Helper()
	dir := t.TempDir()
	write(t, dir, "app.pem", app.KeyPEM())
	write(t, dir, "tasks/upload.yaml", []byte(jobsTask))
	write(t, dir, "tasks/chosen.yaml", []byte(strings.Replace(jobsTask, "task: upload", "task: chosen\ninputs:\n  level: {about: Which one., enum: [read, write]}", 1)))
	write(t, dir, "tasks/bound.yaml", []byte(strings.Replace(jobsTask, "task: upload", "task: bound\nbind: request", 1)))
	write(t, dir, "stepkey.yaml", []byte("url: https://lease.example.com\ntasks: tasks\nissuers:\n  github: {kind: github, url: \""+w.gh.IssuerURL()+
		"\", private_network: true}\nbackends:\n  github: {api: \""+w.gh.URL()+"\", client_id: Iv1.x, private_key: app.pem}\n"+octo))
	if err := lease.CreateKeys(filepath.Join(dir, "stepkey.keys")); err != nil {
		t.Fatal(err)
	}
	c, err := readConfig(filepath.Join(dir, "stepkey.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	c.now = w.now
	return c
}

// octoAction is a client of octo-sts, as its action is: it asks at most three times with
// one ID token, whatever the answer, reads token alone, and tells GitHub when it is done.
type octoAction struct{ url, scope, identity, idToken string }

func (a octoAction) main(t *testing.T) (string, error) {
	t.Helper()
	var last error
	for range 3 {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, a.url+"/sts/exchange?scope="+a.scope+"&scopes="+a.scope+"&identity="+a.identity, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+a.idToken)
		var answer struct {
			Token, Message string
		}
		if last = do(r, &answer); last == nil && answer.Token != "" {
			return answer.Token, nil
		}
		last = fmt.Errorf("%w: %s", last, answer.Message)
	}
	return "", last
}

func (a octoAction) post(t *testing.T, api, token string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodDelete, api+"/installation/token", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	if err := do(r, nil); err != nil {
		t.Error(err)
	}
}

func do(r *http.Request, into any) error {
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err == nil && into != nil {
		err = json.Unmarshal(body, into)
	}
	if answer.StatusCode >= 300 {
		return fmt.Errorf("answered %d", answer.StatusCode)
	}
	return err
}

func (w *octoWorld) action(t *testing.T) octoAction {
	t.Helper()
	idToken, err := w.gh.StartJob(githubsim.JobSpec{Repository: "acme/widget", IDToken: true}).IDToken("sts.example.com")
	if err != nil {
		t.Fatal(err)
	}
	return octoAction{w.url, "acme/widget", "release", idToken}
}

// state is what the store has of the lease of a token.
func (w *octoWorld) state(t *testing.T, token string) lease.State {
	t.Helper()
	l, err := w.store.ByCredential(t.Context(), secret.New(token))
	if err != nil {
		t.Fatal(err)
	}
	return l.State
}

func TestAWorkflowOfOctoSTSGoesOnUntouched(t *testing.T) {
	for name, c := range map[string]struct {
		ended bool
		want  lease.State
	}{
		"and ends its token at GitHub":        {true, lease.Revoked},
		"and what it leaves is ended in time": {false, lease.Revoked},
	} {
		t.Run(name, func(t *testing.T) {
			w := newOctoWorld(t)
			a := w.action(t)
			token, err := a.main(t)
			if err != nil {
				t.Fatal(err, w.log.String())
			}
			if live := w.gh.LiveTokens(); len(live) != 1 || live[0].Permissions["contents"] != "write" || w.state(t, token) != lease.Active {
				t.Errorf("live are %+v, and the lease is %s", live, w.state(t, token))
			}
			if c.ended {
				a.post(t, w.gh.URL(), token)
			}
			if w.advance(9 * time.Minute); !w.keeper.Sweep(t.Context(), "github") || w.state(t, token) != lease.Active {
				t.Errorf("before its deadline the lease is %s", w.state(t, token))
			}
			if w.advance(2 * time.Minute); !w.keeper.Sweep(t.Context(), "github") || w.state(t, token) != c.want || len(w.gh.LiveTokens()) != 0 {
				t.Errorf("after its deadline the lease is %s, want %s; %d tokens live", w.state(t, token), c.want, len(w.gh.LiveTokens()))
			}
			if log := w.log.String(); strings.Contains(log, a.idToken) || strings.Contains(log, token) {
				t.Error("a secret is in the log")
			}
		})
	}
}

// An answer that was lost is not given again: whoever asks twice may be somebody else.
func TestALostAnswerOfAnOctoSTSClientStaysLost(t *testing.T) {
	w := newOctoWorld(t)
	a := w.action(t)
	if _, err := a.main(t); err != nil {
		t.Fatal(err)
	}
	if token, err := a.main(t); err == nil || token != "" || !strings.Contains(err.Error(), "401") || !strings.Contains(err.Error(), "exchanged before") {
		t.Errorf("asked again with the same token: %v", err)
	}
	if n := len(w.gh.Issued()); n != 1 {
		t.Errorf("%d tokens were made", n)
	}
}

func TestWhatIsListedForOctoSTSClientsMustBeOfUseToThem(t *testing.T) {
	w := newOctoWorld(t)
	app := w.gh.AddApp(githubsim.App{ClientID: "Iv1.y", Permissions: map[string]string{"contents": "write"}})
	for task, says := range map[string]string{
		"deploy": `stepkey.yaml:9:57: there is no task "deploy" in tasks`,
		"bound":  "stepkey.yaml:9:57: task bound takes only tokens that are bound to the request (bind: request), and clients of octo-sts cannot bind",
		"chosen": "stepkey.yaml:9:57: task chosen needs the input level, and clients of octo-sts give none",
	} {
		c := w.config(t, app, "octo_sts:\n  audience: sts.example.com\n  tasks: [{scope: acme/widget, identity: release, task: "+task+"}]\n")
		if _, err := open(t.Context(), c, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", task, err)
		}
	}
	c := w.config(t, app, "octo_sts:\n  audience: sigstore\n  tasks: [{scope: acme/widget, identity: release, task: upload}]\n")
	if _, err := open(t.Context(), c, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "that of another service") {
		t.Errorf("an audience of somebody else: %v", err)
	}
}

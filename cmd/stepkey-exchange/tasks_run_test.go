package main

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/stepkey/stepkey/exchange/client"
	"github.com/stepkey/stepkey/internal/githubsim"
	"github.com/stepkey/stepkey/internal/runnersim"
	"github.com/stepkey/stepkey/internal/secret"
)

// pageGitHub has the repositories that the page speaks of.
func pageGitHub(t *testing.T) *githubsim.GitHub {
	t.Helper()
	gh := acme(t)
	for name, id := range map[string]int64{
		"design": 456790, "tap": 456792, "legacy": 456793, "gadget": 456794,
		"fleet-staging": 456795, "fleet-production": 456796, "vault": 456797, "plant": 456798,
	} {
		gh.AddRepository(githubsim.Repository{ID: id, Owner: "acme", Name: name, Private: true})
		gh.AddFile("acme", name, "README.md", []byte(name))
	}
	gh.AddFile("acme", "widget", "README.md", []byte("widget"))
	gh.AddFile("acme", "gadget", "LICENSE", []byte("an older one"))
	gh.AddRelease("acme", "widget", "v1.0.0")
	return gh
}

// pageWorld is the page's task files in a real exchange, and a runner with the real action.
type pageWorld struct {
	gh     *githubsim.GitHub
	client *client.Client
	url    string
	runner *runnersim.Runner
	files  map[string]string // workflows
}

func openPage(t *testing.T) *pageWorld {
	t.Helper()
	w := &pageWorld{gh: pageGitHub(t), files: pageFiles(t, ".github/workflows")}
	dir := t.TempDir()
	output(t, "../..", "go", "build", "-o", dir+"/", "./cmd/stepkey", "./cmd/stepkey-exchange")
	app := w.gh.AddApp(githubsim.App{ClientID: "Iv1.x", Permissions: map[string]string{"contents": "write", "issues": "write", "actions": "read"}})
	w.gh.Install(app, "acme")
	write(t, dir, "app.pem", app.KeyPEM())
	for name, text := range pageFiles(t, "tasks") {
		write(t, dir, "tasks/"+name, []byte(text))
	}
	write(t, dir, "tasks/fill-legacy.yaml", []byte(fillLegacy))
	listen := freeAddress(t)
	w.url = "http://" + listen
	write(t, dir, "stepkey.yaml", []byte("url: "+w.url+"\nlisten: "+listen+"\nadmin: 127.0.0.1:0\ntasks: tasks\nowners: [\"123456\"]\nissuers:\n  github: {kind: github, url: \""+
		w.gh.IssuerURL()+"\", private_network: true}\nbackends:\n  github: {api: \""+w.gh.URL()+"\", client_id: Iv1.x, private_key: app.pem}\n"))
	output(t, dir, "./stepkey-exchange", "keys", "create", "stepkey.keys")
	w.client = serve(t, dir).client

	workspace, action := t.TempDir(), filepath.Join(dir, "stepkey")
	write(t, workspace, "LICENSE", []byte("the licence"))
	var err error
	w.runner, err = runnersim.New(runnersim.Options{
		Mode: runnersim.Process, Actions: map[string]string{"stepkey/stepkey@v1": "../.."},
		Entrypoints: map[string]string{"/main": action, "/post": action},
		Workspace:   workspace, Dir: t.TempDir(), Host: map[string]string{"PATH": os.Getenv("PATH")},
	})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// Every recipe runs from end to end: its workflow's steps as processes with the real
// action, the real exchange with the page's task files, and what its credential can do
// at GitHub and cannot.
func TestEveryRecipeOfThePageRuns(t *testing.T) {
	w := openPage(t)
	w.fillLegacy(t)
	for _, r := range recipes() {
		t.Run(r.name, func(t *testing.T) {
			w.refusedWithoutProtection(t, r)
			for _, job := range r.jobs {
				w.run(t, r, job)
			}
			for _, h := range r.holds {
				w.hold(t, r, h)
			}
		})
	}
}

// refusedWithoutProtection asks while the environment has no rule, and then gives it one.
func (w *pageWorld) refusedWithoutProtection(t *testing.T, r recipe) {
	t.Helper()
	for _, job := range r.jobs {
		if job.spec.Environment == "" {
			continue
		}
		for _, h := range r.holds {
			if _, err := w.ask(t, job.spec, h.task, r.inputs); err == nil {
				t.Errorf("%s is given in an environment without a rule", h.task)
			}
		}
		w.gh.SetEnvironment("acme", "widget", githubsim.Environment{Name: job.spec.Environment, Reviewers: 1})
	}
}

// run has the runner do a job of the recipe's workflow.
func (w *pageWorld) run(t *testing.T, r recipe, job pageJob) {
	t.Helper()
	workflow := w.files[r.workflow]
	for i := 0; i < len(job.replace); i += 2 {
		if !strings.Contains(workflow, job.replace[i]) {
			t.Fatalf("%s does not have\n%s", r.workflow, job.replace[i])
		}
		workflow = strings.ReplaceAll(workflow, job.replace[i], job.replace[i+1])
	}
	before := len(w.gh.Requests())
	begun := w.gh.StartJob(job.spec)
	result, err := w.runner.Run(t.Context(), runnersim.Job{
		Workflow: []byte(workflow), Env: begun.Env(), Inputs: job.inputs, Vars: map[string]string{"STEPKEY_EXCHANGE": w.url},
	})
	if err != nil {
		t.Fatal(err)
	}
	if result.Conclusion != runnersim.Success {
		t.Errorf("the job is %s:\n%s", result.Conclusion, result.Log)
	}
	for _, token := range w.gh.LiveTokens() {
		if token.Permissions["actions"] == "" { // with those the exchange itself looks at environments
			t.Errorf("a token for %v is live after the job", token.Permissions)
		}
	}
	var did []string
	for _, q := range w.gh.Requests()[before:] {
		path, api := strings.CutPrefix(q.Path, "/api/v3")
		if does := q.Method + " " + path; api && q.Status < 300 && slices.Contains(named(job.does, begun.RunID()), does) {
			did = append(did, does)
		}
	}
	if diff := cmp.Diff(named(job.does, begun.RunID()), did); diff != "" {
		t.Errorf("it was to do (-) and did (+):\n%s\n%s", diff, result.Log)
	}
}

func named(paths []string, run int64) (all []string) {
	for _, path := range paths {
		all = append(all, strings.ReplaceAll(path, "RUN", strconv.FormatInt(run, 10)))
	}
	return all
}

func (w *pageWorld) ask(t *testing.T, spec githubsim.JobSpec, task string, inputs map[string]string) (*client.Grant, error) {
	subject, err := w.gh.StartJob(spec).IDToken(w.url)
	if err != nil {
		return nil, err
	}
	return w.client.Token(t.Context(), client.TokenRequest{SubjectToken: secret.New(subject), Task: task, Inputs: inputs})
}

// hold has a task's credential do what it can, try what it cannot, and end.
func (w *pageWorld) hold(t *testing.T, r recipe, h held) {
	t.Helper()
	grant, err := w.ask(t, r.jobs[0].spec, h.task, r.inputs)
	if err != nil {
		t.Fatal(err)
	}
	token := grant.Values["token"].Reveal()
	if status := w.call(t, token, h.can); status >= 300 {
		t.Errorf("%s: %s is answered with %d", h.task, h.can, status)
	}
	for _, request := range h.cannot {
		if status := w.call(t, token, request); status != http.StatusForbidden && status != http.StatusNotFound {
			t.Errorf("%s: %s is answered with %d", h.task, request, status)
		}
	}
	if _, err := w.client.Revoke(t.Context(), grant.LeaseToken); err != nil {
		t.Error(err)
	}
	if status := w.call(t, token, h.can); status != http.StatusUnauthorized {
		t.Errorf("%s: after its end, %s is answered with %d", h.task, h.can, status)
	}
}

// call makes one request, METHOD /path and perhaps a body.
func (w *pageWorld) call(t *testing.T, token, request string) int {
	t.Helper()
	parts := strings.SplitN(request+"  ", " ", 3)
	asked, err := http.NewRequestWithContext(t.Context(), parts[0], w.gh.URL()+parts[1], strings.NewReader(strings.TrimSpace(parts[2])))
	if err != nil {
		t.Fatal(err)
	}
	asked.Header.Set("Authorization", "Bearer "+token)
	answer, err := http.DefaultClient.Do(asked)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	_, _ = io.Copy(io.Discard, answer.Body)
	return answer.StatusCode
}

// fillLegacy opens issues in the old repository, as somebody did before.
func (w *pageWorld) fillLegacy(t *testing.T) {
	t.Helper()
	grant, err := w.ask(t, onWorkflow("acme/legacy", "any.yml", "push"), "fill-legacy", nil)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if status := w.call(t, grant.Values["token"].Reveal(), "POST /repos/acme/legacy/issues"+issuePost); status != http.StatusCreated {
			t.Fatalf("opening an issue is answered with %d", status)
		}
	}
	if _, err := w.client.Revoke(t.Context(), grant.LeaseToken); err != nil {
		t.Fatal(err)
	}
}

const fillLegacy = `task: fill-legacy
purpose: Open issues.
allow:
  - issuer: github
    claims: {repository_id: "456793", event_name: push}
credential:
  github: {repository_ids: [456793], permissions: {issues: write}}
limits: {ttl: 1m}
`

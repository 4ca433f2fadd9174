package main

import (
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stepkey/stepkey/exchange/client"
	"github.com/stepkey/stepkey/exchange/lease"
	"github.com/stepkey/stepkey/internal/githubsim"
	"github.com/stepkey/stepkey/internal/secret"
)

const checkedTask = `task: upload
purpose: Upload.
allow:
  - issuer: github
    claims: {repository_id: "456789", event_name: push, environment: release}
credential:
  github: {repository_ids: [456789], permissions: {contents: write}}
limits: {ttl: 10m}
require: [protected_environment, pinned_workflow]
`

const (
	checkedFile  = ".github/workflows/release.yml"
	checkedDigit = "11bd71901bbe5b1630ceea73d27597364c9af683"
	pinnedFlow   = "on: push\njobs:\n  release:\n    steps:\n      - uses: actions/checkout@" + checkedDigit + "\n      - run: make release\n"
)

// checked is a service whose task requires everything, with its GitHub.
type checked struct {
	dir string
	*service
	gh     *githubsim.GitHub
	client *client.Client
	log    said
}

func wireChecked(t *testing.T, backends string) *checked {
	t.Helper()
	k := &checked{}
	var err error
	if k.gh, err = githubsim.Start(githubsim.Options{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.gh.Close)
	k.gh.AddRepository(githubsim.Repository{ID: 456789, Owner: "acme", Name: "widget", Private: true})
	k.gh.AddRepository(githubsim.Repository{Owner: "rival", Name: "ci", Private: true})
	app := k.gh.AddApp(githubsim.App{ClientID: "Iv1.x", Permissions: map[string]string{"contents": "write", "actions": "read"}})
	k.gh.Install(app, "acme")
	dir := t.TempDir()
	k.dir = dir
	write(t, dir, "app.pem", app.KeyPEM())
	write(t, dir, "tasks/upload.yaml", []byte(checkedTask))
	write(t, dir, "stepkey.yaml", []byte("url: https://lease.example.com\ntasks: tasks\nissuers:\n  github: {kind: github, url: \""+k.gh.IssuerURL()+
		"\", private_network: true}\n"+backends+"backends:\n  github: {api: \""+k.gh.URL()+"\", client_id: Iv1.x, private_key: app.pem}\n"))
	if err := lease.CreateKeys(filepath.Join(dir, "stepkey.keys")); err != nil {
		t.Fatal(err)
	}
	c, err := readConfig(filepath.Join(dir, "stepkey.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if k.service, err = open(t.Context(), c, slog.New(slog.NewTextHandler(&k.log, nil))); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { k.store.Close() })
	web := httptest.NewServer(k.server.Public())
	t.Cleanup(web.Close)
	if k.client, err = client.New(web.URL, client.Options{}); err != nil {
		t.Fatal(err)
	}
	return k
}

// flow commits the workflow file and starts a job of it.
func (k *checked) flow(text string, spec githubsim.JobSpec) *githubsim.Job {
	k.gh.AddFile("acme", "widget", checkedFile, []byte(text))
	return k.start(spec)
}

// start starts a job of the workflow file as it is.
func (k *checked) start(spec githubsim.JobSpec) *githubsim.Job {
	spec.Repository, spec.IDToken, spec.Environment, spec.SHA = "acme/widget", true, "release", k.gh.Head("acme", "widget")
	return k.gh.StartJob(spec)
}

// ask gives the job a credential, or says what its client is told.
func (k *checked) ask(t *testing.T, job *githubsim.Job) (*client.Error, error) {
	t.Helper()
	subject, err := job.IDToken("https://lease.example.com")
	if err != nil {
		t.Fatal(err)
	}
	return k.askWith(t, subject)
}

func (k *checked) askWith(t *testing.T, subject string) (*client.Error, error) {
	t.Helper()
	_, err := k.client.Token(t.Context(), client.TokenRequest{SubjectToken: secret.New(subject), Task: "upload"})
	var no *client.Error
	if err != nil && !errors.As(err, &no) {
		t.Fatal(err)
	}
	return no, err
}

// given are the tokens of tasks that GitHub would still take.
func (k *checked) given() (n int) {
	for _, token := range k.gh.LiveTokens() {
		if token.Permissions["contents"] == "write" {
			n++
		}
	}
	return n
}

func (k *checked) asked(part string) (n int) {
	for _, r := range k.gh.Requests() {
		if strings.Contains(r.Path, part) {
			n++
		}
	}
	return n
}

func TestAProtectedEnvironmentAndAPinnedWorkflowGetTheirCredential(t *testing.T) {
	k := wireChecked(t, "")
	k.gh.SetEnvironment("acme", "widget", githubsim.Environment{Name: "release", Reviewers: 1})
	first := k.flow(pinnedFlow, githubsim.JobSpec{})
	for _, job := range []*githubsim.Job{first, k.start(githubsim.JobSpec{}), k.start(githubsim.JobSpec{})} {
		if _, err := k.ask(t, job); err != nil {
			t.Fatalf("%v\n%s", err, &k.log)
		}
	}
	if n := k.given(); n != 3 {
		t.Errorf("%d credentials", n)
	}
	if files, environments := k.asked("/contents/"), k.asked("/environments/"); files != 1 || environments != 3 {
		t.Errorf("asked %d times for the file at one commit and %d times for the environment; want 1 and 3", files, environments)
	}
	var readers []string
	for _, token := range k.gh.LiveTokens() {
		if token.Permissions["contents"] != "write" {
			readers = append(readers, token.Permissions["contents"]+token.Permissions["actions"])
		}
	}
	if !slices.Equal(readers, []string{"read", "read"}) {
		t.Errorf("asked with tokens for %q", readers)
	}
	k.checks.close(t.Context())
	if live := k.gh.LiveTokens(); len(live) != 3 {
		t.Errorf("after stopping, live are %+v", live)
	}
}

func TestWhatGitHubDoesNotConfirmIsDeniedWithItsReason(t *testing.T) {
	k := wireChecked(t, "")
	protected := githubsim.Environment{Name: "release", WaitTimer: 5}
	foreign := map[string]any{"job_workflow_ref": "rival/ci/.github/workflows/x.yml@refs/heads/main", "job_workflow_sha": checkedDigit}
	for _, c := range []struct {
		name   string
		env    githubsim.Environment
		flow   string
		spec   githubsim.JobSpec
		status int
		says   string
	}{
		{"an unprotected environment", githubsim.Environment{Name: "release"}, pinnedFlow, githubsim.JobSpec{},
			http.StatusForbidden, `The task requires protected_environment: environment "release" has no protection rules.`},
		{"a tag for an action", protected, "on: push\njobs:\n  release:\n    steps:\n      - run: make\n      - uses: actions/checkout@v4\n", githubsim.JobSpec{},
			http.StatusForbidden, `: line 6: step 2 of job "release" uses "actions/checkout@v4", which is not pinned by digest`},
		{"a cache", protected, pinnedFlow + "      - uses: actions/cache@" + checkedDigit + "\n", githubsim.JobSpec{},
			http.StatusForbidden, `: line 7: step 3 of job "release" restores a cache: "actions/cache@` + checkedDigit + `".`},
		{"a stranger's workflow", protected, pinnedFlow, githubsim.JobSpec{Claims: foreign},
			http.StatusServiceUnavailable, "GitHub could not be asked for what the task requires, so nothing was handed out. Try again shortly; the subject token is not used up."},
		{"a commit that GitHub does not show", protected, pinnedFlow, githubsim.JobSpec{Claims: map[string]any{"workflow_sha": checkedDigit}},
			http.StatusServiceUnavailable, "GitHub could not be asked"},
	} {
		k.gh.SetEnvironment("acme", "widget", c.env)
		no, err := k.ask(t, k.flow(c.flow, c.spec))
		if err == nil || no.Status != c.status || !strings.Contains(no.Description, c.says) || no.AuditID == "" || k.given() != 0 {
			t.Errorf("%s: %v, %d given", c.name, err, k.given())
		}
		if strings.Contains(no.Description, "rival/ci") {
			t.Errorf("%s: who is not listed as owner is told %s", c.name, no.Description)
		}
	}
}

func TestAGitHubThatIsDownGivesNothingAndTheTokenIsGoodAfterwards(t *testing.T) {
	k := wireChecked(t, "")
	k.gh.SetEnvironment("acme", "widget", githubsim.Environment{Name: "release", Reviewers: 1})
	job := k.flow(pinnedFlow, githubsim.JobSpec{})
	subject, err := job.IDToken("https://lease.example.com")
	if err != nil {
		t.Fatal(err)
	}
	k.gh.Fault(func(r *http.Request) *githubsim.Fault {
		if strings.Contains(r.URL.Path, "/api/v3/") {
			return &githubsim.Fault{Before: http.StatusBadGateway}
		}
		return nil
	})
	no, err := k.askWith(t, subject)
	if err == nil || no.Status != http.StatusServiceUnavailable || no.RetryAfter == 0 || !strings.Contains(no.Description, "GitHub could not be asked") || len(k.gh.Issued()) != 0 {
		t.Errorf("%v, %d tokens made", err, len(k.gh.Issued()))
	}
	k.gh.Fault(nil)
	if _, err := k.askWith(t, subject); err != nil || k.given() != 1 {
		t.Errorf("with the same subject token, once it is up: %v, %d given", err, k.given())
	}
}

func TestATaskThatRequiresWhatNobodyCanBeAskedForIsSaidAtTheStart(t *testing.T) {
	k := wireChecked(t, "  ghes: {kind: github, url: \"https://ghes.example.com/_services/token\"}\n")
	if !strings.Contains(k.log.String(), "these tasks are denied") || !strings.Contains(k.log.String(), "upload") {
		t.Errorf("said at the start:\n%s", &k.log)
	}
	no, err := k.ask(t, k.flow(pinnedFlow, githubsim.JobSpec{}))
	if err == nil || no.Status != http.StatusForbidden || !strings.Contains(no.Description, "this exchange cannot ask the CI system of the issuer") || k.given() != 0 {
		t.Errorf("%v, %d given", err, k.given())
	}
	k.checks.close(t.Context()) // there is nothing to close

	const unseen = "nobody is asked which steps are over"
	if strings.Contains(k.log.String(), unseen) {
		t.Errorf("said of no task:\n%s", &k.log)
	}
	write(t, k.dir, "tasks/late.yaml", []byte(strings.Replace(ofTask("late", 456789), "per_job: 100", "until: step", 1)))
	k.tasks.folder.Reload(t.Context())
	if said := k.log.String(); !strings.Contains(said, unseen) || strings.Count(said, "these tasks are denied") != 2 {
		t.Errorf("said after a reload:\n%s", said)
	}
}

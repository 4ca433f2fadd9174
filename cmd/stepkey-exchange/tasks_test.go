package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stepkey/stepkey/exchange/client"
	"github.com/stepkey/stepkey/exchange/lease"
	"github.com/stepkey/stepkey/internal/githubsim"
	"github.com/stepkey/stepkey/internal/secret"
)

const (
	ownTask   = "acme/widget:publish-release"
	ownFile   = ".github/stepkey/publish-release.yaml"
	acmeOwner = 123456
)

// ofTask is a task file that reaches one repository.
func ofTask(name string, repository int) string {
	return fmt.Sprintf("task: %s\npurpose: Upload.\nallow:\n  - issuer: github\n    claims: {repository_id: \"456789\", event_name: push}\n"+
		"credential:\n  github: {repository_ids: [%d], permissions: {contents: write}}\nlimits: {ttl: 10m, per_job: 100}\n", name, repository)
}

// library is an exchange of which acme's repositories may keep tasks of their own.
type library struct {
	*wired
	t            *testing.T
	log          said
	dir          string
	installation int64
}

func shelve(t *testing.T) *library {
	t.Helper()
	l := &library{wired: &wired{at: time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)}, t: t, dir: t.TempDir()}
	var err error
	if l.gh, err = githubsim.Start(githubsim.Options{Now: l.now}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.gh.Close)
	l.gh.AddRepository(githubsim.Repository{ID: 456789, Owner: "acme", OwnerID: acmeOwner, Name: "widget", Private: true})
	l.gh.AddRepository(githubsim.Repository{ID: 777, Owner: "acme", Name: "gadget", Private: true})
	l.gh.AddRepository(githubsim.Repository{ID: 888, Owner: "example", OwnerID: 999, Name: "widget"})
	l.app = l.gh.AddApp(githubsim.App{ClientID: "Iv1.x", Permissions: map[string]string{"contents": "write", "actions": "read"}})
	l.installation = l.gh.Install(l.app, "acme")
	l.gh.AddFile("acme", "widget", ownFile, []byte(ofTask("publish-release", 456789)))
	write(t, l.dir, "app.pem", l.app.KeyPEM())
	write(t, l.dir, "tasks/upload.yaml", []byte(ofTask("upload", 456789)))
	write(t, l.dir, "stepkey.yaml", []byte("url: https://lease.example.com\ntasks: tasks\nowners: [\"123456\"]\nissuers:\n  github: {kind: github, url: \""+l.gh.IssuerURL()+
		"\", private_network: true}\nbackends:\n  github: {api: \""+l.gh.URL()+"\", client_id: Iv1.x, private_key: app.pem}\n"+
		"repository_tasks: {issuer: github, owners: [\"123456\"]}\n"))
	if err := lease.CreateKeys(filepath.Join(l.dir, "stepkey.keys")); err != nil {
		t.Fatal(err)
	}
	l.start()
	return l
}

// start opens the service, on the store that there is.
func (l *library) start() {
	l.t.Helper()
	c, err := readConfig(filepath.Join(l.dir, "stepkey.yaml"))
	if err != nil {
		l.t.Fatal(err)
	}
	c.now = l.now
	if l.service, err = open(l.t.Context(), c, slog.New(slog.NewTextHandler(&l.log, nil))); err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { l.store.Close() })
	web := httptest.NewServer(l.server.Public())
	l.t.Cleanup(web.Close)
	if l.client, err = client.New(web.URL, client.Options{}); err != nil {
		l.t.Fatal(err)
	}
}

func (l *library) wait(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.at = l.at.Add(d)
}

func (l *library) ask(repository, task string) (*client.Grant, error) {
	subject, err := l.gh.StartJob(githubsim.JobSpec{Repository: repository, IDToken: true}).IDToken("https://lease.example.com")
	if err != nil {
		l.t.Error(err)
	}
	return l.client.Token(l.t.Context(), client.TokenRequest{SubjectToken: secret.New(subject), Task: task})
}

// refuses asks for the repository's task and wants a refusal that says so.
func (l *library) refuses(code, says string) {
	l.t.Helper()
	_, err := l.ask("acme/widget", ownTask)
	var no *client.Error
	if !errors.As(err, &no) || no.Code != code || !strings.Contains(no.Error(), says) {
		l.t.Errorf("want %s with %q, got %v", code, says, err)
	}
}

// appAsked counts the requests that the App made.
func (l *library) appAsked() (n int) {
	for _, r := range l.gh.Requests() {
		if strings.HasPrefix(r.Path, "/api/v3/") {
			n++
		}
	}
	return n
}

// live counts the tokens that can write.
func (l *library) live() (n int) {
	for _, token := range l.gh.LiveTokens() {
		if token.Permissions["contents"] == "write" {
			n++
		}
	}
	return n
}

func TestARepositoryGrantsAccessToItself(t *testing.T) {
	l := shelve(t)
	given, err := l.ask("acme/widget", ownTask)
	if err != nil || given.Task != ownTask || l.live() != 1 {
		t.Fatalf("%+v, %v, %d live", given, err, l.live())
	}
	entries, err := l.store.Audit(t.Context(), lease.AuditQuery{Limit: 1})
	if err != nil || len(entries) != 1 || entries[0].Task != ownTask {
		t.Errorf("%+v, %v", entries, err)
	}
	l.tasks.close(t.Context())
	for _, token := range l.gh.LiveTokens() {
		if token.Permissions["contents"] == "read" {
			t.Errorf("after stopping, a token that reads lives: %+v", token)
		}
	}
}

func TestARepositoryDoesNotGrantAccessToAnother(t *testing.T) {
	l := shelve(t)
	l.gh.AddFile("acme", "widget", ".github/stepkey/steal.yaml", []byte(ofTask("steal", 777)))
	l.refuses(client.CodeAccessDenied, "steal.yaml:7")
	if l.live() != 0 {
		t.Error("a token was made")
	}
	if _, err := l.ask("acme/widget", "upload"); err != nil {
		t.Errorf("the exchange's own task: %v", err)
	}
}

func TestAChangeInARepositoryIsSeenWithinAMinute(t *testing.T) {
	l := shelve(t)
	if _, err := l.ask("acme/widget", ownTask); err != nil {
		t.Fatal(err)
	}
	l.gh.AddFile("acme", "widget", ownFile, []byte(strings.Replace(ofTask("publish-release", 456789), "event_name: push", "event_name: release", 1)))
	l.wait(59 * time.Second)
	l.refuses(client.CodeAccessDenied, "event_name")
	l.gh.RemoveFile("acme", "widget", ownFile)
	l.gh.AddFile("acme", "widget", ".github/stepkey/other.yaml", []byte(ofTask("other", 456789)))
	l.wait(59 * time.Second)
	l.refuses(client.CodeInvalidScope, "no such task")
	if l.live() != 0 {
		t.Error("a lease of the task that is gone lives on")
	}
}

func TestARepositoryWithoutTheAppHasNoTasks(t *testing.T) {
	l := shelve(t)
	if _, err := l.ask("acme/widget", ownTask); err != nil {
		t.Fatal(err)
	}
	l.gh.Uninstall(l.installation)
	l.wait(59 * time.Second)
	l.refuses(client.CodeInvalidScope, "no such task")
}

func TestWithoutGitHubARepositorysTasksAreRefusedAfterAMinute(t *testing.T) {
	l := shelve(t)
	if _, err := l.ask("acme/widget", ownTask); err != nil {
		t.Fatal(err)
	}
	l.gh.Fault(func(r *http.Request) *githubsim.Fault {
		if strings.HasPrefix(r.URL.Path, "/api/v3/repos/") {
			return &githubsim.Fault{Before: http.StatusServiceUnavailable}
		}
		return nil
	})
	l.wait(59 * time.Second)
	if _, err := l.ask("acme/widget", ownTask); err != nil {
		t.Errorf("after 59 s: %v", err)
	}
	l.wait(time.Second)
	l.refuses(client.CodeUnavailable, "cannot be read now")
}

func TestAStrangersWorkloadCausesNoRequest(t *testing.T) {
	l := shelve(t)
	for _, task := range []string{ownTask, "example/widget:publish-release", "acme/none:t"} {
		if _, err := l.ask("example/widget", task); err == nil || l.appAsked() != 0 {
			t.Errorf("%s: %v, %d requests", task, err, l.appAsked())
		}
	}
}

func TestANameThatIsUsedAgainDoesNotReachTheOldRepository(t *testing.T) {
	l := shelve(t)
	l.gh.AddFile("acme", "gadget", ".github/stepkey/t.yaml", []byte(ofTask("t", 777)))
	if _, err := l.ask("acme/widget", "acme/gadget:t"); err != nil {
		t.Fatal(err)
	}
	l.gh.AddRepository(githubsim.Repository{ID: 778, Owner: "acme", Name: "gadget"})
	l.gh.AddFile("acme", "gadget", ".github/stepkey/t.yaml", []byte(ofTask("t", 777)))
	l.wait(31 * time.Second)
	_, err := l.ask("acme/widget", "acme/gadget:t")
	if err == nil || !strings.Contains(err.Error(), "repository_ids: [778]") {
		t.Errorf("%v", err)
	}
}

func TestATaskFileThatIsGoneEndsItsLeases(t *testing.T) {
	l := shelve(t)
	if _, err := l.ask("acme/widget", "upload"); err != nil {
		t.Fatal(err)
	}
	kept, err := l.ask("acme/widget", ownTask)
	if err != nil || l.live() != 2 {
		t.Fatal(err)
	}
	write(t, l.dir, "tasks/other.yaml", []byte(ofTask("other", 456789)))
	if err := os.Remove(filepath.Join(l.dir, "tasks", "upload.yaml")); err != nil {
		t.Fatal(err)
	}
	l.tasks.folder.Look(t.Context())
	if l.live() != 2 {
		t.Error("one look was enough")
	}
	l.tasks.folder.Look(t.Context())
	if l.live() != 1 {
		t.Errorf("%d live\n%s", l.live(), &l.log)
	}
	if seen, err := l.client.Introspect(t.Context(), kept.LeaseToken); err != nil || !seen.Active {
		t.Errorf("another task's: %+v, %v", seen, err)
	}
}

func TestATaskFileThatWentWhileTheExchangeWasDownEndsItsLeases(t *testing.T) {
	l := shelve(t)
	if _, err := l.ask("acme/widget", "upload"); err != nil {
		t.Fatal(err)
	}
	if err := l.store.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(l.dir, "tasks", "upload.yaml"), filepath.Join(l.dir, "upload.yaml")); err != nil {
		t.Fatal(err)
	}
	l.start()
	if l.live() != 1 {
		t.Error("it was ended before a second look")
	}
	l.tasks.folder.Look(t.Context())
	if l.live() != 0 {
		t.Errorf("%d live\n%s", l.live(), &l.log)
	}
}

func TestAHangupHasTheFolderReadAtOnce(t *testing.T) {
	l := shelve(t)
	over := make(chan struct{})
	defer close(over)
	go l.tasks.heed(over)
	if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	select {
	case <-l.tasks.again:
	case <-t.Context().Done():
	}
}

func TestReloadUnderLoadDropsNoRequest(t *testing.T) {
	l := shelve(t)
	var asked atomic.Int64
	var stop atomic.Bool
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for !stop.Load() || asked.Load() < 60 {
				if _, err := l.ask("acme/widget", "upload"); err != nil {
					t.Error(err)
					return
				}
				asked.Add(1)
			}
		})
	}
	for i := range 30 {
		text := ofTask("upload", 456789)
		switch i % 3 {
		case 1:
			text = strings.Replace(text, "ttl: 10m", "ttl: 9m", 1)
		case 2:
			text = "broken"
		}
		write(t, l.dir, "tasks/upload.yaml", []byte(text))
		l.tasks.folder.Reload(t.Context())
		if l.tasks.folder.Stale() != (i%3 == 2) {
			t.Errorf("reload %d: stale %v", i, l.tasks.folder.Stale())
		}
		l.scrape(t, fmt.Sprintf("stepkey_tasks_stale %d", map[bool]int{true: 1}[i%3 == 2]))
	}
	stop.Store(true)
	all.Wait()
}

// scrape wants a line among the metrics, and an exchange that is ready.
func (l *library) scrape(t *testing.T, line string) {
	t.Helper()
	for path, want := range map[string]string{"/metrics": line, "/readyz": "ok"} {
		answer := httptest.NewRecorder()
		l.server.Admin().ServeHTTP(answer, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil))
		if answer.Code != http.StatusOK || !strings.Contains(answer.Body.String(), want+"\n") {
			t.Errorf("%s: %d, without %q", path, answer.Code, want)
		}
	}
}

func TestWhoseRepositoriesKeepTasksIsReadStrictly(t *testing.T) {
	const rest = "url: https://lease.example.com\ntasks: tasks\nissuers:\n  github: {kind: github, url: \"https://token.actions.githubusercontent.com\"}\n  hall: {kind: oidc, url: \"https://hall.example.com\"}\n"
	const backend = "backends:\n  github: {client_id: Iv1.x, private_key: app.pem}\n"
	for name, c := range map[string]struct{ text, says string }{
		"good":       {backend + "repository_tasks: {issuer: github, owners: [\"123456\"]}\n", ""},
		"no owners":  {backend + "repository_tasks: {issuer: github}\n", "owners"},
		"none":       {backend + "repository_tasks: {issuer: github, owners: []}\n", "no owner is listed"},
		"a name":     {backend + "repository_tasks: {issuer: github, owners: [acme]}\n", "numeric ids"},
		"no issuer":  {backend + "repository_tasks: {issuer: gitlab, owners: [\"1\"]}\n", `no issuer "gitlab"`},
		"other kind": {backend + "repository_tasks: {issuer: hall, owners: [\"1\"]}\n", `no issuer "hall"`},
		"no App":     {"backends: {vault: {}}\nrepository_tasks: {issuer: github, owners: [\"1\"]}\n", "not configured"},
	} {
		dir := t.TempDir()
		write(t, dir, "stepkey.yaml", []byte(rest+c.text))
		_, err := readConfig(filepath.Join(dir, "stepkey.yaml"))
		if c.says == "" && err != nil || c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

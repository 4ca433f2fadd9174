package githubapp_test

import (
	"bytes"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stepkey/stepkey/internal/githubsim"
)

const releaseYML = ".github/workflows/release.yml"

func TestAWorkflowFileIsReadAtItsCommit(t *testing.T) {
	w := watchJobs(t, githubsim.Options{})
	checks := w.checks(t)
	w.hub.AddFile("acme", "widget", releaseYML, []byte("first\n"))
	first := w.hub.Head("acme", "widget")
	w.hub.AddFile("acme", "widget", releaseYML, bytes.Repeat([]byte("second\n"), 1000))
	second := w.hub.Head("acme", "widget")
	for commit, size := range map[string]int{first: 6, second: 7000} {
		if data, err := checks.WorkflowFile(t.Context(), "acme/Widget", releaseYML, commit); err != nil || len(data) != size {
			t.Errorf("%d bytes, %v", len(data), err)
		}
	}
	live := w.hub.LiveTokens()
	if len(live) != 1 || !slices.Equal(live[0].RepositoryIDs, []int64{widgetID}) || live[0].Permissions["contents"] != "read" || live[0].Permissions["actions"] != "" {
		t.Errorf("read with %+v", live)
	}
}

func TestAFileThatCannotBeReadIsAnError(t *testing.T) {
	w := watchJobs(t, githubsim.Options{})
	w.hub.AddRepository(githubsim.Repository{Owner: "rival", Name: "ci", Private: true})
	w.hub.AddFile("acme", "widget", releaseYML, bytes.Repeat([]byte("x"), 1<<20+1))
	w.hub.AddFile("acme", "widget", ".github/workflows/folder.yml/x", nil)
	head := w.hub.Head("acme", "widget")
	checks := w.checks(t)
	for name, c := range map[string]struct{ repository, path, commit, says string }{
		"a larger one":             {"acme/widget", releaseYML, head, "the file has 1048577 bytes; at most 1048576 are read"},
		"none":                     {"acme/widget", ".github/workflows/other.yml", head, "404"},
		"a folder":                 {"acme/widget", ".github/workflows/folder.yml", head, "could not be read"},
		"another commit":           {"acme/widget", releaseYML, strings.Repeat("0", 40), "404"},
		"a stranger's":             {"rival/ci", releaseYML, head, "404"},
		"a branch":                 {"acme/widget", releaseYML, "main", "refused before asking"},
		"another folder":           {"acme/widget", "README.md", head, "refused before asking"},
		"a way out of the folder":  {"acme/widget", ".github/workflows/../../README.yml", head, "refused before asking"},
		"a repository of no owner": {"widget", releaseYML, head, "refused before asking"},
		"a path for a name":        {"acme/widget/x", releaseYML, head, "refused before asking"},
	} {
		if data, err := checks.WorkflowFile(t.Context(), c.repository, c.path, c.commit); err == nil || data != nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %d bytes, %v", name, len(data), err)
		}
	}
}

func TestAnAnswerThatIsNotTheWholeFileIsAnError(t *testing.T) {
	w := watchJobs(t, githubsim.Options{})
	w.hub.AddFile("acme", "widget", releaseYML, []byte("on: push\n"))
	head := w.hub.Head("acme", "widget")
	checks := w.checks(t)
	for name, body := range map[string]string{
		"cut short":        `{"type":"file","path":"` + releaseYML + `","size":9,"encoding":"base64","content":"b24="}`,
		"no base64":        `{"type":"file","path":"` + releaseYML + `","size":9,"encoding":"base64","content":"!!!!"}`,
		"another encoding": `{"type":"file","path":"` + releaseYML + `","size":9,"encoding":"none","content":""}`,
		"another file":     `{"type":"file","path":"README.md","size":2,"encoding":"base64","content":"b24="}`,
		"a link":           `{"type":"symlink","path":"` + releaseYML + `","size":2,"encoding":"base64","content":"b24="}`,
		"empty":            `{}`,
	} {
		w.hub.Fault(func(r *http.Request) *githubsim.Fault {
			if strings.Contains(r.URL.Path, "/contents/") {
				return &githubsim.Fault{Before: http.StatusOK, Body: body}
			}
			return nil
		})
		if data, err := checks.WorkflowFile(t.Context(), "acme/widget", releaseYML, head); err == nil || data != nil {
			t.Errorf("%s: %q, %v", name, data, err)
		}
	}
	w.hub.Fault(func(r *http.Request) *githubsim.Fault {
		if strings.Contains(r.URL.Path, "/contents/") {
			return &githubsim.Fault{Before: http.StatusOK, Body: `{"type":"file","path":"` + releaseYML + `","size":9,"encoding":"base64","content":"b246IHB1\nc2gK\n"}`}
		}
		return nil
	})
	if data, err := checks.WorkflowFile(t.Context(), "acme/widget", releaseYML, head); err != nil || string(data) != "on: push\n" {
		t.Errorf("in lines, as GitHub has it: %q, %v", data, err)
	}
}

func TestARepositoryOfAnotherNameIsFoundTheNextTime(t *testing.T) {
	w := watchJobs(t, githubsim.Options{})
	checks := w.checks(t)
	w.hub.SetEnvironment("acme", "widget", githubsim.Environment{Name: "release", Reviewers: 1})
	ask := func() error {
		_, err := checks.Protection(t.Context(), fmt.Sprint(widgetID), "release")
		return err
	}
	if err := ask(); err != nil {
		t.Fatal(err)
	}
	w.wait(2 * time.Minute)
	w.hub.Fault(func(r *http.Request) *githubsim.Fault {
		if strings.Contains(r.URL.Path, "/environments/") {
			return &githubsim.Fault{Before: http.StatusMovedPermanently}
		}
		return nil
	})
	if err := ask(); err == nil || len(w.hub.LiveTokens()) != 0 {
		t.Errorf("under its old name: %v; %d tokens live", err, len(w.hub.LiveTokens()))
	}
	w.hub.Fault(nil)
	if err := ask(); err != nil || len(w.hub.Issued()) != 2 {
		t.Errorf("under its new one: %v, %d tokens", err, len(w.hub.Issued()))
	}
}

func TestManyWhoAskAtOnceShareOneToken(t *testing.T) {
	w := watchJobs(t, githubsim.Options{})
	checks := w.checks(t)
	w.hub.AddFile("acme", "widget", releaseYML, []byte("on: push\n"))
	head := w.hub.Head("acme", "widget")
	faults := make(chan error)
	const many = 20
	for range many {
		go func() {
			_, err := checks.WorkflowFile(t.Context(), "acme/widget", releaseYML, head)
			faults <- err
		}()
	}
	for range many {
		if err := <-faults; err != nil {
			t.Error(err)
		}
	}
	if n := len(w.hub.Issued()); n != 1 {
		t.Errorf("%d tokens were made", n)
	}
}

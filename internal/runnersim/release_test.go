package runnersim_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/rhysd/actionlint"

	"github.com/stepkey/stepkey/internal/needs"
	"github.com/stepkey/stepkey/internal/runnersim"
)

const root = "../.."

func TestTheWorkflowsToCopyHaveNoFindings(t *testing.T) {
	linter, err := actionlint.NewLinter(io.Discard, &actionlint.LinterOptions{})
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(root, "workflows", "*.yml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no workflows: %v", err)
	}
	findings, err := linter.LintFiles(files, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range findings {
		t.Error(f)
	}
}

// releases is as much of GitHub as the release workflow talks to: one release, and
// the assets uploaded to it with the right token.
type releases struct {
	*httptest.Server
	mu     sync.Mutex
	assets map[string][]byte
}

func startReleases(t *testing.T, token string) *releases {
	r := &releases{assets: map[string][]byte{}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /repos/acme/widget/releases/tags/v1.2.3", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string]any{"id": 7, "upload_url": r.URL + "/uploads/7/assets{?name,label}"})
	})
	mux.HandleFunc("POST /uploads/7/assets", func(w http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(req.Body)
		if err != nil || req.Header.Get("Content-Type") != "application/gzip" {
			http.Error(w, "not an archive", http.StatusBadRequest)
			return
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.assets[req.URL.Query().Get("name")] = body
		w.WriteHeader(http.StatusCreated)
		_ = json.NewEncoder(w).Encode(map[string]any{"name": req.URL.Query().Get("name"), "state": "uploaded", "size": len(body)})
	})
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.Header.Get("Authorization") != "Bearer "+token {
			http.Error(w, `{"message":"Bad credentials"}`, http.StatusUnauthorized)
			return
		}
		mux.ServeHTTP(w, req)
	}))
	t.Cleanup(r.Close)
	return r
}

// names lists what is in an uploaded archive.
func (r *releases) names(t *testing.T, asset string) []string {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	unzipped, err := gzip.NewReader(bytes.NewReader(r.assets[asset]))
	if err != nil {
		t.Fatalf("asset %q of %d bytes: %v", asset, len(r.assets[asset]), err)
	}
	var names []string
	for archive := tar.NewReader(unzipped); ; {
		header, err := archive.Next()
		if err == io.EOF {
			slices.Sort(names)
			return names
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, header.Name)
	}
}

// repository makes a small one with one commit and one file that is not tracked.
func repository(t *testing.T) string {
	t.Helper()
	needs.Programs(t, "git")
	dir := filepath.Join(t.TempDir(), "widget")
	for name, text := range map[string]string{"README.md": "widget", "src/a b.c": "int main;", "untracked.tmp": "x"} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, line := range [][]string{
		{"init", "--quiet"}, {"add", "README.md", "src"},
		{"-c", "user.name=a", "-c", "user.email=a@example.com", "commit", "--quiet", "-m", "first"},
	} {
		cmd := exec.Command("git", append([]string{"-C", dir}, line...)...)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("git %s: %v\n%s", line[0], err, out)
		}
	}
	return dir
}

func releaseJob(t *testing.T, api string) runnersim.Job {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "workflows", "release.yml"))
	if err != nil {
		t.Fatal(err)
	}
	return runnersim.Job{
		Workflow: text,
		Env: map[string]string{
			"GITHUB_API_URL": api, "GITHUB_REPOSITORY": "acme/widget", "GITHUB_EVENT_NAME": "push",
			"GITHUB_REF": "refs/tags/v1.2.3", "GITHUB_REF_NAME": "v1.2.3",
		},
		Vars: map[string]string{"STEPKEY_EXCHANGE": "https://exchange.example.com"},
	}
}

// spy puts a curl into PATH that writes its arguments down before it runs the real one.
func spy(t *testing.T) (path, record string) {
	t.Helper()
	needs.Programs(t, "jq", "curl")
	curl, err := exec.LookPath("curl")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	record = filepath.Join(dir, "arguments")
	script := fmt.Sprintf("#!/bin/sh\nprintf '%%s\\n' \"$@\" >>%q\nexec %q \"$@\"\n", record, curl)
	if err := os.WriteFile(filepath.Join(dir, "curl"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	return dir + ":" + os.Getenv("PATH"), record
}

func wantReleased(t *testing.T, r *runnersim.Result, github *releases, arguments string) {
	t.Helper()
	if r.Conclusion != runnersim.Success {
		t.Fatalf("the job is %s:\n%s", r.Conclusion, r.Log)
	}
	if got := github.names(t, "widget-v1.2.3.tar.gz"); !slices.Equal(got, []string{"README.md", "src/a b.c"}) {
		t.Errorf("the asset holds %q", got)
	}
	said, err := os.ReadFile(arguments)
	if err != nil || !strings.Contains(string(said), "/releases/tags/v1.2.3") {
		t.Fatalf("the arguments of curl: %q, %v", said, err)
	}
	if strings.Contains(string(said), "token-for-publish-release") {
		t.Errorf("the token is in curl's arguments:\n%s", said)
	}
	if strings.Contains(r.Log, "token-for-publish-release") {
		t.Errorf("the token is in the log:\n%s", r.Log)
	}
}

func TestTheReleaseWorkflowUploadsTheTrackedFiles(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, o runnersim.Options) {
		path, arguments := spy(t)
		github := startReleases(t, "token-for-publish-release")
		o.Actions["stepkey/stepkey@v1"] = o.Actions["acme/toy@v1"]
		o.Workspace, o.Host = repository(t), map[string]string{"PATH": path}
		r := run(t, o, releaseJob(t, github.URL))
		wantReleased(t, r, github, arguments)
		wantLines(t, step(t, r, "key", runnersim.Post).Log, `lease="lease-1"`)
	})
}

func TestTheReleaseWorkflowFailsWhenTheTokenIsRefused(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, o runnersim.Options) {
		path, _ := spy(t)
		github := startReleases(t, "another token")
		o.Actions["stepkey/stepkey@v1"] = o.Actions["acme/toy@v1"]
		o.Workspace, o.Host = repository(t), map[string]string{"PATH": path}
		r := run(t, o, releaseJob(t, github.URL))
		upload := step(t, r, "Upload", runnersim.Main)
		if r.Conclusion != runnersim.Failure || !strings.Contains(upload.Log, "401") {
			t.Errorf("the job is %s:\n%s", r.Conclusion, upload.Log)
		}
		step(t, r, "key", runnersim.Post)
	})
}

func TestTheReleaseWorkflowRunsByActToo(t *testing.T) {
	t.Parallel()
	needs.Working(t, "docker", "version")
	path, arguments := spy(t)
	dir, err := toy()
	if err != nil {
		t.Fatal(err)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	cache = filepath.Join(cache, "stepkey")
	if err := os.MkdirAll(cache, 0o755); err != nil {
		t.Fatal(err)
	}
	binary, err := runnersim.BuildAct(t.Context(), filepath.Join(root, ".ci", "act"), cache)
	if err != nil {
		t.Fatal(err)
	}
	github := startReleases(t, "token-for-publish-release")
	act := runnersim.Act{
		Binary: binary, Actions: map[string]string{"stepkey/stepkey@v1": dir}, Workspace: repository(t),
		Host: map[string]string{"PATH": path}, Dir: t.TempDir(),
	}
	r, err := act.Run(t.Context(), releaseJob(t, github.URL))
	if err != nil {
		t.Fatal(err)
	}
	wantReleased(t, r, github, arguments)
	for _, sign := range []string{"half=main", "half=post", `lease=""`} {
		if !strings.Contains(r.Log, sign) {
			t.Errorf("no %q in act's log:\n%s", sign, r.Log)
		}
	}
}

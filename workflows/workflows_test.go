// Package workflows_test runs every workflow of this folder from end to end: the real
// action, the real exchange, and a GitHub on an address of this machine.
package workflows_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/stepkey/stepkey/internal/githubsim"
	"github.com/stepkey/stepkey/internal/needs"
	"github.com/stepkey/stepkey/internal/runnersim"
)

// told are the workflows that have stories here.
var told = []string{"backup.yml", "deploy-ssh.yml", "exec.yml", "migrate.yml", "publish-image.yml", "release.yml"}

func TestEveryWorkflowHasItsStory(t *testing.T) {
	files, err := filepath.Glob("*.yml")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(told, files); diff != "" {
		t.Errorf("workflows with stories (-) and workflows (+):\n%s", diff)
	}
}

func TestAReleaseGetsItsAssetAndTheKeyIsGone(t *testing.T) {
	t.Parallel()
	everywhere(t, setting{}, func(t *testing.T, w *world) {
		r := w.run(t, w.job(w.release(), read(t, "release.yml")))
		if r.Conclusion != runnersim.Success {
			t.Fatalf("the job is %s", r.Conclusion)
		}
		w.wantReleased(t)
		w.wantAudit(t, "pending", "active", "revoking", "revoked")
		main, post := step(t, r, "key", runnersim.Main), step(t, r, "key", runnersim.Post)
		if !strings.Contains(post.Log, "revoked in ") {
			t.Errorf("the post half says:\n%s", post.Log)
		}
		if main.Outputs["token"] != w.used {
			t.Error("the asset was uploaded with another credential than the step's output")
		}
		wantOnlyIn(t, r.Left, "the credential", w.used, "file_commands/03-main/set_output")
		wantOnlyIn(t, r.Left, "the lease token", main.State["lease_token"], "file_commands/03-main/save_state")
		for _, secret := range []string{w.used, main.State["lease_token"]} {
			if strings.Contains(r.Log, secret) {
				t.Errorf("the log shows a secret:\n%s", r.Log)
			}
		}
		for _, half := range []runnersim.Step{main, post} {
			if !strings.Contains(half.Summary, "publish-release") || strings.Contains(half.Summary, "***") {
				t.Errorf("the summary of %s is %q", half.Name, half.Summary)
			}
		}
	})
}

// act restores no state for the post half, and its runners descend from it.
func TestARunByActEndsItsKeyToo(t *testing.T) {
	t.Parallel()
	toolchain(t)
	needs.Programs(t, "git", "jq", "curl")
	program, err := act()
	if err != nil {
		t.Fatal(err)
	}
	image, err := actionImage()
	if err != nil {
		t.Fatal(err)
	}
	bridge := defaultBridge(t)
	w, files := begin(t, setting{}, bridge)
	w.exchange = serve(t, bridge, files)

	uses := "stepkey/stepkey@v1"
	runner := runnersim.Act{
		Binary: program, Actions: map[string]string{uses: action(t)}, Images: map[string]string{uses: image},
		Workspace: w.runner.Workspace, Host: w.runner.Host, Dir: t.TempDir(),
	}
	r, err := runner.Run(t.Context(), w.job(w.release(), read(t, "release.yml")))
	if err != nil {
		t.Fatal(err)
	}
	if r.Conclusion != runnersim.Success {
		t.Fatalf("the job is %s:\n%s", r.Conclusion, r.Log)
	}
	w.wantReleased(t)
	w.wantEndedByItsJob(t)
	if !strings.Contains(r.Log, "this runner did not keep the state") {
		t.Errorf("the post half does not say why it asked for all of the job's leases:\n%s", r.Log)
	}
	if strings.Contains(r.Log, w.used) {
		t.Errorf("the log shows the credential:\n%s", r.Log)
	}
	wantOnlyIn(t, r.Left, "the credential", w.used) // act has cleared its files away
}

func TestARunnerThatLosesStateEndsItsKeyByTheJobsOwnToken(t *testing.T) {
	t.Parallel()
	everywhere(t, setting{}, func(t *testing.T, w *world) {
		w.runner.DropState = true
		r := w.run(t, w.job(w.release(), read(t, "release.yml")))
		if r.Conclusion != runnersim.Success {
			t.Fatalf("the job is %s", r.Conclusion)
		}
		w.wantReleased(t)
		w.wantEndedByItsJob(t)
		wantOnlyIn(t, r.Left, "the credential", w.used, "file_commands/03-main/set_output")
	})
}

func TestARunnerThatDiesLeavesAKeyThatEndsAtItsDeadline(t *testing.T) {
	t.Parallel()
	everywhere(t, setting{ttl: "5s"}, func(t *testing.T, w *world) {
		seen, died := make(chan struct{}), make(chan struct{})
		ending := w.holdBack(ends, seen) // so that a slow machine does not miss it alive
		job := w.job(w.release(), read(t, "release.yml"))
		job.Die = died
		job.Watch = func(m runnersim.Moment) {
			if m.ID == "key" && m.Done {
				close(died)
			}
		}
		r := w.run(t, job)
		if r.Conclusion != runnersim.Lost {
			t.Fatalf("the job is %s", r.Conclusion)
		}
		if _, ran := r.Step("key", runnersim.Post); ran {
			t.Error("post ran on a dead runner")
		}
		if live := w.gh.LiveTokens(); len(live) != 1 {
			t.Errorf("%d tokens live after the runner's death, want 1", len(live))
		}
		wait(t, ending, "the keeper did not end the key")
		close(seen)
		w.exchange.said(t, `"msg":"ending"`, `"why":"its time was over"`, `"state":"revoked"`)
		w.wantNothingAlive(t, 1)
		log := w.wantAudit(t, "pending", "active", "revoking", "revoked")
		if until := step(t, r, "key", runnersim.Main).Outputs["expires-at"]; log[2].At.Format("2006-01-02T15:04:05Z") < until {
			t.Errorf("it was ended at %v, before its deadline %s", log[2].At, until)
		}
	})
}

func TestAJobThatIsOverBeforeGitHubAnswersGetsNothingThatLives(t *testing.T) {
	t.Parallel()
	for name, story := range map[string]struct {
		end  func(*runnersim.Job, <-chan struct{})
		want runnersim.Conclusion
		why  string
	}{
		"it is cancelled": {func(j *runnersim.Job, now <-chan struct{}) { j.Cancel = now }, runnersim.Cancelled, "the holder's job gave back all it held"},
		"its runner dies": {func(j *runnersim.Job, now <-chan struct{}) { j.Die = now }, runnersim.Lost, "the client went away before the answer"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			everywhere(t, setting{}, func(t *testing.T, w *world) {
				answer := make(chan struct{})
				job := w.job(w.release(), read(t, "release.yml"))
				story.end(&job, w.holdBack(creates, answer))
				made := sync.OnceFunc(func() { close(answer) })
				if story.want == runnersim.Cancelled { // a cancelled main has a word with the exchange before it goes
					go func() {
						w.exchange.log.await(time.After(patience), []string{`"msg":"ending"`})
						made()
					}()
				}
				r := w.run(t, job)
				made() // a dead one does not
				if r.Conclusion != story.want {
					t.Errorf("the job is %s, want %s", r.Conclusion, story.want)
				}
				w.exchange.said(t, `"msg":"refused"`, `publish-release`)
				w.wantNothingAlive(t, 1)
				w.wantEnded(t, story.why)
				main := step(t, r, "key", runnersim.Main)
				if main.Outputs["token"] != "" {
					t.Error("a credential was handed over")
				}
				if story.want == runnersim.Cancelled {
					wantError(t, main, []string{"told to stop before the exchange answered"})
				}
			})
		})
	}
}

// wantEnded: somebody began to end the lease for that reason, and it has ended.
func (w *world) wantEnded(t *testing.T, why string) {
	t.Helper()
	log := w.exchange.audit(t)
	begun := slices.ContainsFunc(log, func(e entry) bool { return e.Event == "revoking" && e.Reason == why })
	ended := slices.ContainsFunc(log, func(e entry) bool { return e.Event == "revoked" || e.Event == "failed" })
	if !begun || !ended {
		t.Errorf("want a lease that has ended because %s; the audit log: %+v", why, log)
	}
}

// key is a job that runs where a release's would not get to its key.
const key = `on: [push, pull_request]
permissions:
  id-token: write
jobs:
  publish:
    runs-on: ubuntu-latest
    steps:
      - id: key
        uses: stepkey/stepkey@v1
        with:
          exchange: ${{ vars.STEPKEY_EXCHANGE }}
          task: publish-release
      - id: after
        run: echo "it got past the key"
`

const forkEvent = `{"action":"opened","pull_request":{"head":{"repo":{"id":999,"fork":true}},"base":{"repo":{"id":456789,"fork":false}}}}`

func TestAJobThatGetsNoKeyFailsAndSaysWhatToDo(t *testing.T) {
	t.Parallel()
	for name, story := range map[string]struct {
		spec  func(*githubsim.JobSpec)
		event string
		says  []string
		audit []string
	}{
		"it may not have ID tokens": {
			spec: func(s *githubsim.JobSpec) { s.IDToken = false },
			says: []string{"no ID token", "add it to the job", "id-token: write"},
		},
		"a fork's pull request": {
			spec: func(s *githubsim.JobSpec) {
				s.Event, s.Ref, s.Environment, s.ForkPullRequest = "pull_request", "", "", true
			},
			event: forkEvent,
			says:  []string{"no ID token", "a pull request from a fork", "run this step on `push` instead"},
		},
		"it is not in the environment of the task": {
			spec:  func(s *githubsim.JobSpec) { s.Environment = "" },
			says:  []string{"access denied", "environment", "Audit id: audit_"},
			audit: []string{"denied"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			everywhere(t, setting{}, func(t *testing.T, w *world) {
				job := w.job(w.release(story.spec), key)
				job.Event = []byte(story.event)
				r := w.run(t, job)
				main := step(t, r, "key", runnersim.Main)
				if r.Conclusion != runnersim.Failure || main.Conclusion != runnersim.Failure {
					t.Errorf("the job is %s, its key %s", r.Conclusion, main.Conclusion)
				}
				wantError(t, main, story.says)
				if s := step(t, r, "after", runnersim.Main); s.Conclusion != runnersim.Skipped {
					t.Errorf("the step after the key is %s", s.Conclusion)
				}
				if post := step(t, r, "key", runnersim.Post); post.Conclusion != runnersim.Success || len(post.Annotations) > 0 {
					t.Errorf("the post half is %s and says %v", post.Conclusion, post.Annotations)
				}
				w.wantNothingAlive(t, 0)
				w.wantAudit(t, story.audit...)
			})
		})
	}
}

// wantError: one error on the job's page, with all that it must say.
func wantError(t *testing.T, s runnersim.Step, says []string) {
	t.Helper()
	if len(s.Annotations) != 1 || s.Annotations[0].Level != "error" {
		t.Fatalf("annotations are %+v", s.Annotations)
	}
	text := s.Annotations[0].Title + ": " + s.Annotations[0].Message
	for _, words := range says {
		if !strings.Contains(text, words) {
			t.Errorf("the error does not say %q: %s", words, text)
		}
	}
}

// wantReleased: the asset is there, and of the one credential that was made, for this
// and nothing else, nothing is left.
func (w *world) wantReleased(t *testing.T) {
	t.Helper()
	if diff := cmp.Diff([]string{"README.md", "src/main.c"}, archived(t, w.gh.Assets("acme", "widget", "v1.2.3")["widget-v1.2.3.tar.gz"])); diff != "" {
		t.Errorf("the asset holds (-want +got):\n%s", diff)
	}
	w.wantNothingAlive(t, 1)
	for _, token := range w.gh.Issued() {
		want := githubsim.TokenInfo{RepositoryIDs: []int64{456789}, Permissions: map[string]string{"contents": "write", "metadata": "read"}, Revoked: true}
		got := githubsim.TokenInfo{RepositoryIDs: token.RepositoryIDs, Permissions: token.Permissions, Revoked: token.Revoked}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("the token (-want +got):\n%s", diff)
		}
	}
}

func (w *world) wantNothingAlive(t *testing.T, issued int) {
	t.Helper()
	if live := w.gh.LiveTokens(); len(live) != 0 {
		t.Errorf("%d tokens live on: %+v", len(live), live)
	}
	if all := w.gh.Issued(); len(all) != issued {
		t.Errorf("%d tokens were made, want %d", len(all), issued)
	}
}

func (w *world) wantAudit(t *testing.T, want ...string) []entry {
	t.Helper()
	log := w.exchange.audit(t)
	if got := events(log); !slices.Equal(got, want) {
		t.Fatalf("the audit log has %q, want %q", got, want)
	}
	return log
}

func (w *world) wantEndedByItsJob(t *testing.T) {
	t.Helper()
	log := w.wantAudit(t, "pending", "active", "revoking", "revoked")
	if reason := log[2].Reason; !strings.Contains(reason, "the holder's job gave back all it held") {
		t.Errorf("it was ended because %q", reason)
	}
}

// wantOnlyIn searches all that a job left on its machine, in what encodings may be
// expected there.
func wantOnlyIn(t *testing.T, left, what, value string, files ...string) {
	t.Helper()
	if len(value) < 20 {
		t.Fatalf("%s has %d characters: it could be anything", what, len(value))
	}
	var found []string
	err := filepath.WalkDir(left, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if bytes.Contains(content, []byte(value)) || bytes.Contains(content, []byte(base64.StdEncoding.EncodeToString([]byte(value)))) {
			inside, err := filepath.Rel(left, path)
			found = append(found, inside)
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(files, found); diff != "" {
		t.Errorf("files with %s (-want +got):\n%s", what, diff)
	}
}

func step(t *testing.T, r *runnersim.Result, name string, phase runnersim.Phase) runnersim.Step {
	t.Helper()
	s, ok := r.Step(name, phase)
	if !ok {
		t.Fatalf("no %s half of %q ran", phase, name)
	}
	return s
}

func wait(t *testing.T, event <-chan struct{}, otherwise string) {
	t.Helper()
	select {
	case <-event:
	case <-time.After(patience):
		t.Fatal(otherwise)
	}
}

// action is what a runner fetches of the action's repository, when it need not build it.
func action(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"action.yml", "Dockerfile"} {
		write(t, filepath.Join(dir, name), []byte(read(t, filepath.Join(root, name))))
	}
	return dir
}

// defaultBridge is the address of this machine on the network that act's containers join.
func defaultBridge(t *testing.T) string {
	t.Helper()
	name := strings.TrimSpace(command(t, "docker", "network", "inspect", "-f", `{{index .Options "com.docker.network.bridge.name"}}`, "bridge"))
	bridge, err := net.InterfaceByName(name)
	if err != nil {
		t.Fatalf("docker's default bridge %q: %v", name, err)
	}
	addresses, err := bridge.Addrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addresses {
		if own, ok := a.(*net.IPNet); ok && own.IP.To4() != nil {
			return own.IP.String()
		}
	}
	t.Fatalf("docker's default bridge %s has no IPv4 address: %v", name, addresses)
	return ""
}

// archived lists the files of a tar.gz.
func archived(t *testing.T, archive []byte) []string {
	t.Helper()
	unzipped, err := gzip.NewReader(bytes.NewReader(archive))
	if err != nil {
		t.Fatalf("an asset of %d bytes: %v", len(archive), err)
	}
	var names []string
	for in := tar.NewReader(unzipped); ; {
		header, err := in.Next()
		if errors.Is(err, io.EOF) {
			slices.Sort(names)
			return names
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, header.Name)
	}
}

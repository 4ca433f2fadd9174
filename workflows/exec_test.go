package workflows_test

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stepkey/stepkey/internal/needs"
	"github.com/stepkey/stepkey/internal/runnersim"
)

// onTheMachine tells one story twice: with the action as a process, and in a container.
// The exchange is where run steps reach it too, which are on the machine itself.
func onTheMachine(t *testing.T, s setting, story func(t *testing.T, w *world)) {
	t.Helper()
	needs.Programs(t, "git", "jq", "curl")
	t.Run("the action as a process", func(t *testing.T) {
		t.Parallel()
		w, files := begin(t, s, "127.0.0.1")
		w.runner.Mode = runnersim.Process
		w.runner.Entrypoints = map[string]string{"/main": binary(t, "stepkey"), "/post": binary(t, "stepkey")}
		w.exchange = serve(t, "127.0.0.1", files)
		story(t, w)
	})
	t.Run("the action in a container", func(t *testing.T) {
		t.Parallel()
		w, files, network := inContainers(t, s)
		w.exchange = serve(t, network.Gateway, files)
		story(t, w)
	})
}

func TestACommandsKeyIsGoneBeforeItsStepEnds(t *testing.T) {
	t.Parallel()
	onTheMachine(t, setting{}, func(t *testing.T, w *world) {
		job := w.job(w.release(), read(t, "exec.yml"))
		job.Watch = func(m runnersim.Moment) {
			if m.Name == "Upload" && m.Done {
				w.wantNothingAlive(t, 1)
			}
		}
		r := w.run(t, job)
		if r.Conclusion != runnersim.Success {
			t.Fatalf("the job is %s", r.Conclusion)
		}
		w.wantReleased(t)
		w.wantAudit(t, "pending", "active", "revoking", "revoked")
		install := step(t, r, "Install stepkey", runnersim.Main)
		if len(install.Annotations) != 1 || install.Annotations[0].Level != "notice" || len(install.Outputs) > 0 {
			t.Errorf("the installing step has %+v and the outputs %v", install.Annotations, install.Outputs)
		}
		if post := step(t, r, "Post Install stepkey", runnersim.Post); post.ExitCode != 0 || len(post.Annotations) > 0 || post.Summary != "" {
			t.Errorf("its post half says:\n%s", post.Log)
		}
	})
}

// look is what an eavesdropper in the same job sees: while the command runs, and after.
const look = `          echo "it holds $GH_TOKEN"
          cat /proc/[0-9]*/cmdline >"$RUNNER_TEMP/argv-meanwhile" 2>/dev/null || true
          cat /proc/$PPID/environ >"$RUNNER_TEMP/environ-of-stepkey" 2>/dev/null || true
          UPLOAD
      - name: Look around
        run: |
          ls -l "$RUNNER_TEMP"
          env
          cat /proc/[0-9]*/environ >"$RUNNER_TEMP/environ-after" 2>/dev/null || true
          cat /proc/[0-9]*/cmdline >"$RUNNER_TEMP/argv-after" 2>/dev/null || true
`

// The credential is in the command's environment, and nowhere in what the job leaves: its
// log, arguments, environments of later steps, state, outputs, summary and files.
func TestACommandsKeyIsSeenNowhereElse(t *testing.T) {
	t.Parallel()
	onTheMachine(t, setting{}, func(t *testing.T, w *world) {
		job := w.job(w.release(), replace(t, read(t, "exec.yml"), "          UPLOAD\n", look))
		job.Env["RUNNER_DEBUG"] = "1" // every debug line too
		r := w.run(t, job)
		if r.Conclusion != runnersim.Success {
			t.Fatalf("the job is %s", r.Conclusion)
		}
		issued := w.gh.Issued()
		if hash := sha256.Sum256([]byte(w.used)); len(issued) != 1 || issued[0].Hash != base64.StdEncoding.EncodeToString(hash[:]) {
			t.Fatalf("the command used another credential than the %d that were made", len(issued))
		}
		wantOnlyIn(t, r.Left, "the credential", w.used)
		for _, s := range r.Steps {
			if everything := fmt.Sprintf("%+v", s); strings.Contains(everything, w.used) {
				t.Errorf("%s shows it:\n%s", s.Name, everything)
			}
		}
		if upload := step(t, r, "Upload", runnersim.Main); !strings.Contains(upload.Log, "it holds ***") {
			t.Errorf("what the command printed is not masked:\n%s", upload.Log)
		}
		// What was searched is what there was: it shows what is no secret.
		for file, what := range map[string]string{
			"environ-of-stepkey": "STEPKEY_EXCHANGE=" + w.exchange.url, "environ-after": "STEPKEY_EXCHANGE=" + w.exchange.url,
			"argv-meanwhile": "exec\x00--task\x00publish-release", "argv-after": "bash",
		} {
			seen, err := os.ReadFile(filepath.Join(r.Left, "work", "_temp", file))
			if err != nil || !strings.Contains(string(seen), what) {
				t.Errorf("%s does not show %q: %v", file, what, err)
			}
		}
	})
}

const closing = `on: push
permissions:
  id-token: write
jobs:
  publish:
    runs-on: ubuntu-latest
    environment: release
    steps:
      - id: key
        uses: stepkey/stepkey@v1
        with:
          exchange: ${{ vars.STEPKEY_EXCHANGE }}
          task: publish-release
      - id: close
        uses: stepkey/stepkey@v1
        with:
          exchange: ${{ vars.STEPKEY_EXCHANGE }}
          lease: ${{ steps.key.outputs.lease-id }}
      - id: after
        run: echo "it goes on without the key"
`

func TestALeaseEndsEarlyAndItsPostFindsItOver(t *testing.T) {
	t.Parallel()
	onTheMachine(t, setting{}, func(t *testing.T, w *world) {
		job := w.job(w.release(), closing)
		job.Watch = func(m runnersim.Moment) {
			if m.ID == "close" && m.Phase == runnersim.Main && m.Done {
				w.wantNothingAlive(t, 1)
			}
		}
		r := w.run(t, job)
		if r.Conclusion != runnersim.Success {
			t.Fatalf("the job is %s", r.Conclusion)
		}
		w.wantEndedByItsJob(t)
		closed, post := step(t, r, "close", runnersim.Main), step(t, r, "key", runnersim.Post)
		if !strings.Contains(closed.Log, ": revoked in ") || !strings.Contains(closed.Summary, "closed early") {
			t.Errorf("the closing step says:\n%s\n%s", closed.Log, closed.Summary)
		}
		if !strings.Contains(post.Log, "had ended already: revoked at ") || len(post.Annotations) > 0 {
			t.Errorf("the post half says:\n%s", post.Log)
		}
		if own := step(t, r, "close", runnersim.Post); own.ExitCode != 0 || own.Summary != "" {
			t.Errorf("the closing step's own post half says:\n%s", own.Log)
		}
	})
}

// A job ends what is its own: the id of another's lease is no key to it.
func TestAnotherJobsLeaseIsNotClosed(t *testing.T) {
	t.Parallel()
	onTheMachine(t, setting{}, func(t *testing.T, w *world) {
		inside := w.job(w.release(), closing)
		stranger := w.job(w.release(), replace(t, key, "          task: publish-release\n", "          lease: ${{ vars.LEASE }}\n"))
		inside.Watch = func(m runnersim.Moment) {
			if m.ID != "key" || m.Phase != runnersim.Main || !m.Done {
				return
			}
			log := w.exchange.audit(t)
			stranger.Vars["LEASE"] = log[0].Lease
			r := w.run(t, stranger)
			wantError(t, step(t, r, "key", runnersim.Main), []string{"input lease", "names no lease of this job"})
			if live := w.gh.LiveTokens(); len(live) != 1 || log[0].Lease == "" {
				t.Errorf("%d tokens live on, lease %q", len(live), log[0].Lease)
			}
		}
		if r := w.run(t, inside); r.Conclusion != runnersim.Success {
			t.Errorf("the job is %s", r.Conclusion)
		}
		w.wantNothingAlive(t, 1)
	})
}

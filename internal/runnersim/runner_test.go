package runnersim_test

import (
	"context"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stepkey/stepkey/internal/needs"
	"github.com/stepkey/stepkey/internal/runnersim"
)

// toy builds the toy action once and returns its directory, ready for both modes.
var toy = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "toy-")
	if err != nil {
		return "", err
	}
	for _, name := range []string{"action.yml", "Dockerfile"} {
		text, err := os.ReadFile(filepath.Join("testdata", "toy", name))
		if err != nil {
			return "", err
		}
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o644); err != nil {
			return "", err
		}
	}
	build := exec.Command("go", "build", "-trimpath", "-o", filepath.Join(dir, "toy"), "./testdata/toy")
	build.Env = append(build.Environ(), "CGO_ENABLED=0")
	build.Stderr = os.Stderr
	return dir, build.Run()
})

func TestMain(m *testing.M) {
	code := m.Run()
	if dir, err := toy(); err == nil {
		_ = os.RemoveAll(dir)
	}
	os.Exit(code)
}

// everywhere tells one story in both modes.
func everywhere(t *testing.T, story func(t *testing.T, o runnersim.Options)) {
	t.Helper()
	dir, err := toy()
	if err != nil {
		t.Fatalf("building the toy action: %v", err)
	}
	options := runnersim.Options{
		Entrypoints: map[string]string{"/main": filepath.Join(dir, "toy"), "/post": filepath.Join(dir, "toy")},
	}
	t.Run("in processes", func(t *testing.T) {
		t.Parallel()
		o := options
		o.Mode, o.Dir, o.Actions = runnersim.Process, t.TempDir(), map[string]string{"acme/toy@v1": dir}
		story(t, o)
	})
	t.Run("in containers", func(t *testing.T) {
		needs.Working(t, "docker", "version")
		t.Parallel()
		o := options
		o.Mode, o.Dir, o.Actions = runnersim.Docker, t.TempDir(), map[string]string{"acme/toy@v1": dir}
		story(t, o)
	})
}

func run(t *testing.T, o runnersim.Options, job runnersim.Job) *runnersim.Result {
	t.Helper()
	runner, err := runnersim.New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithTimeout(t.Context(), 15*time.Minute) // images are built, beside other packages' tests
	defer stop()
	result, err := runner.Run(ctx, job)
	if err != nil {
		t.Fatal(err)
	}
	return result
}

func step(t *testing.T, r *runnersim.Result, name string, phase runnersim.Phase) runnersim.Step {
	t.Helper()
	s, ok := r.Step(name, phase)
	if !ok {
		t.Fatalf("no %s half of %q ran:\n%s", phase, name, r.Log)
	}
	return s
}

func wantLines(t *testing.T, text string, lines ...string) {
	t.Helper()
	for _, line := range lines {
		if !strings.Contains("\n"+text+"\n", "\n"+line+"\n") {
			t.Errorf("no line %q in:\n%s", line, text)
		}
	}
}

const workflowHead = "on: push\njobs:\n  job:\n    runs-on: ubuntu-latest\n    steps:\n"

const toySteps = workflowHead + `
      - id: toy
        uses: acme/toy@v1
        with:
          to-hide: ${{ secrets.WORD }}
          behaviour: ${{ vars.BEHAVIOUR }}
      - id: after
        run: |
          echo "output is $OUTPUT"
          echo "exported is $EXPORTED"
          echo "$PATH" | grep -q '^/toy/bin:' && echo "path is first"
          cat "$RUNNER_TEMP/from-main"; echo
        env:
          OUTPUT: ${{ steps.toy.outputs.token }}
      - id: cleanup
        if: failure()
        run: echo "it was ${{ steps.toy.outcome }}"
`

func toyJob(behaviour string) runnersim.Job {
	return runnersim.Job{
		Workflow: []byte(toySteps),
		Env:      map[string]string{"GITHUB_REPOSITORY": "acme/widget"},
		Vars:     map[string]string{"BEHAVIOUR": behaviour},
		Secrets:  map[string]string{"WORD": "open-sesame"},
	}
}

func TestAnActionsTwoHalvesRunApartAndTheJobUsesWhatMainGave(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, o runnersim.Options) {
		r := run(t, o, toyJob("end"))
		if r.Conclusion != runnersim.Success {
			t.Fatalf("the job's conclusion is %s:\n%s", r.Conclusion, r.Log)
		}
		main, post := step(t, r, "toy", runnersim.Main), step(t, r, "toy", runnersim.Post)
		wantLines(t, main.Log, "half=main args=--note acme/widget", "INPUT_NOTE=acme/widget", "FROM_ACTION=set by the action", "CI=true", "GITHUB_ACTION_REPOSITORY=acme/toy")
		wantLines(t, post.Log, "half=post args=--note acme/widget", `lease="lease-1"`)
		wantLines(t, step(t, r, "after", runnersim.Main).Log, "output is ***", "exported is ***", "path is first", "main was here")
		if got := main.Outputs["token"]; got != "open-sesame" {
			t.Errorf("output token is %q", got)
		}
		if got := main.State["lease"]; got != "lease-1" {
			t.Errorf("state lease is %q", got)
		}
		if main.Summary != "The secret is ***.\n" {
			t.Errorf("the summary is %q", main.Summary)
		}
		if len(main.Annotations) != 1 || main.Annotations[0] != (runnersim.Annotation{Level: "warning", Title: "Careful, now", Message: "two\nlines"}) {
			t.Errorf("annotations are %+v", main.Annotations)
		}
		if left, err := os.ReadFile(filepath.Join(r.Left, "work", "_temp", "from-post")); err != nil || string(left) != "lease-1" {
			t.Errorf("post left %q, %v", left, err)
		}
		if last := r.Steps[len(r.Steps)-1]; last.Phase != runnersim.Post {
			t.Errorf("the last to run is %s %s, want the post half at the job's end", last.Phase, last.Name)
		}
		if s := step(t, r, "cleanup", runnersim.Main); s.Conclusion != runnersim.Skipped {
			t.Errorf("a failure() step of a good job is %s", s.Conclusion)
		}
	})
}

func TestInAContainerPathsAreThoseOfTheContainer(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, o runnersim.Options) {
		r := run(t, o, toyJob("end"))
		want := []string{"HOME=/github/home", "GITHUB_WORKSPACE=/github/workspace", "RUNNER_TEMP=/github/runner_temp"}
		if o.Mode == runnersim.Process {
			work := filepath.Join(r.Left, "work")
			want = []string{"HOME=" + work + "/_temp/_github_home", "GITHUB_WORKSPACE=" + work + "/widget/widget", "RUNNER_TEMP=" + work + "/_temp"}
		}
		wantLines(t, step(t, r, "toy", runnersim.Main).Log, want...)
	})
}

func TestAMainThatFailsStillHasItsPostRun(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, o runnersim.Options) {
		r := run(t, o, toyJob("fail"))
		main := step(t, r, "toy", runnersim.Main)
		if r.Conclusion != runnersim.Failure || main.ExitCode != 3 {
			t.Errorf("job %s, main's exit code %d; want failure, 3", r.Conclusion, main.ExitCode)
		}
		if s := step(t, r, "after", runnersim.Main); s.Conclusion != runnersim.Skipped {
			t.Errorf("the step after a failure is %s", s.Conclusion)
		}
		wantLines(t, step(t, r, "cleanup", runnersim.Main).Log, "it was failure")
		wantLines(t, step(t, r, "toy", runnersim.Post).Log, `lease="lease-1"`)
	})
}

func TestAContainerReachesAServerOnItsNetworksGateway(t *testing.T) {
	t.Parallel()
	needs.Working(t, "docker", "version")
	everywhere(t, func(t *testing.T, o runnersim.Options) {
		address := "127.0.0.1"
		if o.Mode == runnersim.Docker {
			network, err := runnersim.NewNetwork(t.Context(), "runnersim-"+strings.ToLower(filepath.Base(filepath.Dir(o.Dir))))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := network.Close(); err != nil {
					t.Error(err)
				}
			})
			o.Network, address = network.Name, network.Gateway
		}
		listener, err := net.Listen("tcp", address+":0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = listener.Close() })
		go func() {
			if c, err := listener.Accept(); err == nil {
				_, _ = io.WriteString(c, "hello from outside\n")
				_ = c.Close()
			}
		}()
		job := toyJob("dial")
		job.Workflow = []byte(strings.Replace(toySteps, "        with:", "        with:\n          note: "+listener.Addr().String(), 1))
		wantLines(t, step(t, run(t, o, job), "toy", runnersim.Main).Log, "hello from outside")
	})
}

func TestARunnerThatLosesStateRunsPostWithoutIt(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, o runnersim.Options) {
		o.DropState = true
		wantLines(t, step(t, run(t, o, toyJob("end")), "toy", runnersim.Post).Log, `lease=""`)
	})
}

func TestEveryLineOfAMaskedValueIsHiddenFromThenOn(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, o runnersim.Options) {
		job := toyJob("leak")
		job.Secrets = nil
		job.Workflow = []byte(strings.Replace(toySteps, "${{ secrets.WORD }}", `"first-line\nsecond-line"`, 1))
		r := run(t, o, job)
		for _, s := range r.Steps {
			_, rest, _ := strings.Cut(s.Log, "half=main") // the runner itself prints the input before
			if strings.Contains(rest, "first-line") || strings.Contains(rest, "second-line") {
				t.Errorf("step %s shows a masked line:\n%s", s.Name, s.Log)
			}
		}
		wantLines(t, step(t, r, "toy", runnersim.Main).Log, "the secret is ***", "***")
	})
}

// onLine calls do once, when a whole line has been printed.
func onLine(line string, do func(), next io.Writer) io.Writer {
	return &trigger{line: line + "\n", do: sync.OnceFunc(do), next: next}
}

type trigger struct {
	line string
	do   func()
	next io.Writer
}

func (w *trigger) Write(p []byte) (int, error) {
	if string(p) == w.line {
		w.do()
	}
	return w.next.Write(p)
}

// graces hands out the runner's waits to the test, which ends them when it likes. Only
// the first wait of a length ever ends: a post half has a timeout of its own.
type graces struct {
	mu    sync.Mutex
	asked []time.Duration
	wait  map[time.Duration]chan time.Time
}

func (g *graces) After(d time.Duration) <-chan time.Time {
	g.mu.Lock()
	defer g.mu.Unlock()
	again := slices.Contains(g.asked, d)
	g.asked = append(g.asked, d)
	if again {
		return nil
	}
	return g.channel(d)
}

func (g *graces) channel(d time.Duration) chan time.Time {
	if g.wait == nil {
		g.wait = map[time.Duration]chan time.Time{}
	}
	if g.wait[d] == nil {
		g.wait[d] = make(chan time.Time)
	}
	return g.wait[d]
}

func (g *graces) end(d time.Duration) func() {
	return func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		close(g.channel(d))
	}
}

func TestACancelledStepIsInterruptedAndPostStillRuns(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, o runnersim.Options) {
		cancel := make(chan struct{})
		g := &graces{}
		o.After = g.After
		o.Log = onLine("hanging", func() { close(cancel) }, io.Discard)
		job := toyJob("hang")
		job.Cancel = cancel
		r := run(t, o, job)
		main := step(t, r, "toy", runnersim.Main)
		if r.Conclusion != runnersim.Cancelled || main.Conclusion != runnersim.Cancelled {
			t.Errorf("job %s, main %s; want both cancelled", r.Conclusion, main.Conclusion)
		}
		wantLines(t, main.Log, "got interrupt")
		wantLines(t, step(t, r, "toy", runnersim.Post).Log, `lease="lease-1"`)
		if s := step(t, r, "cleanup", runnersim.Main); s.Conclusion != runnersim.Skipped {
			t.Errorf("a failure() step of a cancelled job is %s", s.Conclusion)
		}
	})
}

func TestAStepThatWillNotStopIsTerminatedAndThenKilled(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, o runnersim.Options) {
		cancel := make(chan struct{})
		g := &graces{}
		o.After = g.After
		o.Log = onLine("hanging", func() { close(cancel) },
			onLine("got interrupt", g.end(7500*time.Millisecond),
				onLine("got terminated", g.end(2500*time.Millisecond), io.Discard)))
		job := toyJob("stubborn")
		job.Cancel = cancel
		r := run(t, o, job)
		if s := step(t, r, "toy", runnersim.Main); s.Conclusion != runnersim.Cancelled {
			t.Errorf("main is %s", s.Conclusion)
		}
		if len(g.asked) != 2 || g.asked[0] != 7500*time.Millisecond || g.asked[1] != 2500*time.Millisecond {
			t.Errorf("the runner waited %v", g.asked)
		}
		wantLines(t, step(t, r, "toy", runnersim.Post).Log, `lease="lease-1"`)
	})
}

func TestAStepThatIsTooSlowFails(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, o runnersim.Options) {
		g := &graces{}
		o.After = g.After
		o.Log = onLine("hanging", g.end(3*time.Minute), io.Discard)
		job := toyJob("hang")
		job.Workflow = []byte(strings.Replace(toySteps, "        uses: acme/toy@v1", "        timeout-minutes: 3\n        uses: acme/toy@v1", 1))
		r := run(t, o, job)
		main := step(t, r, "toy", runnersim.Main)
		if r.Conclusion != runnersim.Failure || main.Conclusion != runnersim.Failure {
			t.Errorf("job %s, main %s; want both failed", r.Conclusion, main.Conclusion)
		}
		wantLines(t, main.Log, "got interrupt")
		wantLines(t, step(t, r, "toy", runnersim.Post).Log, `lease="lease-1"`)
	})
}

func TestAJobThatIsTooSlowIsCancelled(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, o runnersim.Options) {
		g := &graces{}
		o.After = g.After
		o.Log = onLine("hanging", g.end(20*time.Minute), io.Discard)
		job := toyJob("hang")
		job.Workflow = []byte(strings.Replace(toySteps, "    runs-on:", "    timeout-minutes: 20\n    runs-on:", 1))
		r := run(t, o, job)
		if r.Conclusion != runnersim.Cancelled {
			t.Errorf("the job is %s", r.Conclusion)
		}
		step(t, r, "toy", runnersim.Post)
	})
}

func TestARunnerThatDiesRunsNothingMore(t *testing.T) {
	t.Parallel()
	moments := map[string]func(o *runnersim.Options, job *runnersim.Job, die func()){
		"while main runs": func(o *runnersim.Options, job *runnersim.Job, die func()) {
			*job = toyJob("hang")
			o.Log = onLine("hanging", die, io.Discard)
		},
		"between main and post": func(_ *runnersim.Options, job *runnersim.Job, die func()) {
			job.Watch = func(m runnersim.Moment) {
				if m.ID == "after" && m.Done {
					die()
				}
			}
		},
		"just before post": func(_ *runnersim.Options, job *runnersim.Job, die func()) {
			job.Watch = func(m runnersim.Moment) {
				if m.Phase == runnersim.Post && !m.Done {
					die()
				}
			}
		},
	}
	for name, arrange := range moments {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			everywhere(t, func(t *testing.T, o runnersim.Options) {
				died := make(chan struct{})
				job := toyJob("end")
				arrange(&o, &job, sync.OnceFunc(func() { close(died) }))
				job.Die = died
				r := run(t, o, job)
				if r.Conclusion != runnersim.Lost {
					t.Errorf("the job is %s", r.Conclusion)
				}
				if _, ran := r.Step("toy", runnersim.Post); ran {
					t.Errorf("post ran on a dead runner:\n%s", r.Log)
				}
			})
		})
	}
}

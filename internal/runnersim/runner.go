// Package runnersim runs one job of a workflow the way GitHub's runner runs it.
//
// It hides one decision: what a runner is. Callers hand over a workflow, the
// environment a job gets from the server, and the directory of each action; they
// get back what the job's page would show and everything the job left behind.
//
// A container action runs in real containers (Docker) or, where there are none,
// as plain processes with the same environment (Process). Where GitHub's runner is
// lenient and leniency could hide a fault, this one is strict: debug lines are
// always shown, only exact values are masked, and whatever it does not know in a
// workflow is an error, never skipped.
//
// Sources: GitHub's documentation of workflow syntax, workflow commands, contexts
// and Dockerfile support, and the behaviour of runner 2.336.0.
package runnersim

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"
)

// Mode says what a container action runs in.
type Mode int

// The modes.
const (
	Docker  Mode = iota + 1 // containers, as GitHub does
	Process                 // plain processes on this machine
)

// Options describe a runner. Mode is required.
type Options struct {
	Mode    Mode
	Actions map[string]string // "owner/repo@ref" -> the directory that holds its action.yml
	// Entrypoints name, for Process mode, the program that stands for an entrypoint
	// inside the image ("/main"). Its argv[0] stays the entrypoint.
	Entrypoints map[string]string
	BuildArgs   map[string]string // Docker mode: --build-arg of every action's image
	Workspace   string            // the repository that actions/checkout copies
	Network     string            // Docker network that the actions' containers join
	Socket      bool              // mount /var/run/docker.sock into containers, as GitHub does
	DropState   bool              // a runner that loses GITHUB_STATE before the post step
	Log         io.Writer         // the job's log as it grows, masks applied
	Dir         string            // where Result.Left is made; the system's temporary directory if empty
	Host        map[string]string // the machine's own variables that run steps see; a plain PATH if empty

	Now   func() time.Time                           // time.Now if nil
	After func(d time.Duration) (_ <-chan time.Time) // time.After if nil: cancellation's grace, timeouts
}

// Runner runs jobs, one after the other or at once. Safe for concurrent use.
type Runner struct{ options Options }

// New checks the options.
func New(o Options) (*Runner, error) {
	if o.Mode != Docker && o.Mode != Process {
		return nil, fmt.Errorf("making a runner: mode %d is neither Docker nor Process", o.Mode)
	}
	if o.Log == nil {
		o.Log = io.Discard
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.After == nil {
		o.After = time.After
	}
	if len(o.Host) == 0 {
		o.Host = map[string]string{"PATH": plainPath}
	}
	return &Runner{options: o}, nil
}

// Job is one job to run, with what the server would send along.
type Job struct {
	Workflow []byte            // the workflow file
	Name     string            // the job's id; may be empty if there is only one
	Env      map[string]string // GITHUB_* and ACTIONS_* from the server
	Event    []byte            // JSON of the event; {} if empty
	Inputs   map[string]string // the contexts of the same names
	Vars     map[string]string
	Secrets  map[string]string // masked from the start; GITHUB_TOKEN is github.token

	// Cancel, once closed, cancels the job as a person does: the running step gets
	// SIGINT, after 7.5 s SIGTERM, after another 2.5 s it is killed; post steps run.
	Cancel <-chan struct{}
	// Die, once closed, is the machine's death: everything stops at once, and nothing
	// more runs.
	Die <-chan struct{}
	// Watch, if set, is called before and after each half of a step, and waited for.
	Watch func(Moment)
}

// Phase is the half of a step: main, or post at the job's end.
type Phase string

// The phases.
const (
	Main Phase = "main"
	Post Phase = "post"
)

// Moment is the start or the end of one half of a step.
type Moment struct {
	Number     int // of the step in the workflow, from 1
	ID, Name   string
	Phase      Phase
	Done       bool
	Conclusion Conclusion // once done
}

// Conclusion is how a step or job ended, in GitHub's words.
type Conclusion string

// The conclusions. A job whose runner died has Lost, which GitHub shows as a
// failure only after it has missed the runner for minutes.
const (
	Success   Conclusion = "success"
	Failure   Conclusion = "failure"
	Cancelled Conclusion = "cancelled"
	Skipped   Conclusion = "skipped"
	Lost      Conclusion = "lost"
)

// Result is what the job's page shows, and what the job left on the machine.
type Result struct {
	Conclusion Conclusion
	Steps      []Step // in the order in which they ran
	Log        string // as shown, masks applied
	Left       string // directory: log, temporary files, file commands, workspace
}

// Step is one half of one step.
type Step struct {
	Number      int
	ID, Name    string
	Phase       Phase
	ExitCode    int
	Conclusion  Conclusion
	Outputs     map[string]string // as set, unmasked
	State       map[string]string // what it saved for its post half
	Log         string
	Summary     string // Markdown, masks applied
	Annotations []Annotation
	Started     time.Time
	Ended       time.Time
}

// Annotation is an error, a warning or a notice on the job's page.
type Annotation struct {
	Level, Title, Message string
}

// Step finds a half of a step by its id or its name.
func (r *Result) Step(name string, phase Phase) (Step, bool) {
	for _, s := range r.Steps {
		if s.Phase == phase && (s.ID == name || s.Name == name) {
			return s, true
		}
	}
	return Step{}, false
}

// Run runs one job to its end. A step that fails is no error: the result says so.
// An error means that the runner could not do its work: a workflow it does not
// understand, an image that does not build. When ctx ends, the runner dies.
func (r *Runner) Run(ctx context.Context, job Job) (*Result, error) {
	p, err := readPlan(job.Workflow, job.Name)
	if err != nil {
		return nil, err
	}
	left, err := os.MkdirTemp(r.options.Dir, "job-")
	if err != nil {
		return nil, fmt.Errorf("making the job's directory: %w", err)
	}
	j, err := r.begin(job, p, left)
	if err != nil {
		return nil, err
	}
	defer j.close()
	if err := j.prepareActions(ctx); err != nil {
		return nil, err
	}
	if err := j.runSteps(ctx); err != nil {
		return nil, err
	}
	return j.result(), nil
}

// plainPath is Debian's.
const plainPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

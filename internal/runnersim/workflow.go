package runnersim

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/rhysd/actionlint"
)

// plan is a job as far as this runner understands one.
type plan struct {
	id        string
	condition string
	idToken   bool // id-token: write is granted
	env       []envBlock
	shell     string
	directory string
	timeout   time.Duration
	steps     []planStep
}

// envBlock is one env: map, values unevaluated.
type envBlock map[string]string

type planStep struct {
	number          int
	id, name        string
	condition       string
	uses            string
	with            map[string]string
	script          string
	shell           string
	directory       string
	env             envBlock
	timeout         time.Duration
	continueOnError bool
}

// readPlan takes one job out of a workflow. What it does not run it refuses.
func readPlan(source []byte, name string) (*plan, error) {
	workflow, problems := actionlint.Parse(source)
	if len(problems) > 0 {
		var errs []error
		for _, p := range problems {
			errs = append(errs, p)
		}
		return nil, fmt.Errorf("reading the workflow: %w", errors.Join(errs...))
	}
	job, err := pickJob(workflow, name)
	if err != nil {
		return nil, err
	}
	if err := refuseUnknown(job); err != nil {
		return nil, fmt.Errorf("reading job %q: %w", job.ID.Value, err)
	}
	p := &plan{id: job.ID.Value, condition: value(job.If), idToken: grantsIDToken(workflow, job)}
	for _, block := range []*actionlint.Env{workflow.Env, job.Env} {
		if err := p.addEnv(block); err != nil {
			return nil, err
		}
	}
	for _, d := range []*actionlint.Defaults{workflow.Defaults, job.Defaults} {
		p.addDefaults(d)
	}
	if p.timeout, err = minutes(job.TimeoutMinutes); err != nil {
		return nil, err
	}
	return p, p.addSteps(job)
}

func pickJob(w *actionlint.Workflow, name string) (*actionlint.Job, error) {
	ids := slices.Sorted(maps.Keys(w.Jobs))
	if name == "" && len(ids) == 1 {
		name = ids[0]
	}
	job, ok := w.Jobs[strings.ToLower(name)]
	if !ok {
		return nil, fmt.Errorf("reading the workflow: no job %q in it: name one of %s", name, strings.Join(ids, ", "))
	}
	return job, nil
}

// refuseUnknown names the first thing in a job that would have to be ignored.
// Settings that only the server reads (runs-on, environment, concurrency) are fine.
func refuseUnknown(job *actionlint.Job) error {
	for what, set := range map[string]bool{
		"container": job.Container != nil, "services": job.Services != nil, "strategy": job.Strategy != nil,
		"uses": job.WorkflowCall != nil, "needs": len(job.Needs) > 0, "outputs": len(job.Outputs) > 0,
		"continue-on-error": job.ContinueOnError != nil,
	} {
		if set {
			return fmt.Errorf("%s is not supported by this runner", what)
		}
	}
	return nil
}

// grantsIDToken follows GitHub: a job's permissions replace the workflow's, and
// id-token is never granted by default.
func grantsIDToken(w *actionlint.Workflow, job *actionlint.Job) bool {
	permissions := job.Permissions
	if permissions == nil {
		permissions = w.Permissions
	}
	if permissions == nil {
		return false
	}
	if permissions.All != nil {
		return permissions.All.Value == "write-all"
	}
	scope := permissions.Scopes["id-token"]
	return scope != nil && value(scope.Value) == "write"
}

func (p *plan) addEnv(e *actionlint.Env) error {
	block, err := readEnv(e)
	if block != nil {
		p.env = append(p.env, block)
	}
	return err
}

func readEnv(e *actionlint.Env) (envBlock, error) {
	if e == nil {
		return nil, nil
	}
	if e.Expression != nil {
		return nil, fmt.Errorf("reading env at %s: an expression for the whole map is not supported by this runner", e.Expression.Pos)
	}
	block := envBlock{}
	for _, v := range e.Vars {
		block[v.Name.Value] = value(v.Value)
	}
	return block, nil
}

func (p *plan) addDefaults(d *actionlint.Defaults) {
	if d == nil || d.Run == nil {
		return
	}
	if d.Run.Shell != nil {
		p.shell = d.Run.Shell.Value
	}
	if d.Run.WorkingDirectory != nil {
		p.directory = d.Run.WorkingDirectory.Value
	}
}

func (p *plan) addSteps(job *actionlint.Job) error {
	for i, s := range job.Steps {
		step, err := p.readStep(s)
		if err != nil {
			return fmt.Errorf("reading step %d at %s: %w", i+1, s.Pos, err)
		}
		step.number = i + 1
		p.steps = append(p.steps, step)
	}
	return nil
}

func (p *plan) readStep(s *actionlint.Step) (planStep, error) {
	step := planStep{id: value(s.ID), name: value(s.Name), condition: value(s.If)}
	var err error
	if step.env, err = readEnv(s.Env); err != nil {
		return step, err
	}
	if step.timeout, err = minutes(s.TimeoutMinutes); err != nil {
		return step, err
	}
	if c := s.ContinueOnError; c != nil {
		if c.Expression != nil {
			return step, errors.New("an expression in continue-on-error is not supported by this runner")
		}
		step.continueOnError = c.Value
	}
	switch exec := s.Exec.(type) {
	case *actionlint.ExecRun:
		step.script = exec.Run.Value
		step.shell, step.directory = or(value(exec.Shell), p.shell), or(value(exec.WorkingDirectory), p.directory)
		step.name = or(step.name, "Run "+firstLine(step.script))
	case *actionlint.ExecAction:
		step.uses, step.with = exec.Uses.Value, map[string]string{}
		if exec.Entrypoint != nil || exec.Args != nil || exec.Inputs["args"] != nil || exec.Inputs["entrypoint"] != nil {
			return step, errors.New("with.entrypoint and with.args are not supported by this runner")
		}
		for _, input := range exec.Inputs {
			step.with[input.Name.Value] = value(input.Value)
		}
		step.name = or(step.name, "Run "+step.uses)
	default:
		return step, errors.New("neither run nor uses")
	}
	return step, nil
}

func minutes(f *actionlint.Float) (time.Duration, error) {
	if f == nil {
		return 0, nil
	}
	if f.Expression != nil {
		return 0, errors.New("reading timeout-minutes: an expression is not supported by this runner")
	}
	return time.Duration(f.Value * float64(time.Minute)), nil
}

func value(s *actionlint.String) string {
	if s == nil {
		return ""
	}
	return s.Value
}

func or(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(s), "\n")
	return line
}

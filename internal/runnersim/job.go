package runnersim

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// errDied ends a job whose runner died.
var errDied = errors.New("the runner died")

// jobRun is one job under way. It is used by one goroutine.
type jobRun struct {
	options Options
	job     Job
	plan    *plan
	dirs    dirs
	log     *journal
	actions map[string]*action

	server  map[string]string // what the server and the runner set; wins over all else
	env     map[string]string // the env context: workflow, job, GITHUB_ENV
	paths   []string          // GITHUB_PATH, newest first
	outputs map[string]any    // the steps context
	event   any

	posts           []half
	steps           []Step
	invocations     int
	groups          []int            // process groups to clear away at the end
	expiry          <-chan time.Time // the job's timeout; nil if it has none
	failed, expired bool
	skipped, died   bool
}

// dirs are laid out as on a hosted runner.
type dirs struct{ left, temp, workspace, home, workflow, commands, kept string }

func layOut(left, repository string) (dirs, error) {
	repo := filepath.Base(or(repository, "repo"))
	temp := filepath.Join(left, "work", "_temp")
	d := dirs{
		left: left, temp: temp,
		workspace: filepath.Join(left, "work", repo, repo),
		home:      filepath.Join(temp, "_github_home"),
		workflow:  filepath.Join(temp, "_github_workflow"),
		commands:  filepath.Join(temp, "_runner_file_commands"),
		kept:      filepath.Join(left, "file_commands"),
	}
	for _, dir := range []string{d.workspace, d.home, d.workflow, d.commands, d.kept} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return d, fmt.Errorf("making the job's directories: %w", err)
		}
	}
	return d, nil
}

func (r *Runner) begin(job Job, p *plan, left string) (*jobRun, error) {
	d, err := layOut(left, job.Env["GITHUB_REPOSITORY"])
	if err != nil {
		return nil, err
	}
	log, err := openJournal(filepath.Join(left, "log.txt"), r.options.Log)
	if err != nil {
		return nil, err
	}
	j := &jobRun{
		options: r.options, job: job, plan: p, dirs: d, log: log,
		actions: map[string]*action{}, env: map[string]string{}, outputs: map[string]any{},
	}
	j.maskSecrets()
	if err := j.placeEvent(); err != nil {
		return nil, err
	}
	j.server = j.serverEnv()
	return j, j.jobEnv()
}

// maskSecrets hides what a runner hides from the start: the secrets, and the tokens
// that it got from the server.
func (j *jobRun) maskSecrets() {
	for _, v := range j.job.Secrets {
		j.log.masks.add(v)
	}
	for _, name := range []string{"ACTIONS_ID_TOKEN_REQUEST_TOKEN", "ACTIONS_RUNTIME_TOKEN"} {
		j.log.masks.add(j.job.Env[name])
	}
}

func (j *jobRun) placeEvent() error {
	event := j.job.Event
	if len(event) == 0 {
		event = []byte("{}")
	}
	if err := json.Unmarshal(event, &j.event); err != nil {
		return fmt.Errorf("reading the job's event: %w", err)
	}
	if err := os.WriteFile(filepath.Join(j.dirs.workflow, "event.json"), event, 0o644); err != nil {
		return fmt.Errorf("writing the job's event: %w", err)
	}
	return nil
}

func (j *jobRun) serverEnv() map[string]string {
	env := map[string]string{"RUNNER_NAME": "runnersim", "RUNNER_ENVIRONMENT": "github-hosted"}
	for name, v := range j.job.Env {
		if fromServer(name) {
			env[name] = v
		}
	}
	if !j.plan.idToken {
		delete(env, "ACTIONS_ID_TOKEN_REQUEST_URL")
		delete(env, "ACTIONS_ID_TOKEN_REQUEST_TOKEN")
	}
	maps.Copy(env, map[string]string{
		"CI": "true", "GITHUB_ACTIONS": "true", "GITHUB_JOB": j.plan.id,
		"GITHUB_WORKSPACE":  j.dirs.workspace,
		"GITHUB_EVENT_PATH": filepath.Join(j.dirs.workflow, "event.json"),
		"RUNNER_OS":         "Linux", "RUNNER_ARCH": map[string]string{"amd64": "X64", "arm64": "ARM64"}[runtime.GOARCH],
		"RUNNER_TEMP": j.dirs.temp, "RUNNER_WORKSPACE": filepath.Dir(j.dirs.workspace),
		"RUNNER_TOOL_CACHE": filepath.Join(j.dirs.left, "work", "_tool"),
	})
	return env
}

func fromServer(name string) bool {
	return name == "CI" || strings.HasPrefix(name, "GITHUB_") || strings.HasPrefix(name, "ACTIONS_") || strings.HasPrefix(name, "RUNNER_")
}

// jobEnv evaluates env: of workflow and job. Variables of Job.Env that are not the
// server's count as set in the workflow.
func (j *jobRun) jobEnv() error {
	for name, v := range j.job.Env {
		if !fromServer(name) {
			j.env[name] = v
		}
	}
	for _, block := range j.plan.env {
		values, err := j.evaluate(block, j.contexts())
		if err != nil {
			return err
		}
		maps.Copy(j.env, values)
	}
	return nil
}

func (j *jobRun) evaluate(block envBlock, c contexts) (map[string]string, error) {
	values := map[string]string{}
	for name, text := range block {
		v, err := c.interpolate(text)
		if err != nil {
			return nil, fmt.Errorf("env %s: %w", name, err)
		}
		values[name] = v
	}
	return values, nil
}

func (j *jobRun) contexts() contexts {
	github := map[string]any{"event": j.event, "token": j.job.Secrets["GITHUB_TOKEN"]}
	runner := map[string]any{}
	for name, v := range j.server {
		if key, ok := strings.CutPrefix(name, "GITHUB_"); ok {
			github[strings.ToLower(key)] = v
		}
		if key, ok := strings.CutPrefix(name, "RUNNER_"); ok {
			runner[strings.ToLower(key)] = v
		}
	}
	return contexts{
		"github": github, "runner": runner, "steps": j.outputs,
		"env": object(j.env), "vars": object(j.job.Vars), "inputs": object(j.job.Inputs), "secrets": object(j.job.Secrets),
		"job": map[string]any{"status": string(j.conclusion())},
	}
}

func object(m map[string]string) map[string]any {
	o := map[string]any{}
	for k, v := range m {
		o[k] = v
	}
	return o
}

func (j *jobRun) status() status { return status{failed: j.failed, cancelled: j.cancelled()} }

func (j *jobRun) cancelled() bool {
	select {
	case <-j.expiry:
		j.expired = true
	default:
	}
	return j.expired || closed(j.job.Cancel)
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func (j *jobRun) conclusion() Conclusion {
	switch {
	case j.skipped:
		return Skipped
	case j.died:
		return Lost
	case j.cancelled():
		return Cancelled
	case j.failed:
		return Failure
	default:
		return Success
	}
}

func (j *jobRun) result() *Result {
	return &Result{Conclusion: j.conclusion(), Steps: j.steps, Log: j.log.text(), Left: j.dirs.left}
}

// close ends what steps left running, as the runner does at a job's end.
func (j *jobRun) close() {
	for _, group := range j.groups {
		_ = syscall.Kill(-group, syscall.SIGKILL) // gone already, most of the time
	}
	j.log.close()
}

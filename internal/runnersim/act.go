package runnersim

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
)

// BuildAct builds nektos/act in the version of the tools module and returns its path.
// The cache directory is keyed by the module's go.sum and the Go toolchain: a second
// call finds the program there.
func BuildAct(ctx context.Context, module, cache string) (string, error) {
	sums, err := os.ReadFile(filepath.Join(module, "go.sum"))
	if err != nil {
		return "", fmt.Errorf("building act: %w", err)
	}
	toolchain, err := goCommand(ctx, module, "version")
	if err != nil {
		return "", fmt.Errorf("building act: %w", err)
	}
	path := filepath.Join(cache, fmt.Sprintf("act-%x", sha256.Sum256(append(sums, toolchain...))))
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	// Under a name of its own first: others may be building it too.
	scratch, err := os.MkdirTemp(cache, "act-build-")
	if err != nil {
		return "", fmt.Errorf("building act: %w", err)
	}
	defer os.RemoveAll(scratch) //nolint:errcheck // a leftover in a cache
	built := filepath.Join(scratch, "act")
	if _, err := goCommand(ctx, module, "build", "-o", built, "github.com/nektos/act"); err != nil {
		return "", fmt.Errorf("building act: %w", err)
	}
	if err := os.Rename(built, path); err != nil {
		return "", fmt.Errorf("building act: %w", err)
	}
	return path, nil
}

// Act runs jobs by nektos/act: run steps on this machine, actions in Docker on the
// default bridge. Where v0.2.89 differs from GitHub's runner (seen in its source and
// by running it):
//
//   - The post half of a docker action gets no STATE_ variables, and an input whose
//     default is an expression is empty there.
//   - RUNNER_TEMP is /tmp in the action's container and ends with it.
//   - Paths of file commands and of the workspace are those of this machine even in
//     containers; Run mounts them there under the same path, or else no output would
//     arrive.
//   - HOME, PATH and all of act's own environment reach every step and container.
//   - runs.env overrides what is set already; CI too.
//   - An action's image is built without build arguments, under a name made from uses:,
//     and found again by that name.
//   - There is no ID-token service and nobody checks id-token: write; what Job.Env says
//     goes to every step.
//   - GITHUB_SHA comes from the workspace's commit. continue-on-error, timeouts and
//     cancellation are act's own.
type Act struct {
	Binary    string            // from BuildAct
	Actions   map[string]string // "owner/repo@ref" -> the directory that holds its action.yml
	Images    map[string]string // "owner/repo@ref" -> an image that is there already, to be used instead of building
	Workspace string            // the repository; it needs a commit
	Host      map[string]string // the machine's own variables; a plain PATH if empty
	Dir       string            // where Result.Left is made
	Log       io.Writer         // act's own log as it grows
}

// Run runs one job. The result has no steps: act's log is made for people. The job's
// Cancel, Die and Watch are not honoured.
//
// act names images and containers after the workflow, so two runs of one workflow at
// once would use each other's: Run waits until no other process on this machine is in it.
func (a Act) Run(ctx context.Context, job Job) (*Result, error) {
	unlock, err := lockAct()
	if err != nil {
		return nil, err
	}
	defer unlock()
	left, err := os.MkdirTemp(a.Dir, "act-")
	if err != nil {
		return nil, fmt.Errorf("making the job's directory: %w", err)
	}
	if err := a.tagImages(ctx); err != nil {
		return nil, err
	}
	line, err := a.line(job, left)
	if err != nil {
		return nil, err
	}
	var log bytes.Buffer
	out := io.Writer(&log)
	if a.Log != nil {
		out = io.MultiWriter(&log, a.Log)
	}
	cmd := exec.CommandContext(ctx, a.Binary, line...)
	cmd.Env, cmd.Dir, cmd.Stdout, cmd.Stderr = environ(a.host(left)), left, out, out
	err = cmd.Run()
	result := &Result{Conclusion: Success, Log: log.String(), Left: left}
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		result.Conclusion = Failure
	} else if err != nil {
		return nil, fmt.Errorf("running act: %w", err)
	}
	return result, nil
}

func lockAct() (unlock func(), _ error) {
	file, err := os.OpenFile(filepath.Join(os.TempDir(), "runnersim-act.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("waiting for other runs of act: %w", err)
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX); err != nil {
		return nil, errors.Join(fmt.Errorf("waiting for other runs of act: %w", err), file.Close())
	}
	return func() { _ = file.Close() }, nil // closing gives the lock back
}

// host keeps act from reading this user's own configuration, and this process's
// environment from reaching the steps.
func (a Act) host(left string) map[string]string {
	env := map[string]string{"PATH": plainPath}
	maps.Copy(env, a.Host)
	env["HOME"] = filepath.Join(left, "home")
	return env
}

// line is act's command line. Values travel in files, not in arguments.
func (a Act) line(job Job, left string) ([]string, error) {
	work := filepath.Join(left, "work")
	event := job.Event
	if len(event) == 0 {
		event = []byte("{}")
	}
	files := map[string][]byte{"workflow.yml": job.Workflow, "event.json": event}
	line := []string{
		or(job.Env["GITHUB_EVENT_NAME"], "push"), "--directory", a.Workspace, "--platform", "ubuntu-latest=-self-hosted",
		"--workflows", filepath.Join(left, "workflow.yml"), "--eventpath", filepath.Join(left, "event.json"),
		"--action-cache-path", work, "--container-options", "--volume " + work + ":" + work,
		"--pull=false", "--no-cache-server", "--container-daemon-socket", "-",
	}
	for name, values := range map[string]map[string]string{"env": job.Env, "var": job.Vars, "secret": job.Secrets, "input": job.Inputs} {
		text, err := json.Marshal(merge(values)) // JSON is YAML, which act reads
		if err != nil {
			return nil, err
		}
		files[name+".yml"] = text
		line = append(line, "--"+name+"-file", filepath.Join(left, name+".yml"))
	}
	for _, uses := range slices.Sorted(maps.Keys(a.Actions)) {
		line = append(line, "--local-repository", uses+"="+a.Actions[uses])
	}
	if len(a.Images) > 0 {
		line = append(line, "--rebuild=false")
	}
	if job.Name != "" {
		line = append(line, "--job", job.Name)
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(left, name), text, 0o600); err != nil {
			return nil, fmt.Errorf("writing what act reads: %w", err)
		}
	}
	return line, os.MkdirAll(work, 0o755)
}

var notInActName = regexp.MustCompile(`[^a-zA-Z0-9]`)

// tagImages names images the way act looks for them.
func (a Act) tagImages(ctx context.Context) error {
	for uses, image := range a.Images {
		name := "act-" + strings.ToLower(notInActName.ReplaceAllString(uses, "-")) + "-dockeraction:latest"
		if _, err := dockerOutput(ctx, "tag", image, name); err != nil {
			return fmt.Errorf("naming the image of %s for act: %w", uses, err)
		}
	}
	return nil
}

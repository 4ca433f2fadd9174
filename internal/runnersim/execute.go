package runnersim

import (
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// invokeHalf runs what a half consists of: the checkout, a script, or an action.
func (j *jobRun) invokeHalf(ctx context.Context, h half, files fileCommands, out *console) (ending, error) {
	switch {
	case h.uses == "":
		return j.invokeScript(ctx, h, files, out)
	case isCheckout(h.uses):
		return j.checkOut(h)
	case j.options.Mode == Docker:
		return j.invokeContainer(ctx, h, files, out)
	default:
		return j.invokeProcess(ctx, h, files, out)
	}
}

// checkOut copies the repository, as actions/checkout leaves it: .git and all. Inputs
// that change nothing about a copy are accepted.
func (j *jobRun) checkOut(h half) (ending, error) {
	j.announce(h, nil)
	for input := range h.with {
		if input != "persist-credentials" && input != "fetch-depth" {
			return ending{}, fmt.Errorf("step %q: the input %s of actions/checkout is not supported by this runner", h.name, input)
		}
	}
	if j.options.Workspace == "" {
		return ending{}, fmt.Errorf("step %q: there is no repository to check out: set Options.Workspace", h.name)
	}
	if err := os.CopyFS(j.dirs.workspace, os.DirFS(j.options.Workspace)); err != nil {
		return ending{}, fmt.Errorf("step %q: copying the repository: %w", h.name, err)
	}
	return ending{conclusion: Success}, nil
}

// invokeScript runs a run: step on the machine itself, which is where GitHub runs it
// too. Of the job's server tokens it sees the one for ID tokens only.
func (j *jobRun) invokeScript(ctx context.Context, h half, files fileCommands, out *console) (ending, error) {
	script := filepath.Join(j.dirs.temp, h.key()+".sh")
	if err := os.WriteFile(script, []byte(h.script), 0o644); err != nil {
		return ending{}, fmt.Errorf("writing the script of %q: %w", h.name, err)
	}
	args, err := shellLine(h.shell, script)
	if err != nil {
		return ending{}, fmt.Errorf("step %q: %w", h.name, err)
	}
	path, err := exec.LookPath(args[0])
	if err != nil {
		return ending{}, fmt.Errorf("step %q: %w", h.name, err)
	}
	env := merge(j.options.Host, j.variables(h, files))
	env["PATH"] = strings.Join(append(slices.Clone(j.paths), env["PATH"]), ":")
	env["HOME"] = or(env["HOME"], j.dirs.home)
	for _, name := range []string{"ACTIONS_RUNTIME_TOKEN", "ACTIONS_RUNTIME_URL", "ACTIONS_RESULTS_URL", "ACTIONS_CACHE_URL"} {
		delete(env, name)
	}
	j.announce(h, args)
	dir := filepath.Join(j.dirs.workspace, h.directory)
	if filepath.IsAbs(h.directory) {
		dir = h.directory
	}
	return j.invoke(ctx, h, invocation{path: path, args: args, dir: dir, env: env}, out)
}

// shellLine is the documented command line of each shell. Without a shell, bash runs
// without pipefail; with "shell: bash" it has it.
func shellLine(shell, script string) ([]string, error) {
	switch shell {
	case "":
		return []string{"bash", "-e", script}, nil
	case "bash":
		return []string{"bash", "--noprofile", "--norc", "-eo", "pipefail", script}, nil
	case "sh":
		return []string{"sh", "-e", script}, nil
	default:
		return nil, fmt.Errorf("the shell %q is not supported by this runner: use bash or sh", shell)
	}
}

// actionVariables are those of an action's container, before paths are translated.
func (j *jobRun) actionVariables(h half, files fileCommands) (map[string]string, []string, error) {
	env := merge(j.variables(h, files), inputEnv(h.inputs))
	for name, v := range h.state {
		env["STATE_"+name] = v
	}
	env["HOME"] = j.dirs.home
	if name, ref, ok := strings.Cut(h.uses, "@"); ok {
		env["GITHUB_ACTION_REPOSITORY"], env["GITHUB_ACTION_REF"] = name, ref
	}
	c := contexts{"inputs": object(h.inputs)} // args and env of an action see nothing else
	extra, err := j.evaluate(h.action.Runs.Env, c)
	if err != nil {
		return nil, nil, err
	}
	maps.Copy(extra, env) // what is set already stays
	var args []string
	for _, text := range h.action.Runs.Args {
		v, err := c.interpolate(text)
		if err != nil {
			return nil, nil, fmt.Errorf("args: %w", err)
		}
		args = append(args, v)
	}
	return extra, args, nil
}

func (j *jobRun) invokeProcess(ctx context.Context, h half, files fileCommands, out *console) (ending, error) {
	env, args, err := j.actionVariables(h, files)
	if err != nil {
		return ending{}, fmt.Errorf("step %q: %w", h.name, err)
	}
	entrypoint := h.action.entrypoint(h.phase)
	program, ok := j.options.Entrypoints[entrypoint]
	if !ok {
		return ending{}, fmt.Errorf("step %q: no program stands for the entrypoint %q: set Options.Entrypoints", h.name, entrypoint)
	}
	line := append([]string{entrypoint}, args...)
	j.announce(h, line)
	return j.invoke(ctx, h, invocation{path: program, args: line, dir: j.dirs.workspace, env: merge(j.options.Host, env)}, out)
}

// announce prints what a runner prints at a half's start: its inputs and the variables
// that the workflow set. Credentials exported to the environment show here, so masks
// had better be there first.
func (j *jobRun) announce(h half, line []string) {
	j.log.printf("##[group]%s", h.title())
	if len(line) > 0 {
		j.log.printf("%s", strings.Join(line, " "))
	}
	j.list("with", h.inputs)
	j.list("env", merge(j.env, h.stepEnv))
	j.log.printf("##[endgroup]")
}

func (h half) title() string {
	if h.phase == Post {
		return "Post " + h.name
	}
	return h.name
}

func (j *jobRun) list(what string, values map[string]string) {
	for i, name := range slices.Sorted(maps.Keys(values)) {
		if i == 0 {
			j.log.printf("%s:", what)
		}
		if values[name] != "" || what == "env" {
			j.log.printf("  %s: %s", name, values[name])
		}
	}
}

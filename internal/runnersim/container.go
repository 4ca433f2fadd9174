package runnersim

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// socket is where Docker listens; GitHub mounts it into every action's container.
const socket = "/var/run/docker.sock"

// mount is one directory of the runner and where containers see it.
type mount struct{ host, inside string }

// mounts follow GitHub's documentation. The nested ones come first: a path is
// translated by the first that holds it.
func (j *jobRun) mounts() []mount {
	return []mount{
		{j.dirs.home, "/github/home"},
		{j.dirs.workflow, "/github/workflow"},
		{j.dirs.commands, "/github/file_commands"},
		{j.dirs.temp, "/github/runner_temp"},
		{j.dirs.workspace, "/github/workspace"},
	}
}

// translate rewrites a value that is a path below a mount.
func translate(mounts []mount, v string) string {
	for _, m := range mounts {
		if rest, ok := strings.CutPrefix(v, m.host); ok && (rest == "" || rest[0] == '/') {
			return m.inside + rest
		}
	}
	return v
}

// invokeContainer runs a half in a container of its own. Values travel in the
// environment of the docker CLI, never in its arguments.
func (j *jobRun) invokeContainer(ctx context.Context, h half, files fileCommands, out *console) (ending, error) {
	env, args, err := j.actionVariables(h, files)
	if err != nil {
		return ending{}, fmt.Errorf("step %q: %w", h.name, err)
	}
	docker, err := exec.LookPath("docker")
	if err != nil {
		return ending{}, fmt.Errorf("step %q: %w", h.name, err)
	}
	mounts := j.mounts()
	for name, v := range env {
		env[name] = translate(mounts, v)
	}
	j.invocations++
	name := "runnersim-" + filepath.Base(j.dirs.left) + "-" + strconv.Itoa(j.invocations)
	line := []string{"docker", "run", "--name", name, "--label", "runnersim", "--workdir", "/github/workspace", "--rm"}
	for _, variable := range slices.Sorted(maps.Keys(env)) {
		line = append(line, "-e", variable)
	}
	line = append(line, j.containerOptions(mounts, h)...)
	line = append(append(line, h.action.image), args...)
	j.announce(h, line)
	inv := invocation{path: docker, args: line, env: env, inherit: true, kill: func() { _ = dockerQuiet("rm", "--force", name) }}
	return j.invoke(ctx, h, inv, out)
}

func (j *jobRun) containerOptions(mounts []mount, h half) []string {
	var options []string
	if j.options.Socket {
		options = append(options, "-v", socket+":"+socket)
	}
	for _, m := range mounts {
		options = append(options, "-v", m.host+":"+m.inside)
	}
	if j.options.Network != "" {
		options = append(options, "--network", j.options.Network)
	}
	if entrypoint := h.action.entrypoint(h.phase); entrypoint != "" {
		options = append(options, "--entrypoint", entrypoint)
	}
	return options
}

// dockerQuiet runs a docker command and speaks only of failure.
func dockerQuiet(args ...string) error {
	_, err := dockerOutput(context.Background(), args...)
	return err
}

func dockerOutput(ctx context.Context, args ...string) (string, error) {
	var stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, "docker", args...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("docker %s: %w: %s", args[0], err, strings.TrimSpace(stderr.String()))
	}
	return strings.TrimSpace(string(out)), nil
}

// Network is a Docker network made for one run.
type Network struct {
	Name    string
	Gateway string // the address under which containers in it reach this machine
}

// NewNetwork makes a bridge network. A server that listens on its Gateway is reached
// by the containers in it and by this machine's own programs, and by nobody else.
func NewNetwork(ctx context.Context, name string) (*Network, error) {
	if _, err := dockerOutput(ctx, "network", "create", "--label", "runnersim", name); err != nil {
		return nil, fmt.Errorf("making the network %s: %w", name, err)
	}
	gateway, err := dockerOutput(ctx, "network", "inspect", "-f", "{{(index .IPAM.Config 0).Gateway}}", name)
	n := &Network{Name: name, Gateway: gateway}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("asking for the gateway of %s: %w", name, err), n.Close())
	}
	return n, nil
}

// Close removes the network. Containers in it must have ended.
func (n *Network) Close() error {
	if err := dockerQuiet("network", "rm", n.Name); err != nil {
		return fmt.Errorf("removing the network %s: %w", n.Name, err)
	}
	return nil
}

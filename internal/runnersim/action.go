package runnersim

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
)

// action is a container action as its action.yml describes it.
type action struct {
	dir   string
	image string // once built

	Name        string                  `yaml:"name"`
	Author      string                  `yaml:"author"`
	Description string                  `yaml:"description"`
	Branding    map[string]string       `yaml:"branding"`
	Inputs      map[string]actionInput  `yaml:"inputs"`
	Outputs     map[string]actionOutput `yaml:"outputs"`
	Runs        actionRuns              `yaml:"runs"`
}

type actionInput struct {
	Description        string `yaml:"description"`
	Required           bool   `yaml:"required"`
	Default            string `yaml:"default"`
	DeprecationMessage string `yaml:"deprecationMessage"`
}

type actionOutput struct {
	Description string `yaml:"description"`
}

type actionRuns struct {
	Using          string            `yaml:"using"`
	Image          string            `yaml:"image"`
	Entrypoint     string            `yaml:"entrypoint"`
	PostEntrypoint string            `yaml:"post-entrypoint"`
	PostIf         string            `yaml:"post-if"`
	Args           []string          `yaml:"args"`
	Env            map[string]string `yaml:"env"`
}

// readAction reads action.yml, strictly: a key that is not in GitHub's list, or one
// that this runner does not run (pre-entrypoint), is an error.
func readAction(dir string) (*action, error) {
	source, err := os.ReadFile(filepath.Join(dir, "action.yml"))
	if err != nil {
		return nil, fmt.Errorf("reading the action: %w", err)
	}
	a := &action{dir: dir}
	if err := yaml.UnmarshalWithOptions(source, a, yaml.Strict()); err != nil {
		return nil, fmt.Errorf("reading the action in %s: %w", dir, err)
	}
	if a.Runs.Using != "docker" {
		return nil, fmt.Errorf("reading the action in %s: runs.using is %q; this runner runs docker actions only", dir, a.Runs.Using)
	}
	return a, nil
}

// entrypoint of a half; empty means the image's own.
func (a *action) entrypoint(phase Phase) string {
	if phase == Post {
		return a.Runs.PostEntrypoint
	}
	return a.Runs.Entrypoint
}

// inputs are what with: gives, completed by the defaults. An input without either
// is the empty string, as on GitHub. The second result names those the action does
// not have, which GitHub passes on with a warning.
func (a *action) inputs(with map[string]string, c contexts) (map[string]string, []string, error) {
	in := map[string]string{}
	for name, input := range a.Inputs {
		v, err := c.interpolate(input.Default)
		if err != nil {
			return nil, nil, fmt.Errorf("the default of input %q: %w", name, err)
		}
		in[strings.ToLower(name)] = v
	}
	var unknown []string
	for name, text := range with {
		v, err := c.interpolate(text)
		if err != nil {
			return nil, nil, fmt.Errorf("input %q: %w", name, err)
		}
		if _, known := in[strings.ToLower(name)]; !known {
			unknown = append(unknown, name)
		}
		in[strings.ToLower(name)] = v
	}
	slices.Sort(unknown)
	return in, unknown, nil
}

// inputEnv names inputs the way GitHub does: upper case, spaces become underscores,
// hyphens stay.
func inputEnv(inputs map[string]string) map[string]string {
	env := map[string]string{}
	for name, v := range inputs {
		env["INPUT_"+strings.ToUpper(strings.ReplaceAll(name, " ", "_"))] = v
	}
	return env
}

// resolve finds the directory behind uses:.
func (j *jobRun) resolve(uses string) (string, error) {
	if strings.HasPrefix(uses, "./") {
		return filepath.Join(j.dirs.workspace, uses), nil
	}
	if dir, ok := j.options.Actions[uses]; ok {
		return dir, nil
	}
	return "", fmt.Errorf("no action %q on this runner: name its directory in Options.Actions", uses)
}

func isCheckout(uses string) bool { return strings.HasPrefix(uses, "actions/checkout@") }

var notInTag = regexp.MustCompile(`[^a-z0-9]+`)

// imageTag is the same for the same action wherever it lies, so that builds leave one
// image each and not one a run.
func imageTag(uses string) string {
	return "runnersim-" + or(strings.Trim(notInTag.ReplaceAllString(strings.ToLower(uses), "-"), "-"), "workspace")
}

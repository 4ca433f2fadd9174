package runnersim

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// pair is one name and value of GITHUB_OUTPUT, GITHUB_ENV or GITHUB_STATE.
type pair struct{ name, value string }

// parsePairs reads the two forms that GitHub documents, with the rules of its
// runner: whichever of "=" and "<<" stands first in a line decides; empty lines
// between entries are skipped; a delimiter must match a whole line. An error names
// the line by number only, since its text may be a secret.
func parsePairs(text string) ([]pair, error) {
	lines := strings.Split(text, "\n")
	if lines[len(lines)-1] == "" {
		lines = lines[:len(lines)-1]
	}
	var pairs []pair
	for i := 0; i < len(lines); i++ {
		line := lines[i]
		if line == "" {
			continue
		}
		equals, heredoc := strings.Index(line, "="), strings.Index(line, "<<")
		switch {
		case equals >= 0 && (heredoc < 0 || equals < heredoc):
			if equals == 0 {
				return nil, fmt.Errorf("line %d: the name must not be empty", i+1)
			}
			pairs = append(pairs, pair{line[:equals], line[equals+1:]})
		case heredoc >= 0:
			name, delimiter := line[:heredoc], line[heredoc+2:]
			if name == "" || delimiter == "" {
				return nil, fmt.Errorf("line %d: neither name nor delimiter may be empty", i+1)
			}
			end := indexFrom(lines, i+1, delimiter)
			if end < 0 {
				return nil, fmt.Errorf("line %d: the matching delimiter was not found", i+1)
			}
			pairs = append(pairs, pair{name, strings.Join(lines[i+1:end], "\n")})
			i = end
		default:
			return nil, fmt.Errorf("line %d: want name=value or name<<delimiter", i+1)
		}
	}
	return pairs, nil
}

func indexFrom(lines []string, from int, want string) int {
	for i := from; i < len(lines); i++ {
		if lines[i] == want {
			return i
		}
	}
	return -1
}

// parsePaths reads GITHUB_PATH: one directory a line, taken as it is.
func parsePaths(text string) []string {
	var paths []string
	for line := range strings.SplitSeq(text, "\n") {
		if line != "" {
			paths = append(paths, line)
		}
	}
	return paths
}

// fileCommands are the files that one half of a step may write to.
type fileCommands struct {
	key   string
	paths map[string]string // environment variable -> file
}

var fileCommandNames = map[string]string{
	"GITHUB_OUTPUT": "set_output", "GITHUB_ENV": "set_env", "GITHUB_PATH": "add_path",
	"GITHUB_STATE": "save_state", "GITHUB_STEP_SUMMARY": "step_summary",
}

// maxSummary is GitHub's limit for one step's summary: 1 MiB. GitHub drops a longer one
// with an error beside the step; here the step fails.
const maxSummary = 1 << 20

func (f fileCommands) env() map[string]string { return f.paths }

func (j *jobRun) openFileCommands(h half) (fileCommands, error) {
	f := fileCommands{key: h.key(), paths: map[string]string{}}
	for variable, name := range fileCommandNames {
		path := filepath.Join(j.dirs.commands, name+"_"+f.key)
		if err := os.WriteFile(path, nil, 0o666); err != nil {
			return f, fmt.Errorf("making the file commands: %w", err)
		}
		f.paths[variable] = path
	}
	return f, nil
}

// closeFileCommands obeys what a half wrote, and moves the files out of the job's
// reach, to where they can be looked at afterwards.
func (j *jobRun) closeFileCommands(f fileCommands, out *console) error {
	texts := map[string]string{}
	kept := filepath.Join(j.dirs.kept, f.key)
	if err := os.MkdirAll(kept, 0o755); err != nil {
		return fmt.Errorf("keeping the file commands: %w", err)
	}
	for variable, path := range f.paths {
		text, err := os.ReadFile(path)
		if err != nil {
			return fmt.Errorf("reading %s: %w", variable, err)
		}
		texts[variable] = string(text)
		if err := os.Rename(path, filepath.Join(kept, fileCommandNames[variable])); err != nil {
			return fmt.Errorf("keeping %s: %w", variable, err)
		}
	}
	return j.obeyFiles(texts, out)
}

func (j *jobRun) obeyFiles(texts map[string]string, out *console) error {
	step := out.step
	for variable, into := range map[string]map[string]string{"GITHUB_OUTPUT": step.Outputs, "GITHUB_STATE": step.State} {
		pairs, err := parsePairs(texts[variable])
		if err != nil {
			return fmt.Errorf("unable to process file command %s: %w", variable, err)
		}
		for _, p := range pairs {
			into[p.name] = p.value
		}
	}
	pairs, err := parsePairs(texts["GITHUB_ENV"])
	if err != nil {
		return fmt.Errorf("unable to process file command GITHUB_ENV: %w", err)
	}
	for _, p := range pairs {
		j.setEnv(p, out)
	}
	j.paths = append(parsePaths(texts["GITHUB_PATH"]), j.paths...)
	if len(texts["GITHUB_STEP_SUMMARY"]) > maxSummary {
		return fmt.Errorf("the summary holds %d bytes; GitHub takes %d at most", len(texts["GITHUB_STEP_SUMMARY"]), maxSummary)
	}
	step.Summary = j.log.masks.hide(texts["GITHUB_STEP_SUMMARY"])
	return nil
}

// setEnv refuses what GitHub refuses: its own variables, and NODE_OPTIONS.
func (j *jobRun) setEnv(p pair, out *console) {
	if fromServer(p.name) || p.name == "NODE_OPTIONS" {
		out.annotate("error", "", fmt.Sprintf("Can't set %s through GITHUB_ENV.", p.name))
		out.refused = true
		return
	}
	j.env[p.name] = p.value
}

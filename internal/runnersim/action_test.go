package runnersim

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestStepkeysActionIsDescribedWholly(t *testing.T) {
	a, err := readAction("../..")
	if err != nil {
		t.Fatal(err)
	}
	wantInputs := map[string]string{"exchange": "", "task": "", "lease": "", "ttl": "", "audience": "", "inputs": "", "export-env": "false", "summary": "true"}
	inputs, _, err := a.inputs(nil, contexts{})
	if diff := cmp.Diff(wantInputs, inputs); diff != "" || err != nil {
		t.Errorf("inputs and defaults (-want +got), %v:\n%s", err, diff)
	}
	if diff := cmp.Diff([]string{"expires-at", "lease-id", "token"}, slices.Sorted(maps.Keys(a.Outputs))); diff != "" {
		t.Errorf("outputs (-want +got):\n%s", diff)
	}
	for name, input := range a.Inputs {
		if len(input.Description) < 40 {
			t.Errorf("input %s: the description %q says too little", name, input.Description)
		}
		if input.Required { // of the three things that the action does, each needs others
			t.Errorf("input %s is required", name)
		}
		if input.Required != strings.HasPrefix(input.Description, "Required.") {
			t.Errorf("input %s: GitHub does not enforce required, so the description must say it too", name)
		}
	}
	want := actionRuns{Using: "docker", Image: "Dockerfile", Entrypoint: "/main", PostEntrypoint: "/post", PostIf: "always()"}
	if diff := cmp.Diff(want, a.Runs); diff != "" {
		t.Errorf("runs (-want +got):\n%s", diff)
	}
}

func TestAnActionThatThisRunnerWouldRunWronglyIsRefused(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"a JavaScript action": {"runs: {using: node24, main: a.js}\n", "unknown field"},
		"a composite action":  {"runs: {using: composite}\n", `runs.using is "composite"`},
		"a pre half":          {"runs: {using: docker, image: Dockerfile, pre-entrypoint: /pre}\n", "unknown field"},
		"a key that is none":  {"inputs: {a: {explanation: x}}\nruns: {using: docker}\n", "unknown field"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "action.yml"), []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := readAction(dir); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
		})
	}
}

func TestInputsBecomeVariablesAsGitHubNamesThem(t *testing.T) {
	got := inputEnv(map[string]string{"export-env": "1", "two words": "2", "plain_one": "3"})
	want := map[string]string{"INPUT_EXPORT-ENV": "1", "INPUT_TWO_WORDS": "2", "INPUT_PLAIN_ONE": "3"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestOnlyWholePathsBelowAMountAreTranslated(t *testing.T) {
	mounts := []mount{{"/w/_temp/_github_home", "/github/home"}, {"/w/_temp", "/github/runner_temp"}}
	for v, want := range map[string]string{
		"/w/_temp": "/github/runner_temp", "/w/_temp/a": "/github/runner_temp/a", "/w/_temp/_github_home/x": "/github/home/x",
		"/w/_temporary": "/w/_temporary", "see /w/_temp": "see /w/_temp", "": "",
	} {
		if got := translate(mounts, v); got != want {
			t.Errorf("%q becomes %q, want %q", v, got, want)
		}
	}
}

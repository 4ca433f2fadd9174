package runnersim

import (
	"strings"
	"testing"
)

const oneJob = "on: push\njobs:\n  job:\n    runs-on: ubuntu-latest\n"

func TestAWorkflowThatThisRunnerWouldRunWronglyIsRefused(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"not YAML":               {"a: [", "reading the workflow"},
		"an unknown key":         {oneJob + "    step: []\n", `unexpected key "step"`},
		"a matrix":               {oneJob + "    strategy: {matrix: {os: [a]}}\n    steps: [{run: a}]\n", "strategy is not supported"},
		"services":               {oneJob + "    services: {db: {image: x}}\n    steps: [{run: a}]\n", "services is not supported"},
		"a job container":        {oneJob + "    container: x\n    steps: [{run: a}]\n", "container is not supported"},
		"job outputs":            {oneJob + "    outputs: {a: b}\n    steps: [{run: a}]\n", "outputs is not supported"},
		"args in with":           {oneJob + "    steps: [{uses: a/b@v1, with: {args: x}}]\n", "with.args are not supported"},
		"an expression as env":   {oneJob + "    env: ${{ vars }}\n    steps: [{run: a}]\n", "an expression for the whole map"},
		"an expression for time": {oneJob + "    steps: [{run: a, timeout-minutes: '${{ vars.T }}'}]\n", "an expression is not supported"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := readPlan([]byte(c.text), ""); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
		})
	}
	if _, err := readPlan([]byte(oneJob+"    steps: [{run: a}]\n"), "other"); err == nil || !strings.Contains(err.Error(), "name one of job") {
		t.Errorf("error %v, want the jobs that there are", err)
	}
}

func TestOnlyAJobThatAsksForItGetsAnIDToken(t *testing.T) {
	for text, want := range map[string]bool{
		"{}":                false,
		"read-all":          false,
		"write-all":         true,
		"{contents: write}": false,
		"{id-token: write}": true,
		"{id-token: none}":  false,
	} {
		steps := "    steps: [{run: a}]\n"
		whole, err := readPlan([]byte("permissions: "+text+"\n"+oneJob+steps), "")
		if err != nil || whole.idToken != want {
			t.Errorf("permissions of the workflow %s grant it: %v, %v", text, whole, err)
		}
		own, err := readPlan([]byte("permissions: write-all\n"+oneJob+"    permissions: "+text+"\n"+steps), "")
		if err != nil || own.idToken != want {
			t.Errorf("permissions of the job %s grant it: %v, %v", text, own, err)
		}
	}
}

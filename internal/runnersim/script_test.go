package runnersim_test

import (
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stepkey/stepkey/internal/runnersim"
)

// scripts runs a workflow of run: steps, which is the same in both modes.
func scripts(t *testing.T, steps string, change ...func(*runnersim.Job)) *runnersim.Result {
	t.Helper()
	job := runnersim.Job{Workflow: []byte(workflowHead + steps)}
	for _, c := range change {
		c(&job)
	}
	return run(t, runnersim.Options{Mode: runnersim.Process, Dir: t.TempDir()}, job)
}

func wantConclusions(t *testing.T, r *runnersim.Result, want map[string]runnersim.Conclusion) {
	t.Helper()
	got := map[string]runnersim.Conclusion{"job": r.Conclusion}
	for _, s := range r.Steps {
		got[s.ID] = s.Conclusion
	}
	if !maps.Equal(want, got) {
		t.Errorf("conclusions are %v, want %v:\n%s", got, want, r.Log)
	}
}

func TestStepsRunOrNotAsTheirConditionsSay(t *testing.T) {
	t.Parallel()
	r := scripts(t, `
      - {id: good, run: "true"}
      - {id: forgiven, run: exit 7, continue-on-error: true}
      - {id: told, run: "test ${{ steps.forgiven.outcome }}${{ steps.forgiven.conclusion }} = failuresuccess"}
      - {id: own, if: env.WORD == 'x', env: {WORD: x}, run: "true"}
      - {id: bad, run: exit 3}
      - {id: next, run: "true"}
      - {id: onfail, if: failure(), run: "true"}
      - {id: ever, if: always(), run: "test ${{ job.status }} = failure"}
`)
	wantConclusions(t, r, map[string]runnersim.Conclusion{
		"job": "failure", "good": "success", "forgiven": "failure", "told": "success", "own": "success",
		"bad": "failure", "next": "skipped", "onfail": "success", "ever": "success",
	})
	if code := step(t, r, "bad", runnersim.Main).ExitCode; code != 3 {
		t.Errorf("the exit code is %d", code)
	}
}

func TestAJobWhoseConditionDoesNotHoldRunsNothing(t *testing.T) {
	t.Parallel()
	text := strings.Replace(workflowHead, "    runs-on:", "    if: github.ref == 'refs/heads/main'\n    runs-on:", 1)
	r := scripts(t, "", func(j *runnersim.Job) { j.Workflow = []byte(text + "      - run: exit 1\n") })
	if r.Conclusion != runnersim.Skipped || len(r.Steps) != 0 {
		t.Errorf("the job is %s after %d steps", r.Conclusion, len(r.Steps))
	}
}

func TestTheDefaultShellHasNoPipefailAndBashHas(t *testing.T) {
	t.Parallel()
	wantConclusions(t, scripts(t, `
      - {id: plain, run: "false | true"}
      - {id: posix, shell: sh, run: "false | true"}
      - {id: strict, shell: bash, run: "false | true"}
`), map[string]runnersim.Conclusion{"job": "failure", "plain": "success", "posix": "success", "strict": "failure"})
}

func TestStepsHandThingsOnThroughFiles(t *testing.T) {
	t.Parallel()
	r := scripts(t, `
      - id: giver
        run: |
          echo 'one=1' >>"$GITHUB_OUTPUT"
          printf 'two<<E\na\nb\nE\n' >>"$GITHUB_OUTPUT"
          echo 'GIVEN=from env' >>"$GITHUB_ENV"
          echo '# Heading' >>"$GITHUB_STEP_SUMMARY"
          mkdir sub
      - id: taker
        working-directory: sub
        env: {OVER: step}
        run: |
          echo "$GIVEN/${{ env.GIVEN }}/${{ steps.giver.outputs.one }}/$OVER/${PWD##*/}"
          test "${{ steps.giver.outputs.two }}" = "$(printf 'a\nb')"
          test -z "$GITHUB_STATE" || test ! -s "$GITHUB_OUTPUT"
`, func(j *runnersim.Job) { j.Env = map[string]string{"OVER": "job", "GITHUB_REPOSITORY": "acme/widget"} })
	wantConclusions(t, r, map[string]runnersim.Conclusion{"job": "success", "giver": "success", "taker": "success"})
	wantLines(t, step(t, r, "taker", runnersim.Main).Log, "from env/from env/1/step/sub")
	kept, err := os.ReadFile(filepath.Join(r.Left, "file_commands", "01-main", "set_output"))
	if err != nil || !strings.Contains(string(kept), "one=1") {
		t.Errorf("the file commands that were kept: %q, %v", kept, err)
	}
	if live, err := os.ReadDir(filepath.Join(r.Left, "work", "_temp", "_runner_file_commands")); err != nil || len(live) > 0 {
		t.Errorf("later steps could read %v, %v", live, err)
	}
}

func TestAFileCommandThatCannotBeReadFailsTheStep(t *testing.T) {
	t.Parallel()
	r := scripts(t, `
      - {id: loose, run: echo "just text" >>"$GITHUB_OUTPUT"}
      - {id: endless, if: always(), run: echo "a<<E" >>"$GITHUB_STATE"}
      - {id: server, if: always(), run: echo "GITHUB_REF=x" >>"$GITHUB_ENV"}
      - {id: node, if: always(), run: echo "NODE_OPTIONS=x" >>"$GITHUB_ENV"}
      - {id: long, if: always(), run: head -c 1048577 /dev/zero >>"$GITHUB_STEP_SUMMARY"}
`)
	wantConclusions(t, r, map[string]runnersim.Conclusion{
		"job": "failure", "loose": "failure", "endless": "failure", "server": "failure", "node": "failure", "long": "failure",
	})
	if strings.Contains(r.Log, "line 1: want name=value or name<<delimiter") == false || strings.Contains(step(t, r, "loose", runnersim.Main).Annotations[0].Message, "just text") {
		t.Errorf("the error quotes what may be secret, or does not name the line:\n%s", r.Log)
	}
}

func TestWorkflowCommandsAreObeyedUnlessStopped(t *testing.T) {
	t.Parallel()
	r := scripts(t, `
      - id: talk
        run: |
          echo "::group::Part one"
          echo "::debug::detail"
          echo "::endgroup::"
          echo "::notice title=T::hello"
          echo "::add-mask::hunter2"
          echo "pw hunter2"
          echo "::error::it was hunter2"
          echo "::stop-commands::pause"
          echo "::warning::not a warning"
          echo "::pause::"
          echo "::unknown::shown as it is"
          echo "::add-mask::"
          printf 'no line end'
      - {id: old, run: 'echo "::set-output name=a::b"'}
`)
	talk := step(t, r, "talk", runnersim.Main)
	wantLines(t, talk.Log, "##[group]Part one", "##[debug]detail", "##[endgroup]", "pw ***", "::warning::not a warning", "::unknown::shown as it is", "no line end")
	want := []runnersim.Annotation{
		{Level: "notice", Title: "T", Message: "hello"}, {Level: "error", Message: "it was ***"},
		{Level: "warning", Message: "Can't add secret mask for empty string in ##[add-mask] command."},
	}
	if len(talk.Annotations) != len(want) {
		t.Fatalf("annotations are %+v", talk.Annotations)
	}
	for i := range want {
		if talk.Annotations[i] != want[i] {
			t.Errorf("annotation %d is %+v, want %+v", i, talk.Annotations[i], want[i])
		}
	}
	wantConclusions(t, r, map[string]runnersim.Conclusion{"job": "failure", "talk": "success", "old": "failure"})
}

func TestTheServersTokensReachOnlyWhoMayHaveThem(t *testing.T) {
	t.Parallel()
	env := map[string]string{
		"ACTIONS_RUNTIME_TOKEN": "runtime-token", "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "request-token",
		"ACTIONS_ID_TOKEN_REQUEST_URL": "http://127.0.0.1/?a=b",
	}
	look := `      - {id: look, run: 'echo "r=${ACTIONS_RUNTIME_TOKEN:-none} u=${ACTIONS_ID_TOKEN_REQUEST_URL:-none}"; env | grep REQUEST_TOKEN || true'}` + "\n"
	for permissions, want := range map[string]string{
		"":                                 "r=none u=none",
		"permissions: {id-token: write}\n": "r=none u=http://127.0.0.1/?a=b",
	} {
		r := scripts(t, "", func(j *runnersim.Job) {
			j.Workflow, j.Env = []byte(permissions+workflowHead+look), env
		})
		wantLines(t, step(t, r, "look", runnersim.Main).Log, want)
		if strings.Contains(r.Log, "request-token") {
			t.Errorf("the request token is shown:\n%s", r.Log)
		}
	}
}

func TestSecretsAreMaskedFromTheStartAndInTheFile(t *testing.T) {
	t.Parallel()
	r := scripts(t, "      - {id: show, run: 'echo ${{ secrets.GITHUB_TOKEN }} ${{ github.token }}'}\n", func(j *runnersim.Job) {
		j.Secrets = map[string]string{"GITHUB_TOKEN": "ghs_job"}
	})
	wantLines(t, step(t, r, "show", runnersim.Main).Log, "*** ***")
	file, err := os.ReadFile(filepath.Join(r.Left, "log.txt"))
	if err != nil || string(file) != r.Log || strings.Contains(r.Log, "ghs_job") {
		t.Errorf("log.txt differs from the log, or shows a secret: %v\n%s", err, file)
	}
}

func TestAnActionOfTheWorkspaceRunsAfterTheCheckoutAndPostsRunInReverse(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, o runnersim.Options) {
		o.Workspace = o.Actions["acme/toy@v1"] // the toy's own repository
		var order []string
		r := run(t, o, runnersim.Job{
			Workflow: []byte(workflowHead + `
      - uses: actions/checkout@v4
        with: {persist-credentials: false}
      - {id: first, uses: ./}
      - {id: never, if: "false", uses: ./}
      - {id: second, uses: acme/toy@v1, with: {surprise: x}}
`),
			Watch: func(m runnersim.Moment) {
				if m.Done && m.Conclusion != runnersim.Skipped {
					order = append(order, m.ID+" "+string(m.Phase))
				}
			},
		})
		if got, want := strings.Join(order, ", "), " main, first main, second main, second post, first post"; got != want {
			t.Errorf("the order is %q, want %q:\n%s", got, want, r.Log)
		}
		if !strings.Contains(step(t, r, "second", runnersim.Main).Log, "Unexpected input(s) surprise") {
			t.Error("an unknown input passes without a warning")
		}
	})
}

func TestWhatARunnerDoesNotHaveIsAnErrorThatNamesIt(t *testing.T) {
	t.Parallel()
	for steps, want := range map[string]string{
		"      - uses: acme/unknown@v1\n":                          `no action "acme/unknown@v1" on this runner`,
		"      - uses: actions/checkout@v4\n":                      "there is no repository to check out",
		"      - {uses: actions/checkout@v4, with: {ref: x}}\n":    "the input ref of actions/checkout is not supported",
		"      - {run: x, shell: pwsh}\n":                          `the shell "pwsh" is not supported`,
		"      - {run: 'echo ${{ matrix.os }}'}\n":                 `the context "matrix" is not supported`,
		"      - {run: x, if: hashFiles('a')}\n":                   "the function hashFiles() is not supported",
		"      - {run: x, env: {A: '${{ needs.a.outputs.b }}'}}\n": `the context "needs" is not supported`,
	} {
		runner, err := runnersim.New(runnersim.Options{Mode: runnersim.Process, Dir: t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := runner.Run(t.Context(), runnersim.Job{Workflow: []byte(workflowHead + steps)}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want one with %q", strings.TrimSpace(steps), err, want)
		}
	}
	if _, err := runnersim.New(runnersim.Options{}); err == nil {
		t.Error("a runner without a mode was made")
	}
}

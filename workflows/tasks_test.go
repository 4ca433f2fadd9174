package workflows_test

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

// The tasks of these workflows are good ones, and those with tests beside them pass.
func TestTheTasksOfTheWorkflowsAreChecked(t *testing.T) {
	t.Parallel()
	tasks := filepath.Join(t.TempDir(), "tasks")
	if err := os.CopyFS(tasks, os.DirFS("testdata")); err != nil {
		t.Fatal(err)
	}
	said := command(t, binary(t, "stepkey-exchange"), "check", tasks)
	tests, err := filepath.Glob(filepath.Join(tasks, "*.test.yaml"))
	if err != nil || len(tests) == 0 {
		t.Fatalf("no tests beside the tasks: %v", err)
	}
	for _, file := range tests {
		if !regexp.MustCompile(regexp.QuoteMeta(file) + `: [1-9][0-9]* tests passed`).MatchString(said) {
			t.Errorf("%s was not passed:\n%s", filepath.Base(file), said)
		}
	}
}

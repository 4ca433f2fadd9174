package policy_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/stepkey/stepkey/exchange/policy"
	"github.com/stepkey/stepkey/internal/yamlfile"
)

func TestTheGoodTasksAreReadAsTheyAreWritten(t *testing.T) {
	var got []policy.Task
	for _, task := range good(t).Tasks() {
		if slices.Contains([]string{"deploy-prod", "json-is-yaml", "publish-release", "read-packages"}, task.Name) {
			got = append(got, task)
		}
	}
	want := []policy.Task{
		{Name: "deploy-prod", File: "deploy-prod.yml", TTL: time.Second, PerJob: 1, Until: policy.UntilJob, Backend: "github",
			Purpose: "Tell the deployment's state: production, only from protected branches."},
		{Name: "json-is-yaml", File: "json-is-yaml.yaml", TTL: 90 * time.Second, PerJob: 2, Until: policy.UntilJob, Backend: "github",
			Purpose: "A task file that a program wrote."},
		{Name: "publish-release", File: "publish-release.yaml", TTL: 10 * time.Minute, PerJob: 1, Until: policy.UntilJob, Backend: "github",
			Purpose: "Upload the assets of a tagged release of acme/widget."},
		{Name: "read-packages", File: "read-packages.yaml", TTL: 24 * time.Hour, PerJob: 100, Until: policy.UntilJob, Backend: "github",
			Purpose: "Read the packages that builds depend on."},
	}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(policy.Task{}, "Scope"), cmpopts.IgnoreUnexported(policy.Task{})); diff != "" {
		t.Error(diff)
	}
	var scopes []string
	for _, task := range got {
		scopes = append(scopes, task.Scope.String())
	}
	if diff := cmp.Diff([]string{
		"deployments: write, statuses: write on acme/widget+gadget", "contents: read on acme/widget",
		"contents: write on acme/widget", "packages: read on acme/",
	}, scopes); diff != "" {
		t.Error(diff)
	}
}

func TestOnlyTaskFilesOfTheFolderAreRead(t *testing.T) {
	task := string(taskWith(map[string][]string{"repository_id": {"1"}, "event_name": {"push"}}, time.Minute))
	named := func(name string) *fstest.MapFile {
		return &fstest.MapFile{Data: []byte(strings.Replace(task, "task: t\n", "task: "+name+"\n", 1))}
	}
	faulty := &fstest.MapFile{Data: []byte("nonsense")}
	for name, c := range map[string]struct {
		files fstest.MapFS
		want  []string // tasks, or faults
	}{
		"side by side": {fstest.MapFS{"a.yaml": named("a"), "b.yml": named("b")}, []string{"a", "b"}},
		"no files":     {fstest.MapFS{}, nil},
		"hidden files, tests and other kinds": {fstest.MapFS{
			"a.yaml": named("a"), ".a.yaml": faulty, "..data/a.yaml": faulty, "a.test.yaml": faulty,
			"README.md": faulty, "LICENSE": faulty, "a.yaml~": faulty}, []string{"a"}},
		"a file of another name": {fstest.MapFS{"x.yaml": named("a")}, []string{
			`x.yaml:1:7 task "a" is in a file of another name; rename the file to a.yaml`}},
		"an ending in capitals": {fstest.MapFS{"a.YAML": named("a")}, []string{
			`a.YAML:1:7 task "a" is in a file of another name; rename the file to a.yaml`}},
		"a task twice": {fstest.MapFS{"a.yaml": named("a"), "a.yml": named("a")}, []string{
			`a.yml:1:1 task "a" is already in a.yaml`}},
		"a folder": {fstest.MapFS{"a.yaml": named("a"), "more/b.yaml": named("b")}, []string{
			`more:0:0 task files lie side by side; a folder among them is not read`}},
		"faults in several files": {fstest.MapFS{"a.yaml": named("a"), "b.yaml": faulty, "c.yaml": named("d")}, []string{
			`b.yaml:1:1 want a mapping (key: value), found the text "nonsense"`,
			`c.yaml:1:7 task "d" is in a file of another name; rename the file to d.yaml`}},
	} {
		t.Run(name, func(t *testing.T) {
			set, err := policy.Load(c.files, check())
			var got []string
			for _, f := range yamlfile.Faults(err) {
				got = append(got, fmt.Sprintf("%s:%d:%d %s", f.File, f.Line, f.Column, f.Message))
			}
			if set != nil {
				for _, task := range set.Tasks() {
					got = append(got, task.Name)
				}
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
			if (set == nil) != (err != nil) {
				t.Errorf("set %v, error %v", set, err)
			}
		})
	}
}

func TestAFolderThatCannotBeReadGivesNoTasks(t *testing.T) {
	set, err := policy.Load(os.DirFS(t.TempDir()+"/gone"), check())
	if set != nil || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, %v", set, err)
	}
}

func TestWindowsLineEndsChangeNothing(t *testing.T) {
	data, err := os.ReadFile(corpus + "good/publish-release.yaml")
	if err != nil {
		t.Fatal(err)
	}
	data = []byte(strings.ReplaceAll(strings.ReplaceAll(string(data), "\r", ""), "\n", "\r\n"))
	set, err := policy.Load(fstest.MapFS{"publish-release.yaml": {Data: data}}, check())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := set.Authorize(release(nil), policy.Asked{Task: "publish-release"}); err != nil {
		t.Error(err)
	}
}

package policy_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stepkey/stepkey/exchange/identity"
	"github.com/stepkey/stepkey/exchange/policy"
	"github.com/stepkey/stepkey/internal/yamlfile"
)

// However a task file is written: no panic, and either a task that stands for
// itself or a fault with its place.
func FuzzLoad(f *testing.F) {
	files, _ := filepath.Glob(corpus + "*/*")
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		set, err := policy.Load(fstest.MapFS{"publish-release.yaml": {Data: data}}, check())
		if err != nil {
			all := yamlfile.Faults(err)
			if len(all) == 0 || set != nil {
				t.Errorf("set %v with error %v", set, err)
			}
			fitForTerminal(t, err)
			return
		}
		for _, task := range set.Tasks() {
			if task.Name != "publish-release" || task.Scope == nil || task.TTL < time.Second || task.TTL > 24*time.Hour || task.PerJob < 1 || task.PerJob > 100 {
				t.Errorf("accepted %+v", task)
			}
			stranger := identity.Workload{Issuer: "github", Claims: identity.Claims{"sub": "x", "actor": "x", "ref": "refs/heads/main"}}
			if _, err := set.Authorize(stranger, policy.Asked{Task: task.Name}); err == nil {
				t.Error("a workload without ids and event was let in")
			}
		}
	})
}

func manyTasks(n int) fstest.MapFS {
	files := fstest.MapFS{}
	for i := range n {
		files[fmt.Sprintf("task-%d.yaml", i)] = &fstest.MapFile{Data: fmt.Appendf(nil, `task: task-%d
purpose: Upload the assets of a tagged release of acme/widget.
allow:
  - issuer: github
    claims:
      repository_owner_id: "123456"
      repository_id: "%d"
      environment: release
      event_name: [push, workflow_dispatch]
credential:
  github: {owner: acme, repositories: [widget], permissions: {contents: write}}
limits: {ttl: 10m, per_job: 1}
`, i, i+1)}
	}
	return files
}

func BenchmarkAuthorize(b *testing.B) {
	set, err := policy.Load(manyTasks(10_000), check())
	if err != nil {
		b.Fatal(err)
	}
	who := release(identity.Claims{"repository_id": "5001"})
	b.ReportAllocs()
	for b.Loop() {
		if _, err := set.Authorize(who, policy.Asked{Task: "task-5000"}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkLoad(b *testing.B) {
	for _, n := range []int{1, 100, 1000} {
		b.Run(fmt.Sprintf("%d-tasks", n), func(b *testing.B) {
			files := manyTasks(n)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := policy.Load(files, check()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

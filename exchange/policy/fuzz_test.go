package policy_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
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

// FuzzWhen: no expression makes the policy panic, cost more than it may, or let in whom
// the pins do not let in.
func FuzzWhen(f *testing.F) {
	for _, seed := range []string{
		`claims.ref.startsWith("refs/tags/v")`, `has(claims.environment) && claims.environment == "release"`, `claims["team"] == "x"`,
		`[1,2,3].all(a, [1,2,3].exists(b, a == b))`, `claims.ref.matches("^(a+)+$")`, `inputs.version == claims.ref`, `"x" in claims`,
		`.claims.sub == ""`, `claims.exists(c, c == "sub")`, `size(claims.ref + claims.ref) > 3`, `{"a": claims.ref}["a"] == ""`,
		`duration("1h") > duration("1m")`, `type(claims.ref) == string`, `dyn(claims).ref == ""`, `true`, `(`, `"\u0000"`, `1/0 == 1`,
	} {
		f.Add(seed)
	}
	who := release(identity.Claims{"ref": strings.Repeat("ab/", 3000)})
	stranger := release(identity.Claims{"repository_id": "1"})
	f.Fuzz(func(t *testing.T, when string) {
		file := strings.Replace(string(taskOf("", "version: {pattern: 'v[0-9.]+', example: v1}", plainBlock)), "credential:", "    when: "+quoted(when)+"\ncredential:", 1)
		set, err := policy.Load(fstest.MapFS{"t.yaml": {Data: []byte(file)}}, check())
		if err != nil {
			fitForTerminal(t, err)
			return
		}
		asked := policy.Asked{Task: "t", Inputs: map[string]string{"version": "v1"}}
		_, first := set.Authorize(who, asked)
		_, again := set.Authorize(who, asked)
		if (first == nil) != (again == nil) {
			t.Errorf("%q is decided in two ways", when)
		}
		if _, err := set.Authorize(stranger, asked); err == nil {
			t.Errorf("%q lets a stranger in", when)
		}
	})
}

// quoted is any text in the double quotes of YAML.
func quoted(text string) string {
	var b strings.Builder
	for _, r := range text {
		if r < ' ' || r > '~' || r == '"' || r == '\\' {
			fmt.Fprintf(&b, `\U%08X`, r)
			continue
		}
		b.WriteRune(r)
	}
	return `"` + b.String() + `"`
}

func setOrNone(file []byte) *policy.Set {
	set, _ := policy.Load(fstest.MapFS{"t.yaml": {Data: file}}, check())
	return set
}

// manyConditions gives each of n tasks a condition, an input and a block to fill.
func manyConditions(n int) fstest.MapFS {
	files := manyTasks(n)
	for name, file := range files {
		text := strings.Replace(string(file.Data), "allow:", "inputs:\n  version: {pattern: 'v[0-9]+\\.[0-9]+\\.[0-9]+', example: v1.2.3}\nallow:", 1)
		text = strings.Replace(text, "credential:", "    when: claims.ref == \"refs/tags/\" + inputs.version && has(claims.environment)\ncredential:", 1)
		files[name] = &fstest.MapFile{Data: []byte(strings.Replace(text, "[widget]", `["widget-${inputs.version}"]`, 1))}
	}
	return files
}

func BenchmarkAuthorizeWhen(b *testing.B) {
	set, err := policy.Load(manyConditions(10_000), check())
	if err != nil {
		b.Fatal(err)
	}
	who := release(identity.Claims{"repository_id": "5001"})
	b.ReportAllocs()
	for b.Loop() {
		if _, err := set.Authorize(who, policy.Asked{Task: "task-5000", Inputs: map[string]string{"version": "v1.2.3"}}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkLoad10000(b *testing.B) {
	for name, files := range map[string]fstest.MapFS{"plain": manyTasks(10_000), "conditions": manyConditions(10_000)} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, err := policy.Load(files, check()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

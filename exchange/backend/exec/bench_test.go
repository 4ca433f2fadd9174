package exec_test

import (
	"fmt"
	osexec "os/exec"
	"strings"
	"testing"

	"github.com/stepkey/stepkey/exchange/backend"
)

// One credential's life by the page's program, and the floor beside it: the same two
// questions put to the same program by a shell, without any of this.
func BenchmarkIssueAndRevoke(b *testing.B) {
	s := newService(b)
	direct := open(b, s.now, fmt.Sprintf("tokens: {command: [%q, %q], parameters: {%s}}", pageProgram(b), s.tokens(), forms))
	scope, err := direct.Scope(node(b, "{program: tokens, parameters: {area: figures, can: [read]}}"))
	if err != nil {
		b.Fatal(err)
	}
	for i := 0; b.Loop(); i++ {
		o := backend.Order{Lease: backend.LeaseID(fmt.Sprint("lease_", i)), Scope: scope, At: s.now(), Until: s.now().Add(1e12)}
		issued, err := direct.Issue(b.Context(), o)
		if err != nil {
			b.Fatal(err)
		}
		if err := direct.Revoke(b.Context(), o.Lease, issued.Handle); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkFloorOfTheProgramAlone(b *testing.B) {
	s := newService(b)
	program := pageProgram(b)
	for i := 0; b.Loop(); i++ {
		for _, ask := range []string{
			`{"version":1,"verb":"issue","lease":"lease_%d","until":"2030-01-01T00:00:00Z","parameters":{"area":"figures","can":["read"]}}`,
			`{"version":1,"verb":"revoke","lease":"lease_%d"}`,
		} {
			run := osexec.Command(program, s.tokens())
			run.Stdin = strings.NewReader(fmt.Sprintf(ask, i))
			if out, err := run.Output(); err != nil || strings.Contains(string(out), "error") {
				b.Fatalf("%s %v", out, err)
			}
		}
	}
}

func shell(t testing.TB, dir, path, script string) string {
	t.Helper()
	run := osexec.Command("/bin/sh", "-euc", script)
	run.Dir, run.Env = dir, []string{"PATH=" + path + ":/usr/bin:/bin"}
	out, err := run.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return string(out)
}

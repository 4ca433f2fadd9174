package policy_test

import (
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stepkey/stepkey/exchange/policy"
)

func TestATaskSaysWhatItsTokensMustBeBoundTo(t *testing.T) {
	for written, want := range map[string]policy.Bind{"": "", "bind: request\n": policy.BindRequest, "bind: \"request\"\n": policy.BindRequest} {
		set, err := policy.Load(fstest.MapFS{"publish-release.yaml": {Data: []byte(untilTask + written)}}, check())
		if err != nil {
			t.Errorf("%q: %v", written, err)
			continue
		}
		grant, err := set.Authorize(release(nil), policy.Asked{Task: "publish-release"})
		if err != nil || grant.Bind != want || set.Tasks()[0].Bind != want {
			t.Errorf("%q: granted with bind %q, %v", written, grant.Bind, err)
		}
		tree := set.Explain(release(nil), policy.Asked{Task: "publish-release"}).Tree()
		told := strings.Contains(tree, "  – bind: request (only the exchange sees whether a token is bound to the request)\n")
		if told != (want != "") || strings.Count(tree, "bind") > 1 {
			t.Errorf("%q is explained as\n%s", written, tree)
		}
	}
}

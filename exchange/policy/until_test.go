package policy_test

import (
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stepkey/stepkey/exchange/policy"
)

const untilTask = `task: publish-release
purpose: Upload the assets of a tagged release of acme/widget.
allow:
  - issuer: github
    claims: {repository_owner_id: "123456", repository_id: "456789", environment: release, event_name: push}
credential:
  github: {owner: acme, repositories: [widget], permissions: {contents: write}}
limits: {ttl: 10m}
`

func TestATaskSaysWhoseEndEndsItsLeases(t *testing.T) {
	for written, want := range map[string]policy.Until{
		"limits: {ttl: 10m}":                   policy.UntilJob,
		"limits: {ttl: 10m, until: job}":       policy.UntilJob,
		"limits: {ttl: 10m, until: step}":      policy.UntilStep,
		"limits: {ttl: 10m, until: this_step}": policy.UntilThisStep,
	} {
		text := strings.Replace(untilTask, "limits: {ttl: 10m}", written, 1)
		set, err := policy.Load(fstest.MapFS{"publish-release.yaml": {Data: []byte(text)}}, check())
		if err != nil {
			t.Errorf("%s: %v", written, err)
			continue
		}
		grant, err := set.Authorize(release(nil), policy.Asked{Task: "publish-release"})
		if err != nil || grant.Until != want || set.Tasks()[0].Until != want {
			t.Errorf("%s: granted until %q, %v; want %q", written, grant.Until, err, want)
		}
	}
}

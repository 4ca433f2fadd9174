package policy_test

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/stepkey/stepkey/exchange/policy"
)

// A pattern that is taken matches a text as a whole or not at all: whatever stands
// around it cannot be somebody else's.
func TestAPatternThatIsTakenMatchesWholeTextsOnly(t *testing.T) {
	parts := rapid.SampledFrom([]string{"^", "$", `\\A`, `\\z`, "a", "b", "|", "(", ")", "(?:", "(?m)", "?", "*", "+", ".", "[a|b]", `\\|`, `\\(`})
	taken := 0
	rapid.Check(t, func(rt *rapid.T) {
		written := strings.Join(rapid.SliceOfN(parts, 1, 9).Draw(rt, "pattern"), "")
		if rapid.Bool().Draw(rt, "framed") {
			written = "^(" + written + ")$"
		}
		pattern := strings.ReplaceAll(written, `\\`, `\`)
		alone, err := regexp.Compile(pattern)
		if err != nil {
			return
		}
		set, ids := lintExample(t, when(`'claims.ref.matches("`+written+`")'`))
		if set == nil {
			return
		}
		if slices.Contains(ids, policy.Form) {
			rt.Fatalf("%v", ids)
		}
		taken++
		text := rapid.StringMatching(`[ab\n|(]{0,6}`).Draw(rt, "text")
		if whole := regexp.MustCompile(`\A(?:` + pattern + `)\z`); alone.MatchString(text) != whole.MatchString(text) {
			rt.Errorf("%q is taken, and matches a part of %q", pattern, text)
		}
	})
	if taken == 0 {
		t.Error("no pattern was taken, so nothing was shown")
	}
}

func TestAPurposeIsHeldAgainstWhatTheCredentialWrites(t *testing.T) {
	for name, c := range map[string]struct {
		purpose, permissions string
		wide                 bool
	}{
		"a purpose that reads, and writes":                     {"Read the packages that builds depend on.", "packages: write", true},
		"a purpose that reads, and reads":                      {"Read the packages that builds depend on.", "packages: read", false},
		"a second verb writes":                                 {"Read the list of packages, and publish what is missing.", "packages: write", false},
		"a thing that is called like a verb":                   {"Fetch the release of another repository.", "contents: write", true},
		"a purpose without a verb that is known":               {"Weekly chores.", "packages: write", false},
		"a second permission that the purpose does not hint":   {"Upload the assets of a release.", "contents: write, issues: write", true},
		"a second permission that the purpose hints":           {"Upload the assets of a release and comment on its issue.", "contents: write, issues: write", false},
		"a permission over the organization":                   {"Register runners.", "organization_self_hosted_runners: write", true},
		"reading such a permission":                            {"List the runners.", "organization_self_hosted_runners: read", false},
		"secrets, however the purpose speaks of them":          {"Rotate secrets.", "secrets: write", true},
		"a permission that the table does not know, and other": {"Publish the package.", "packages: write, merge_queues: write", false},
	} {
		t.Run(name, func(t *testing.T) {
			_, ids := lintExample(t, "purpose: \""+c.purpose+"\"\ncredential:\n  github: {owner: acme, repository_ids: [456789], permissions: {"+c.permissions+"}}\n")
			if got := slices.Contains(ids, "permissions-wide"); got != c.wide {
				t.Errorf("found %v", ids)
			}
		})
	}
}

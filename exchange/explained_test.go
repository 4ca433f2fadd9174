package exchange_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/stepkey/stepkey/exchange"
	"github.com/stepkey/stepkey/exchange/policy"
)

// Owners are told, and the audit log holds, the words that explain shows for the rules
// that did not hold: whoever reads one finds the other.
func TestADenialSaysWhatExplainShows(t *testing.T) {
	st := set(t)
	const token = "jti-9/pull_request"
	_, err := st.ask(t.Context(), token)
	var refused *exchange.Refused
	if !errors.As(err, &refused) || refused.Kind != exchange.NotAllowed {
		t.Fatalf("want a denial, got %v", err)
	}
	w, err := who{}.Verify(t.Context(), token)
	if err != nil {
		t.Fatal(err)
	}
	var failed []string
	e := st.Policy().Explain(w, policy.Asked{Task: "publish-release"})
	for _, entry := range e.Entries {
		for _, rule := range entry.Rules {
			if rule.Verdict == policy.Fails {
				failed = append(failed, rule.Place+": "+rule.Words)
				break
			}
		}
	}
	log := st.log(t)
	want := `task "publish-release" denied: ` + strings.Join(failed, "; ")
	if last := log[len(log)-1]; len(failed) == 0 || refused.Why != want || last.Reason != want {
		t.Errorf("explain shows\n\t%s\nthe client is told\n\t%s\nand written down is\n\t%s", want, refused.Why, last.Reason)
	}
}

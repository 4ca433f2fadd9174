package main

import (
	"bytes"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/stepkey/stepkey/exchange/client"
	"github.com/stepkey/stepkey/internal/secret"
	"pgregory.net/rapid"
)

// Whatever an exchange says is public: no secret is seen, whole or in what shows it, and
// what shows none is.
func TestWhatIsSaidToBePublicHidesNoLessOfASecret(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		names := []string{"a", "b", "c", "d", "e"}
		word := rapid.StringMatching(`[x-z]{1,3}(\n[x-z]{4,5})?`)
		g := &client.Grant{
			LeaseID: "lease_01", LeaseToken: secret.New(word.Draw(t, "lease token")), Values: map[string]secret.String{},
			Env:    map[string]secret.String{"V": secret.New(word.Draw(t, "variable"))},
			Public: rapid.SliceOf(rapid.SampledFrom(append(slices.Clone(names), "other"))).Draw(t, "public"),
		}
		hidden := []string{g.LeaseToken.Reveal()}
		var public []string
		for _, name := range names {
			value := word.Draw(t, name)
			g.Values[name] = secret.New(value)
			if slices.Contains(g.Public, name) {
				public = append(public, value)
			} else {
				hidden = append(hidden, value)
			}
		}
		if carried := g.Env["V"].Reveal(); !slices.Contains(public, carried) {
			hidden = append(hidden, carried)
		}
		var log bytes.Buffer
		r := newRunner(func(string) string { return "" }, &log)
		if err := r.maskGrant(g); err != nil {
			t.Fatal(err)
		}
		seen := func(text string) string {
			return asSeen(log.String() + "> " + strings.ReplaceAll(text, "\n", "/") + "\n")
		}
		for _, value := range hidden {
			for line := range strings.Lines(value) {
				if line = strings.TrimSpace(line); (line == value || len(line) >= 4) && strings.Contains(seen(value), line) {
					t.Fatalf("%q is seen of %v", value, slices.Collect(maps.Keys(g.Values)))
				}
			}
		}
		for _, value := range public {
			shows := showsOne(value, hidden)
			_, told := sortedOut(g)
			named := slices.ContainsFunc(told, func(name string) bool { return g.Values[name].Reveal() == value })
			if shows && (named || seen(value) == "> "+strings.ReplaceAll(value, "\n", "/")+"\n") {
				t.Fatalf("%q shows one of %q, and is seen", value, hidden)
			}
			if !strings.Contains(value, "\n") && named && seen(value) != "> "+value+"\n" {
				t.Fatalf("%q is said to be seen, and is not: %q", value, seen(value))
			}
		}
	})
}

package github

import (
	"regexp"
	"testing"

	"pgregory.net/rapid"

	"github.com/stepkey/stepkey/exchange/backend/backendtest"
	"github.com/stepkey/stepkey/exchange/githubapp"
)

// An editor that refuses a name that GitHub has, or the other way round, is believed.
func TestTheSchemaKnowsNamesAsTheReaderDoes(t *testing.T) {
	owner, name, never := regexp.MustCompile(ownerPattern), regexp.MustCompile(repositoryPattern), regexp.MustCompile(notRepositoryPattern)
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.OneOf(rapid.StringMatching(`[A-Za-z0-9._/-]{0,6}`), rapid.StringMatching(`[a-z-]{98,102}`),
			rapid.SampledFrom([]string{".", "..", "...", "a.git", "a.GiT", ".git", "git", "a\n", "", "é"})).Draw(t, "text")
		if got, want := owner.MatchString(text), githubapp.ValidOwner(text); got != want {
			t.Errorf("the owner %q: the schema says %t, the reader %t", text, got, want)
		}
		if got, want := name.MatchString(text) && !never.MatchString(text), githubapp.ValidRepository(text); got != want {
			t.Errorf("the repository %q: the schema says %t, the reader %t", text, got, want)
		}
	})
}

func TestTheSchemaHasWordsForEveryKeyOfTheBlock(t *testing.T) {
	backendtest.SchemaHasWords(t, &Backend{}, 4)
}

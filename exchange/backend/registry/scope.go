package registry

import (
	"fmt"
	"slices"
	"strings"

	"github.com/stepkey/stepkey/exchange/backend"
)

// grant is what may be done with one repository. Actions are sorted and have nothing
// twice. It is also how passwords have it.
type grant struct {
	Name    string   `json:"name"`
	Actions []string `json:"actions"`
}

// actions is every action there is, sorted. The registry's fourth, *, is all of them and
// those to come, and for the catalog; no task has it.
var actions = []string{"delete", "pull", "push"}

// scope is what a password can get tokens for. Immutable; grants are sorted by name, and
// each name is there once.
type scope struct {
	registry string // where
	service  string // for which tokens are signed
	grants   []grant
}

// Covers: of the same registry, no repository more, and of none an action more.
func (s *scope) Covers(other backend.Scope) bool {
	o, ours := other.(*scope)
	if !ours || s == nil || o == nil || s.registry != o.registry || s.service != o.service {
		return false
	}
	for _, theirs := range o.grants {
		if len(within(theirs.Actions, s.of(theirs.Name))) != len(theirs.Actions) {
			return false
		}
	}
	return true
}

// of is what may be done with a repository; nothing with one that is not named.
func (s *scope) of(name string) []string { return actionsOf(s.grants, name) }

func actionsOf(grants []grant, name string) []string {
	i := slices.IndexFunc(grants, func(g grant) bool { return g.Name == name })
	if i < 0 {
		return nil
	}
	return grants[i].Actions
}

// within is those of some that are in of too, in some's order.
func within(some, of []string) []string {
	var both []string
	for _, one := range some {
		if slices.Contains(of, one) {
			both = append(both, one)
		}
	}
	return both
}

const maxNamed = 5 // repositories of one kind that String names one by one

// String says the scope in words: "pull and push acme/widget; pull acme/base; in the
// registry registry.example.com; …".
func (s *scope) String() string {
	var kinds []string
	named := map[string][]string{}
	for _, g := range s.grants {
		kind := strings.Join(g.Actions, " and ")
		if named[kind] == nil {
			kinds = append(kinds, kind)
		}
		named[kind] = append(named[kind], g.Name)
	}
	var words strings.Builder
	for _, kind := range kinds {
		fmt.Fprintf(&words, "%s %s; ", kind, some(named[kind]))
	}
	if s.registry != "" {
		fmt.Fprintf(&words, "in the registry %s; ", s.registry)
	}
	return words.String() + "its end refuses the login at once, a token that is out is taken for up to 2 minutes more"
}

func some(names []string) string {
	if len(names) <= maxNamed {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:maxNamed], ", "), len(names)-maxNamed)
}

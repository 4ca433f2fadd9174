package github

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/exchange/githubapp"
)

// scope is what a token can do: permissions on repositories. The permissions are
// the same on each. Immutable.
type scope struct {
	owner        string // of repositories named without id; else "" or words for people
	repositories []repository
	permissions  map[string]string // name -> level
}

// repository is one repository of a scope. Either its id or its name says which
// one is meant. In a token's own scope, which comes from GitHub, both do.
type repository struct {
	id      int64  // 0: the name decides
	owner   string // may be "" where the id decides
	name    string // may be "" where the id decides
	byWords bool   // the name is a writer's word about the id, and proves nothing
}

// Covers compares permissions by level (read < write < admin) and repositories
// by what decides them: an id is covered by the same id alone, since a name that
// stands beside it, or is looked up later, may mean another repository.
func (s *scope) Covers(other backend.Scope) bool {
	o, ours := other.(*scope)
	if !ours || s == nil || o == nil {
		return false
	}
	if len(o.permissions) == 0 || len(o.repositories) == 0 {
		return false // to GitHub, naming none means all
	}
	for name, level := range o.permissions {
		if !implied(name, level) && (rank(level) == 0 || rank(s.permissions[name]) < rank(level)) {
			return false
		}
	}
	for _, theirs := range o.repositories {
		if !slices.ContainsFunc(s.repositories, func(r repository) bool { return r.covers(theirs) }) {
			return false
		}
	}
	return true
}

func (r repository) covers(other repository) bool {
	if r.id != 0 {
		return r.id == other.id
	}
	return other.name != "" && !other.byWords && // GitHub's names ignore case
		strings.EqualFold(r.owner, other.owner) && strings.EqualFold(r.name, other.name)
}

const maxNamed = 5 // repositories that String names one by one

// String says the scope in words: "contents: write on acme/widget".
func (s *scope) String() string {
	var can, where []string
	for _, name := range slices.Sorted(maps.Keys(s.permissions)) {
		can = append(can, name+": "+s.permissions[name])
	}
	for i, r := range s.repositories {
		if i == maxNamed {
			where = append(where, fmt.Sprintf("and %d more", len(s.repositories)-i))
			break
		}
		where = append(where, r.String())
	}
	return strings.Join(can, ", ") + " on " + strings.Join(where, ", ")
}

func (r repository) String() string {
	name := r.name
	if name != "" && r.owner != "" {
		name = r.owner + "/" + name
	}
	switch {
	case name == "":
		return fmt.Sprintf("repository %d", r.id)
	case r.byWords:
		return fmt.Sprintf("%s (id %d)", name, r.id)
	}
	return name
}

// request is the scope as GitHub is asked for it. Ids and names are not mixed.
func (s *scope) request() githubapp.TokenRequest {
	want := githubapp.TokenRequest{Permissions: maps.Clone(s.permissions)}
	for _, r := range s.repositories {
		if r.id != 0 {
			want.RepositoryIDs = append(want.RepositoryIDs, r.id)
		} else {
			want.Repositories = append(want.Repositories, r.name)
		}
	}
	return want
}

// grantedBy is the scope that GitHub says a token has.
func grantedBy(token githubapp.Token) *scope {
	s := &scope{permissions: token.Permissions}
	for _, r := range token.Repositories {
		owner := r.Owner
		if owner == "" {
			owner, _, _ = strings.Cut(r.FullName, "/")
		}
		s.repositories = append(s.repositories, repository{id: r.ID, owner: owner, name: r.Name})
	}
	return s
}

// lacking are the permissions of s that held does not include, in words.
func (s *scope) lacking(held map[string]string) []string {
	var words []string
	for _, name := range slices.Sorted(maps.Keys(s.permissions)) {
		if level := s.permissions[name]; !implied(name, level) && rank(held[name]) < rank(level) {
			words = append(words, name+": "+level)
		}
	}
	return words
}

// reachesRepositories: some permission of it is one over repositories.
func (s *scope) reachesRepositories() bool {
	for name := range s.permissions {
		if ofRepositories(name) {
			return true
		}
	}
	return false
}

// OnlyRepository reports whether all that the scope reaches is one repository: the one
// with this id or, where a name decides, the one of this name; and no permission of it
// is one over an organization, an enterprise or a user.
func (s *scope) OnlyRepository(id int64, owner, name string) bool {
	if s == nil || len(s.repositories) == 0 || len(s.permissions) == 0 {
		return false // to GitHub, naming none means all
	}
	for permission := range s.permissions {
		if !ofRepositories(permission) {
			return false
		}
	}
	only := repository{id: id, owner: owner, name: name}
	for _, r := range s.repositories {
		if r.id != 0 && r.id != only.id || r.id == 0 && !r.covers(only) {
			return false
		}
	}
	return true
}

package postgres

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/stepkey/stepkey/exchange/backend"
)

// scope is what a role can do: log in to one database and act there, as a member of a
// role or with grants of its own. Immutable; grants are sorted, one for each object.
type scope struct {
	database    string
	role        string
	grants      []grant
	connections int
}

// grant is what may be done with one object, or with all of a kind in a schema.
type grant struct {
	schema     string
	kind       kind
	object     string // empty: all of the kind that are there when it is issued
	privileges []string
}

// A kind of object is what GRANT calls it.
type kind string

const (
	tables    kind = "TABLE"
	sequences kind = "SEQUENCE"
)

// privileges of each kind, in the order in which they are said. TRIGGER and REFERENCES
// are not among them: who can hang code of its own on a table acts as whoever writes to
// it next.
var privileges = map[kind][]string{
	tables:    {"select", "insert", "update", "delete", "truncate"},
	sequences: {"usage", "select", "update"},
}

func (g grant) compare(o grant) int {
	return cmp.Or(cmp.Compare(g.schema, o.schema), -cmp.Compare(g.kind, o.kind), cmp.Compare(g.object, o.object))
}

// merge adds a grant to sorted ones; privileges on one object come together.
func merge(all []grant, g grant) []grant {
	at, found := slices.BinarySearchFunc(all, g, grant.compare)
	if !found {
		return slices.Insert(all, at, g)
	}
	var both []string
	for _, p := range privileges[g.kind] {
		if slices.Contains(g.privileges, p) || slices.Contains(all[at].privileges, p) {
			both = append(both, p)
		}
	}
	all[at].privileges = both
	return all
}

// Covers: the same database, no connection more, and the same role, or no privilege that
// this one does not have on the same object or on all of its kind and schema. What a role
// may do is its own matter: it covers no grants, and none cover it.
func (s *scope) Covers(other backend.Scope) bool {
	o, ours := other.(*scope)
	if !ours || s == nil || o == nil || s.database != o.database || s.connections < o.connections || s.role != o.role {
		return false
	}
	for _, g := range o.grants {
		for _, p := range g.privileges {
			if !s.allows(g, p) {
				return false
			}
		}
	}
	return o.role != "" || len(o.grants) > 0
}

func (s *scope) allows(g grant, privilege string) bool {
	return slices.ContainsFunc(s.grants, func(own grant) bool {
		return own.schema == g.schema && own.kind == g.kind && (own.object == "" || own.object == g.object) &&
			slices.Contains(own.privileges, privilege)
	})
}

// group is grants that one statement makes, and one phrase says.
type group struct {
	grant
	objects []string // empty: all
}

func (s *scope) groups() []group {
	var all []group
	for _, g := range s.grants {
		last := len(all) - 1
		if g.object == "" {
			all = append(all, group{grant: g})
		} else if last >= 0 && len(all[last].objects) > 0 && all[last].like(g) {
			all[last].objects = append(all[last].objects, g.object)
		} else {
			all = append(all, group{grant: g, objects: []string{g.object}})
		}
	}
	return all
}

func (g group) like(o grant) bool {
	return g.schema == o.schema && g.kind == o.kind && slices.Equal(g.privileges, o.privileges)
}

const maxNamed = 5 // objects of one phrase that String names one by one

// String says the scope in words: "select on tables orders, customers of public, in
// database app, 2 connections at a time; …".
func (s *scope) String() string {
	var can []string
	if s.role != "" {
		can = append(can, "what members of the role "+shown(s.role)+" may do")
	}
	for _, g := range s.groups() {
		can = append(can, g.String())
	}
	at := "1 connection"
	if s.connections != 1 {
		at = fmt.Sprintf("%d connections", s.connections)
	}
	return strings.Join(can, "; ") + "; in database " + shown(s.database) + ", " + at + " at a time; its end ends open sessions, too"
}

func (g group) String() string {
	what := map[kind]string{tables: "tables", sequences: "sequences"}[g.kind]
	can := strings.Join(g.privileges, ", ") + " on "
	if len(g.objects) == 0 {
		return can + "all " + what + " of schema " + shown(g.schema)
	}
	if len(g.objects) == 1 {
		what = strings.TrimSuffix(what, "s")
	}
	var names []string
	for _, object := range g.objects[:min(len(g.objects), maxNamed)] {
		names = append(names, shown(object))
	}
	if more := len(g.objects) - maxNamed; more > 0 {
		names = append(names, fmt.Sprintf("and %d more", more))
	}
	return can + what + " " + strings.Join(names, ", ") + " of schema " + shown(g.schema)
}

var plain = regexp.MustCompile(`\A[A-Za-z0-9_.$-]+\z`)

// shown is a name in words; one that could be taken for words is in quotes.
func shown(name string) string {
	if plain.MatchString(name) {
		return name
	}
	return strconv.Quote(name)
}

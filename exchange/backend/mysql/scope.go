package mysql

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/stepkey/stepkey/exchange/backend"
)

// scope is what a user can do: begin in one database and act as a role, or with grants of
// its own. Immutable; grants are sorted, one for each object.
type scope struct {
	database    string
	role        string
	grants      []grant
	connections int
}

// grant is what may be done with one table, or with all of a database.
type grant struct {
	database   string
	table      string // empty: all that are in it, also those that come later
	privileges []string
}

// ofTables and ofAll are the privileges that tasks are given one by one, in the order in
// which they are said. TRIGGER, REFERENCES, CREATE VIEW and others are not among them: who
// can hang code of its own on a table acts as whoever uses it next.
var (
	ofTables = []string{"select", "insert", "update", "delete"}
	ofAll    = append(slices.Clone(ofTables), "lock tables")
)

func (g grant) known() []string {
	if g.table == "" {
		return ofAll
	}
	return ofTables
}

func (g grant) compare(o grant) int {
	return cmp.Or(cmp.Compare(g.database, o.database), cmp.Compare(g.table, o.table))
}

// merge adds a grant to sorted ones; privileges on one object come together.
func merge(all []grant, g grant) []grant {
	at, found := slices.BinarySearchFunc(all, g, grant.compare)
	if !found {
		return slices.Insert(all, at, g)
	}
	var both []string
	for _, p := range g.known() {
		if slices.Contains(g.privileges, p) || slices.Contains(all[at].privileges, p) {
			both = append(both, p)
		}
	}
	all[at].privileges = both
	return all
}

// Covers: the same database to begin in, no connection more, and the same role, or no
// privilege that this one does not have on the same table or on all of its database. What
// a role may do is its own matter: it covers no grants, and none cover it.
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
		return own.database == g.database && (own.table == "" || own.table == g.table) && slices.Contains(own.privileges, privilege)
	})
}

// databases are those that the scope reaches into, as far as it says so.
func (s *scope) databases() []string {
	all := []string{s.database}
	for _, g := range s.grants {
		if !slices.Contains(all, g.database) {
			all = append(all, g.database)
		}
	}
	return all
}

// group is grants of one phrase: the same privileges on several tables of one database.
type group struct {
	grant
	tables []string // empty: all
}

func (s *scope) groups() []group {
	var all []group
	for _, g := range s.grants {
		if last := len(all) - 1; g.table != "" && last >= 0 && all[last].like(g) {
			all[last].tables = append(all[last].tables, g.table)
			continue
		}
		of := group{grant: g}
		if g.table != "" {
			of.tables = []string{g.table}
		}
		all = append(all, of)
	}
	return all
}

func (g group) like(o grant) bool {
	return len(g.tables) > 0 && g.database == o.database && slices.Equal(g.privileges, o.privileges)
}

const maxNamed = 5 // tables of one phrase that String names one by one

// String says the scope in words: "select on tables orders, customers of database app; in
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
	return strings.Join(can, "; ") + "; in database " + shown(s.database) + ", " + at +
		" at a time; nothing but the exchange ends it, and that ends open sessions, too"
}

func (g group) String() string {
	can := strings.Join(g.privileges, ", ") + " on "
	if len(g.tables) == 0 {
		return can + "all tables of database " + shown(g.database)
	}
	what := "tables "
	if len(g.tables) == 1 {
		what = "table "
	}
	var names []string
	for _, table := range g.tables[:min(len(g.tables), maxNamed)] {
		names = append(names, shown(table))
	}
	if more := len(g.tables) - maxNamed; more > 0 {
		names = append(names, fmt.Sprintf("and %d more", more))
	}
	return can + what + strings.Join(names, ", ") + " of database " + shown(g.database)
}

var plain = regexp.MustCompile(`\A[A-Za-z0-9_.$-]+\z`)

// shown is a name in words; one that could be taken for words is in quotes.
func shown(name string) string {
	if plain.MatchString(name) {
		return name
	}
	return strconv.Quote(name)
}

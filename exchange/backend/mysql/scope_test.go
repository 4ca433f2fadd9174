package mysql

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/exchange/backend/backendtest"
)

// action is one thing that a user may do to one table; table "" stands for those that nobody
// has named.
type action struct{ database, table, privilege string }

var someTables = []string{"orders", "customers", "all"}

// actions are all that a scope allows, spelled out.
func (s *scope) actions() map[action]bool {
	all := map[action]bool{}
	for _, g := range s.grants {
		for _, p := range g.privileges {
			tables := []string{g.table}
			if g.table == "" {
				tables = append(tables, someTables...)
			}
			for _, table := range tables {
				all[action{g.database, table, p}] = true
			}
		}
	}
	return all
}

func drawScope(t *rapid.T, name string) *scope {
	s := &scope{database: rapid.SampledFrom([]string{"app", "other"}).Draw(t, name+" database"), connections: rapid.IntRange(1, 3).Draw(t, name+" connections")}
	if rapid.IntRange(0, 4).Draw(t, name+" form") == 0 {
		s.role = rapid.SampledFrom([]string{"migrator", "reader"}).Draw(t, name+" role")
		return s
	}
	for range rapid.IntRange(1, 4).Draw(t, name+" grants") {
		g := grant{
			database: rapid.SampledFrom([]string{"app", "archive"}).Draw(t, name+" of"),
			table:    rapid.SampledFrom(append([]string{""}, someTables...)).Draw(t, name+" table"),
		}
		for _, p := range g.known() {
			if rapid.Bool().Draw(t, name+" "+p) {
				g.privileges = append(g.privileges, p)
			}
		}
		if len(g.privileges) == 0 {
			g.privileges = []string{"select"}
		}
		s.grants = merge(s.grants, g)
	}
	return s
}

func TestAScopeCoversWhatAllowsNothingThatItDoesNot(t *testing.T) {
	covered := 0
	rapid.Check(t, func(t *rapid.T) {
		a, b := drawScope(t, "a"), drawScope(t, "b")
		if rapid.Bool().Draw(t, "related") { // or they seldom have anything to do with each other
			b.database, b.role, b.grants = a.database, a.role, slices.Clone(a.grants)
			if len(b.grants) > 1 && rapid.Bool().Draw(t, "less") {
				b.grants = b.grants[1:]
			}
		}
		want := a.database == b.database && a.role == b.role && a.connections >= b.connections
		have := a.actions()
		for one := range b.actions() {
			want = want && have[one]
		}
		if got := a.Covers(b); got != want {
			t.Fatalf("%q covers %q: %v", a, b, got)
		}
		if want {
			covered++
		}
	})
	if covered < 10 {
		t.Errorf("only %d pairs covered each other", covered)
	}
}

// A scope may say twice what it allows, once for a table and once for all; so it is the
// actions that two must share who cover each other.
func TestCoveringIsAnOrder(t *testing.T) {
	backendtest.CoversIsAnOrder(t, func(r *rapid.T, label string) backend.Scope { return drawScope(r, label) }, func(of backend.Scope) string {
		s, _ := of.(*scope)
		var all []string
		for a := range s.actions() {
			all = append(all, a.database+"."+a.table+":"+a.privilege)
		}
		slices.Sort(all)
		return s.database + s.role + strings.Join(all, ";")
	})
}

func TestTheOrderOfGrantsMeansNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := drawScope(t, "a")
		b := &scope{database: a.database, role: a.role, connections: a.connections}
		for _, g := range rapid.Permutation(a.grants).Draw(t, "order") {
			for _, p := range rapid.Permutation(g.privileges).Draw(t, "privileges") {
				b.grants = merge(b.grants, grant{g.database, g.table, []string{p}})
			}
		}
		if a.String() != b.String() || !a.Covers(b) || !b.Covers(a) {
			t.Fatalf("%q and %q", a, b)
		}
		if one, two := (creation{scope: a}).grants("u", &about{}), (creation{scope: b}).grants("u", &about{}); !slices.Equal(one, two) {
			t.Fatalf("%q\n%q", one, two)
		}
	})
}

func TestAScopeIsSaidInWords(t *testing.T) {
	const ends = "; nothing but the exchange ends it, and that ends open sessions, too"
	for block, want := range map[string]string{
		"{database: app, role: migrator}": "what members of the role migrator may do; in database app, 2 connections at a time" + ends,
		"{database: app, connections: 1, grants: [{tables: [orders, customers], privileges: [insert, select]}, {database: archive, tables: all, privileges: [select]}]}": "select, insert on tables customers, orders of database app; select on all tables of database archive; in database app, 1 connection at a time" + ends,
		"{database: 'a, b', grants: [{tables: [a1, a2, a3, a4, a5, a6, a7], privileges: [delete]}]}":                                                                     `delete on tables a1, a2, a3, a4, a5, and 2 more of database "a, b"; in database "a, b", 2 connections at a time` + ends,
		"{database: app, grants: [{tables: all, privileges: [select]}, {tables: [all], privileges: [update]}]}":                                                          "select on all tables of database app; update on table all of database app; in database app, 2 connections at a time" + ends,
	} {
		s, err := (&Backend{}).Scope(parse(t, block))
		if err != nil {
			t.Errorf("%s: %v", block, err)
		} else if got := s.String(); got != want {
			t.Errorf("%s\n is %q,\nwant %q", block, got, want)
		}
	}
}

func TestNamesAreQuotedAsTheServerReadsThem(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.String().Draw(t, "name")
		for quote, quoted := range map[string]string{"`": identifier(name), `'`: literal(name)} {
			inside, begins := strings.CutPrefix(quoted, quote)
			inside, ends := strings.CutSuffix(inside, quote)
			if !begins || !ends || strings.Contains(strings.ReplaceAll(inside, quote+quote, ""), quote) || strings.ReplaceAll(inside, quote+quote, quote) != name {
				t.Fatalf("%q is quoted as %s", name, quoted)
			}
		}
	})
}

func TestNoTwoLeasesHaveOneUser(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		id := rapid.StringMatching(`lease_[0-9A-HJKMNP-TV-Za-z]{25}[0-9A-Za]|lease_0{24}[ab01AB]{2}`)
		a, b := backend.LeaseID(id.Draw(t, "a")), backend.LeaseID(id.Draw(t, "b"))
		one, namedA := userOf(a)
		two, namedB := userOf(b)
		if namedA && namedB && (one == two) != (a == b) || len(one) > 32 {
			t.Fatalf("%q is %q, %q is %q", a, one, b, two)
		}
	})
}

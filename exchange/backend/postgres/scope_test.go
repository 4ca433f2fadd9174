package postgres

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/stepkey/stepkey/exchange/backend"
)

// action is one thing that a role may do to one object; object "" stands for those that
// nobody has named.
type action struct {
	schema    string
	kind      kind
	object    string
	privilege string
}

var (
	someSchemas = []string{"public", "audit"}
	someObjects = []string{"orders", "customers", "all"}
)

// actions are all that a scope allows, spelled out.
func (s *scope) actions() map[action]bool {
	all := map[action]bool{}
	for _, g := range s.grants {
		for _, p := range g.privileges {
			if g.object != "" {
				all[action{g.schema, g.kind, g.object, p}] = true
				continue
			}
			for _, object := range append([]string{""}, someObjects...) {
				all[action{g.schema, g.kind, object, p}] = true
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
		k := rapid.SampledFrom([]kind{tables, sequences}).Draw(t, name+" kind")
		var can []string
		for _, p := range privileges[k] {
			if rapid.Bool().Draw(t, name+" "+p) {
				can = append(can, p)
			}
		}
		if len(can) == 0 {
			can = privileges[k][:1]
		}
		s.grants = merge(s.grants, grant{
			schema: rapid.SampledFrom(someSchemas).Draw(t, name+" schema"), kind: k, privileges: can,
			object: rapid.SampledFrom(append([]string{""}, someObjects...)).Draw(t, name+" object"),
		})
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
		if !a.Covers(a) {
			t.Fatalf("%q does not cover itself", a)
		}
	})
	if covered < 10 {
		t.Errorf("only %d pairs covered each other", covered)
	}
}

func TestTheOrderOfGrantsMeansNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := drawScope(t, "a")
		b := &scope{database: a.database, role: a.role, connections: a.connections}
		for _, g := range rapid.Permutation(a.grants).Draw(t, "order") {
			for _, p := range rapid.Permutation(g.privileges).Draw(t, "privileges") {
				b.grants = merge(b.grants, grant{g.schema, g.kind, g.object, []string{p}})
			}
		}
		if a.String() != b.String() || !a.Covers(b) || !b.Covers(a) {
			t.Fatalf("%q and %q", a, b)
		}
		order := creation{scope: a}
		if one, two := order.statements("r"), (creation{scope: b}).statements("r"); !slices.Equal(one, two) {
			t.Fatalf("%q\n%q", one, two)
		}
	})
}

func TestAScopeIsSaidInWords(t *testing.T) {
	for block, want := range map[string]string{
		"{database: app, role: migrator}": "what members of the role migrator may do; in database app, 2 connections at a time; its end ends open sessions, too",
		"{database: app, connections: 1, grants: [{schema: public, tables: [orders, customers], privileges: [insert, select]}, {schema: public, sequences: all, privileges: [usage]}]}": "select, insert on tables customers, orders of schema public; usage on all sequences of schema public; in database app, 1 connection at a time; its end ends open sessions, too",
		"{database: app, grants: [{schema: 'a, b', tables: [a1, a2, a3, a4, a5, a6, a7], privileges: [delete]}]}":                                                                       `delete on tables a1, a2, a3, a4, a5, and 2 more of schema "a, b"; in database app, 2 connections at a time; its end ends open sessions, too`,
		"{database: app, grants: [{schema: public, tables: all, privileges: [select]}, {schema: public, tables: [all], privileges: [update]}]}":                                         "select on all tables of schema public; update on table all of schema public; in database app, 2 connections at a time; its end ends open sessions, too",
	} {
		if got := read(t, &Backend{}, block).String(); got != want {
			t.Errorf("%s\n is %q,\nwant %q", block, got, want)
		}
	}
}

func read(t *testing.T, b *Backend, block string) backend.Scope {
	t.Helper()
	s, err := b.Scope(parse(t, block))
	if err != nil {
		t.Fatalf("%s: %v", block, err)
	}
	return s
}

func TestNamesAreQuotedAsPostgreSQLReadsThem(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.String().Draw(t, "name")
		for quote, quoted := range map[string]string{`"`: identifier(name), `'`: literal(name)} {
			inside, begins := strings.CutPrefix(quoted, quote)
			inside, ends := strings.CutSuffix(inside, quote)
			if !begins || !ends || strings.Contains(strings.ReplaceAll(inside, quote+quote, ""), quote) || strings.ReplaceAll(inside, quote+quote, quote) != name {
				t.Fatalf("%q is quoted as %s", name, quoted)
			}
		}
	})
}

func TestNoTwoLeasesHaveOneRole(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		id := rapid.StringMatching(`[a-z]{1,3}_[0-9A-Z]{1,3}|[a-zA-Z_]{1,6}`)
		a, b := backend.LeaseID(id.Draw(t, "a")), backend.LeaseID(id.Draw(t, "b"))
		one, namedA := roleOf(a)
		two, namedB := roleOf(b)
		if namedA && namedB && (one == two) != (a == b) || len(one) > maxName {
			t.Fatalf("%q is %q, %q is %q", a, one, b, two)
		}
	})
}

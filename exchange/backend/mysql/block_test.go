package mysql

import (
	"strings"
	"testing"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/exchange/backend/backendtest"
	"github.com/stepkey/stepkey/internal/yamlfile"
)

func parse(t testing.TB, block string) backend.Block {
	t.Helper()
	root, err := yamlfile.Parse("task.yaml", []byte("mysql: "+block+"\n"))
	if err != nil {
		t.Fatal(err)
	}
	return root.Get("mysql")
}

var limited = &Backend{limits: Limits{Databases: []string{"app", "sales"}, Roles: []string{}}}

func TestBadBlocksAreRefusedWithPlaceAndAdvice(t *testing.T) {
	many := strings.TrimSuffix(strings.Repeat("{tables: all, privileges: [select]}, ", maxGrants+1), ", ")
	backendtest.RefusesBlocks(t, func(block string) (backend.Scope, error) { return limited.Scope(parse(t, block)) }, []backendtest.Bad{
		{"app", "1:8", "want what may be done where"},
		{"{role: migrator}", "1:8", `missing: "database"`},
		{"{database: app}", "1:8", "nothing is granted"},
		{"{database: sale, role: migrator}", "1:19", "not one of the configuration's, which are: app, sales"},
		{"{database: mysql, role: migrator}", "1:19", "one of the server's own"},
		{"{database: Sys, role: migrator}", "1:19", "one of the server's own"},
		{"{database: app, role: migrator}", "1:30", "the configuration lists: none"},
		{"{database: app, role: lease_a}", "1:30", "are those of leases"},
		{"{database: app, role: none}", "1:30", "a word with a meaning of its own"},
		{"{database: app, role: " + strings.Repeat("r", 33) + "}", "1:30", "more than 32 characters"},
		{"{database: app, role: m, grants: []}", "1:33", "give either role or grants"},
		{"{database: app, connections: 101, grants: [{tables: all, privileges: [select]}]}", "1:37", "1 to 100; found 101"},
		{"{database: app, grants: [" + many + "]}", "1:1217", "33 grants are given; a task takes 32 at most"},
		{"{database: app, grants: [{database: sales, tables: all, privileges: [select]}]}", "1:19", "nobody could log in to it"},
		{"{database: app, grants: [{tables: all, privileges: [selct]}]}", "1:60", `did you mean "select"?`},
		{"{database: app, grants: [{tables: all, privileges: [SELECT]}]}", "1:60", `did you mean "select"?`},
		{"{database: app, grants: [{tables: all, privileges: [usage]}]}", "1:60", "there is: select, insert, update, delete, lock tables"},
		{"{database: app, grants: [{tables: all, privileges: [trigger]}]}", "1:60", "give a role that has it"},
		{"{database: app, grants: [{tables: [a], privileges: [lock tables]}]}", "1:60", "in a grant with tables: all"},
		{"{database: app, grants: [{tables: all, privileges: [select, select]}]}", "1:68", "select is named twice"},
		{"{database: app, grants: [{tables: all, privileges: []}]}", "1:59", "no privilege is named"},
		{"{database: app, grants: [{tables: [], privileges: [select]}]}", "1:42", "no table is named"},
		{"{database: app, grants: [{tables: [a, a], privileges: [select]}]}", "1:46", "named twice"},
		{"{database: app, grants: [{tables: every, privileges: [select]}]}", "1:42", "or the word all"},
		{"{database: app, grants: [{tables: ['a '], privileges: [select]}]}", "1:43", "ends with a space"},
		{"{database: app, grants: [{tables: ['#mysql50#a'], privileges: [select]}]}", "1:43", "another name may stand"},
		{"{database: app, grants: [{tables: [\U0001F511], privileges: [select]}]}", "1:43", "beyond U+FFFF"},
	})
}

func TestEveryKeyHasWordsForEditors(t *testing.T) { backendtest.SchemaHasWords(t, &Backend{}, 4) }

// An editor that refuses what the exchange takes is believed.
func FuzzTheSchemaRefusesNothingThatIsTaken(f *testing.F) {
	backendtest.FuzzSchema(f, &Backend{},
		`{"database":"app","role":"migrator"}`, `{"database":"app","grants":[{"tables":"all","privileges":["select","lock tables"]}],"connections":5}`,
		`{"database":"a b","grants":[{"database":"c","tables":["x","é"],"privileges":["delete"]},{"tables":["y"],"privileges":["insert"]}]}`,
	)
}

// It also takes expressions, and refuses what can never be.
func TestTheSchemaTakesExpressionsAndRefusesWhatCanNeverBe(t *testing.T) {
	backendtest.SchemaTakes(t, &Backend{}, map[string]bool{
		`{"database":"${inputs.database}","role":"${inputs.role}","connections":3}`:            true,
		`{"database":"app","grants":[{"tables":["${inputs.table}"],"privileges":["select"]}]}`: true,
		`{"role":"migrator"}`: false, `{"database":"app"}`: false, `{"database":"app","role":"a","grants":[]}`: false,
		`{"database":"app","grants":[{"tables":"every","privileges":["select"]}]}`: false,
		`{"database":"app","grants":[{"tables":["a"],"privileges":["trigger"]}]}`:  false,
		`{"database":"app","grants":[{"tables":["a"],"privileges":[]}]}`:           false,
		`{"database":"app","role":"a","connections":101}`:                          false,
	})
}

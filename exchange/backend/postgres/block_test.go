package postgres

import (
	"crypto/tls"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/internal/secret"
	"github.com/stepkey/stepkey/internal/yamlfile"
)

func parse(t testing.TB, block string) backend.Block {
	t.Helper()
	root, err := yamlfile.Parse("task.yaml", []byte("postgres: "+block+"\n"))
	if err != nil {
		t.Fatal(err)
	}
	return root.Get("postgres")
}

var limited = &Backend{limits: Limits{Databases: []string{"app", "sales"}, Roles: []string{}}}

func TestABlockIsRefusedWithWhatToDo(t *testing.T) {
	for block, says := range map[string]string{
		"app":                                  "want what may be done where",
		"{role: migrator}":                     `missing: "database"`,
		"{database: sale, role: migrator}":     "not one of the configuration's, which are: app, sales",
		"{database: app, role: migrator}":      "the configuration lists: none",
		"{database: app, role: pg_monitor}":    "make a role that holds what is needed",
		"{database: app, role: stepkey_a}":     "are those of leases",
		"{database: app, role: m, grants: []}": "give either role or grants",
		"{database: app, connections: 101, grants: [{schema: a, tables: all, privileges: [select]}]}":             "1 to 100; found 101",
		"{database: app, grants: [{schema: a, tables: all, privileges: [selct]}]}":                                `did you mean "select"?`,
		"{database: app, grants: [{schema: a, tables: all, privileges: [SELECT]}]}":                               `did you mean "select"?`,
		"{database: app, grants: [{schema: a, tables: all, privileges: [usage]}]}":                                "there is: select, insert, update, delete, truncate",
		"{database: app, grants: [{schema: a, sequences: all, privileges: [insert]}]}":                            "a sequence has no privilege",
		"{database: app, grants: [{schema: a, tables: all, privileges: [references]}]}":                           "give a role that has it",
		"{database: app, grants: [{schema: a, tables: all, privileges: []}]}":                                     "name those that the task needs, as [select]",
		"{database: app, grants: [{schema: a, tables: all, privileges: [select, select]}]}":                       "select is named twice",
		"{database: app, grants: [{schema: a, tables: [b, b], privileges: [select]}]}":                            `the table "b" is named twice`,
		"{database: app, grants: [{schema: a, tables: [], privileges: [select]}]}":                                "no table is named",
		"{database: app, grants: [{schema: a, tables: b, privileges: [select]}]}":                                 "or the word all",
		"{database: app, grants: [{schema: a, tables: {b: c}, privileges: [select]}]}":                            "want text, found a mapping",
		"{database: app, grants: [{schema: a, tables: all, sequences: all, privileges: [select]}]}":               "in a grant each",
		"{database: app, grants: [{schema: information_schema, tables: all, privileges: [select]}]}":              "one of PostgreSQL's own",
		"{database: app, grants: [{schema: '', tables: all, privileges: [select]}]}":                              "it is empty",
		"{database: app, grants: [{schema: a, tables: [" + strings.Repeat("é", 32) + "], privileges: [select]}]}": "64 bytes",
	} {
		_, err := limited.Scope(parse(t, block))
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v; want …%s…", block, err, says)
		}
	}
}

func TestABlocksFaultsAreAllToldInTheirOrder(t *testing.T) {
	_, err := limited.Scope(parse(t, "{database: sale, connections: 0, grants: [{schema: pg_x, tables: b, privileges: [fly]}]}"))
	var columns []int
	for _, fault := range yamlfile.Faults(err) {
		columns = append(columns, fault.Column)
	}
	if len(columns) != 5 || !slices.IsSorted(columns) {
		t.Errorf("at %v: %v", columns, err)
	}
}

// FuzzBlock: whatever a block holds, what it becomes is said in words that people can
// read, and in statements in which it stands in quotes; and an editor takes it too.
func FuzzBlock(f *testing.F) {
	for _, seed := range []string{
		"{database: app, role: migrator}",
		"{database: app, grants: [{schema: public, tables: [orders, customers], privileges: [select, insert]}], connections: 3}",
		"{database: app, grants: [{schema: public, sequences: all, privileges: [usage]}, {schema: b, tables: all, privileges: [truncate]}]}",
		`{database: "a'b\"c", grants: [{schema: "\"; --", tables: ["';"], privileges: [select]}]}`,
		"{database: app, grants: {}}", "[]", "{database: 7, role: null}",
	} {
		f.Add(seed)
	}
	schema := compiled(f)
	quoted := regexp.MustCompile(`"(?:[^"]|"")*"|'(?:[^']|'')*'`)
	bare := regexp.MustCompile(`\A[A-Za-z0-9_ ,.:()<>=-]*\z`)
	f.Fuzz(func(t *testing.T, block string) {
		root, err := yamlfile.Parse("task.yaml", []byte("postgres: "+block+"\n"))
		if err != nil {
			t.Skip()
		}
		read, err := (&Backend{}).Scope(root.Get("postgres"))
		if err != nil {
			if len(yamlfile.Faults(err)) == 0 {
				t.Errorf("refused without a place: %v", err)
			}
			return
		}
		s, ours := read.(*scope)
		if !ours || !s.Covers(s) || strings.ContainsFunc(s.String(), func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Fatalf("%q", read)
		}
		for _, one := range (creation{scope: s, order: backend.Order{For: block, Until: time.Unix(0, 0)}}).statements("stepkey_x") {
			if !bare.MatchString(quoted.ReplaceAllString(one, "")) {
				t.Errorf("outside of quotes: %s", one)
			}
		}
		if err := validate(schema, block); err != nil {
			t.Errorf("the schema refuses %s: %v", block, err)
		}
	})
}

func compiled(t testing.TB) *jsonschema.Schema {
	t.Helper()
	text, err := json.Marshal((&Backend{}).BlockSchema())
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("block.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("block.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func validate(s *jsonschema.Schema, block string) error {
	var read map[string]any
	if err := yaml.Unmarshal([]byte("postgres: "+block+"\n"), &read); err != nil {
		return err
	}
	text, err := json.Marshal(read["postgres"])
	if err != nil {
		return err
	}
	value, err := jsonschema.UnmarshalJSON(strings.NewReader(string(text)))
	if err != nil {
		return err
	}
	return s.Validate(value)
}

func TestTheSchemaSeesWhatIsWrong(t *testing.T) {
	s := compiled(t)
	for block, taken := range map[string]bool{
		"{database: app, role: migrator}":                                                                          true,
		"{database: '${inputs.db}', role: '${inputs.role}', connections: 2}":                                       true,
		"{database: app, grants: [{schema: '${inputs.s}', tables: ['${inputs.t}'], privileges: ['${inputs.p}']}]}": true,
		"{database: app}": false, "{role: migrator}": false,
		"{database: app, role: m, grants: [{schema: a, tables: all, privileges: [select]}]}": false,
		"{database: app, grants: [{schema: a, tables: all, privileges: [usage]}]}":           false,
		"{database: app, grants: [{schema: a, tables: some, privileges: [select]}]}":         false,
		"{database: app, grants: [{schema: a, privileges: [select]}]}":                       false,
		"{database: app, role: m, connections: 0}":                                           false,
		"{database: app, role: m, superuser: true}":                                          false,
	} {
		if err := validate(s, block); (err == nil) != taken {
			t.Errorf("%s: %v, want taken: %v", block, err, taken)
		}
	}
}

// A new key of the block without words for it would be offered without any.
func TestTheSchemaHasWordsForEveryKey(t *testing.T) {
	looked := 0
	for _, properties := range []any{object[block](keySchema)["properties"], object[grantBlock](grantKey)["properties"]} {
		all, _ := properties.(map[string]any)
		for key, of := range all {
			looked++
			if schema, _ := of.(map[string]any); schema["description"] == nil {
				t.Errorf("%s has no words", key)
			}
		}
	}
	if looked != 8 {
		t.Errorf("it has %d keys", looked)
	}
}

func TestOpenReadsThePasswordAndAsksNobody(t *testing.T) {
	path := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(path, []byte("a secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	good := Config{Host: "db.example.com", User: "stepkey", PasswordFile: path, Databases: []string{"app"}, Roles: []string{"migrator"}, Owner: "migrator", Client: Client{Host: "db.public.example.com"}}
	b, err := good.Open(time.Now)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if at := b.server.at; at.Password.Reveal() != "a secret" || at.SSLMode != "verify-full" || at.Port != 5432 || b.client != (Client{"db.public.example.com", 5432, "verify-full"}) {
		t.Errorf("it is opened on %+v for %+v", at, b.client)
	}
	if tls := b.server.config.ConnConfig.TLSConfig; tls == nil || tls.ServerName != "db.example.com" || tls.InsecureSkipVerify {
		t.Errorf("the server's name is not checked")
	}
	for says, spoil := range map[string]func(*Config){
		"host:":                        func(c *Config) { c.Host = "/var/run/postgresql" },
		"port:":                        func(c *Config) { c.Port = 70000 },
		"sslmode:":                     func(c *Config) { c.SSLMode = "prefer" },
		"client: sslmode:":             func(c *Config) { c.Client.SSLMode = "allow" },
		"password_file:":               func(c *Config) { c.PasswordFile = path + "x" },
		"databases: name those":        func(c *Config) { c.Databases = nil },
		"databases: \"\\x00\" is none": func(c *Config) { c.Databases = []string{"\x00"} },
		"own account":                  func(c *Config) { c.Roles = []string{"stepkey"} },
		"may not be given to tasks":    func(c *Config) { c.Roles = []string{"pg_read_all_data"} },
		"owner: ROLE, which":           func(c *Config) { c.Owner = "" },
		"cannot be one":                func(c *Config) { c.Owner = "pg_database_owner" },
		"root_certificate:":            func(c *Config) { c.RootCertificate = path },
		"own account, and a function":  func(c *Config) { c.Owner = "stepkey" },
		"and the port as port":         func(c *Config) { c.Host = "db.example.com:5432" },
		"client: host:":                func(c *Config) { c.Client.Host = "10.0.0.1:5432" },
	} {
		broken := good
		spoil(&broken)
		if _, err := broken.Open(time.Now); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%v; want …%s…", err, says)
		}
	}
}

// Nothing of PostgreSQL's own variables, or of its files in a home, is meant for the exchange.
func TestTheEnvironmentDoesNotCount(t *testing.T) {
	home := t.TempDir()
	if err := os.Mkdir(filepath.Join(home, ".postgresql"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"root.crt", "postgresql.crt", "postgresql.key"} {
		if err := os.WriteFile(filepath.Join(home, ".postgresql", name), []byte("no certificate"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	at := Server{Host: "fe80::1%eth0", User: "step key", Password: secret.New("a secret")}
	look := func() (*pgxpool.Config, error) {
		s, err := newServer(at)
		if err != nil {
			return nil, err
		}
		return s.config, nil
	}
	bare, err := look()
	if err != nil {
		t.Fatal(err)
	}
	if c := bare.ConnConfig; c.Host != at.Host || c.User != at.User || c.Port != 5432 || c.TLSConfig.RootCAs != nil {
		t.Errorf("without any it is %s, %s, %d", c.Host, c.User, c.Port)
	}
	t.Setenv("HOME", home)
	for variable, value := range map[string]string{
		"PGHOST": "evil", "PGPORT": "1", "PGDATABASE": "evil", "PGUSER": "evil", "PGPASSWORD": "evil", "PGPASSFILE": "/nowhere", "PGAPPNAME": "evil",
		"PGCONNECT_TIMEOUT": "evil", "PGSSLMODE": "disable", "PGSSLKEY": "/nowhere", "PGSSLCERT": "/nowhere", "PGSSLCERTMODE": "evil", "PGSSLSNI": "0",
		"PGSSLROOTCERT": "/nowhere", "PGSSLPASSWORD": "evil", "PGSSLNEGOTIATION": "direct", "PGTARGETSESSIONATTRS": "standby", "PGSERVICEFILE": "/nowhere",
		"PGTZ": "evil", "PGOPTIONS": "-c role=evil", "PGMINPROTOCOLVERSION": "3.2", "PGMAXPROTOCOLVERSION": "3.2", "PGCHANNELBINDING": "require", "PGREQUIREAUTH": "none",
	} {
		t.Setenv(variable, value)
	}
	with, err := look()
	if err != nil {
		t.Fatal(err)
	}
	plain := cmp.Options{
		cmpopts.IgnoreUnexported(pgx.ConnConfig{}, pgconn.Config{}, pgxpool.Config{}), cmpopts.IgnoreTypes(&tls.Config{}),
		cmp.FilterValues(func(a, _ any) bool { return reflect.ValueOf(a).Kind() == reflect.Func }, cmp.Ignore()),
	}
	if diff := cmp.Diff(bare, with, plain); diff != "" {
		t.Error(diff)
	}
	if with.ConnConfig.TLSConfig.RootCAs != nil || len(with.ConnConfig.TLSConfig.Certificates) != 0 {
		t.Errorf("an authority or a certificate comes from the environment")
	}
	t.Setenv("PGSERVICE", "evil")
	if _, err := look(); err == nil || !strings.Contains(err.Error(), "unset PGSERVICE") {
		t.Errorf("%v", err)
	}
}

func TestAnAddressMayHaveColons(t *testing.T) {
	for host, fine := range map[string]bool{
		"::1": true, "fe80::1%eth0": true, "10.0.0.1": true, "db-1.example.com": true, "db_1": true,
		"": false, "/var/run": false, "a b": false, "[::1]": false, "::1:x": false, "db:5432": false, "10.0.0.1:5432": false, "db%eth0": false,
	} {
		if err := checkAddress(host, 5432, "require"); (err == nil) != fine {
			t.Errorf("%s: %v", host, err)
		}
	}
}

func TestOwnerAndDropOwnedExcludeEachOther(t *testing.T) {
	path := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(path, []byte("a secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	both := Config{Host: "db.example.com", User: "stepkey", PasswordFile: path, Databases: []string{"app"}, Owner: "migrator", DropOwned: true}
	if _, err := both.Open(time.Now); err == nil || !strings.Contains(err.Error(), "either") {
		t.Errorf("%v", err)
	}
}

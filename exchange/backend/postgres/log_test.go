package postgres_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/internal/secret"
)

// said are the statements that the server's own log has of the exchange's account since a
// place in it, as their texts.
func (s *scene) said(since int64) (texts []string, end int64) {
	s.Helper()
	all := s.log()
	lines := bufio.NewScanner(bytes.NewReader(all[since:]))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var line struct{ User, Message, Statement string }
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			s.Fatal(err)
		}
		text, statement := strings.CutPrefix(line.Message, "statement: ")
		switch {
		case line.User != "stepkey":
		case statement:
			texts = append(texts, text)
		case strings.HasPrefix(line.Message, "execute "):
			s.Errorf("the exchange prepares statements: %s", line.Message)
		}
	}
	return texts, int64(len(all))
}

// log is the server's own. Somebody else writes it down, a little later: so something is
// said last, and waited for.
func (s *scene) log() []byte {
	s.Helper()
	last := "SELECT 'until here: " + string(newLease()) + "'"
	if err := s.as(s.Context(), "app", last); err != nil {
		s.Fatal(err)
	}
	again := time.NewTicker(5 * time.Millisecond)
	defer again.Stop()
	deadline := time.After(20 * time.Second)
	for {
		all, err := os.ReadFile(filepath.Join(s.DataDir(), "log", "server.json"))
		if err != nil {
			s.Fatal(err)
		}
		if bytes.Contains(all, []byte(last)) && bytes.HasSuffix(all, []byte("\n")) {
			return all
		}
		select {
		case <-deadline:
			s.Fatal("the server's log does not get to its end")
		case <-again.C:
		}
	}
}

// skeletons takes statements apart as PostgreSQL does: names and texts are what stands in
// quotes, and all else is the statement. It counts each statement.
func skeletons(texts []string) map[string]int {
	quoted := regexp.MustCompile(`"(?:[^"]|"")*"|'(?:[^']|'')*'`)
	several := regexp.MustCompile(`N\.N(, N\.N)+`)
	counted := map[string]int{}
	for _, text := range texts {
		bare := quoted.ReplaceAllStringFunc(text, func(q string) string { return map[byte]string{'"': "N", '\'': "T"}[q[0]] })
		for one := range strings.SplitSeq(bare, ";") {
			counted[several.ReplaceAllString(strings.TrimSpace(one), "N.N…")]++
		}
	}
	return counted
}

// expected is all that is ever said about a lease with grants.
var expected = map[string]bool{
	"BEGIN": true, "COMMIT": true, "ROLLBACK": true, "-- ping": true,
	"SELECT pg_catalog.pg_advisory_xact_lock(8317438911)": true,
	"CREATE ROLE N WITH LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS NOINHERIT CONNECTION LIMIT 2 VALID UNTIL T PASSWORD T": true,
	"COMMENT ON ROLE N IS T":                      true,
	"GRANT CONNECT ON DATABASE N TO N":            true,
	"GRANT USAGE ON SCHEMA N TO N":                true,
	"GRANT SELECT ON TABLE N.N TO N":              true,
	"GRANT SELECT ON TABLE N.N… TO N":             true,
	"ALTER ROLE N WITH NOLOGIN PASSWORD NULL":     true,
	"GRANT N TO CURRENT_USER":                     true,
	"REVOKE SELECT ON TABLE N.N FROM N CASCADE":   true,
	"DROP OWNED BY N CASCADE":                     true,
	"DROP ROLE N":                                 true,
	"SELECT r.oid, r.rolsuper OR … FROM pg_roles": true,
	"SELECT virtual transactions":                 true,
	"SELECT sessions":                             true,
	"SELECT prepared transactions":                true,
	"SELECT databases":                            true,
	"SELECT memberships":                          true,
	"SELECT its OID":                              true,
	"SELECT its grants":                           true,
	"SELECT ends of sessions":                     true,
	"SELECT what is left":                         true,
}

// looks are the questions by a part of each that no name or text comes into.
var looks = map[string]string{
	"SELECT r.oid, r.rolsuper OR r.rolcreatedb":                     "SELECT r.oid, r.rolsuper OR … FROM pg_roles",
	"SELECT l.pid, l.virtualtransaction, bool_or(l.locktype = T":    "SELECT virtual transactions",
	"SELECT a.pid, a.usesysid IS NULL AND a.datid IS NULL, a.uses":  "SELECT sessions",
	"SELECT pg_catalog.quote_literal(p.gid), p.database, p.owner":   "SELECT prepared transactions",
	"SELECT DISTINCT COALESCE(d.datname, pg_catalog.current_datab":  "SELECT databases",
	"SELECT DISTINCT g.rolname FROM pg_catalog.pg_auth_members m":   "SELECT memberships",
	"SELECT (SELECT r.oid FROM pg_catalog.pg_roles r WHERE r.roln":  "SELECT its OID",
	"SELECT CASE WHEN x.grantor <> u.oid THEN g.rolname END, pg_ca": "SELECT its grants",
	"SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.":  "SELECT ends of sessions",
	"SELECT (SELECT count(*) FROM pg_catalog.pg_roles WHERE rolna":  "SELECT what is left",
}

// unexpected are the statements that nobody meant. Of questions one spelling each is all
// there may be: one that a name got into would be another.
func unexpected(counted map[string]int) (odd []string) {
	spelled := map[string]string{}
	for text := range counted {
		meant := text
		for begins, means := range looks {
			if strings.HasPrefix(text, begins) {
				meant = means
			}
		}
		if other, twice := spelled[meant]; !expected[meant] || twice && other != text {
			odd = append(odd, text)
		}
		spelled[meant] = text
	}
	return odd
}

var parts = []string{
	`"`, `""`, `'`, `''`, `\`, `\'`, `;`, `--`, `/*`, `*/`, `$$`, `$1`, `%s`, `%I`, `(`, `)`, `,`, `.`, ` `, `E'`, `U&"`, `{`, `:x`, "`",
	"DROP ROLE admin", "orders", "TO PUBLIC", "WITH GRANT OPTION", "COMMIT", "SELECT", "pg_sleep(9)", "é", "表", "\U0001F511", "A", "z", "0", "_",
}

func hostileName(random *rand.Rand, number int) string {
	name := fmt.Sprintf("%d", number)
	for range 1 + random.IntN(12) {
		part := parts[random.IntN(len(parts))]
		if len(name)+len(part) > 63 {
			break
		}
		if random.IntN(2) == 0 {
			name = part + name
		} else {
			name += part
		}
	}
	return name
}

func TestOfAThousandHostileNamesTheServerHearsNothingButNames(t *testing.T) {
	s := stage(t, choice{drop: true, direct: true})
	const many, schemas = 1000, 10
	random := rand.New(rand.NewPCG(7, 42))
	names, in := make([]string, many), make([]string, schemas)
	var setUp strings.Builder
	for i := range in {
		in[i] = hostileName(random, i)
		q := pgx.Identifier{in[i]}.Sanitize()
		fmt.Fprintf(&setUp, "CREATE SCHEMA %s; GRANT USAGE ON SCHEMA %s TO stepkey WITH GRANT OPTION;", q, q)
	}
	for i := range names {
		names[i] = hostileName(random, i)
		fmt.Fprintf(&setUp, "CREATE TABLE %s (a int);", pgx.Identifier{in[i%schemas], names[i]}.Sanitize())
	}
	for _, schema := range in {
		fmt.Fprintf(&setUp, "GRANT SELECT ON ALL TABLES IN SCHEMA %s TO stepkey WITH GRANT OPTION;", pgx.Identifier{schema}.Sanitize())
	}
	if err := s.as(t.Context(), "app", setUp.String()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, schema := range in {
			if err := s.as(context.Background(), "app", "DROP SCHEMA "+pgx.Identifier{schema}.Sanitize()+" CASCADE"); err != nil {
				t.Error(err)
			}
		}
	})
	_, since := s.said(0)
	var passwords []string
	for i := range names {
		passwords = append(passwords, s.liveHostile(in[i%schemas], names[i], names[(i+schemas)%many]))
	}
	texts, _ := s.said(since)
	counted := skeletons(texts)
	if odd := unexpected(counted); len(odd) > 0 {
		t.Errorf("the server was also told: %s", strings.Join(odd, "\n"))
	}
	if counted["DROP ROLE N"] != many || counted["COMMENT ON ROLE N IS T"] != many {
		t.Errorf("of %d leases the log has %v", many, slices.Sorted(maps.Values(counted)))
	}
	s.passwordsAreNot(passwords)
	s.nothingLeft()
}

// liveHostile is one lease on two tables of such names, for a workload of such a name.
func (s *scene) liveHostile(schema, table, other string) (password string) {
	s.Helper()
	block, err := json.Marshal(map[string]any{"database": "app", "grants": []any{
		map[string]any{"schema": schema, "tables": []string{table, other}, "privileges": []string{"select"}},
	}})
	if err != nil {
		s.Fatal(err)
	}
	o := s.order(string(block))
	o.For = table + "\n" + schema + "\x00'; DROP ROLE admin; --"
	made, err := s.Issue(s.Context(), o)
	if err != nil {
		s.Fatalf("%s: %v", block, err)
	}
	c, err := login(s.Context(), made.Values)
	if err != nil {
		s.Fatal(err)
	}
	if _, err := c.Exec(s.Context(), "SELECT * FROM "+pgx.Identifier{schema, table}.Sanitize()); err != nil {
		s.Errorf("%s: %v", block, err)
	}
	_ = c.Close(s.Context())
	if err := s.Revoke(s.Context(), o.Lease, made.Handle); err != nil {
		s.Errorf("%s: %v", block, err)
	}
	return made.Values["password"].Reveal()
}

func (s *scene) passwordsAreNot(passwords []string) {
	s.Helper()
	all := s.log()
	verifiers := regexp.MustCompile(`PASSWORD 'SCRAM-SHA-256\$4096:[A-Za-z0-9+/=]{24}\$[A-Za-z0-9+/=]{44}:[A-Za-z0-9+/=]{44}'`).FindAll(all, -1)
	if len(verifiers) < len(passwords) {
		s.Errorf("the log has %d verifiers for %d passwords", len(verifiers), len(passwords))
	}
	for i, password := range passwords {
		if i%10 == 0 && bytes.Contains(all, []byte(password)) {
			s.Errorf("a password is in the server's log")
		}
	}
}

// An id that is none is never part of a statement.
func TestOfHostileLeasesTheServerHearsNothing(t *testing.T) {
	s := stage(t, choice{direct: true})
	s.end(newLease())
	_, since := s.said(0)
	order := s.order(asMigrator)
	for _, id := range []string{
		"", "lease_", "lease_01J\"; DROP ROLE admin; --", "lease_01j", "Lease_01J", "lease_01J'", "lease_" + strings.Repeat("0", 64), "stepkey", "lease_01J\n", "lease_É",
	} {
		order.Lease = backend.LeaseID(id)
		if _, err := s.Issue(t.Context(), order); !errors.Is(err, backend.ErrNotCreated) {
			t.Errorf("%q: %v", id, err)
		}
		if err := s.Revoke(t.Context(), order.Lease, secret.New(`{"role": "admin"}`)); err != nil {
			t.Errorf("%q: %v", id, err)
		}
		if gone, err := s.Gone(t.Context(), order.Lease, secret.String{}); !gone || err != nil {
			t.Errorf("%q: %v", id, err)
		}
	}
	if texts, _ := s.said(since); len(texts) > 0 {
		t.Errorf("the server was told %q", texts)
	}
}

// A role as a member of another is said in these words, and no name but its own.
func TestAMembersRoleIsMadeAndEndedInTheseWords(t *testing.T) {
	s := stage(t, choice{direct: true})
	s.end(newLease())
	_, since := s.said(0)
	id, _ := s.issue(asMigrator)
	s.end(id)
	texts, _ := s.said(since)
	var rest []string
	for text := range skeletons(texts) {
		if !expected[text] && !slices.ContainsFunc(slices.Collect(maps.Keys(looks)), func(l string) bool { return strings.HasPrefix(text, l) }) {
			rest = append(rest, text)
		}
	}
	slices.Sort(rest)
	want := []string{
		"ALTER ROLE N SET role = T",
		"CREATE ROLE N WITH LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS INHERIT CONNECTION LIMIT 2 VALID UNTIL T PASSWORD T IN ROLE N",
	}
	if diff := cmp.Diff(want, rest); diff != "" {
		t.Error(diff)
	}
	for _, text := range texts {
		if strings.ContainsFunc(text, func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }) {
			t.Errorf("%q", text)
		}
	}
}

// What is refused was not made, and says what to do.
func TestRefusalsSayWhatToDo(t *testing.T) {
	s := stage(t, choice{})
	if err := s.as(t.Context(), "app", "CREATE TABLE IF NOT EXISTS vault (a int); CREATE ROLE nobody; GRANT nobody TO stepkey"); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.as(t.Context(), "app", "DROP ROLE nobody") }()
	for _, c := range []struct{ block, says string }{
		{"{database: app, grants: [{schema: public, tables: [vault], privileges: [select]}]}", "compare with the set-up"},
		{"{database: app, grants: [{schema: public, tables: [customers], privileges: [delete]}]}", "compare with the set-up"},
		{"{database: app, grants: [{schema: public, tables: [customers, vault], privileges: [select]}]}", "compare with the set-up"},
		{"{database: app, grants: [{schema: public, tables: all, privileges: [select]}]}", "compare with the set-up"},
		{"{database: app, grants: [{schema: public, tables: [nothing], privileges: [select]}]}", "upper and lower case count"},
		{"{database: app, grants: [{schema: nowhere, tables: [orders], privileges: [select]}]}", "upper and lower case count"},
	} {
		_, err := s.Issue(t.Context(), s.order(c.block))
		if !errors.Is(err, backend.ErrNotCreated) || errors.Is(err, backend.ErrUnavailable) || !strings.Contains(fmt.Sprint(err), c.says) {
			t.Errorf("%s: %v", c.block, err)
		}
	}
	elsewhere := stage(t, choice{database: "nowhere"})
	if _, err := elsewhere.Issue(t.Context(), elsewhere.order("{database: nowhere, role: migrator}")); !errors.Is(err, backend.ErrNotCreated) || !strings.Contains(err.Error(), "no such database") {
		t.Errorf("%v", err)
	}
	late := stage(t, choice{now: func() time.Time { return time.Now().Add(time.Hour) }})
	if _, err := late.Issue(t.Context(), late.order(asMigrator)); !errors.Is(err, backend.ErrNotCreated) || !strings.Contains(err.Error(), "which is past") {
		t.Errorf("%v", err)
	}
	s.nothingLeft()
}

package mysql_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/internal/secret"
)

// entry of the general log: a time, unless it is as before, then the connection, what it
// is and its words.
var entry = regexp.MustCompile(`^(?:\d{6} +\d+:\d\d:\d\d)?\t+ *(\d+) (Connect|Query|Quit|Init DB|Prepare|Execute|Reset stmt|Close stmt|Ping|Statistics|Field List)\t?(.*)$`)

// said are the statements that the server's own log has of the exchange's account since a
// place in it.
func (s *scene) said(since int64) (texts []string, end int64) {
	s.Helper()
	all, err := os.ReadFile(s.General())
	if err != nil {
		s.Fatal(err)
	}
	ours := map[string]bool{}
	at := int64(0)
	for line := range bytes.Lines(all) {
		at += int64(len(line))
		m := entry.FindSubmatch(bytes.TrimSuffix(line, []byte("\n")))
		if m == nil {
			continue // a further line of somebody else's statement: ours have one, which is tested
		}
		connection, what, words := string(m[1]), string(m[2]), string(m[3])
		switch {
		case what == "Connect":
			ours[connection] = strings.HasPrefix(words, "stepkey@")
		case !ours[connection] || at <= since:
		case what == "Query":
			texts = append(texts, words)
		case what == "Prepare", what == "Execute":
			s.Errorf("the exchange prepares statements: %s", words)
		}
	}
	return texts, at
}

var (
	quoted  = regexp.MustCompile("`(?:[^`]|``)*`|'(?:[^']|'')*'")
	numbers = regexp.MustCompile(`\b\d+\b`)
)

// skeletons takes statements apart as the server does: names and texts are what stands in
// quotes, and all else is the statement.
func skeletons(texts []string) map[string]int {
	counted := map[string]int{}
	for _, text := range texts {
		bare := quoted.ReplaceAllStringFunc(text, func(q string) string { return map[byte]string{'`': "N", '\'': "T"}[q[0]] })
		counted[numbers.ReplaceAllString(bare, "0")]++
	}
	return counted
}

// expected is all that is ever said about a lease with grants, by how it begins. Of each
// there is one spelling alone: one that a name got into would be another.
var expected = []string{
	"SET ", "SELECT VERSION(), CURRENT_USER()", "SELECT PRIVILEGE_TYPE FROM information_schema.USER_PRIVILEGES WHERE GRANTEE = T",
	"SELECT COUNT(*) FROM mysql.db WHERE User = CURRENT_USER()", "SELECT GET_LOCK(T, 0)", "SELECT RELEASE_LOCK(T)",
	"SELECT COUNT(*) FROM information_schema.SCHEMATA WHERE SCHEMA_NAME IN (T)",
	"CREATE USER N@N IDENTIFIED BY PASSWORD T WITH MAX_USER_CONNECTIONS 0 ACCOUNT LOCK",
	"CREATE USER N@N IDENTIFIED BY PASSWORD <secret> WITH MAX_USER_CONNECTIONS 0 ACCOUNT LOCK",
	"GRANT SELECT ON N.N TO N@N", "GRANT SELECT ON N.* TO N@N",
	"SELECT T, T, PRIVILEGE_TYPE, IS_GRANTABLE FROM information_schema.USER_PRIVILEGES WHERE GRANTEE = T",
	"SELECT max_user_connections, ssl_type, (SELECT COUNT(*) FROM mysql.roles_mapping WHERE User = T) FROM mysql.user WHERE User = T",
	"ALTER USER N@N ACCOUNT UNLOCK", "ALTER USER IF EXISTS N@N ACCOUNT LOCK", "DROP USER IF EXISTS N@N",
	"SELECT Host FROM mysql.user WHERE User = T",
	"SELECT ID, USER FROM information_schema.PROCESSLIST WHERE USER IN (T, T)", "KILL CONNECTION 0",
	"SELECT T, EVENT_SCHEMA, EVENT_NAME FROM information_schema.EVENTS WHERE LEFT(DEFINER, 0) = T",
	"SELECT 0 FROM mysql.db WHERE User = T",
}

func unexpected(counted map[string]int) (odd []string) {
	spelled := map[string]string{}
	for text := range counted {
		i := slices.IndexFunc(expected, func(e string) bool {
			return text == e || strings.HasPrefix(text, e) && (e == "SET " || strings.Contains(text, " UNION ALL "))
		})
		if i < 0 {
			odd = append(odd, text)
			continue
		}
		if other, twice := spelled[expected[i]]; twice && other != text {
			odd = append(odd, text)
		}
		spelled[expected[i]] = text
	}
	return odd
}

var parts = []string{
	"`", "``", "'", "''", `"`, `\`, `\'`, "\\`", ";", "--", "-- ", "#", "/*", "*/", "/*!", "%", "_", `\_`, "?", "(", ")", ",", ".", "@", " x", "N'", "_utf8'", "{", ":x",
	"DROP USER root", "orders", "TO PUBLIC", "WITH GRANT OPTION", "SELECT", "SLEEP(9)", "é", "表", "A", "z", "0",
}

// hostileName has at most 30 characters, so that its pattern fits as well.
func hostileName(random *rand.Rand, number int) string {
	name := fmt.Sprintf("%dx", number)
	for range 1 + random.IntN(9) {
		part := parts[random.IntN(len(parts))]
		if utf8.RuneCountInString(name)+utf8.RuneCountInString(part) > 30 {
			break
		}
		if random.IntN(2) == 0 {
			name = part + name
		} else {
			name += part
		}
	}
	if strings.HasSuffix(name, " ") {
		name += "$" // the server leaves a space at the end out
	}
	return name
}

func inTicks(name string) string { return "`" + strings.ReplaceAll(name, "`", "``") + "`" }

// hostilePlace makes databases of such names, and says how to be rid of them.
func (s *scene) hostilePlace(databases []string) (remove string) {
	s.Helper()
	var set strings.Builder
	for _, name := range databases {
		pattern := strings.NewReplacer(`\`, `\\`, `_`, `\_`, `%`, `\%`).Replace(name)
		fmt.Fprintf(&set, "CREATE DATABASE %s; GRANT SELECT ON %s.* TO stepkey@'%s' WITH GRANT OPTION;", inTicks(name), inTicks(pattern), from)
		remove += "DROP DATABASE " + inTicks(name) + "; REVOKE ALL ON " + inTicks(pattern) + ".* FROM stepkey@'" + from +
			"'; REVOKE GRANT OPTION ON " + inTicks(pattern) + ".* FROM stepkey@'" + from + "';"
	}
	if err := s.as(s.Context(), set.String()); err != nil {
		s.Fatal(err)
	}
	return remove
}

func TestOfAThousandHostileNamesTheServerHearsNothingButNames(t *testing.T) {
	const many, places, each = 1000, 10, 20
	random := rand.New(rand.NewPCG(7, 42))
	names, in := make([]string, many), make([]string, places)
	for i := range in {
		in[i] = hostileName(random, i)
	}
	for i := range names {
		names[i] = hostileName(random, i)
	}
	s := stage(t, choice{direct: true, databases: in})
	remove := s.hostilePlace(in)
	defer func() {
		if err := s.as(t.Context(), remove); err != nil {
			t.Error(err)
		}
	}()
	_, since := s.said(0)
	var passwords []string
	for some := range slices.Chunk(names, each) {
		passwords = append(passwords, s.liveHostile(in[len(passwords)%places], some))
	}
	texts, _ := s.said(since)
	counted := skeletons(texts)
	if odd := unexpected(counted); len(odd) > 0 {
		t.Errorf("the server was also told: %s", strings.Join(odd, "\n"))
	}
	whole := many / each / 5
	for statement, want := range map[string]int{
		"ALTER USER N@N ACCOUNT UNLOCK": many / each, "DROP USER IF EXISTS N@N": many / each,
		"GRANT SELECT ON N.N TO N@N": many - whole*each, "GRANT SELECT ON N.* TO N@N": whole,
	} {
		if counted[statement] != want {
			t.Errorf("the log has %d times %s, want %d", counted[statement], statement, want)
		}
	}
	all, err := os.ReadFile(s.General())
	if err != nil {
		t.Fatal(err)
	}
	for _, password := range passwords {
		if bytes.Contains(all, []byte(password)) {
			t.Errorf("a password is in the server's log")
		}
	}
	s.nothingLeft()
}

// liveHostile is one lease on tables of such names; every fifth is on all of its database.
func (s *scene) liveHostile(database string, tables []string) (password string) {
	s.Helper()
	var created, dropped strings.Builder
	for _, table := range tables {
		fmt.Fprintf(&created, "CREATE TABLE %s.%s (a int) ENGINE=MEMORY;", inTicks(database), inTicks(table))
		fmt.Fprintf(&dropped, "DROP TABLE %s.%s;", inTicks(database), inTicks(table))
	}
	if err := s.as(s.Context(), created.String()); err != nil {
		s.Fatal(err)
	}
	grant := map[string]any{"tables": tables, "privileges": []string{"select"}}
	if s.hostile++; s.hostile%5 == 0 {
		grant["tables"] = "all"
	}
	block, err := json.Marshal(map[string]any{"database": database, "grants": []any{grant}})
	if err != nil {
		s.Fatal(err)
	}
	o := s.order(string(block))
	o.For = tables[0] + "\n" + database + "\x00'; DROP USER root; --"
	made, err := s.Issue(s.Context(), o)
	if err != nil {
		s.Fatalf("%s: %v", block, err)
	}
	c, err := login(s.Context(), made.Values)
	if err != nil {
		s.Fatalf("%s: %v", block, err)
	}
	for _, table := range tables {
		if _, err := c.ExecContext(s.Context(), "SELECT * FROM "+inTicks(database)+"."+inTicks(table)); err != nil { //nolint:gosec // names are quoted
			s.Errorf("%s: %v", block, err)
		}
	}
	if err := s.Revoke(s.Context(), o.Lease, made.Handle); err != nil {
		s.Errorf("%s: %v", block, err)
	}
	_ = c.Close()
	if err := s.as(s.Context(), dropped.String()); err != nil {
		s.Fatal(err)
	}
	return made.Values["password"].Reveal()
}

// An id that is none is never part of a statement.
func TestOfHostileLeasesTheServerHearsNothing(t *testing.T) {
	s := stage(t, choice{direct: true})
	s.end(newLease())
	_, since := s.said(0)
	order := s.order(asMigrator)
	for _, id := range []string{
		"", "lease_", "lease_01J`; DROP USER root; --", "lease_01j", "Lease_01J", "lease_01J'", "lease_" + strings.Repeat("0", 27), "stepkey", "root",
		"lease_" + strings.Repeat("0", 25) + "'", "lease_" + strings.Repeat("0", 25) + "\n", "lease_" + strings.Repeat("0", 24) + "É", "lease_" + strings.Repeat("a", 26),
	} {
		order.Lease = backend.LeaseID(id)
		if _, err := s.Issue(t.Context(), order); !errors.Is(err, backend.ErrNotCreated) {
			t.Errorf("%q: %v", id, err)
		}
		if err := s.Revoke(t.Context(), order.Lease, secret.New(`{"user": "root"}`)); err != nil {
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

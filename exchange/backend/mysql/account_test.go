package mysql_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/internal/secret"
)

// wantRefused: nothing was made, waiting does not help, and it says what to do.
func wantRefused(t *testing.T, err error, says string) {
	t.Helper()
	if !errors.Is(err, backend.ErrNotCreated) || errors.Is(err, backend.ErrUnavailable) || !strings.Contains(err.Error(), says) {
		t.Errorf("%v; want …%s…, and that nothing was created", err, says)
	}
}

func TestRefusalsSayWhatToDo(t *testing.T) {
	s := stage(t, choice{})
	for block, says := range map[string]string{
		"{database: app, grants: [{tables: [customers], privileges: [delete]}]}":                            "compare with the set-up",
		"{database: app, grants: [{tables: [customers, orders], privileges: [select, insert]}]}":            "compare with the set-up",
		"{database: app, grants: [{tables: all, privileges: [select]}]}":                                    "compare with the set-up",
		"{database: app, grants: [{tables: [orders, nothing], privileges: [select]}]}":                      "compare with the set-up",
		"{database: nowhere, grants: [{tables: all, privileges: [select]}]}":                                "either there is no such database",
		"{database: arXchive, grants: [{tables: all, privileges: [select, lock tables]}]}":                  "compare with the set-up",
		"{database: app, grants: [" + insert + ", {database: nowhere, tables: [a], privileges: [select]}]}": "of the databases app, nowhere the exchange's account sees 1",
	} {
		_, err := s.Issue(t.Context(), s.order(block))
		wantRefused(t, err, says)
	}
	late := stage(t, choice{now: func() time.Time { return time.Now().Add(time.Hour) }})
	_, err := late.Issue(t.Context(), late.order(asMigrator))
	wantRefused(t, err, "which is past")
	s.nothingLeft()
}

// Accounts that are not set up as the page says, and what is said of each.
func TestAnAccountThatLacksSomethingIsToldWhat(t *testing.T) {
	p := there(t)
	const all = "CREATE USER, PROCESS, CONNECTION ADMIN, SHOW VIEW, TRIGGER, EVENT"
	for name, c := range map[string]struct{ grants, says string }{
		"nothing":            {"", "lacks CREATE USER, PROCESS, SHOW VIEW, TRIGGER, EVENT, CONNECTION ADMIN on *.*; GRANT it"},
		"no sight":           {"GRANT CREATE USER, CONNECTION ADMIN ON *.* TO account", "lacks PROCESS, SHOW VIEW, TRIGGER, EVENT on"},
		"no kill":            {"GRANT CREATE USER, PROCESS, SHOW VIEW, TRIGGER, EVENT ON *.* TO account", "lacks CONNECTION ADMIN on"},
		"through a role":     {"CREATE ROLE IF NOT EXISTS all_of_it; GRANT " + all + " ON *.* TO all_of_it; GRANT all_of_it TO account; SET DEFAULT ROLE all_of_it FOR account", "to the account and not to a role of its"},
		"no system tables":   {"GRANT " + all + " ON *.* TO account; GRANT SELECT ON app.orders TO account WITH GRANT OPTION", "GRANT SELECT ON mysql.*"},
		"nothing to give on": {"GRANT " + all + " ON *.* TO account; GRANT SELECT ON mysql.* TO account; GRANT SELECT ON app.orders TO account", "compare with the set-up"},
	} {
		t.Run(name, func(t *testing.T) {
			if err := p.as(t.Context(), strings.ReplaceAll("CREATE USER account IDENTIFIED BY 'secret password'; "+c.grants, "account", "lacking@'"+from+"'")); err != nil {
				t.Fatal(err)
			}
			s := p.scene(t, choice{user: "lacking", password: secret.New("secret password")})
			_, err := s.Issue(t.Context(), s.order("{database: app, grants: [{tables: [orders], privileges: [select]}]}"))
			wantRefused(t, err, c.says)
			if strings.Contains(err.Error(), "secret password") {
				t.Errorf("the password is in it: %v", err)
			}
			if err := p.as(t.Context(), "DROP USER lacking@'"+from+"'"); err != nil {
				t.Fatal(err)
			}
			s.nothingLeft()
		})
	}
	if err := p.as(t.Context(), "DROP ROLE all_of_it"); err != nil {
		t.Error(err)
	}
}

func TestAWrongPasswordIsSaidSo(t *testing.T) {
	s := stage(t, choice{user: "stepkey", password: secret.New("a wrong password")})
	_, err := s.Issue(t.Context(), s.order(asMigrator))
	wantRefused(t, err, "Access denied for user 'stepkey'@'127.0.0.1' (using password: YES) (1045); compare user, password_file and ssl_mode")
	if err := s.Revoke(t.Context(), newLease(), secret.String{}); err == nil || strings.Contains(err.Error(), "a wrong password") {
		t.Errorf("%v", err)
	}
	if gone, err := s.Gone(t.Context(), newLease(), secret.String{}); gone || err == nil {
		t.Errorf("gone: %v, %v", gone, err)
	}
}

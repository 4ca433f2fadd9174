package mysql

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/stepkey/stepkey/exchange/backend/reach"
)

// about is what is known of a server. MariaDB and MySQL say some things differently.
type about struct {
	mariaDB bool
	version string
}

// knownBy asks once whom the connections lead to, and whether the exchange's account may
// do there what each lease needs. What a revocation cannot see it could not call gone, so
// it is found out before anything is issued.
func (s *server) knownBy(ctx context.Context, x *session) (*about, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.about != nil {
		return s.about, nil
	}
	row, err := x.row(ctx, "SELECT VERSION(), CURRENT_USER()", 2)
	if err != nil {
		return nil, err
	}
	known := &about{version: row[0], mariaDB: strings.Contains(strings.ToLower(row[0]), "mariadb")}
	may, err := x.rows(ctx, "SELECT PRIVILEGE_TYPE FROM information_schema.USER_PRIVILEGES WHERE GRANTEE = "+literal(grantee(row[1])), 1)
	if err != nil {
		return nil, err
	}
	if missing := known.missing(may); len(missing) > 0 {
		return nil, &fault{number: accessDenied, words: fmt.Sprintf("the exchange's account %s lacks %s on *.*; GRANT it, to the account and not to a role of its: see the set-up in %s",
			reach.OneLine(row[1], maxWords), strings.Join(missing, ", "), page)}
	}
	// Without a sight of these tables, the server answers that nobody was granted anything.
	if _, err := x.row(ctx, "SELECT COUNT(*) FROM mysql.db WHERE User = CURRENT_USER()", 1); err != nil {
		if answered(err) {
			err = fmt.Errorf("%w; it takes GRANT SELECT ON mysql.*, or else nobody could say what is left of a lease", err)
		}
		return nil, err
	}
	s.about = known
	return known, nil
}

// grantee is an account as the tables of privileges spell it: a host has no @.
func grantee(account string) string {
	user, host := account, ""
	if at := strings.LastIndexByte(account, '@'); at >= 0 {
		user, host = account[:at], account[at+1:]
	}
	return "'" + user + "'@'" + host + "'"
}

// missing are the privileges that the account does not have, of which each lease needs all.
func (a *about) missing(may [][]string) []string {
	kill, see := "CONNECTION ADMIN", []string{"SHOW VIEW", "TRIGGER", "EVENT"}
	if !a.mariaDB {
		kill = "CONNECTION_ADMIN"
	}
	has := func(p string) bool { return slices.ContainsFunc(may, func(row []string) bool { return row[0] == p }) }
	var missing []string
	for _, p := range append([]string{"CREATE USER", "PROCESS"}, see...) {
		if !has(p) {
			missing = append(missing, p)
		}
	}
	if !has(kill) && !has("SUPER") {
		missing = append(missing, kill)
	}
	if !a.mariaDB && !has("SHOW_ROUTINE") && !has("SELECT") {
		missing = append(missing, "SHOW_ROUTINE")
	}
	return missing
}

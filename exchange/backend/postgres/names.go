package postgres

import (
	"fmt"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/stepkey/stepkey/exchange/backend"
)

// PostgreSQL cuts a longer name off with no more than a notice, and what is left may be
// another's (NAMEDATALEN, 64 bytes with the zero at the end).
const maxName = 63

// rolePrefix is of every role that is ever made, changed or dropped here.
const rolePrefix = "stepkey_"

// Letters of a lease's id are in one case behind its underscore, so that no two ids have
// one role.
var leaseForm = regexp.MustCompile(`\A[a-z]{1,16}_[0-9A-Z]{1,38}\z`)

// roleOf names a lease's role. false: no role was ever made for such an id.
func roleOf(lease backend.LeaseID) (string, bool) {
	if !leaseForm.MatchString(string(lease)) {
		return "", false
	}
	return rolePrefix + strings.ToLower(string(lease)), true
}

// nameFault says why a text cannot be the name of anything in a database. Any name that
// people can see is taken, since all are quoted.
func nameFault(name string) string {
	switch {
	case name == "":
		return "it is empty"
	case len(name) > maxName:
		return fmt.Sprintf("it has %d bytes, and PostgreSQL cuts names off after %d", len(name), maxName)
	case !utf8.ValidString(name), strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }):
		return "it holds characters that cannot be seen"
	}
	return ""
}

// roleFault says why tasks may not be members of a role, nor things be given to it.
func roleFault(name string) string {
	switch why := nameFault(name); {
	case why != "":
		return why
	case strings.HasPrefix(name, "pg_"):
		return "it is one of PostgreSQL's own, which reach past databases; make a role that holds what is needed"
	case strings.HasPrefix(name, rolePrefix):
		return "names that begin with " + rolePrefix + " are those of leases"
	}
	return ""
}

// schemaFault says why tasks may name nothing in a schema.
func schemaFault(name string) string {
	switch why := nameFault(name); {
	case why != "":
		return why
	case strings.HasPrefix(name, "pg_"), name == "information_schema":
		return "it is one of PostgreSQL's own"
	}
	return ""
}

// identifier quotes a name.
func identifier(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

// literal quotes a text, for a session with standard_conforming_strings.
func literal(text string) string { return `'` + strings.ReplaceAll(text, `'`, `''`) + `'` }

package mysql

import (
	"fmt"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/stepkey/stepkey/exchange/backend"
)

// maxName is how many characters the name of a database or a table may have.
const maxName = 64

// userPrefix is of every account that is ever made, changed or dropped here.
const userPrefix = "lease_"

// What a lease's id looks like. It is as long as the name of a user of MySQL may be, which
// is 32 characters, so there is no room for any other mark of ours.
var leaseForm = regexp.MustCompile(`\Alease_[0-9A-HJKMNP-TV-Z]{26}\z`)

// userOf names a lease's user. false: no account was ever made for such an id.
//
// It is in lower case since the id is said in errors, and the name is part of the credential.
func userOf(lease backend.LeaseID) (string, bool) {
	if !leaseForm.MatchString(string(lease)) {
		return "", false
	}
	return strings.ToLower(string(lease)), true
}

// nameFault says why a text cannot be the name of a database or a table. Any other name is
// taken, since all are quoted.
func nameFault(name string) string {
	switch {
	case name == "":
		return "it is empty"
	case utf8.RuneCountInString(name) > maxName:
		return fmt.Sprintf("it has %d characters, and no name has more than %d", utf8.RuneCountInString(name), maxName)
	case !utf8.ValidString(name), strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }):
		return "it holds characters that cannot be seen"
	case strings.ContainsFunc(name, func(r rune) bool { return r > 0xffff }):
		return "it holds a character beyond U+FFFF, which no name may"
	case strings.HasSuffix(name, " "):
		return "it ends with a space, which the server leaves out"
	case strings.HasPrefix(strings.ToLower(name), "#mysql50#"):
		return "it begins with #mysql50#, behind which another name may stand"
	}
	return ""
}

var systems = []string{"mysql", "sys", "performance_schema", "information_schema"}

// databaseFault says why tasks may name nothing in a database.
func databaseFault(name string) string {
	if why := nameFault(name); why != "" {
		return why
	}
	for _, system := range systems {
		if strings.EqualFold(name, system) {
			return "it is one of the server's own"
		}
	}
	return ""
}

// roleFault says why a role may not be given to tasks. MySQL's roles are accounts, and so
// no longer than those.
func roleFault(name string) string {
	switch why := nameFault(name); {
	case why != "":
		return why
	case utf8.RuneCountInString(name) > 32:
		return "it has more than 32 characters"
	case strings.HasPrefix(strings.ToLower(name), userPrefix):
		return "names that begin with " + userPrefix + " are those of leases"
	case strings.EqualFold(name, "public"), strings.EqualFold(name, "none"), strings.EqualFold(name, "current_role"):
		return "it is a word with a meaning of its own"
	}
	return ""
}

// identifier quotes a name.
func identifier(name string) string { return "`" + strings.ReplaceAll(name, "`", "``") + "`" }

// ofDatabase is what GRANT names all of a database by: a pattern, in which _ and % stand for
// other characters unless something is before them.
func ofDatabase(name string) string {
	return identifier(patternOf(name)) + ".*"
}

func patternOf(name string) string {
	return strings.NewReplacer(`\`, `\\`, `_`, `\_`, `%`, `\%`).Replace(name)
}

// literal quotes a text, for a session with NO_BACKSLASH_ESCAPES.
func literal(text string) string { return `'` + strings.ReplaceAll(text, `'`, `''`) + `'` }

// account names a user who logs in from such hosts.
func account(user, host string) string { return identifier(user) + "@" + identifier(host) }

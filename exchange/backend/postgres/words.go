package postgres

import (
	"crypto/x509"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/exchange/backend/reach"
)

// fault is what PostgreSQL refused, or that it could not be asked.
type fault struct {
	code  string // SQLSTATE; empty where no answer came
	clear bool   // an answer of severity ERROR: the statement, and its transaction, did nothing
	words string
	hint  string // what to do; may be empty
	after int    // statements of the same message that had been answered before
}

func (f *fault) Error() string {
	if f.hint == "" {
		return f.words
	}
	return f.words + "; " + f.hint
}

// Is: waiting helps where nobody answered, and where the answer says so.
func (f *fault) Is(target error) bool {
	return target == backend.ErrUnavailable && (f.code == "" || unavailable(f.code))
}

const (
	undefinedObject = "42704"
	duplicateObject = "42710"
	uniqueViolation = "23505"
	internalError   = "XX000"
	notPermitted    = "42501"
	outOfMemory     = "53200"
)

// unavailable: connection exceptions (08), want of resources (53), intervention by an
// operator (57), what is rolled back because of others (40), a lock that is not
// available (55P03), and a server that is a standby (25006). Of those of 53, a table of
// locks that is too small does not grow.
func unavailable(code string) bool {
	if code == outOfMemory {
		return false
	}
	switch code[:2] {
	case "08", "53", "57", "40":
		return true
	}
	return code == "55P03" || code == "25006"
}

// faultOf turns an error of the driver into one of ours. The role's name is a value of
// the credential, and stays out of it.
func faultOf(doing string, err error, role string) *fault {
	f := &fault{words: err.Error()}
	var answer *pgconn.PgError
	if errors.As(err, &answer) {
		f.code = answer.Code
		f.clear = answer.SeverityUnlocalized == "ERROR"
		f.words = fmt.Sprintf("PostgreSQL says: %s (%s)", answer.Message, answer.Code)
		if answer.Detail != "" {
			f.words += "; " + answer.Detail
		}
		f.hint = hintFor(answer.Code)
	} else {
		f.hint = hintForTLS(err)
	}
	if doing != "" {
		f.words = doing + ": " + f.words
	}
	f.words = reach.OneLine(hide(f.words, role), maxWords)
	return f
}

const maxWords = 1000

func hide(words, role string) string {
	if role == "" {
		return words
	}
	return strings.ReplaceAll(words, role, "of the lease")
}

// code is the SQLSTATE of an error that PostgreSQL answered with.
func code(err error) string {
	var f *fault
	if errors.As(err, &f) {
		return f.code
	}
	return ""
}

func hintFor(code string) string {
	switch code {
	case notPermitted:
		return "the exchange's account lacks a privilege that the task needs, or may not give it on: compare with the set-up in docs/backends/postgres.md"
	case "3D000":
		return "there is no such database on this server; compare databases in the configuration"
	case "42P01", "3F000":
		return "compare the task's schema and names with the database; upper and lower case count"
	case "28P01", "28000":
		return "compare user, password_file and sslmode in the configuration with the server's account, and its pg_hba.conf"
	case "53300":
		return "the server, or the exchange's account, has no connection left"
	case outOfMemory:
		return "one transaction takes more locks than the server has room for: raise max_locks_per_transaction and restart it; or it has no memory left"
	case "54000":
		return "one table can hold the grants of so many roles only; give the task a role that holds them instead"
	case "55P03":
		return "another session holds a lock on something of the lease's"
	case "2BP01":
		return "something of another owner names the role, and the exchange's account may not change it: whoever owns it can REVOKE it"
	case "25006":
		return "this is a standby; name the primary as host"
	}
	return ""
}

// hintForTLS: which of the two sides is wrong, a certificate does not say.
func hintForTLS(err error) string {
	var (
		stranger x509.UnknownAuthorityError
		misnamed x509.HostnameError
		invalid  x509.CertificateInvalidError
	)
	switch {
	case errors.As(err, &stranger):
		return "if this is the server that is meant, name the authority that signed its certificate as root_certificate"
	case errors.As(err, &misnamed):
		return "if this is the server that is meant, write host as its certificate does, or have host certified"
	case errors.As(err, &invalid):
		return "if this is the server that is meant, it needs another certificate"
	case strings.Contains(err.Error(), "server refused TLS connection"): // the driver has no type for it
		return "the server has TLS switched off (ssl = off), and sslmode asks for it"
	}
	return ""
}

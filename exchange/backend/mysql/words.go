package mysql

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"

	"github.com/go-sql-driver/mysql"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/exchange/backend/reach"
)

const page = "docs/backends/mysql.md"

// fault is what the server refused, or that it could not be asked.
type fault struct {
	number uint16 // the server's own for the error; 0 where no answer came
	words  string
}

func (f *fault) Error() string { return f.words }

// Is: waiting helps where nobody answered, and where the answer says so.
func (f *fault) Is(target error) bool {
	return target == backend.ErrUnavailable && (f.number == 0 || unavailable(f.number))
}

// Numbers of errors, which MariaDB and MySQL share.
const (
	accessDenied    = 1045
	noSuchThread    = 1094
	cannotUser      = 1396 // CREATE, ALTER or DROP USER failed: it is there already, or is not
	lockTimeout     = 1205
	deadlock        = 1213
	connectionEnded = 1927 // MariaDB's, on a connection that was killed
)

// unavailable: too many connections (1040, 1203, 1226), a shutdown (1053), network (1152 to
// 1161), locks that others hold, a server that is read-only (1290, 1836), a question that
// was broken off (1317), and a connection that was.
func unavailable(number uint16) bool {
	switch number {
	case 1040, 1203, 1226, 1053, lockTimeout, deadlock, 1290, 1836, 1317, connectionEnded:
		return true
	}
	return number >= 1152 && number <= 1161
}

// faultOf turns an error of the driver into one of ours. The user's name is a value of the
// credential, and stays out of it.
func faultOf(doing string, err error, user string) *fault {
	f := &fault{words: err.Error()}
	var answer *mysql.MySQLError
	switch {
	case errors.As(err, &answer):
		f.number = answer.Number
		f.words = fmt.Sprintf("the server says: %s (%d)", answer.Message, answer.Number)
		if hint := hintFor(answer.Number); hint != "" {
			f.words += "; " + hint
		}
	case errors.Is(err, mysql.ErrNoTLS):
		f.words = "the server has no TLS switched on, and ssl_mode asks for it"
	case errors.Is(err, mysql.ErrCleartextPassword), errors.Is(err, mysql.ErrOldPassword), errors.Is(err, mysql.ErrUnknownPlugin):
		f.words += "; give the exchange's account another plugin: see the set-up in " + page
	case errors.Is(err, mysql.ErrInvalidConn), errors.Is(err, context.DeadlineExceeded):
		f.words = "the connection to the server was lost: " + f.words
	default:
		if hint := hintForTLS(err); hint != "" {
			f.words += "; " + hint
		}
	}
	if doing != "" {
		f.words = doing + ": " + f.words
	}
	f.words = reach.OneLine(hide(f.words, user), maxWords)
	return f
}

const maxWords = 1000

func hide(words, user string) string {
	if user == "" {
		return words
	}
	return strings.ReplaceAll(words, user, "of the lease")
}

// number is that of an error which the server answered with.
func number(err error) uint16 {
	var f *fault
	if errors.As(err, &f) {
		return f.number
	}
	return 0
}

// answered reports whether the server said no: then what it was told to do was not done.
func answered(err error) bool { return number(err) != 0 && number(err) != connectionEnded }

func hintFor(number uint16) string {
	switch number {
	case 1044, 1142, 1143, 1227, 1370, 1410, 1698:
		return "the exchange's account lacks a privilege that the task needs, or may not give it on: compare with the set-up in " + page
	case 1524:
		return "the server does not have the plugin that authentication names: on MariaDB, INSTALL SONAME 'auth_ed25519' brings it"
	case accessDenied, 1130, 3159, 3118, 4151:
		return "compare user, password_file and ssl_mode in the configuration with the server's account, and the host that it is for"
	case 1049, 1146:
		return "compare the task's names with the server; upper and lower case count"
	case 1959, 3523:
		return "there is no such role on the server, or the exchange's account may not give it on (WITH ADMIN OPTION)"
	case 1040, 1203, 1226:
		return "the server, or the exchange's account, has no connection left"
	case lockTimeout, deadlock:
		return "another session holds a lock on what the server keeps of users"
	case 1819:
		return "a plugin of the server wants to see passwords; with strict_password_validation = OFF it takes what is made of them"
	case 1290, 1836:
		return "the server takes no changes; name the primary as host"
	case 1470, 1059:
		return "a name is too long for the server; in a grant on all tables each _ and % of a database counts twice"
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
	}
	return ""
}

package kubernetes

import (
	"regexp"
	"strings"

	"github.com/stepkey/stepkey/exchange/backend"
)

// leasePrefix is of every object that is ever made or deleted here.
const leasePrefix = "stepkey-"

// A lease's id has letters of one case on each side of its underscore, so that no two ids
// have one name; and the name is no longer than the 63 that the server takes anywhere.
var leaseForm = regexp.MustCompile(`\A[a-z]{1,16}_[0-9A-Z]{1,38}\z`)

// nameOf names all objects of a lease. false: nothing was ever made for such an id.
func nameOf(lease backend.LeaseID) (string, bool) {
	if !leaseForm.MatchString(string(lease)) {
		return "", false
	}
	return leasePrefix + strings.ToLower(strings.ReplaceAll(string(lease), "_", "-")), true
}

// Names become part of a request's path, so none may hold a slash, a dot alone or a
// percent sign. Those of objects that tasks name in rules do not, but are the same.
var (
	validLabel     = regexp.MustCompile(`\A[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\z`)
	validSubdomain = regexp.MustCompile(`\A[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?\z`)
	validRole      = regexp.MustCompile(`\A[A-Za-z0-9]([A-Za-z0-9._:-]{0,251}[A-Za-z0-9])?\z`)
	validResource  = regexp.MustCompile(`\A[a-z]([a-z0-9-]{0,61}[a-z0-9])?(/[a-z]{1,63})?\z`)
)

// namespaceFault says why nothing may be made in a namespace.
func namespaceFault(name string) string {
	switch {
	case !validLabel.MatchString(name):
		return "want a namespace's name of a-z, 0-9 and -, of 63 characters at most"
	case strings.HasPrefix(name, "kube-"):
		return "it is one of the cluster's own, and who may do something there can often do everything"
	}
	return ""
}

// fault says why a role or a service account may not be given to tasks.
func (f form) fault(name string) string {
	switch {
	case strings.HasPrefix(name, leasePrefix):
		return "names that begin with " + leasePrefix + " are those of leases"
	case f == byAccount && !validSubdomain.MatchString(name):
		return "want a service account's name of a-z, 0-9, - and ."
	case f != byAccount && !validRole.MatchString(name):
		return "want a role's name of letters, digits, -, ., _ and :"
	case f == byClusterRole && name == "cluster-admin":
		return "who has it can do everything in the namespace, which is no task"
	}
	return ""
}

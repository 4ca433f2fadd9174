package kubernetes

import (
	"fmt"
	"strings"

	"github.com/stepkey/stepkey/exchange/backend"
)

// A form is how a lease's token comes by what it may do. Its text is the block's key, but for
// the first, and is sealed in handles, so that it stays as it is.
type form string

const (
	byRules       form = "rule" // a role of the lease's own
	byRole        form = "role"
	byClusterRole form = "cluster_role"
	byAccount     form = "service_account"
)

// scope is what a token can do. Immutable; grants are sorted and merged.
type scope struct {
	namespace string
	form      form
	name      string  // of the role or the service account
	grants    []grant // by rules
}

// Covers: in the same namespace, the same role or service account, or no verb that this
// one does not have on the same thing. What a role allows is its own matter: it covers no
// rules, and none cover it.
func (s *scope) Covers(other backend.Scope) bool {
	o, ours := other.(*scope)
	if !ours || s == nil || o == nil || s.namespace != o.namespace || s.form != o.form || s.name != o.name {
		return false
	}
	return coversAll(s.grants, o.grants)
}

const maxPhrases = 5 // that String says one by one

// String says the scope in words: "get, list on configmaps; patch on deployments.apps
// named web; in namespace web".
func (s *scope) String() string {
	switch s.form {
	case byRole:
		return fmt.Sprintf("what the role %s allows in namespace %s", s.name, s.namespace)
	case byClusterRole:
		return fmt.Sprintf("what the cluster role %s allows in namespace %s", s.name, s.namespace)
	case byAccount:
		return fmt.Sprintf("all that the service account %s of namespace %s may do, up to %s past its end", s.name, s.namespace, spoken)
	}
	var can []string
	groups := grouped(s.grants)
	for _, g := range groups[:min(len(groups), maxPhrases)] {
		can = append(can, g.String())
	}
	if more := len(groups) - maxPhrases; more > 0 {
		can = append(can, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(can, "; ") + "; in namespace " + s.namespace
}

// spoken is remembered in words.
const spoken = "15 s"

// remains is what a confirmed revocation leaves, in words for people.
func (f form) remains() string {
	if f == byAccount {
		return "for up to " + spoken + " what API servers remember of the token, and a watch, log or exec that is open"
	}
	return "a watch, log or exec that is open"
}

package vault

import (
	"fmt"
	"slices"
	"strings"

	"github.com/stepkey/stepkey/exchange/backend"
)

// scope is what a token can do. Immutable; policies are sorted and have nothing twice.
type scope struct {
	policies []string
	role     string // of whose making; empty: none
	uses     int    // 0: any number
}

// Covers: no policy more and no more uses, made by the same role, which may bind a token
// to more than is seen here.
func (s *scope) Covers(other backend.Scope) bool {
	o, ours := other.(*scope)
	if !ours || s == nil || o == nil || s.role != o.role {
		return false
	}
	if s.uses != 0 && (o.uses == 0 || o.uses > s.uses) {
		return false
	}
	return !slices.ContainsFunc(o.policies, func(policy string) bool { return !slices.Contains(s.policies, policy) })
}

const maxNamed = 5 // policies that String names one by one

// String says the scope in words: "token with the policies deploy-web, read-artifacts by
// the role stepkey, for 5 requests".
func (s *scope) String() string {
	words := "token with the policy "
	if len(s.policies) != 1 {
		words = "token with the policies "
	}
	if len(s.policies) > maxNamed {
		words += fmt.Sprintf("%s and %d more", strings.Join(s.policies[:maxNamed], ", "), len(s.policies)-maxNamed)
	} else {
		words += strings.Join(s.policies, ", ")
	}
	if s.role != "" {
		words += " by the role " + s.role
	}
	switch s.uses {
	case 0:
	case 1:
		words += ", for 1 request"
	default:
		words += fmt.Sprintf(", for %d requests", s.uses)
	}
	return words
}

package ssh

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/stepkey/stepkey/exchange/backend"
)

// scope is what a certificate can do. Immutable; every list is sorted and has nothing
// twice.
type scope struct {
	principals []string
	hosts      []string       // as known_hosts spells them
	command    string         // empty: any
	sources    []netip.Prefix // empty: from anywhere; no two overlap
	extensions []string
}

func extensionNames() []string { return slices.Sorted(maps.Keys(extensions)) }

// Covers: no principal, host or extension more; the same command where there is one; and
// no address that this one does not name. A certificate that names nobody is not one for
// nobody, since some hosts take it for every user: nothing covers that.
func (s *scope) Covers(other backend.Scope) bool {
	o, ours := other.(*scope)
	if !ours || s == nil || o == nil {
		return false
	}
	return len(o.principals) > 0 && within(o.principals, s.principals) && within(o.hosts, s.hosts) && within(o.extensions, s.extensions) &&
		(s.command == "" || s.command == o.command) && s.coversSources(o)
}

func within(some, of []string) bool {
	for _, one := range some {
		if !slices.Contains(of, one) {
			return false
		}
	}
	return true
}

func (s *scope) coversSources(o *scope) bool {
	if len(s.sources) == 0 {
		return true
	}
	for _, theirs := range o.sources {
		if !slices.ContainsFunc(s.sources, func(ours netip.Prefix) bool {
			return ours.Bits() <= theirs.Bits() && ours.Contains(theirs.Addr())
		}) {
			return false
		}
	}
	return len(o.sources) > 0
}

// String says the scope in words. A certificate names no host: it is good wherever the
// authority is trusted and the principal is known, and the words do not say otherwise.
func (s *scope) String() string {
	words := "SSH login as " + some(s.principals) + " on hosts that trust the exchange, with the keys of " + some(s.hosts)
	if s.command == "" {
		words += ", any command"
	} else {
		words += fmt.Sprintf(", only the command %q", s.command)
	}
	if len(s.sources) > 0 {
		var from []string
		for _, source := range s.sources {
			from = append(from, source.String())
		}
		words += ", from " + some(from)
	}
	if len(s.extensions) > 0 {
		words += ", with " + some(s.extensions)
	}
	return words + "; its end stops new logins, an open session goes on"
}

const maxNamed = 5 // of one kind, that String names one by one

func some(names []string) string {
	if len(names) <= maxNamed {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:maxNamed], ", "), len(names)-maxNamed)
}

package kubernetes

import (
	"cmp"
	"slices"
	"strings"
)

// grant is what may be done with one kind of thing, or one of it by name.
type grant struct {
	group    string // empty: the core group
	resource string // with its part, as pods/log
	name     string // empty: all
	verbs    []string
}

// verbs in the order in which they are said. The others, bind, escalate, impersonate and
// their like, make more of an account than its rules say.
var verbs = []string{"get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"}

var (
	// unnamed are verbs that no name limits: the server knows none when it is asked.
	unnamed = []string{"create", "deletecollection"}
	reading = []string{"get", "list", "watch"}
	// granting are what a token of another account, or more than a task's own rules, is
	// made with; such things would outlive the lease.
	granting = []string{"serviceaccounts", "roles", "rolebindings", "clusterroles", "clusterrolebindings", "certificatesigningrequests"}
)

// verbFault says why a verb may not be given on a resource.
func verbFault(resource, verb string) string {
	switch base, part, _ := strings.Cut(resource, "/"); {
	case part == "token", part == "approval":
		return "it makes tokens and certificates that the lease's end does not end"
	case slices.Contains(granting, base) && !slices.Contains(reading, verb):
		return "with it more can be given than the task has, and the lease's end does not take that back; such a thing may only be read"
	case base == "secrets" && !slices.Contains(reading, verb):
		return "a Secret can ask for an everlasting token of any service account; give a role that has it"
	}
	return ""
}

func (g grant) compare(o grant) int {
	return cmp.Or(cmp.Compare(g.group, o.group), cmp.Compare(g.resource, o.resource), cmp.Compare(g.name, o.name))
}

// merge adds a grant to sorted ones; verbs on one thing come together.
func merge(all []grant, g grant) []grant {
	at, found := slices.BinarySearchFunc(all, g, grant.compare)
	if !found {
		return slices.Insert(all, at, g)
	}
	all[at].verbs = inOrder(append(slices.Clone(g.verbs), all[at].verbs...))
	return all
}

// withoutDoubles leaves out of sorted grants what may be done with one thing by name and
// with all of its kind anyway, so that the same rights have the same words.
func withoutDoubles(all []grant) []grant {
	var needed []grant
	for _, g := range all {
		if g.name != "" {
			of := grant{group: g.group, resource: g.resource}
			g.verbs = slices.DeleteFunc(slices.Clone(g.verbs), func(verb string) bool { return allows(all, of, verb) })
		}
		if len(g.verbs) > 0 {
			needed = append(needed, g)
		}
	}
	return needed
}

func inOrder(of []string) []string {
	return slices.DeleteFunc(slices.Clone(verbs), func(v string) bool { return !slices.Contains(of, v) })
}

func coversAll(own, other []grant) bool {
	return !slices.ContainsFunc(other, func(g grant) bool {
		return slices.ContainsFunc(g.verbs, func(verb string) bool { return !allows(own, g, verb) })
	})
}

// allows: on all of the kind, or on that name.
func allows(own []grant, g grant, verb string) bool {
	for _, name := range []string{"", g.name} {
		want := grant{group: g.group, resource: g.resource, name: name}
		if at, found := slices.BinarySearchFunc(own, want, grant.compare); found && slices.Contains(own[at].verbs, verb) {
			return true
		}
	}
	return false
}

// group is grants that one rule of a role gives, and one phrase says.
type group struct {
	grant
	names []string // empty: all
}

func grouped(all []grant) []group {
	var groups []group
	for _, g := range all {
		last := len(groups) - 1
		switch {
		case g.name == "":
			groups = append(groups, group{grant: g})
		case last >= 0 && len(groups[last].names) > 0 && groups[last].like(g):
			groups[last].names = append(groups[last].names, g.name)
		default:
			groups = append(groups, group{grant: g, names: []string{g.name}})
		}
	}
	return groups
}

func (g group) like(o grant) bool {
	return g.group == o.group && g.resource == o.resource && slices.Equal(g.verbs, o.verbs)
}

func (g group) String() string {
	what := g.resource
	if g.group != "" {
		what += "." + g.group
	}
	if len(g.names) > 0 {
		what += " named " + strings.Join(g.names[:min(len(g.names), maxPhrases)], ", ")
	}
	if len(g.names) > maxPhrases {
		what += " and others"
	}
	return strings.Join(g.verbs, ", ") + " on " + what
}

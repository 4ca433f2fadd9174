package policy

import (
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/stepkey/stepkey/exchange/identity"
	"github.com/stepkey/stepkey/internal/yamlfile"
)

type entryBlock struct {
	Issuer yamlfile.Node `yaml:"issuer,required"`
	Claims yamlfile.Node `yaml:"claims,required"`
	When   yamlfile.Node `yaml:"when"`
}

// never says why a claim may not be matched; of most it says nothing.
func never(claim string) (why string) {
	switch claim {
	case "sub":
		return "it has several shapes, and the names in it can be given to others; match repository_id and the claims you mean"
	case "actor", "actor_id":
		return "it says who started the run and not which code runs; match the repository and the workflow"
	case "iss":
		return "it is checked before; name the issuer as issuer: …"
	case "aud":
		return "it is checked before, and is the same for every workload"
	case "jti":
		return "it is another for every token"
	case "exp", "iat", "nbf":
		return "times are checked before; limits: {ttl: …} says how long a lease lasts"
	}
	return ""
}

func (r *reader) allow(n yamlfile.Node) []entry {
	if !n.Exists() {
		return nil
	}
	if len(n.Items()) == 0 {
		r.refuse(n, "allow must be a list of at least one entry: - issuer: …")
	}
	var entries []entry
	for _, item := range n.Items() {
		entries = append(entries, r.entry(item))
	}
	return entries
}

// entry makes the conditions of one entry of allow.
func (r *reader) entry(n yamlfile.Node) entry {
	var b entryBlock
	r.decode(n, &b)
	i := r.issuerAt(b.Issuer)
	e := entry{rule: place(n), kind: i.Kind}
	e.conditions = append(e.conditions, r.issuer(b.Issuer))
	e.conditions = append(e.conditions, r.claims(b.Claims, i)...)
	e.conditions = append(e.conditions, r.when(b.When, e.kind)...)
	r.pinned(b)
	return e
}

func (r *reader) issuer(n yamlfile.Node) condition {
	var name string
	if r.decode(n, &name) && r.kindOf(name) == "" {
		r.refuse(n, "no issuer %s is configured (configured: %s)", yamlfile.Quote(name), r.issuerNames())
	}
	return issuedBy{issuer: name, place: place(n)}
}

// issuerAt is the configured issuer that a node names; a zero one if there is none.
func (r *reader) issuerAt(n yamlfile.Node) identity.Issuer {
	i := r.issuerNamed(text(n))
	return i
}

// kindOf returns the kind of a configured issuer, and "" of any other.
func (r *reader) kindOf(name string) string {
	i := r.issuerNamed(name)
	return i.Kind
}

// issuerNamed is the zero Issuer where none has the name.
func (r *reader) issuerNamed(name string) identity.Issuer {
	for _, i := range r.Issuers {
		if i.Name == name {
			return i
		}
	}
	return identity.Issuer{}
}

func (r *reader) issuerNames() string {
	names := make(map[string]bool)
	for _, i := range r.Issuers {
		names[i.Name] = true
	}
	return listed(names)
}

// pinned demands what an issuer's kind demands. A kind without a row lets nobody in.
func (r *reader) pinned(b entryBlock) {
	var name string
	if b.Issuer.Decode(&name) != nil || r.kindOf(name) == "" || len(b.Claims.Keys()) == 0 {
		return // reported already
	}
	i := r.issuerNamed(name)
	k, ok := kindOf(i)
	if !ok {
		r.refuse(b.Issuer, "there are no rules yet for issuers of kind %s", yamlfile.Quote(r.kindOf(name)))
		return
	}
	has := func(claim string) bool { return b.Claims.Get(claim).Exists() }
	if !slices.ContainsFunc(k.pins, has) {
		r.find("unpinned", b.Claims, "nothing is pinned by id, and names can be given to others; add %s", strings.Join(k.pins, " or "))
	}
	for _, claim := range k.required {
		if !has(claim) {
			r.find("events-open", b.Claims, "%s is not listed; name the events that may use the task, as %s: [push]", claim, claim)
		}
	}
}

// claims makes a condition of each claim, in the order of the file.
func (r *reader) claims(n yamlfile.Node, i identity.Issuer) []condition {
	if !n.Exists() {
		return nil
	}
	if len(n.Keys()) == 0 {
		r.refuse(n, "claims must name at least one claim and its value, as repository_id: \"456789\"")
	}
	var conditions []condition
	for _, claim := range n.Keys() {
		r.claimName(n.Key(claim), i.Kind, claim)
		wanted := r.values(n.Get(claim), i, claim)
		conditions = append(conditions, claimIs{claim: claim, wanted: wanted, place: place(n.Key(claim))})
	}
	return conditions
}

var claimName = regexp.MustCompile(`\A[!-~]{1,128}\z`)

func (r *reader) claimName(n yamlfile.Node, kind, claim string) {
	if why := forbidden(kind, claim); why != "" {
		r.find(neverRule(claim), n, "%s may not be matched: %s", claim, why)
	} else if !claimName.MatchString(claim) {
		r.refuse(n, "%s is no name of a claim", yamlfile.Quote(claim))
	}
}

// values reads a claim's one value or its list of values.
func (r *reader) values(n yamlfile.Node, i identity.Issuer, claim string) []string {
	items := []yamlfile.Node{n}
	if n.IsList() {
		items = n.Items()
	}
	if len(items) == 0 {
		r.refuse(n, "the list is empty and would let nobody in; write the values")
	}
	var values []string
	for _, item := range items {
		var value string
		if !r.decode(item, &value) {
			continue
		}
		if why := badValue(i, claim, value); why != "" {
			r.refuse(item, "%s", why)
		} else if slices.Contains(values, value) {
			r.refuse(item, "%s is listed twice", yamlfile.Quote(value))
		}
		values = append(values, value)
	}
	return values
}

// badValue says why a value could never match, or would not mean what it looks like.
func badValue(i identity.Issuer, claim, value string) string {
	switch {
	case value == "":
		return "the value is empty and would never match"
	case !printable(value) || strings.TrimSpace(value) != value:
		return "the value has control characters, or spaces around it, and would never match"
	case strings.Contains(value, "*"):
		return "matches are exact: * stands for itself and matches nothing else; list the values"
	case strings.Contains(value, "${"):
		return "a claim's value holds no expression (${…}); write the value out, or say it as when: claims." + claim + " == …"
	case isList(claim) && strings.Contains(value, ","):
		return "the values of " + claim + " are matched one by one; list them: [a, b]"
	}
	return badForm(i, claim, value)
}

// isID reports whether text is a positive decimal number in its one spelling, as
// GitHub writes ids.
func isID(text string) bool {
	n, err := strconv.ParseInt(text, 10, 64)
	return err == nil && n > 0 && strconv.FormatInt(n, 10) == text
}

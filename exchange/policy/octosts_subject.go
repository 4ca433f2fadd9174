package policy

import (
	"regexp"
	"slices"
	"strings"

	"github.com/stepkey/stepkey/internal/yamlfile"
)

// octoEntry is an entry of allow in the making.
type octoEntry struct {
	issuer string
	claims []octoClaim
	when   []string // what claims cannot say; all must hold
}

// octoClaim is one claim and its values; none is a line to be filled in.
type octoClaim struct {
	name   string
	values []string
	say    string // beside the line
}

func (e octoEntry) values(claim string) []string {
	for _, c := range e.claims {
		if c.name == claim {
			return c.values
		}
	}
	return nil
}

// require demands a claim, beside what is demanded of it already.
func (i *octoImport) require(e *octoEntry, n yamlfile.Node, claim string, values ...string) {
	for k, c := range e.claims {
		if c.name != claim {
			continue
		}
		both := slices.DeleteFunc(slices.Clone(c.values), func(v string) bool { return !slices.Contains(values, v) })
		if len(both) == 0 {
			i.refuse(n, "%s would have to be %s and %s at once, so that nobody is let in", claim, yamlfile.Quote(strings.Join(c.values, " or ")), yamlfile.Quote(strings.Join(values, " or ")))
			return
		}
		e.claims[k].values = both
		return
	}
	e.claims = append(e.claims, octoClaim{name: claim, values: values})
}

// entries are what the policy demands of a workload: an entry for each issuer and
// each alternative of the subject.
func (i *octoImport) entries() []octoEntry {
	issuers := i.issuers()
	n, subjects := i.subjects()
	wanted := i.claimPatterns()
	var all []octoEntry
	for _, e := range subjects {
		for _, w := range wanted {
			w(&e)
		}
		i.pin(&e, n)
		i.events(&e, n)
		for _, issuer := range issuers {
			e.issuer = issuer
			all = append(all, e)
		}
	}
	return all
}

// subjects reads the subject, and makes an entry of each of its alternatives.
func (i *octoImport) subjects() (yamlfile.Node, []octoEntry) {
	n, isPattern, ok := i.one(i.policy.Subject, i.policy.SubjectPattern, "subject")
	text := ""
	if ok {
		text = i.text(n)
	}
	switch {
	case text == "":
		return n, nil
	case !isPattern:
		return n, i.subject(n, octoSubject{quote: regexp.QuoteMeta, literal: func(s string) (string, bool) { return s, true }}, text)
	}
	p, ok := i.pattern(n, text)
	if !ok {
		return n, nil
	}
	i.find(octoDiffers, n, "a subject cannot be matched here, since it has several shapes; its parts become claims, and what is a pattern in it stands under when")
	var all []octoEntry
	for _, one := range p.alternatives {
		all = append(all, i.subject(n, octoSubject{quote: func(s string) string { return s }, literal: octoLiteral}, one)...)
	}
	return n, all
}

// octoSubject is how the text of a subject is read: as it stands, or as a pattern.
type octoSubject struct {
	quote   func(string) string         // makes a pattern of a part
	literal func(string) (string, bool) // the one text that a part means, if it is one
}

// Whatever a repository may be, said as a pattern.
var octoAnyName = []string{".*", ".+", "[^:]+", "[^:]*", "[^/]+", "[^/]*", "[^/:]+", "[^:/]+"}

var (
	octoOwner      = regexp.MustCompile(`\A([A-Za-z0-9_-]+)(?:@([0-9]+))?\z`)
	octoRepository = regexp.MustCompile(`\A([A-Za-z0-9._-]+)(?:@([0-9]+))?\z`)
)

// subject takes a subject of GitHub's apart: repo:OWNER/NAME:ref:REF, or with ids
// repo:OWNER@ID/NAME@ID:…, or …:environment:NAME, or …:pull_request. Every part is
// held against the claim that it was made of.
func (i *octoImport) subject(n yamlfile.Node, s octoSubject, text string) []octoEntry {
	rest, isRepo := strings.CutPrefix(text, "repo:")
	owner, rest, hasName := strings.Cut(rest, "/")
	name, kind, about := octoCutSubject(rest)
	if _, asText := s.literal(kind); !isRepo || !hasName || kind == "" || asText && kind[0] == '.' {
		i.refuse(n, "want a subject as GitHub makes it, repo:OWNER/NAME:… with ref:, environment: or pull_request behind it; claims of a template of your own can be matched by name")
		return nil
	}
	for _, part := range []string{owner, name, about} {
		if _, err := regexp.Compile(s.quote(part)); err != nil || octoLooksAround(s.quote(part)) {
			i.refuse(n, "the pattern cannot be taken apart at its colons; write it with each part of the subject by itself")
			return nil
		}
	}
	e := octoEntry{}
	if !i.repository(&e, n, s, owner, name) || !i.about(&e, n, s, kind, about) {
		return nil
	}
	return []octoEntry{e}
}

// octoCutSubject cuts what is behind the owner: NAME:ref:REF.
func octoCutSubject(text string) (name, kind, about string) {
	first := len(text)
	for _, k := range []string{"ref", "environment"} {
		if at := strings.Index(text, ":"+k+":"); at >= 0 && at < first {
			first, name, kind, about = at, text[:at], k, text[at+len(k)+2:]
		}
	}
	if kind != "" {
		return name, kind, about
	}
	for _, k := range []string{"pull_request", ".*", ".+"} {
		if name, found := strings.CutSuffix(text, ":"+k); found {
			return name, k, ""
		}
	}
	return "", "", ""
}

// repository makes claims of the part that names owner and repository.
func (i *octoImport) repository(e *octoEntry, n yamlfile.Node, s octoSubject, owner, name string) bool {
	ownerText, _ := s.literal(owner)
	of := octoOwner.FindStringSubmatch(ownerText)
	if of == nil {
		i.refuse(n, "the owner in the subject is a pattern, or no owner; a task is for the repositories of owners that are named")
		return false
	}
	if of[2] != "" {
		i.require(e, n, "repository_owner_id", of[2])
	}
	nameText, one := s.literal(name)
	part := octoRepository.FindStringSubmatch(nameText)
	switch {
	case one && part != nil && (part[2] == "") != (of[2] == ""):
		i.refuse(n, "the subject has an id of one of owner and repository; GitHub gives both or none, so the policy never let anybody in")
		return false
	case one && part != nil:
		if part[2] != "" {
			i.require(e, n, "repository_id", part[2])
		}
		i.require(e, n, "repository", of[1]+"/"+part[1])
	case !one && slices.Contains(octoAnyName, name):
		e.when = append(e.when, `claims.repository.startsWith("`+of[1]+`/")`)
	case one || of[2] != "" || strings.Contains(name, "@"):
		i.refuse(n, "the repository in the subject is no name, or a pattern over a name and its id")
		return false
	default:
		e.when = append(e.when, octoMatches("repository", regexp.QuoteMeta(of[1]+"/")+"(?:"+s.quote(name)+")"))
	}
	return true
}

// What no subject that octo-sts took could hold; an environment's colon is escaped in
// a subject and not in its claim.
const (
	octoPlain            = `[^ &(){}]*`
	octoPlainEnvironment = `[^ &(){}:]*`
	octoNoEnvironment    = `!has(claims.environment)`
)

// about makes claims of the part behind the repository.
func (i *octoImport) about(e *octoEntry, n yamlfile.Node, s octoSubject, kind, about string) bool {
	text, one := s.literal(about)
	if one && strings.ContainsAny(text, " &(){}") {
		i.refuse(n, "octo-sts takes no subject with a space or one of &(){}, so the policy never let anybody in")
		return false
	}
	if (kind == "ref" || kind == "environment") && (about == "" || one && text == "") {
		i.refuse(n, "nothing stands behind %s: in the subject", kind)
		return false
	}
	anything := !one && (about == ".*" || about == ".+")
	switch {
	case kind == "environment" && anything:
		e.when = append(e.when, octoMatches("environment", octoPlain))
		return true
	case kind == "ref" && anything:
		e.when = append(e.when, octoMatches("ref", octoPlain))
	case kind == "ref" && one:
		i.require(e, n, "ref", text)
	case kind == "ref":
		e.when = append(e.when, octoMatches("ref", s.quote(about)), octoMatches("ref", octoPlain))
	case kind == "environment" && one:
		i.require(e, n, "environment", strings.ReplaceAll(text, "%3A", ":"))
		return true
	case kind == "environment":
		e.when = append(e.when, octoMatches("environment", s.quote(about)), octoMatches("environment", octoPlainEnvironment))
		return true
	case kind == "pull_request":
		i.require(e, n, "event_name", "pull_request")
	default: // all that the repository runs
		e.when = append(e.when, "(has(claims.environment) ? "+octoMatches("environment", octoPlain)+" : "+octoMatches("ref", octoPlain)+")")
		return true
	}
	e.when = append(e.when, octoNoEnvironment) // a job with one has another subject
	return true
}

// octoMatches is the condition that a pattern matches the whole of a claim.
func octoMatches(claim, pattern string) string {
	quote := `"`
	if strings.Contains(pattern, quote) {
		quote = "'"
	}
	return "claims." + claim + ".matches(r" + quote + octoWhole(pattern) + quote + ")"
}

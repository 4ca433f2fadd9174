package policy

import (
	"fmt"
	"slices"
	"strings"
	"unicode"

	"github.com/stepkey/stepkey/internal/yamlfile"
)

// Only here does this package know how a block of the backend github looks. What is
// said of it are warnings, so that being wrong refuses nothing.

func (r *reader) lintGitHub(v *view) {
	if v.block.Get("repositories").Exists() && !v.block.Get("repository_ids").Exists() {
		r.find("names-in-block", v.block.Key("repositories"), "after a rename or a removal these names may mean other repositories; add repository_ids")
	}
	granted := v.block.Get("permissions")
	said := verbsOf(v.purpose)
	for _, name := range granted.Keys() {
		if text(granted.Get(name)) == "read" {
			continue
		}
		if why := said.tooWide(name, len(granted.Keys())); why != "" {
			r.find("permissions-wide", granted.Key(name), "%s: %s is given, %s", name, text(granted.Get(name)), why)
		}
	}
}

// remarks are permissions that only say something about code. A pull request's run may
// write those: they change nothing that others build on.
var remarks = []string{"pull_requests", "issues", "checks", "statuses", "security_events", "discussions"}

// writes names a permission of the block that changes more than remarks.
func (v *view) writes() string {
	if v.backend != "github" {
		return ""
	}
	granted := v.block.Get("permissions")
	for _, name := range granted.Keys() {
		if text(granted.Get(name)) != "read" && !slices.Contains(remarks, name) {
			return name
		}
	}
	return ""
}

// readingVerbs are words of a purpose that only reads. A purpose without a verb of
// either table says nothing, and nothing is concluded from it.
var readingVerbs = []string{
	"read", "list", "fetch", "scan", "check", "look", "show", "watch", "count", "audit", "download", "clone", "compare", "verify", "inspect", "see", "view", "get", "pull", "search", "query",
}

var writingVerbs = []string{
	"publish", "upload", "release", "push", "write", "create", "update", "deploy", "tell", "set", "comment", "open", "close", "merge", "delete", "remove", "tag", "label", "sign",
	"attest", "commit", "sync", "mirror", "mark", "report", "post", "add", "put", "bump", "edit", "change", "move", "start", "cancel", "rerun", "approve", "request", "assign", "build", "store",
	"attach", "announce", "dispatch", "restart", "rotate", "clean", "prune", "promote", "backport", "lock", "triage", "record", "annotate", "answer", "reply", "state", "register", "save", "send", "trigger", "dismiss", "revert", "rename", "retire", "draft", "give", "refresh", "replace", "keep",
}

// hints are words of a purpose that speak of a permission. What is not here is not held
// against the purpose.
var hints = map[string][]string{
	"contents":        {"content", "release", "asset", "tag", "commit", "push", "branch", "file", "version", "changelog", "merge", "backport", "bump", "code", "source", "repository", "publish", "revert", "draft", "mirror", "sync", "note", "lockfile", "fork"},
	"packages":        {"package", "image", "container", "chart", "registry", "module", "publish", "artifact"},
	"deployments":     {"deploy", "deployment", "production", "staging", "preview", "environment"},
	"issues":          {"issue", "ticket", "comment", "label", "triage", "bug", "report", "milestone"},
	"pull_requests":   {"pull", "request", "review", "comment", "label", "merge", "backport", "bump", "reviewer"},
	"statuses":        {"status", "state", "deploy", "deployment"},
	"checks":          {"check", "annotation", "annotate", "result", "lint", "test"},
	"pages":           {"page", "site", "docs", "documentation", "website"},
	"actions":         {"action", "workflow", "run", "job", "cache", "artifact", "rerun", "cancel"},
	"security_events": {"security", "alert", "scan", "sarif", "finding", "scanning"},
	"attestations":    {"attest", "attestation", "provenance", "sign", "sbom"},
	"discussions":     {"discussion", "announce", "answer", "reply"},
}

// powers are permissions with which a credential can get itself more.
var powers = map[string]string{
	"administration":   "and whoever administers a repository can give it away",
	"secrets":          "and whoever writes secrets decides what other jobs run with",
	"workflows":        "and whoever writes workflows gets whatever those are given",
	"members":          "and whoever writes members decides who belongs to the organization",
	"environments":     "and whoever writes environments can take their protection away",
	"repository_hooks": "and whoever writes hooks reads along",
}

func power(permission string) string {
	switch {
	case powers[permission] != "":
		return powers[permission]
	case strings.HasPrefix(permission, "organization_"), strings.HasPrefix(permission, "enterprise_"):
		return "and it is over more than one repository"
	case strings.HasSuffix(permission, "_secrets"):
		return powers["secrets"]
	}
	return ""
}

// verbs are the words of a purpose.
type verbs struct {
	words   []string
	reading string // the first verb, where all are of reading
}

// verbsOf takes for a verb what stands where a purpose has its verbs: at its beginning,
// and after "and", "to" and the like. A release is a thing in "read the release".
func verbsOf(purpose string) verbs {
	var v verbs
	notLetter := func(r rune) bool { return !unicode.IsLetter(r) }
	v.words = strings.FieldsFunc(strings.ReplaceAll(strings.ToLower(purpose), ",", " and "), notLetter)
	for i, word := range v.words {
		if i > 0 && !slices.Contains([]string{"and", "or", "to", "then"}, v.words[i-1]) {
			continue
		}
		switch {
		case oneOf(word, writingVerbs):
			v.reading = ""
			return v
		case v.reading == "" && oneOf(word, readingVerbs):
			v.reading = word
		}
	}
	return v
}

// oneOf compares with the endings that English puts on verbs and nouns.
func oneOf(word string, stems []string) bool {
	return slices.ContainsFunc(stems, func(stem string) bool {
		ending, ok := strings.CutPrefix(word, stem)
		if !ok {
			ending, ok = strings.CutPrefix(word, strings.TrimSuffix(stem, "e"))
		}
		if last := stem[len(stem)-1:]; strings.HasPrefix(ending, last) { // running, tagged
			ending = ending[1:]
		}
		return ok && slices.Contains([]string{"", "s", "es", "ed", "d", "e", "ing"}, ending)
	})
}

// tooWide says why a permission above read does not fit the purpose.
func (v verbs) tooWide(permission string, given int) (why string) {
	if why := power(permission); why != "" {
		return why
	}
	if v.reading != "" {
		return fmt.Sprintf("and the purpose only speaks of reading (%s)", yamlfile.Quote(v.reading))
	}
	speaks := func(name string) bool {
		return slices.ContainsFunc(v.words, func(word string) bool { return oneOf(word, hints[name]) })
	}
	if given > 1 && len(hints[permission]) > 0 && !speaks(permission) {
		return "and nothing in the purpose speaks of that"
	}
	return ""
}

package policy

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// octoWriter writes the task file, with a word beside what somebody has to read.
type octoWriter struct {
	*octoImport
	text strings.Builder
	open int
}

func (w *octoWriter) line(format string, args ...any) { fmt.Fprintf(&w.text, format+"\n", args...) }

// decide writes a line that check refuses as it stands.
func (w *octoWriter) decide(line, say string) {
	w.open++
	w.line("%s # DECIDE: %s", line, say)
}

func (w *octoWriter) file(name string, entries []octoEntry, g octoGives) {
	w.line("# Taken over from a trust policy of octo-sts. Read it before you use it.")
	if w.Scope != "" && w.identity != "" {
		w.line("# Its clients are answered once the configuration lists it, under octo_sts, tasks:")
		w.line("#   - {scope: %s, identity: %s, task: %s}", octoScalar(w.Scope), octoScalar(w.identity), name)
	}
	w.line("task: %s", name)
	w.line("purpose: Taken over from octo-sts. # say what it is for")
	w.line("allow:")
	for _, e := range entries {
		w.entry(e)
	}
	w.line("credential:")
	w.line("  github:")
	w.gives(g)
	w.line("limits:")
	w.line("  ttl: 10m # octo-sts had no limit but GitHub's hour; as long as the task truly takes")
	w.line("  per_job: 1 # its clients prove no key: one of them at a time in a job")
	w.find(octoDiffers, w.root, "a lease lasts 10 minutes, and a job holds one at a time; octo-sts limited neither, so see that it suffices")
}

// octoOrder is how claims stand in the file: first who, then what runs.
var octoOrder = []string{"repository_owner_id", "repository_id", "repository", "ref", "environment", "event_name"}

func (w *octoWriter) entry(e octoEntry) {
	w.line("  - issuer: %s", octoScalar(e.issuer))
	w.line("    claims:")
	claims := slices.Clone(e.claims)
	slices.SortStableFunc(claims, func(a, b octoClaim) int { return cmp.Compare(octoRank(a.name), octoRank(b.name)) })
	for _, c := range claims {
		switch {
		case len(c.values) == 0 && c.name == "event_name":
			w.decide("      event_name: []", c.say)
		case len(c.values) == 0:
			w.decide("      "+c.name+`: ""`, c.say)
		case len(c.values) == 1 && c.name != "event_name":
			w.line("      %s: %s", c.name, octoScalar(c.values[0]))
		default:
			w.line("      %s: %s", c.name, octoScalars(c.values))
		}
	}
	if len(e.when) == 0 {
		return
	}
	w.line("    when: >-")
	w.line("      %s", strings.Join(e.when, "\n      && "))
}

func octoRank(claim string) int {
	if at := slices.Index(octoOrder, claim); at >= 0 {
		return at
	}
	return len(octoOrder)
}

func (w *octoWriter) gives(g octoGives) {
	if g.owner == "" {
		w.decide(`    owner: ""`, "the owner of what the token reaches")
	} else {
		w.line("    owner: %s", octoScalar(g.owner))
	}
	if len(g.repositories) == 0 {
		w.decide("    repositories: []", "the repository that the policy stands in; an organization's policy without a list reached them all")
	} else {
		w.line("    repositories: %s", octoScalars(g.repositories))
	}
	if g.id != "" {
		w.line("    repository_ids: [%s]", g.id)
	}
	w.line("    permissions:")
	for _, p := range g.permissions {
		w.line("      %s: %s", octoScalar(p.name), octoScalar(p.level))
	}
}

var octoPlainScalar = regexp.MustCompile(`\A[A-Za-z][A-Za-z0-9._/-]*\z`)

// octoScalar writes a text so that every YAML reader takes it for one.
func octoScalar(text string) string {
	switch strings.ToLower(text) {
	case "y", "n", "yes", "no", "on", "off", "true", "false", "null", "inf", "infinity", "nan":
		return strconv.Quote(text)
	}
	if octoPlainScalar.MatchString(text) {
		return text
	}
	return strconv.Quote(text)
}

func octoScalars(texts []string) string {
	quoted := make([]string, len(texts))
	for k, text := range texts {
		quoted[k] = octoScalar(text)
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}

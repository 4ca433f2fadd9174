package policy

import (
	"slices"

	"github.com/stepkey/stepkey/internal/yamlfile"
)

// Until says whose end ends a lease, where nobody gives it back before. Its deadline
// ends it in any case, and so does the end of its job where that is seen. A step's end
// is best effort: it is seen late, or not at all, and then it is as if it said job.
type Until string

const (
	UntilJob      Until = "job"
	UntilStep     Until = "step"      // the step that asked, and the next, to which it hands the credential
	UntilThisStep Until = "this_step" // the step that asked
)

func (r *reader) until(n yamlfile.Node) Until {
	word := string(UntilJob)
	if !r.decode(n, &word) {
		return UntilJob
	}
	words := []string{string(UntilJob), string(UntilStep), string(UntilThisStep)}
	if slices.Contains(words, word) {
		return Until(word)
	}
	if near := yamlfile.Nearest(word, words); near != "" {
		r.refuse(n, "until is %s (did you mean %q?)", yamlfile.Quote(word), near)
	} else {
		r.refuse(n, "until is %s; it is job, step (the one that asks and the next) or this_step", yamlfile.Quote(word))
	}
	return UntilJob
}

// untilSeen holds what a task says of its leases' end against who may have it. Only of
// jobs whose CI system the exchange can ask is it seen that they, or their steps, are
// over; elsewhere a lease is given back, or lives to its deadline.
func (r *reader) untilSeen(n yamlfile.Node, t *Task) {
	for _, e := range t.allow {
		switch {
		case e.kind == "" || watched(e.kind):
		case t.Until != UntilJob:
			r.refuse(n, "nobody sees when a step of a job of kind %s is over, which the entry %s lets in; leave until out", e.kind, e.rule)
			return
		case n.Exists():
			r.find("until-unwatched", n, "nobody sees when a job of kind %s is over, which the entry %s lets in: its lease lives to its deadline", e.kind, e.rule)
			return
		}
	}
}

package policy

import (
	"fmt"
	"strings"

	"github.com/stepkey/stepkey/internal/yamlfile"
)

// UnknownTask: no task has that name. Its words do not say which there are, because
// whoever asks may be a stranger.
type UnknownTask struct {
	Task string
	Near string // the task that was meant, most likely; empty for none. For those alone who may be told
}

func (e *UnknownTask) Error() string {
	return "there is no task " + yamlfile.Quote(e.Task)
}

// A Denial is a workload that may not have a task, and why. Its words give the
// rules of the task away: they are for the audit log and the task's owners, and
// never for anyone else.
type Denial struct {
	Task   string
	Misses []Miss // for each entry of allow, in file order, the first thing that did not hold
	// Asked says what was asked for and may not be. Then the workload itself was
	// let in, and Misses is empty.
	Asked string
}

// A Miss is the first thing that did not hold in one entry of allow.
type Miss struct {
	Entry   string   // the entry's place: "publish-release.yaml:5"
	Place   string   // the place of what did not hold: "publish-release.yaml:9"
	Claim   string   // the claim's name, or "issuer", or "when"
	Wanted  []string // any of these
	Saw     string   // what the workload has; empty where it has none
	Present bool     // false: the claim is absent, or is no text, number or boolean
	// When is the expression, where Claim is "when": it was false, or there is a Fault,
	// which says why it could not be decided. Then Saw has in words what it read.
	When, Fault string
}

func (d *Denial) Error() string {
	return fmt.Sprintf("task %s denied: %s", yamlfile.Quote(d.Task), d.Reason())
}

// Reason says, entry by entry, what did not hold, or what was asked for in vain.
func (d *Denial) Reason() string {
	if len(d.Misses) == 0 {
		return d.Asked
	}
	var reasons []string
	for _, m := range d.Misses {
		reasons = append(reasons, m.String())
	}
	return strings.Join(reasons, "; ")
}

// String is one Miss in words: "publish-release.yaml:9: event_name is
// "pull_request", wanted "push" or "release"".
func (m Miss) String() string { return m.Place + ": " + m.words() }

// words are those of String without the place.
func (m Miss) words() string {
	switch {
	case m.When != "" && m.Fault != "":
		return m.whenWords(" cannot be decided: " + m.Fault)
	case m.When != "":
		return m.whenWords(" is false")
	}
	saw := "absent"
	if m.Present {
		saw = yamlfile.Quote(m.Saw)
	}
	return fmt.Sprintf("%s is %s, wanted %s", m.Claim, saw, anyOf(m.Wanted))
}

func (m Miss) whenWords(reason string) string {
	if m.Saw != "" {
		reason += " (" + m.Saw + ")"
	}
	return "when: " + m.expression() + reason
}

// expression is that of a when, in one line.
func (m Miss) expression() string { return shown(strings.Join(strings.Fields(m.When), " ")) }

// anyOf lists a few values and counts the rest.
func anyOf(values []string) string {
	const few = 5
	var quoted []string
	for _, v := range values[:min(len(values), few)] {
		quoted = append(quoted, yamlfile.Quote(v))
	}
	if more := len(values) - few; more > 0 {
		quoted = append(quoted, fmt.Sprintf("%d more", more))
	}
	return strings.Join(quoted, " or ")
}

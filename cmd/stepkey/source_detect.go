package main

import (
	"fmt"
	"strings"
)

// surroundings are what the choice of a source may look at.
type surroundings struct {
	getenv func(string) string
	isFile func(string) bool
}

// A sign is what shows that ID tokens are to be had in some way.
type sign struct {
	source string                    // as --id-token names it
	seen   string                    // what was found, for people
	shown  func(p surroundings) bool // whether it is there
}

// signs stand in the order in which they are looked for. Those of the first rank with
// any sign decide; two of one rank contradict each other, and nobody guesses.
//
//  1. What was set for this program by name.
//  2. The CI that runs this job. It names the job, which is closer than the machine.
//  3. The machine.
var signs = [][]sign{
	{
		{"env:" + tokenVariable, tokenVariable + " is set", isSet(tokenVariable)},
		{"file:", tokenFileVariable + " is set", isSet(tokenFileVariable)},
	},
	{
		{"github", "GITHUB_ACTIONS is true, or ACTIONS_ID_TOKEN_REQUEST_URL is set", func(p surroundings) bool {
			return isTrue("GITHUB_ACTIONS")(p) || isSet("ACTIONS_ID_TOKEN_REQUEST_URL")(p)
		}},
		{"gitlab", "GITLAB_CI is true", isTrue("GITLAB_CI")},
		{"buildkite", "BUILDKITE is true", isTrue("BUILDKITE")},
		{"circleci", "CIRCLECI is true", isTrue("CIRCLECI")},
	},
	{
		{"kubernetes", kubernetesFile + " is there", func(p surroundings) bool { return p.isFile(kubernetesFile) }},
	},
}

const (
	tokenVariable     = "STEPKEY_ID_TOKEN"      //nolint:gosec // G101: a name
	tokenFileVariable = "STEPKEY_ID_TOKEN_FILE" //nolint:gosec // G101: a name
)

func isSet(name string) func(surroundings) bool {
	return func(p surroundings) bool { return p.getenv(name) != "" }
}

func isTrue(name string) func(surroundings) bool {
	return func(p surroundings) bool { return p.getenv(name) == "true" }
}

// detectSource names the source that the surroundings show.
func detectSource(p surroundings) (string, error) {
	for _, rank := range signs {
		var found []sign
		for _, sign := range rank {
			if sign.shown(p) {
				found = append(found, sign)
			}
		}
		switch len(found) {
		case 0:
			continue
		case 1:
			if found[0].source == "file:" {
				return "file:" + p.getenv(tokenFileVariable), nil
			}
			return found[0].source, nil
		}
		parts := make([]string, len(found))
		for i, sign := range found {
			parts[i] = fmt.Sprintf("%s (%s)", strings.TrimSuffix(sign.source, ":"), sign.seen)
		}
		return "", &trouble{"which ID token?", "this place shows more than one source of ID tokens: " + strings.Join(parts, ", ") + ". Say which with --id-token"}
	}
	return "", &trouble{"no ID token", "nothing here shows where ID tokens come from: no CI that is known, no " + tokenVariable + " or " + tokenFileVariable +
		", no " + kubernetesFile + ". Name the source with --id-token: " + strings.Join(sourceForms(), ", ")}
}

package policy

import (
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"
)

// anchored reports whether an RE2 pattern matches whole texts only: whatever alternative
// is taken, it begins at the beginning and ends at the end. \A and \z are what ^ and $
// mean without (?m). A pattern that is none is not.
func anchored(pattern string) bool {
	re, err := syntax.Parse(pattern, syntax.Perl)
	return err == nil && holds(re, syntax.OpBeginText, 0) && holds(re, syntax.OpEndText, -1)
}

// holds reports whether re has that anchor at its first (side 0) or last (-1) place.
func holds(re *syntax.Regexp, anchor syntax.Op, side int) bool {
	switch re.Op {
	case anchor:
		return true
	case syntax.OpCapture:
		return holds(re.Sub[0], anchor, side)
	case syntax.OpConcat:
		if side == 0 {
			return holds(re.Sub[0], anchor, side)
		}
		return holds(re.Sub[len(re.Sub)-1], anchor, side)
	case syntax.OpAlternate:
		return !slices.ContainsFunc(re.Sub, func(sub *syntax.Regexp) bool { return !holds(sub, anchor, side) })
	}
	return false
}

// alternates reports whether a pattern has a | outside every group. The parsed tree does
// not tell: it takes what alternatives have in common out of them.
func alternates(pattern string) bool { return len(octoAtTop(pattern)) > 1 }

// strangers are names that no author of a rule thinks of. What lets them through lets
// everything through.
var strangers = []string{
	"refs/heads/q7zj-stranger", "refs/tags/q7zj-stranger", "q7zj-stranger/q7zj-stranger",
	"q7zj-stranger/q7zj-stranger/.github/workflows/q7zj-stranger.yml@refs/heads/q7zj-stranger", "q7zj-stranger",
}

// passesPattern returns one of the strangers that a pattern lets through.
func passesPattern(pattern string) string {
	re, err := regexp.Compile(pattern)
	if err != nil {
		return ""
	}
	return passing(re.MatchString)
}

func passing(lets func(string) bool) string {
	if i := slices.IndexFunc(strangers, lets); i >= 0 {
		return strangers[i]
	}
	return ""
}

// passesPrefix returns what a prefix of a claim lets through beyond what its author can
// have thought of: a stranger, or a name that goes on where the prefix ends.
func passesPrefix(claim, prefix string) string {
	if other := passing(func(s string) bool { return strings.HasPrefix(s, prefix) }); other != "" {
		return other
	}
	branch, isBranch := strings.CutPrefix(prefix, "refs/heads/")
	switch claim {
	case "ref":
		if isBranch && endsInName(branch) {
			return prefix + "-q7zj-stranger"
		}
	case "repository", "workflow_ref", "job_workflow_ref":
		owner, rest, _ := strings.Cut(prefix, "/")
		switch {
		case rest == "" && strings.HasSuffix(prefix, "/"):
			return owner + "/q7zj-stranger"
		case !strings.Contains(rest, "/"):
			return prefix + "-q7zj-stranger"
		}
	}
	return ""
}

// endsInName: the name may go on with any letter, where - or / would have ended a part.
func endsInName(s string) bool {
	return s != "" && !strings.ContainsAny(s[len(s)-1:], "-/._@")
}

package policy

import (
	"regexp"
	"regexp/syntax"
	"strings"

	"github.com/stepkey/stepkey/internal/yamlfile"
)

// An octoPattern is a pattern of a trust policy: one of its alternatives must match
// the whole of a text.
type octoPattern struct {
	alternatives []string // without the anchors at their ends
}

func (p octoPattern) matches(text string) bool {
	for _, a := range p.alternatives {
		if regexp.MustCompile(octoWhole(a)).MatchString(text) {
			return true
		}
	}
	return false
}

// octoWhole anchors a pattern at both ends of a text. $ would do, and people take it for
// the end of a line.
func octoWhole(pattern string) string { return `\A(?:` + pattern + `)\z` }

// pattern reads a pattern. octo-sts compiled p as ^p$ without a group, so that main|dev
// let in main-evil; nobody meant that, and a task must not repeat it. Where all the
// alternatives bring their own anchors, or the service anchored the whole, each of
// them stands for itself.
func (i *octoImport) pattern(n yamlfile.Node, text string) (octoPattern, bool) {
	if _, err := regexp.Compile(text); err != nil {
		i.find(octoForm, n, "this is no regular expression of RE2's syntax: %v", err)
		return octoPattern{}, false
	}
	if strings.Contains(strings.ReplaceAll(text, "(?:", ""), "(?") || strings.Contains(text, `\Q`) || strings.Contains(text, `"`) && strings.Contains(text, "'") {
		i.refuse(n, `flags, named groups, \Q and both kinds of quotes in one pattern are not taken over; write the pattern without them`)
		return octoPattern{}, false
	}
	parts := octoAtTop(text)
	var p octoPattern
	loose := false
	for k, part := range parts {
		bare, front, back := octoWithoutAnchors(part)
		loose = loose || k > 0 && !front || k < len(parts)-1 && !back
		if _, err := regexp.Compile(bare); err != nil || bare == "" {
			i.refuse(n, "the pattern cannot be taken apart at its alternatives; write (?:…|…) around them")
			return octoPattern{}, false
		}
		p.alternatives = append(p.alternatives, bare)
	}
	if loose && !i.PatternAnchored {
		i.refuse(n, "before September 2026 octo-sts anchored a|b as ^a|b$, which also matches a-evil and evil-b, so what the policy let in is not what it says; write (?:a|b), or give --pattern-anchored if your service anchored the whole")
		return octoPattern{}, false
	}
	return p, true
}

// octoAtTop splits a pattern at the | that no group or class holds. A mistake here shows:
// half of a group or class does not compile.
func octoAtTop(text string) (parts []string) {
	depth, class, from := 0, false, 0
	for at := 0; at < len(text); at++ {
		switch c := text[at]; {
		case c == '\\':
			at++
		case class:
			class = c != ']'
		case c == '[':
			class = true
		case c == '(':
			depth++
		case c == ')':
			depth--
		case c == '|' && depth == 0:
			parts, from = append(parts, text[from:at]), at+1
		}
	}
	return append(parts, text[from:])
}

// octoWithoutAnchors takes the anchors off, and says which there were.
func octoWithoutAnchors(text string) (bare string, front, back bool) {
	bare = text
	for _, anchor := range []string{"^", `\A`} {
		if cut, found := strings.CutPrefix(bare, anchor); found {
			bare, front = cut, true
		}
	}
	for _, anchor := range []string{"$", `\z`} {
		cut, found := strings.CutSuffix(bare, anchor)
		escapes := len(cut) - len(strings.TrimRight(cut, `\`))
		if found && escapes%2 == 0 {
			bare, back = cut, true
		}
	}
	return bare, front, back
}

// octoLiteral is the one text that a pattern matches, where it matches one alone.
func octoLiteral(pattern string) (string, bool) {
	re, err := regexp.Compile(pattern)
	if err != nil {
		return "", false
	}
	if text, complete := re.LiteralPrefix(); complete {
		return text, true
	}
	return "", false
}

// literals are all the texts that a pattern matches, where these can be listed.
func (p octoPattern) literals() (all []string, ok bool) {
	for _, a := range p.alternatives {
		for _, part := range octoAtTop(octoUngrouped(a)) {
			text, complete := octoLiteral(part)
			if !complete || text == "" {
				return nil, false
			}
			all = append(all, text)
		}
	}
	return all, true
}

// octoUngrouped takes one group off that stands around a whole pattern.
func octoUngrouped(text string) string {
	inner, grouped := strings.CutPrefix(text, "(")
	inner, ended := strings.CutSuffix(strings.TrimPrefix(inner, "?:"), ")")
	if !grouped || !ended || strings.HasSuffix(inner, `\`) {
		return text
	}
	if _, err := regexp.Compile(inner); err != nil {
		return text // the first group ends before the last one
	}
	return inner
}

// octoLooksAround reports whether a pattern asks what stands beside it. Cut out of a
// longer one, it would be told something else.
func octoLooksAround(pattern string) bool {
	re, err := syntax.Parse(pattern, syntax.Perl)
	return err != nil || octoAnyOp(re, func(op syntax.Op) bool {
		switch op {
		case syntax.OpBeginLine, syntax.OpEndLine, syntax.OpBeginText, syntax.OpEndText, syntax.OpWordBoundary, syntax.OpNoWordBoundary:
			return true
		}
		return false
	})
}

func octoAnyOp(re *syntax.Regexp, is func(syntax.Op) bool) bool {
	for _, sub := range re.Sub {
		if octoAnyOp(sub, is) {
			return true
		}
	}
	return is(re.Op)
}

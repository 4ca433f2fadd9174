package yamlfile

import (
	"slices"
	"strings"
	"unicode/utf8"
)

// Rewrite returns a copy of n in which every text is what rewrite makes of it; n is the
// text's own Node, which can be a map's key. What is new stays text, whatever it looks like, and everything keeps its place. Keys are not
// rewritten. It stops at the first error, which it returns as it is.
func (n Node) Rewrite(rewrite func(n Node, text string) (string, error)) (Node, error) {
	if n.val == nil {
		return n, nil
	}
	val, err := rewritten(n, rewrite)
	if err != nil {
		return Node{}, err
	}
	return Node{src: n.src, val: val, at: n.at}, nil
}

func rewritten(n Node, rewrite func(n Node, text string) (string, error)) (*value, error) {
	own := *n.val
	if own.kind == kindText {
		text, err := rewrite(n, own.text)
		if text != own.text {
			own.text, own.plain = text, false
		}
		return &own, err
	}
	own.entries = slices.Clone(own.entries)
	for i := range own.entries {
		val, err := rewritten(n.child(own.entries[i].val), rewrite)
		if err != nil {
			return nil, err
		}
		own.entries[i].val = val
	}
	own.items = slices.Clone(own.items)
	for i := range own.items {
		val, err := rewritten(n.child(own.items[i]), rewrite)
		if err != nil {
			return nil, err
		}
		own.items[i] = val
	}
	return &own, nil
}

// Overlay returns a copy of the mapping n in which the values of the mapping over take
// the place of those with the same key; keys that n lacks are added. It goes no deeper:
// a mapping takes the place of a mapping, whole. What came from over keeps its place in
// its own file.
func (n Node) Overlay(over Node) Node {
	if !n.IsMapping() || !over.IsMapping() {
		return n
	}
	own := *n.val
	own.entries = slices.Clone(own.entries)
	for _, key := range over.Keys() {
		e, _ := over.val.entry(key)
		val := *e.val
		if val.src == nil {
			val.src = over.src
		}
		e.val = &val
		if i := slices.IndexFunc(own.entries, func(o entry) bool { return o.key == key }); i >= 0 {
			own.entries[i] = e
		} else {
			own.entries = append(own.entries, e)
		}
	}
	return Node{src: n.src, val: &own, at: n.at}
}

// At returns n at the place of one of its text's characters, counted from 0. Where that
// place cannot be told, as in folded text or after an escape, it is that of n.
func (n Node) At(character int) Node {
	if n.val == nil || n.val.kind != kindText {
		return n
	}
	before, rest, ok := split(n.val.text, character)
	if !ok {
		return n
	}
	p := place{n.at.line, n.at.column + character}
	switch written := n.src.from(n.at); {
	case strings.HasPrefix(written, `"`), strings.HasPrefix(written, "'"):
		p.column++
	case strings.HasPrefix(written, "|"):
		p = n.inBlock(before)
	}
	if line, _, _ := strings.Cut(rest, "\n"); !strings.HasPrefix(n.src.from(p), line) {
		return n
	}
	return Node{src: n.src, val: n.val, at: p}
}

// inBlock is the place in text after | that comes after before: the text's lines are
// those of the file without their indentation.
func (n Node) inBlock(before string) place {
	above := strings.Count(before, "\n")
	p := place{line: n.at.line + 1 + above}
	indented := utf8.RuneCountInString(n.src.line(p.line)) - utf8.RuneCountInString(strings.Split(n.val.text, "\n")[above])
	p.column = indented + utf8.RuneCountInString(before[strings.LastIndex(before, "\n")+1:]) + 1
	return p
}

func split(text string, character int) (before, rest string, ok bool) {
	for i := range text {
		if character == 0 {
			return text[:i], text[i:], true
		}
		character--
	}
	return text, "", character == 0
}

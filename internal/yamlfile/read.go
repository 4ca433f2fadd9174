package yamlfile

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// source is a file's text under its name.
type source struct {
	name  string
	text  string
	lines []string // without their ends
}

// newSource refuses what the library should not see: its scanner takes anything,
// and its time is quadratic in the number of empty lines in a row.
func newSource(name string, data []byte) (*source, error) {
	s := &source{name: name}
	if len(data) > maxSize {
		return nil, s.fault(place{}, fmt.Sprintf("the file has %d bytes; at most %d are read", len(data), maxSize))
	}
	text := strings.TrimPrefix(string(data), "\uFEFF") // some editors begin files so
	s.text = strings.ReplaceAll(text, "\r\n", "\n")    // and the library miscounts columns after these
	s.lines = strings.Split(s.text, "\n")
	blank := 0
	for i, line := range s.lines {
		if column, why := unreadable(line); why != "" {
			return nil, s.fault(place{i + 1, column}, why)
		}
		if blank++; strings.TrimSpace(line) != "" {
			blank = 0
		}
		if blank > maxBlank {
			return nil, s.fault(place{i + 1, 1}, fmt.Sprintf("more than %d empty lines in a row", maxBlank))
		}
	}
	return s, nil
}

// line returns a line of the text, counted from 1, and "" where there is none.
func (s *source) line(n int) string {
	if n < 1 || n > len(s.lines) {
		return ""
	}
	return s.lines[n-1]
}

// from returns the rest of a line from a place on.
func (s *source) from(p place) string {
	line, skip := s.line(p.line), p.column-1
	for i := range line {
		if skip == 0 {
			return line[i:]
		}
		skip--
	}
	return ""
}

// unreadable finds the first character of a line that a reviewer cannot see or
// that would show them another text than the one that is read: control
// characters, marks that reverse the direction of writing, unusual spaces, a
// carriage return that is no line end, a tab (the library drops tabs inside text).
func unreadable(line string) (column int, why string) {
	if len(line) > maxLine {
		return 1, fmt.Sprintf("the line has %d bytes; at most %d are read", len(line), maxLine)
	}
	for i, r := range line {
		column++
		if _, size := utf8.DecodeRuneInString(line[i:]); r == utf8.RuneError && size == 1 {
			return column, "this is not UTF-8"
		}
		if r == '\t' {
			return column, `a tab; indent with spaces, and write \t in double quotes where text needs one`
		}
		if !unicode.IsPrint(r) {
			return column, fmt.Sprintf("invisible character %U; if it is meant, write it as an escape in double quotes", r)
		}
	}
	return 0, ""
}

// read turns the text into values. The parser is given tokens that were looked
// at first: it recurses, so depth has to be known before it starts.
func (s *source) read() (root *value, err error) {
	defer func() {
		// A fault of the library must not take the service down with a reload.
		if r := recover(); r != nil {
			root, err = nil, s.fault(place{1, 1}, "the file cannot be read as YAML")
		}
	}()
	tokens := lexer.Tokenize(s.text)
	if err := s.screen(tokens); err != nil {
		return nil, err
	}
	file, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey()) // refused in mapping, with a better place
	if err != nil {
		return nil, s.syntax(err)
	}
	if len(file.Docs) == 0 || file.Docs[0].Body == nil {
		return nil, s.fault(place{1, 1}, "the file is empty")
	}
	c := converter{source: s}
	root, err = c.convert(file.Docs[0].Body, 0)
	if err == nil && c.words != words(tokens) {
		return nil, s.fault(place{1, 1}, "part of the file would be passed over; check its indentation and quotes")
	}
	return root, err
}

// screen refuses what a small file does not need, and nesting that is too deep.
func (s *source) screen(tokens token.Tokens) error {
	if len(tokens) > maxTokens {
		return s.fault(at(tokens[maxTokens]), fmt.Sprintf("more than %d words and signs; no file of this kind needs that many", maxTokens))
	}
	var depth nesting
	started := false
	for i, t := range tokens {
		if t.Type == token.CommentType || (t.Type == token.DocumentHeaderType && !started) {
			started = started || t.Type == token.DocumentHeaderType // a leading --- opens the one document
			continue
		}
		started = true
		why := refused(t.Type)
		if why == "" {
			why = s.misplaced(t, tokens[max(i-1, 0)], depth)
		}
		if why != "" {
			return s.fault(at(t), why)
		}
		if depth.add(t, tokens[max(i-1, 0)]); depth.levels() > maxDepth {
			return s.tooDeep(at(t))
		}
	}
	return nil
}

// misplaced says why a sign may not stand where it does, which the library takes
// for something else than other readers do.
func (s *source) misplaced(t, before *token.Token, depth nesting) (why string) {
	rest := s.from(at(t))
	switch {
	case t.Type == token.SequenceEntryType && depth.flow > 0:
		return "inside brackets, write a list as [a, b]; put text that begins with - in quotes"
	case (t.Type == token.LiteralType || t.Type == token.FoldedType) && depth.flow > 0:
		return "inside brackets, write text in quotes"
	case t.Type == token.MappingValueType && at(before).line != at(t).line:
		return "a key and its colon stand in one line"
	case t.Type == token.MappingValueType && len(rest) > 1 && rest[1] != ' ' && before.Type == token.StringType:
		return "put a space after the colon, or the whole in quotes if it is text"
	}
	return ""
}

// refused says why a sign of YAML is not used here; of most it says nothing.
func refused(t token.Type) (why string) {
	switch t {
	case token.AnchorType:
		return "anchors (&) are not used here; write the value out, or put text that begins with & in quotes"
	case token.AliasType:
		return "aliases (*) are not used here; write the value out, or put text that begins with * in quotes"
	case token.MergeKeyType:
		return "merge keys (<<) are not used here; write the values out"
	case token.TagType:
		return "tags (!) are not used here; put text that begins with ! in quotes"
	case token.DirectiveType:
		return "directives (%) are not used here; put text that begins with % in quotes"
	case token.MappingKeyType:
		return "explicit keys (?) are not used here; write key: value"
	case token.DocumentEndType:
		return "document ends (...) are not used here"
	case token.DocumentHeaderType:
		return "a file holds one document; put the second in a file of its own"
	}
	return ""
}

// nesting is how deep a place is: brackets, and the columns of the block lists
// and mappings around it.
type nesting struct {
	flow    int
	columns []int
}

func (n *nesting) levels() int { return n.flow + len(n.columns) }

// add takes the next token into account; before is the one before it, which of a
// colon is the key.
func (n *nesting) add(t, before *token.Token) {
	switch t.Type {
	case token.SequenceStartType, token.MappingStartType:
		n.flow++
	case token.SequenceEndType, token.MappingEndType:
		n.flow = max(n.flow-1, 0)
	case token.SequenceEntryType:
		n.block(at(t).column)
	case token.MappingValueType:
		n.block(at(before).column)
	}
}

// block notes a list's dash or a mapping's key at a column.
func (n *nesting) block(column int) {
	if n.flow > 0 {
		return
	}
	for len(n.columns) > 0 && n.columns[len(n.columns)-1] >= column {
		n.columns = n.columns[:len(n.columns)-1]
	}
	n.columns = append(n.columns, column)
}

func (s *source) tooDeep(p place) *Error {
	return s.fault(p, fmt.Sprintf("nested more than %d deep", maxDepth))
}

// syntax turns the library's error into one of ours.
func (s *source) syntax(err error) error {
	var lib interface {
		GetToken() *token.Token
		GetMessage() string
	}
	if !errors.As(err, &lib) {
		return s.fault(place{1, 1}, "the file cannot be read as YAML")
	}
	message := printable(lib.GetMessage(), maxText)
	if strings.HasPrefix(message, "mapping value is not allowed") {
		message += `; put text that holds ": " in quotes`
	}
	return s.fault(at(lib.GetToken()), message)
}

// at is a token's place.
func at(t *token.Token) place {
	if t == nil || t.Position == nil {
		return place{1, 1}
	}
	return place{max(t.Position.Line, 1), max(t.Position.Column, 1)}
}

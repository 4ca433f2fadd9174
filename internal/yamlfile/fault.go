package yamlfile

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	maxText    = 120 // characters of a source line that an Error shows
	maxQuote   = 60  // characters of a value that Quote shows
	maxMessage = 300 // characters of an Error's message
	maxName    = 200 // characters of a file's name
)

// Error is one fault in a file and its place.
type Error struct {
	File    string
	Line    int // from 1; 0 where the fault is in no place of the file
	Column  int // from 1, in characters
	Message string
	// Text is the offending line, at most 120 characters of it around the
	// column, with what a terminal would obey shown escaped.
	Text string
	// Rule names what is broken, where a caller has names for that; else it is empty.
	Rule string

	caret int // characters of Text before the fault
}

// Error returns "file:line:column: message", then the line of text and a caret
// below the fault.
func (e *Error) Error() string {
	var b strings.Builder
	if e.File != "" {
		b.WriteString(printable(e.File, maxName))
		b.WriteByte(':')
	}
	if e.Line > 0 {
		fmt.Fprintf(&b, "%d:%d:", e.Line, e.Column)
	}
	if b.Len() > 0 {
		b.WriteByte(' ')
	}
	b.WriteString(e.Message)
	if strings.TrimSpace(e.Text) != "" {
		fmt.Fprintf(&b, "\n    %s\n    %s^", e.Text, strings.Repeat(" ", e.caret))
	}
	return b.String()
}

// Faults returns every *Error that err holds, in order, however they are joined
// or wrapped.
func Faults(err error) []*Error {
	switch e := err.(type) { //nolint:errorlint // each layer is looked at: errors.As finds the first fault only
	case nil:
		return nil
	case *Error:
		return []*Error{e}
	case interface{ Unwrap() []error }:
		var all []*Error
		for _, one := range e.Unwrap() {
			all = append(all, Faults(one)...)
		}
		return all
	default:
		return Faults(errors.Unwrap(err))
	}
}

// Quote returns a value that somebody else wrote in quotes, fit for an error or a
// terminal: cut to 60 characters, with control and invisible characters escaped.
func Quote(s string) string {
	if short := cut(s); short != s {
		return strconv.Quote(short) + "…"
	}
	return strconv.Quote(s)
}

// cut returns at most the first maxQuote characters of s.
func cut(s string) string {
	limit := maxQuote
	for i := range s {
		if limit--; limit < 0 {
			return s[:i]
		}
	}
	return s
}

// printable returns s with everything escaped that is not a visible character or
// an ordinary space (control characters, terminal escapes, marks that reverse the
// direction of text), cut to limit characters.
func printable(s string, limit int) string {
	var b strings.Builder
	left := limit
	for _, r := range s {
		shown := visible(r)
		if left -= utf8.RuneCountInString(shown); left < 1 {
			return b.String() + "…"
		}
		b.WriteString(shown)
	}
	return b.String()
}

func visible(r rune) string {
	switch {
	case unicode.IsPrint(r):
		return string(r)
	default:
		quoted := strconv.QuoteRuneToASCII(r)
		return quoted[1 : len(quoted)-1]
	}
}

// fault makes the Error for a place. It works on no source too, for the zero
// Node.
func (s *source) fault(at place, message string) *Error {
	e := &Error{Line: at.line, Column: at.column, Message: printable(message, maxMessage)}
	if s != nil {
		e.File = s.name
		e.Text, e.caret = excerpt(s.line(at.line), at.column)
	}
	return e
}

// excerpt shows a line around a column, and says how far in the column is.
func excerpt(line string, column int) (text string, caret int) {
	runes := []rune(line)
	before := min(max(column-1, 0), len(runes))
	start := 0
	if before > maxText*2/3 {
		start = before - maxText/2
		text = "…"
	}
	for i, r := range runes[start:] {
		if start+i == before {
			caret = utf8.RuneCountInString(text)
		}
		shown := visible(r)
		if r == '\t' {
			shown = " " // indentation that cannot be, which the message says
		}
		if utf8.RuneCountInString(text)+utf8.RuneCountInString(shown) >= maxText {
			return text + "…", min(caret, maxText)
		}
		text += shown
	}
	if before == len(runes) {
		caret = utf8.RuneCountInString(text)
	}
	return text, caret
}

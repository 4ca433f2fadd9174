package exec

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/stepkey/stepkey/internal/yamlfile"
)

const (
	maxAbout                  = 100
	maxParameters             = 32
	defaultLength, mostLength = 100, 1024 // bytes
	defaultItems, mostItems   = 16, 64
)

var parameterName = regexp.MustCompile(`\A[a-z][a-z0-9_]{0,62}\z`)

const parameterForm = "want a name of 1 to 63 of a-z, 0-9 and _, a letter first"

// form is what a parameter's values can be.
type form struct {
	pattern  *regexp.Regexp // or nil
	enum     []string
	length   int
	list     bool
	most     int
	optional bool
}

func (p *program) readForms(parameters map[string]Parameter) error {
	if len(parameters) > maxParameters {
		return fmt.Errorf("parameters: %d are named; %d is the most", len(parameters), maxParameters)
	}
	for name, c := range parameters {
		f, err := c.check()
		switch {
		case !parameterName.MatchString(name):
			return fmt.Errorf("parameters: %s is none: %s", shown(name), parameterForm)
		case err != nil:
			return fmt.Errorf("parameters: %s: %w", name, err)
		}
		p.forms[name] = f
	}
	return nil
}

func (c Parameter) check() (form, error) {
	f := form{enum: c.Enum, length: c.Length, list: c.List, most: c.Most, optional: c.Optional}
	if f.length == 0 {
		f.length = defaultLength
	}
	if f.most == 0 {
		f.most = defaultItems
	}
	switch {
	case (c.Pattern == "") == (len(c.Enum) == 0):
		return f, errors.New("want either pattern or enum, so that its values have a closed form")
	case len(c.About) > maxAbout || !oneLine(c.About):
		return f, fmt.Errorf("about: want a few words in one line, %d bytes at most", maxAbout)
	case f.length < 1 || f.length > mostLength:
		return f, fmt.Errorf("max_length is %d; want 1 to %d", c.Length, mostLength)
	case f.most < 1 || f.most > mostItems:
		return f, fmt.Errorf("max_items is %d; want 1 to %d", c.Most, mostItems)
	case c.Most != 0 && !c.List:
		return f, errors.New("max_items is for a list; add list: true")
	}
	for _, value := range c.Enum {
		if why := f.badText(value); why != "" {
			return f, fmt.Errorf("enum: %s: %s", yamlfile.Quote(value), why)
		}
	}
	if c.Pattern == "" {
		return f, nil
	}
	pattern, err := regexp.Compile(`\A(?:` + c.Pattern + `)\z`)
	if err != nil {
		return f, fmt.Errorf("pattern: %w", err)
	}
	f.pattern = pattern
	return f, nil
}

// badText says why a program would not be given the text; "" if it would.
func (f form) badText(text string) string {
	switch {
	case text == "":
		return "it is empty"
	case !oneLine(text):
		return "it holds a character that cannot be seen"
	case len(text) > f.length:
		return fmt.Sprintf("it has %d bytes, and %d is the most", len(text), f.length)
	case f.pattern != nil && !f.pattern.MatchString(text):
		return "it does not match the parameter's pattern in the configuration"
	case len(f.enum) > 0 && !slices.Contains(f.enum, text):
		return "it is none of: " + strings.Join(f.enum, ", ")
	}
	return ""
}

// oneLine: every character can be seen, and nothing in it breaks the line.
func oneLine(text string) bool {
	return utf8.ValidString(text) && !strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) })
}

// shown is a name of the configuration's, fit for an error.
func shown(name string) string {
	if parameterName.MatchString(name) || programName.MatchString(name) || variableName.MatchString(name) {
		return name
	}
	return yamlfile.Quote(name)
}

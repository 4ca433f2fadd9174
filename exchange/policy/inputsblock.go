package policy

import (
	"regexp"
	"slices"
	"strconv"
	"unicode/utf8"

	"github.com/stepkey/stepkey/internal/yamlfile"
)

type inputBlock struct {
	About     yamlfile.Node `yaml:"about"`
	Type      yamlfile.Node `yaml:"type"`
	Enum      yamlfile.Node `yaml:"enum"`
	Pattern   yamlfile.Node `yaml:"pattern"`
	MaxLength yamlfile.Node `yaml:"max_length"`
	Min       yamlfile.Node `yaml:"min"`
	Max       yamlfile.Node `yaml:"max"`
	Default   yamlfile.Node `yaml:"default"`
	Example   yamlfile.Node `yaml:"example"`
}

var inputName = regexp.MustCompile(`\A[a-z][a-z0-9_]{0,30}\z`)

// inputs reads what a task takes beside its name. Each is returned by its name, faults
// or not, so that expressions that read it are judged by themselves.
func (r *reader) inputs(n yamlfile.Node) []Input {
	if !n.Exists() {
		return nil
	}
	switch keys := n.Keys(); {
	case len(keys) == 0:
		r.refuse(n, "inputs must name at least one input, as version: {pattern: 'v[0-9.]+', example: v1.2.3}, or be left out")
	case len(keys) > maxInputs:
		r.refuse(n, "%d inputs; at most %d", len(keys), maxInputs)
	}
	var all []Input
	for _, name := range n.Keys() {
		if !inputName.MatchString(name) {
			r.refuse(n.Key(name), "%s is no name for an input: 1 to 31 of a-z, 0-9 and _, beginning with a letter", yamlfile.Quote(name))
			continue
		}
		all = append(all, r.input(name, n.Get(name)))
	}
	return all
}

func (r *reader) input(name string, n yamlfile.Node) Input {
	var b inputBlock
	i := Input{Name: name, Type: TextInput, Required: !n.Get("default").Exists()}
	if !r.decode(n, &b) {
		return i
	}
	faults := len(r.faults)
	i.About = r.about(b.About)
	kind := string(TextInput)
	if r.decode(b.Type, &kind) && kind != string(TextInput) && kind != string(NumberInput) {
		r.refuse(b.Type, "type is %s; it is text or number", yamlfile.Quote(kind))
		return i
	}
	i.Type = InputType(kind)
	if i.Type == NumberInput {
		r.number(n, b, &i)
	} else {
		r.closedText(n, b, &i)
	}
	if len(r.faults) == faults {
		r.example(b, &i)
	}
	return i
}

func (r *reader) about(n yamlfile.Node) string {
	var about string
	if !r.decode(n, &about) {
		return ""
	}
	if about == "" || !printable(about) || utf8.RuneCountInString(about) > maxPurpose {
		r.refuse(n, "about must be one line of 1 to %d visible characters", maxPurpose)
	}
	return about
}

func (r *reader) number(n yamlfile.Node, b inputBlock, i *Input) {
	for name, at := range map[string]yamlfile.Node{"enum": b.Enum, "pattern": b.Pattern, "max_length": b.MaxLength} {
		if at.Exists() {
			r.refuse(n.Key(name), "%s is of text; a number has min and max", name)
		}
	}
	if !b.Min.Exists() || !b.Max.Exists() {
		r.refuse(n, "a number needs both min and max")
	}
	if r.decode(b.Min, &i.Min) && r.decode(b.Max, &i.Max) && i.Min > i.Max {
		r.refuse(b.Max, "max is %d, below min", i.Max)
	}
}

// closedText demands a closed form: what is given with a task comes from whoever can change
// the job, and ends in the credential's block.
func (r *reader) closedText(n yamlfile.Node, b inputBlock, i *Input) {
	for name, at := range map[string]yamlfile.Node{"min": b.Min, "max": b.Max} {
		if at.Exists() {
			r.refuse(n.Key(name), "%s is of numbers; add type: number, or use enum or pattern", name)
		}
	}
	if b.Enum.Exists() == b.Pattern.Exists() {
		r.refuse(n, "text needs either enum: [the, values] or pattern: a regular expression that all of it matches")
	}
	r.enum(b.Enum, i)
	r.pattern(b.Pattern, i)
	i.MaxLength = maxInputLength
	if b.MaxLength.Exists() && !b.Pattern.Exists() {
		r.refuse(n.Key("max_length"), "max_length is of text with a pattern")
	}
	if r.decode(b.MaxLength, &i.MaxLength) && (i.MaxLength < 1 || i.MaxLength > mostInputLength) {
		r.refuse(b.MaxLength, "max_length is %d; it must be from 1 to %d", i.MaxLength, mostInputLength)
	}
}

func (r *reader) enum(n yamlfile.Node, i *Input) {
	if !r.decode(n, &i.Enum) {
		return
	}
	if len(i.Enum) == 0 {
		r.refuse(n, "the list is empty; write the values")
	}
	for at, value := range i.Enum {
		switch item := n.Items()[at]; {
		case value == "" || !printable(value) || utf8.RuneCountInString(value) > maxInputLength:
			r.refuse(item, "a value must be one line of 1 to %d visible characters", maxInputLength)
		case slices.Contains(i.Enum[:at], value):
			r.refuse(item, "%s is listed twice", yamlfile.Quote(value))
		}
	}
}

// pattern is compiled alone first: "a)|(b" is an expression only between the brackets
// that hold it to the whole text.
func (r *reader) pattern(n yamlfile.Node, i *Input) {
	if !r.decode(n, &i.Pattern) {
		return
	}
	_, err := regexp.Compile(i.Pattern)
	whole, wholeErr := regexp.Compile(`\A(?:` + i.Pattern + `)\z`)
	switch {
	case i.Pattern == "" || len(i.Pattern) > maxPatternLength:
		r.refuse(n, "a pattern has 1 to %d bytes", maxPatternLength)
	case err != nil || wholeErr != nil:
		r.refuse(n, "%s is no regular expression (RE2, as in Go)", yamlfile.Quote(i.Pattern))
	default:
		i.whole = whole
	}
}

// example finds one value that is right, which is what the block is checked with before
// anybody gives one.
func (r *reader) example(b inputBlock, i *Input) {
	i.Example = r.one(b.Example, i)
	i.Default = r.one(b.Default, i)
	switch {
	case i.Example != "":
	case i.Default != "":
		i.Example = i.Default
	case len(i.Enum) > 0:
		i.Example = i.Enum[0]
	case i.Type == NumberInput:
		i.Example = strconv.FormatInt(i.Min, 10)
	case !b.Example.Exists():
		r.refuse(b.Pattern, "a pattern needs an example that matches it, as example: v1.2.3; the task is checked with it")
	}
}

// one reads a default or an example.
func (r *reader) one(n yamlfile.Node, i *Input) string {
	var text string
	if i.Type == NumberInput {
		var number int64
		if !r.decode(n, &number) {
			return ""
		}
		text = strconv.FormatInt(number, 10)
	} else if !r.decode(n, &text) {
		return ""
	}
	if why := i.wrong(text); why != "" {
		r.refuse(n, "this %s", why)
	}
	return text
}

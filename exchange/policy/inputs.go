package policy

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/stepkey/stepkey/internal/yamlfile"
)

// An Input is a value that whoever asks for a task gives with it, as the task file
// declares it. Its values are text; of type number they are whole numbers in decimal
// digits.
type Input struct {
	Name    string
	About   string    // for people
	Type    InputType // TextInput unless the file says otherwise
	Enum    []string  // of text: any of these; or
	Pattern string    // of text: a regular expression (RE2) that all of it matches
	// MaxLength is the most characters of a text with a pattern.
	MaxLength int
	Min, Max  int64 // of a number, both included
	// Default is what it is where nobody gives it; Required ones have none.
	Default  string
	Required bool
	Example  string // one value that is right

	whole *regexp.Regexp // Pattern, of all of a text
}

// An InputType is what the values of an input are.
type InputType string

const (
	TextInput   InputType = "text"
	NumberInput InputType = "number"
)

const (
	maxInputs        = 20
	maxInputLength   = 200  // characters, unless max_length says otherwise
	mostInputLength  = 1000 // that max_length may say
	maxPatternLength = 500  // bytes
)

// value returns what CEL sees of a value: a string, or an int64.
func (i *Input) value(text string) any {
	if i.Type == NumberInput {
		n, _ := strconv.ParseInt(text, 10, 64) // wrong has looked at it
		return n
	}
	return text
}

// wrong says why text is no value of the input. It never repeats the text: what is
// given by mistake may be a secret.
func (i *Input) wrong(text string) string {
	if i.Type == NumberInput {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil || strconv.FormatInt(n, 10) != text || n < i.Min || n > i.Max {
			return fmt.Sprintf("must be a whole number in decimal digits, from %d to %d", i.Min, i.Max)
		}
		return ""
	}
	switch {
	case text == "":
		return "is empty"
	case !utf8.ValidString(text) || !printable(text):
		return "must be one line of visible characters"
	case i.whole == nil && !slices.Contains(i.Enum, text):
		return i.notListed(text)
	case i.whole != nil && utf8.RuneCountInString(text) > i.MaxLength:
		return fmt.Sprintf("has %d characters; at most %d", utf8.RuneCountInString(text), i.MaxLength)
	case i.whole != nil && !i.whole.MatchString(text):
		return i.notMatched()
	}
	return ""
}

func (i *Input) notMatched() string {
	why := "does not match " + yamlfile.Quote(i.Pattern)
	if i.Example != "" {
		why += ", as " + yamlfile.Quote(i.Example) + " does"
	}
	return why
}

func (i *Input) notListed(text string) string {
	why := "must be " + anyOf(i.Enum)
	if near := yamlfile.Nearest(text, i.Enum); near != "" {
		why += " (did you mean " + yamlfile.Quote(near) + "?)"
	}
	return why
}

// read takes the values that were given for the task's inputs, as CEL sees them, or
// says what is wrong with them.
func (t *Task) read(given map[string]string) (values map[string]any, why string) {
	if len(t.Inputs) == 0 && len(given) == 0 {
		return nil, ""
	}
	for _, name := range slices.Sorted(maps.Keys(given)) {
		if !slices.ContainsFunc(t.Inputs, func(i Input) bool { return i.Name == name }) {
			return nil, t.noInput(name)
		}
	}
	values = make(map[string]any, len(t.Inputs))
	for n := range t.Inputs {
		i := &t.Inputs[n]
		text, ok := given[i.Name]
		switch {
		case !ok && i.Required:
			return nil, strings.TrimSuffix(fmt.Sprintf("the task's input %s is missing: %s", i.Name, i.About), ": ")
		case !ok:
			text = i.Default
		default:
			if why := i.wrong(text); why != "" {
				return nil, "the task's input " + i.Name + " " + why
			}
		}
		values[i.Name] = i.value(text)
	}
	return values, ""
}

func (t *Task) noInput(name string) string {
	names := make(map[string]bool, len(t.Inputs))
	for _, i := range t.Inputs {
		names[i.Name] = true
	}
	why := "the task has no input " + yamlfile.Quote(name)
	if near := yamlfile.Nearest(name, slices.Sorted(maps.Keys(names))); near != "" {
		return why + " (did you mean " + yamlfile.Quote(near) + "?)"
	}
	return why + " (its inputs: " + listed(names) + ")"
}

package identity

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	maxDepth  = 20   // objects and arrays inside each other, the outermost counted
	maxValues = 1000 // values in all, the outermost object and each member counted
)

// decodeObject reads exactly one JSON object that any two readers would read the
// same way (I-JSON, RFC 7493). encoding/json alone takes the last of two equal
// names and lets REPOSITORY_ID stand for repository_id; here names that are equal,
// or equal after Unicode case folding, are refused in every object. Strings that
// hold U+FFFD are refused too, as that is what broken \u escapes decode to.
//
// Values are string, bool, json.Number, nil, []any and map[string]any. Errors
// complete the sentence "the header …" and show nothing of the input.
func decodeObject(data []byte) (map[string]any, error) {
	if !utf8.Valid(data) {
		return nil, errors.New("is not valid UTF-8")
	}
	if !json.Valid(data) { // the token reader below is laxer than the grammar
		return nil, errors.New("is not one complete JSON value")
	}
	tokens := json.NewDecoder(bytes.NewReader(data))
	tokens.UseNumber()
	o := objectReader{tokens: tokens}
	value, err := o.value(0)
	if err != nil {
		return nil, err
	}
	object, ok := value.(map[string]any)
	if !ok {
		return nil, errors.New("is not a JSON object")
	}
	return object, nil
}

// objectReader builds values from tokens and counts them.
type objectReader struct {
	tokens *json.Decoder
	values int
}

func (o *objectReader) value(depth int) (any, error) {
	if o.values++; o.values > maxValues {
		return nil, fmt.Errorf("holds more than %d values", maxValues)
	}
	next, err := o.tokens.Token()
	if err != nil {
		return nil, errors.New("is not one complete JSON value")
	}
	switch next {
	case json.Delim('{'):
		return o.object(depth + 1)
	case json.Delim('['):
		return o.array(depth + 1)
	}
	if text, ok := next.(string); ok {
		return next, checkText(text)
	}
	return next, nil
}

func (o *objectReader) object(depth int) (any, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("is nested deeper than %d", maxDepth)
	}
	object := make(map[string]any)
	folded := make(map[string]struct{})
	for o.tokens.More() {
		next, err := o.tokens.Token()
		if err != nil {
			return nil, errors.New("is not one complete JSON value")
		}
		name, _ := next.(string) // the grammar was checked: a name is a string
		if err := checkText(name); err != nil {
			return nil, err
		}
		key := fold(name)
		if _, twice := folded[key]; twice {
			return nil, errors.New("holds one name twice (upper and lower case count as equal)")
		}
		folded[key] = struct{}{}
		if object[name], err = o.value(depth); err != nil {
			return nil, err
		}
	}
	_, err := o.tokens.Token() // the closing brace
	return object, err
}

func (o *objectReader) array(depth int) (any, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("is nested deeper than %d", maxDepth)
	}
	array := []any{}
	for o.tokens.More() {
		element, err := o.value(depth)
		if err != nil {
			return nil, err
		}
		array = append(array, element)
	}
	_, err := o.tokens.Token() // the closing bracket
	return array, err
}

func checkText(text string) error {
	if strings.ContainsRune(text, utf8.RuneError) {
		return errors.New("holds a string with a broken Unicode escape")
	}
	return nil
}

// fold maps names to one value exactly if strings.EqualFold calls them equal. A
// lookup per name keeps a hostile object of a thousand names cheap.
func fold(name string) string {
	return strings.Map(func(r rune) rune {
		if r < utf8.RuneSelf { // the smallest of an ASCII letter's orbit is its capital
			if 'a' <= r && r <= 'z' {
				return r - 'a' + 'A'
			}
			return r
		}
		smallest := r
		for next := unicode.SimpleFold(r); next != r; next = unicode.SimpleFold(next) {
			smallest = min(smallest, next)
		}
		return smallest
	}, name)
}

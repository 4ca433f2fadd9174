package yamlfile

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"unicode/utf8"
)

// maxValues bounds the values of one JSON text, the members of objects counted.
const maxValues = 1000

// ParseJSON reads exactly one JSON value, as strictly as Parse reads YAML: UTF-8, no
// name twice in an object, no broken escape, no more than 20 levels and 1000 values. It
// is for what programs send; its places are lines and columns as of a file. Errors show
// nothing of the text, which may be a stranger's. The error is an *Error.
func ParseJSON(name string, data []byte) (Node, error) {
	src := &source{name: name}
	if len(data) > maxSize {
		return Node{}, src.fault(place{}, fmt.Sprintf("the JSON has %d bytes; at most %d are read", len(data), maxSize))
	}
	if !utf8.Valid(data) {
		return Node{}, src.fault(place{}, "the JSON is not valid UTF-8")
	}
	if !json.Valid(data) { // the token reader below is laxer than the grammar
		return Node{}, src.fault(place{}, "this is not one complete JSON value")
	}
	r := jsonReader{source: src, data: data, tokens: json.NewDecoder(bytes.NewReader(data))}
	r.tokens.UseNumber()
	root, err := r.value(0)
	if err != nil {
		return Node{}, err
	}
	return Node{src: src, val: root, at: root.at}, nil
}

// jsonReader builds values from tokens and counts them.
type jsonReader struct {
	*source
	data   []byte
	tokens *json.Decoder
	values int

	counted int // bytes before seen
	seen    place
}

// next returns a token and its place. The grammar was checked: there is one.
func (r *jsonReader) next() (json.Token, place, error) {
	t, err := r.tokens.Token()
	if err != nil {
		return nil, place{}, r.fault(place{}, "this is not one complete JSON value")
	}
	end := int(r.tokens.InputOffset())
	return t, r.placeOf(r.counted, end), nil
}

// placeOf is where the token that ends at end begins, after the signs between it and
// the token before.
func (r *jsonReader) placeOf(from, end int) place {
	if r.seen == (place{}) {
		r.seen = place{1, 1}
	}
	at := r.seen
	skipping := true
	for _, c := range string(r.data[from:end]) {
		if skipping && !strings.ContainsRune(" \t\r\n,:", c) {
			at, skipping = r.seen, false
		}
		if c == '\n' {
			r.seen = place{r.seen.line + 1, 1}
		} else {
			r.seen.column++
		}
	}
	r.counted = end
	return at
}

func (r *jsonReader) value(depth int) (*value, error) {
	t, at, err := r.next()
	if err != nil {
		return nil, err
	}
	if r.values++; r.values > maxValues {
		return nil, r.fault(at, fmt.Sprintf("the JSON holds more than %d values", maxValues))
	}
	if depth > maxDepth {
		return nil, r.tooDeep(at)
	}
	v := &value{at: at}
	switch t := t.(type) {
	case json.Delim:
		if t == '{' {
			return r.object(v, depth)
		}
		return r.array(v, depth)
	case string:
		v.kind, v.text = kindText, t
		return v, r.whole(t, at)
	case json.Number:
		v.kind, v.text = kindInt, t.String()
		if strings.ContainsAny(v.text, ".eE") {
			v.kind = kindFloat
		}
	case bool:
		v.kind, v.text = kindBool, fmt.Sprint(t)
	default:
		v.kind = kindNull
	}
	return v, nil
}

// whole refuses what broken escapes decode to.
func (r *jsonReader) whole(text string, at place) error {
	if strings.ContainsRune(text, utf8.RuneError) {
		return r.fault(at, "a string holds a broken Unicode escape")
	}
	return nil
}

func (r *jsonReader) object(v *value, depth int) (*value, error) {
	v.kind = kindMapping
	names := map[string]bool{}
	for r.tokens.More() {
		t, at, err := r.next()
		if err != nil {
			return nil, err
		}
		name, _ := t.(string) // the grammar was checked: a name is a string
		if names[name] {
			return nil, r.fault(at, "an object holds one name twice")
		}
		names[name] = true
		if err := r.whole(name, at); err != nil {
			return nil, err
		}
		child, err := r.value(depth + 1)
		if err != nil {
			return nil, err
		}
		v.entries = append(v.entries, entry{name, at, child})
	}
	_, _, err := r.next() // the closing brace
	return v, err
}

func (r *jsonReader) array(v *value, depth int) (*value, error) {
	v.kind = kindList
	for r.tokens.More() {
		child, err := r.value(depth + 1)
		if err != nil {
			return nil, err
		}
		v.items = append(v.items, child)
	}
	_, _, err := r.next() // the closing bracket
	return v, err
}

package yamlfile

import (
	"encoding"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Decode fills the value that v points to from n. It knows structs (fields are
// named by `yaml:"name"` tags; `yaml:"name,required"` makes an absent one a
// fault; fields without a tag are left alone), maps with text keys, slices,
// strings, booleans, integers, time.Duration as "10m", pointers to any of these,
// types with UnmarshalText, and Node for what the caller reads itself.
//
// Unknown keys and values of another type are refused. All faults are returned,
// joined in file order; each is an *Error. An absent n leaves v as it is.
func (n Node) Decode(v any) error {
	target := reflect.ValueOf(v)
	if target.Kind() != reflect.Pointer || target.IsNil() {
		return fmt.Errorf("decoding %s: want a pointer, have %T", n.File(), v)
	}
	if n.val == nil {
		return nil
	}
	d := decoder{}
	d.fill(n, target.Elem())
	slices.SortStableFunc(d.faults, func(a, b *Error) int {
		if a.Line != b.Line {
			return a.Line - b.Line
		}
		return a.Column - b.Column
	})
	return join(d.faults)
}

func join(faults []*Error) error {
	switch len(faults) {
	case 0:
		return nil
	case 1:
		return faults[0]
	}
	all := make([]error, len(faults))
	for i, f := range faults {
		all[i] = f
	}
	return errors.Join(all...)
}

// decoder collects the faults of one Decode.
type decoder struct{ faults []*Error }

func (d *decoder) refuse(n Node, format string, args ...any) {
	d.faults = append(d.faults, n.Errorf(format, args...))
}

var (
	nodeType     = reflect.TypeFor[Node]()
	durationType = reflect.TypeFor[time.Duration]()
)

func (d *decoder) fill(n Node, into reflect.Value) {
	if into.Type() == nodeType {
		into.Set(reflect.ValueOf(n))
		return
	}
	if n.val.kind == kindNull {
		d.refuse(n, "no value is given; write one or remove the key")
		return
	}
	if text, ok := into.Addr().Interface().(encoding.TextUnmarshaler); ok {
		d.unmarshal(n, text)
		return
	}
	if into.Type() == durationType {
		d.duration(n, into)
		return
	}
	switch into.Kind() {
	case reflect.Pointer:
		fresh := reflect.New(into.Type().Elem())
		d.fill(n, fresh.Elem())
		into.Set(fresh)
	case reflect.Struct:
		d.structure(n, into)
	case reflect.Map:
		d.dictionary(n, into)
	case reflect.Slice:
		d.list(n, into)
	case reflect.String:
		if s, ok := d.text(n); ok {
			into.SetString(s)
		}
	case reflect.Bool:
		d.boolean(n, into)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		d.integer(n, into)
	default:
		panic("yamlfile: cannot decode into " + into.Type().String()) // a programming error, seen by the first test
	}
}

func (d *decoder) structure(n Node, into reflect.Value) {
	if n.val.kind != kindMapping {
		d.refuse(n, "want a mapping (key: value), found %s", n.val.describe())
		return
	}
	known := make(map[string]reflect.Value)
	var names, missing []string
	for field, value := range into.Fields() {
		name, option, _ := strings.Cut(field.Tag.Get("yaml"), ",")
		if name == "" || name == "-" {
			continue
		}
		known[name] = value
		names = append(names, name)
		if _, given := n.val.entry(name); option == "required" && !given {
			missing = append(missing, strconv.Quote(name))
		}
	}
	for _, key := range n.Keys() {
		if field, ok := known[key]; ok {
			d.fill(n.Get(key), field)
		} else {
			d.faults = append(d.faults, n.Key(key).unknown(names))
		}
	}
	if len(missing) > 0 {
		d.refuse(n, "missing: %s", strings.Join(missing, ", "))
	}
}

func (d *decoder) dictionary(n Node, into reflect.Value) {
	if n.val.kind != kindMapping {
		d.refuse(n, "want a mapping (key: value), found %s", n.val.describe())
		return
	}
	into.Set(reflect.MakeMap(into.Type()))
	for _, key := range n.Keys() {
		one := reflect.New(into.Type().Elem()).Elem()
		d.fill(n.Get(key), one)
		into.SetMapIndex(reflect.ValueOf(key).Convert(into.Type().Key()), one)
	}
}

func (d *decoder) list(n Node, into reflect.Value) {
	if n.val.kind != kindList {
		d.refuse(n, "want a list, found %s", n.val.describe())
		return
	}
	items := n.Items()
	into.Set(reflect.MakeSlice(into.Type(), len(items), len(items)))
	for i, item := range items {
		d.fill(item, into.Index(i))
	}
}

// ambiguous reports whether other YAML readers take plain text for something
// else: `no` for a boolean, the commit 12e5 for a number.
func (v *value) ambiguous() bool {
	_, err := strconv.ParseFloat(v.text, 64)
	return err == nil || slices.Contains([]string{"yes", "no", "on", "off"}, strings.ToLower(v.text))
}

func (d *decoder) text(n Node) (string, bool) {
	switch v := n.val; {
	case v.kind == kindBool, v.kind == kindInt, v.kind == kindFloat:
		d.refuse(n, "want text, found %s; write it in quotes: %s", v.describe(), Quote(v.text))
	case v.kind != kindText:
		d.refuse(n, "want text, found %s", v.describe())
	case v.plain && v.ambiguous():
		d.refuse(n, "%s without quotes is not text to every YAML reader; write it in quotes: %s", printable(v.text, maxQuote), Quote(v.text))
	default:
		return v.text, true
	}
	return "", false
}

func (d *decoder) unmarshal(n Node, into encoding.TextUnmarshaler) {
	s, ok := d.text(n)
	if !ok {
		return
	}
	if err := into.UnmarshalText([]byte(s)); err != nil {
		d.refuse(n, "%s", printable(err.Error(), maxText))
	}
}

func (d *decoder) duration(n Node, into reflect.Value) {
	if n.val.kind == kindInt || n.val.kind == kindFloat {
		d.refuse(n, "want a duration with its unit, as 10m or 90s, found %s", n.val.describe())
		return
	}
	s, ok := d.text(n)
	if !ok {
		return
	}
	span, err := time.ParseDuration(s)
	if err != nil {
		d.refuse(n, "want a duration with its unit, as 10m or 90s, found %s", Quote(s))
		return
	}
	into.SetInt(int64(span))
}

func (d *decoder) boolean(n Node, into reflect.Value) {
	if n.val.kind != kindBool {
		d.refuse(n, "want true or false, found %s", n.val.describe())
		return
	}
	into.SetBool(strings.EqualFold(n.val.text, "true"))
}

func (d *decoder) integer(n Node, into reflect.Value) {
	if n.val.kind != kindInt {
		d.refuse(n, "want a whole number, found %s", n.val.describe())
		return
	}
	// Decimal digits only: 010 is eight to some YAML readers and ten to others.
	i, err := strconv.ParseInt(n.val.text, 10, into.Type().Bits())
	if err != nil || strconv.FormatInt(i, 10) != n.val.text {
		d.refuse(n, "want a whole number in decimal digits, found %s", Quote(n.val.text))
		return
	}
	into.SetInt(i)
}

// describe names a value's type in the reader's words.
func (v *value) describe() string {
	switch v.kind {
	case kindNull:
		return "nothing"
	case kindBool:
		return "the boolean " + printable(v.text, maxQuote)
	case kindInt, kindFloat:
		return "the number " + printable(v.text, maxQuote)
	case kindText:
		return "the text " + Quote(v.text)
	case kindList:
		return "a list"
	default:
		return "a mapping"
	}
}

// unknown is the fault of a key that is none of names, with the nearest of them.
// The key is shown in ASCII: a Cyrillic letter in it would look like the right key.
func (n Node) unknown(names []string) *Error {
	key := strconv.QuoteToASCII(cut(n.val.text))
	near := Nearest(n.val.text, names)
	switch {
	case near != "":
		return n.Errorf("unknown key %s (did you mean %q?)", key, near)
	case len(names) == 0:
		return n.Errorf("unknown key %s", key)
	}
	return n.Errorf("unknown key %s (known here: %s)", key, strings.Join(names, ", "))
}

// Nearest returns the name that a writer most likely meant by word, or "".
func Nearest(word string, names []string) string {
	best, limit := "", max(len(word)/3, 1)+1
	if len(word) > 64 {
		return ""
	}
	for _, name := range names {
		if d := distance(strings.ToLower(word), strings.ToLower(name)); d < limit {
			best, limit = name, d
		}
	}
	return best
}

// distance is Levenshtein's, in bytes, two neighbours swapped counting as two.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost = min(diagonal, row[j], row[j+1]) + 1
			}
			diagonal, row[j+1] = row[j+1], cost
		}
	}
	return row[len(b)]
}

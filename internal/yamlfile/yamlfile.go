// Package yamlfile reads the small YAML files that people write for the exchange,
// task files and the configuration, strictly and with a place for every fault.
//
// It hides which YAML library reads them and how that library's positions and
// errors become file, line and column. Nothing outside sees the library's nodes.
//
// Strict means: one document; no anchors, aliases, merge keys, tags or
// directives, which a small file does not need and which surprise readers or
// exhaust memory; no key twice; no unknown key; and no scalar that quietly
// changes its type. `repository_id: 456789` is a number and is refused where text
// is wanted, because the next reader may lose its leading zeros or its precision.
package yamlfile

import (
	"fmt"
	"slices"
)

const (
	maxSize   = 256 << 10 // bytes of one file
	maxLine   = 8 << 10   // bytes of one line
	maxDepth  = 20        // lists and mappings inside each other
	maxBlank  = 100       // empty lines in a row
	maxTokens = 32 << 10  // words and signs; the library's time is quadratic in some of them
)

// Parse reads exactly one YAML document. name is what errors call the file. The
// error is an *Error, or several joined.
func Parse(name string, data []byte) (Node, error) {
	src, err := newSource(name, data)
	if err != nil {
		return Node{}, err
	}
	root, err := src.read()
	if err != nil {
		return Node{}, err
	}
	return Node{src: src, val: root, at: root.at}, nil
}

// A Node is a value of a file and its place there. The zero Node is absent. A
// Node is immutable and safe for concurrent use.
type Node struct {
	src *source
	val *value // nil where the file has no such value
	at  place  // the value's place; of an absent one, the nearest that exists
}

// place is a line and a column, both counted from 1, columns in characters.
type place struct{ line, column int }

type kind int

const (
	kindNull kind = iota
	kindBool
	kindInt
	kindFloat
	kindText
	kindList
	kindMapping
)

// value is one value of a file, free of the library that read it.
type value struct {
	kind    kind
	at      place
	text    string  // a scalar: the meaning of text, the spelling of anything else
	plain   bool    // text that was written without quotes
	entries []entry // of a mapping
	items   []*value
	src     *source // of what came from another file than what is around it; else nil
}

// entry is a key of a mapping, with the key's own place.
type entry struct {
	key string
	at  place
	val *value
}

func (v *value) entry(key string) (entry, bool) {
	i := slices.IndexFunc(v.entries, func(e entry) bool { return e.key == key })
	if i < 0 {
		return entry{}, false
	}
	return v.entries[i], true
}

// Get returns the value below n under keys, one per level. A key that is not
// there gives an absent Node at the place of the nearest value that is.
func (n Node) Get(keys ...string) Node {
	for _, key := range keys {
		if n.val == nil {
			return n
		}
		e, ok := n.val.entry(key)
		if !ok {
			return Node{src: n.src, at: n.at}
		}
		n = n.child(e.val)
	}
	return n
}

// child is a value inside n.
func (n Node) child(v *value) Node {
	src := n.src
	if v.src != nil {
		src = v.src
	}
	return Node{src: src, val: v, at: v.at}
}

// Key returns a Node for the place of a key itself, for faults in the name or
// the presence of a key. Its value is the key, as text.
func (n Node) Key(key string) Node {
	if n.val != nil {
		if e, ok := n.val.entry(key); ok {
			return Node{src: n.child(e.val).src, val: &value{kind: kindText, at: e.at, text: key}, at: e.at}
		}
	}
	return Node{src: n.src, at: n.at}
}

// Keys returns a mapping's keys in the order of the file, and nothing for any
// other value.
func (n Node) Keys() []string {
	if n.val == nil {
		return nil
	}
	keys := make([]string, 0, len(n.val.entries))
	for _, e := range n.val.entries {
		keys = append(keys, e.key)
	}
	return keys
}

// Items returns a list's values in the order of the file, and nothing for any
// other value.
func (n Node) Items() []Node {
	if n.val == nil {
		return nil
	}
	items := make([]Node, 0, len(n.val.items))
	for _, v := range n.val.items {
		items = append(items, n.child(v))
	}
	return items
}

// Exists reports whether the file has this value, even if it is empty.
func (n Node) Exists() bool { return n.val != nil }

// IsList reports whether n is a list, be it empty.
func (n Node) IsList() bool { return n.val != nil && n.val.kind == kindList }

// IsMapping reports whether n is a mapping, be it empty.
func (n Node) IsMapping() bool { return n.val != nil && n.val.kind == kindMapping }

// IsNull reports whether n is there and is nothing: a key without a value, or null.
func (n Node) IsNull() bool { return n.val != nil && n.val.kind == kindNull }

// File is the name that Parse was given.
func (n Node) File() string {
	if n.src == nil {
		return ""
	}
	return n.src.name
}

// Line is the line of n's place, counted from 1; 0 for the zero Node.
func (n Node) Line() int { return n.at.line }

// Column is the column of n's place, counted from 1 in characters; 0 for the
// zero Node.
func (n Node) Column() int { return n.at.column }

// Errorf returns a fault at n's place. Wrap hostile values in Quote. A %w verb
// is not supported: an Error is for the writer of the file and wraps nothing.
func (n Node) Errorf(format string, args ...any) *Error {
	return n.src.fault(n.at, fmt.Sprintf(format, args...))
}

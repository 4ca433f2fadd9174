// Package secret holds values that must never be seen by accident.
//
// It hides one decision: how a secret is kept out of everything that prints.
// A String shows as [redacted] under every fmt verb, in slog, in JSON and in
// text encodings; the only way to its value is the method Reveal, which is easy
// to search for and should stand only where the value truly leaves us.
package secret

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
)

// Redacted is what every printed form of a secret shows.
const Redacted = "[redacted]"

// String is a secret value. The zero value is the empty secret.
//
// The value stands behind a pointer, so that even a reflection-based printer
// that ignores methods (spew, a debugger's %#v of an enclosing struct with
// unexported fields) shows an address and not the secret.
type String struct{ value *string }

// New wraps value. It does not copy the bytes: Go strings are immutable, and Go
// cannot promise to erase them. We claim no more than not printing them.
func New(value string) String { return String{value: &value} }

// Reveal returns the value itself.
func (s String) Reveal() string {
	if s.value == nil {
		return ""
	}
	return *s.value
}

// Empty reports whether there is no value. It is the only question about a
// secret that does not need Reveal.
func (s String) Empty() bool { return s.value == nil || *s.value == "" }

// String implements fmt.Stringer.
func (String) String() string { return Redacted }

// GoString implements fmt.GoStringer.
func (String) GoString() string { return Redacted }

// Format implements fmt.Formatter: every verb, %x and %p included, is redacted.
func (String) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, Redacted) }

// LogValue implements slog.LogValuer.
func (String) LogValue() slog.Value { return slog.StringValue(Redacted) }

// MarshalText implements encoding.TextMarshaler, which YAML, XML and map keys use.
func (String) MarshalText() ([]byte, error) { return []byte(Redacted), nil }

// MarshalJSON implements json.Marshaler. Whoever must send a secret over the
// wire calls Reveal into a plain string of a wire type.
func (String) MarshalJSON() ([]byte, error) { return json.Marshal(Redacted) }

// UnmarshalText lets configuration decode straight into a secret.
func (s *String) UnmarshalText(text []byte) error {
	*s = New(string(text))
	return nil
}

// UnmarshalJSON reads a JSON string.
func (s *String) UnmarshalJSON(data []byte) error {
	var value string
	if err := json.Unmarshal(data, &value); err != nil {
		return fmt.Errorf("reading a secret: want a JSON string") // not err: it may quote the value
	}
	*s = New(value)
	return nil
}

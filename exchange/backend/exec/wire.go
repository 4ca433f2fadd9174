package exec

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"index/suffixarray"
	"io"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// version is of the words between the exchange and a program.
const version = 1

const (
	issueVerb  = "issue"
	revokeVerb = "revoke"
	probeVerb  = "probe"
)

// request is what a program reads on its standard input, one JSON object and no more.
type request struct {
	Version    int            `json:"version"`
	Verb       string         `json:"verb"`
	Lease      string         `json:"lease"`
	Program    string         `json:"program"`
	Parameters map[string]any `json:"parameters,omitempty"`
	At         *time.Time     `json:"at,omitempty"`
	Until      *time.Time     `json:"until,omitempty"`
	DiesBy     *time.Time     `json:"dies_by,omitempty"`
	For        string         `json:"for,omitempty"`
	Handle     string         `json:"handle,omitempty"`
}

// answer is what a program writes on its standard output, one JSON object and no more.
type answer struct {
	Values  map[string]string          `json:"values"`
	Env     map[string]string          `json:"env"`
	Public  []string                   `json:"public"`
	Handle  string                     `json:"handle"`
	Granted map[string]json.RawMessage `json:"granted"`
	DiesAt  *time.Time                 `json:"dies_at"`
	Gone    *bool                      `json:"gone"`
	Error   *failure                   `json:"error"`
}

// failure is how a program says that it did not do it. What it does not say is not known.
type failure struct {
	Message     string `json:"message"`
	NotCreated  bool   `json:"not_created"`
	Unavailable bool   `json:"unavailable"`
	Lost        bool   `json:"lost"`
}

// Faults of an answer. None quotes it: anything in it may be the secret.
var (
	errNoJSON     = errors.New("its answer is not one JSON object in UTF-8")
	errUnknownKey = errors.New("its answer has a key that is not known, or one twice")
	errWrongType  = errors.New("a value in its answer is not of the type that the key has")
)

var (
	answerKeys  = []string{"values", "env", "public", "handle", "granted", "dies_at", "gone", "error"}
	failureKeys = []string{"message", "not_created", "unavailable", "lost"}
)

// readAnswer is strict: what is misspelt or said twice was meant in some way that nobody
// here knows.
func readAnswer(text []byte) (answer, error) {
	var a answer
	var top, inner map[string]json.RawMessage
	if !utf8.Valid(text) || json.Unmarshal(text, &top) != nil || top == nil {
		return a, errNoJSON
	}
	if twice(text) || !onlyKeys(top, answerKeys) {
		return a, errUnknownKey
	}
	if raw, failed := top["error"]; failed {
		if json.Unmarshal(raw, &inner) != nil || inner == nil {
			return a, errWrongType
		}
		if !onlyKeys(inner, failureKeys) {
			return a, errUnknownKey
		}
	}
	if json.Unmarshal(text, &a) != nil {
		return answer{}, errWrongType
	}
	return a, nil
}

func onlyKeys(object map[string]json.RawMessage, known []string) bool {
	for key := range object {
		if !slices.Contains(known, key) {
			return false
		}
	}
	return true
}

// twice reports whether an object anywhere in valid JSON has a key twice: readers
// disagree on which of them counts.
func twice(text []byte) bool {
	type level struct {
		keys map[string]bool // nil: of a list
		key  bool            // a key comes next
	}
	var open []*level
	in := json.NewDecoder(bytes.NewReader(text))
	for {
		token, err := in.Token()
		if err != nil {
			return !errors.Is(err, io.EOF)
		}
		var at *level
		if len(open) > 0 {
			at = open[len(open)-1]
		}
		if word, ok := token.(string); ok && at != nil && at.key {
			if at.keys[word] {
				return true
			}
			at.keys[word], at.key = true, false
			continue
		}
		if at != nil {
			at.key = at.keys != nil
		}
		switch token {
		case json.Delim('{'):
			open = append(open, &level{keys: map[string]bool{}, key: true})
		case json.Delim('['):
			open = append(open, &level{})
		case json.Delim('}'), json.Delim(']'):
			open = open[:len(open)-1]
			if len(open) > 0 {
				last := open[len(open)-1]
				last.key = last.keys != nil
			}
		}
	}
}

const (
	maxMessage = 200 // characters of a program's own words
	minSecret  = 4   // bytes; less would take its letters out of every word
)

// words are the program's own, in one line that can be printed anywhere. The secrets that
// are known of are not in it.
func (f failure) words(secrets ...string) string {
	text := redact(f.Message, secrets)
	text = strings.Join(strings.FieldsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) || unicode.IsSpace(r) }), " ")
	if short := []rune(text); len(short) > maxMessage {
		text = string(short[:maxMessage]) + "…"
	}
	if text == "" {
		return "it failed and did not say why"
	}
	return fmt.Sprintf("it says %q", text)
}

// redact takes every secret out of a text. What several of them cover goes at once: one may
// begin another, or end where another begins, and its rest would stay if they went in turn.
func redact(text string, secrets []string) string {
	index := suffixarray.New([]byte(text))
	depth := make([]int, len(text)+1) // how many more cover a byte than the one before
	for _, one := range secrets {
		if len(one) < minSecret {
			continue
		}
		for _, at := range index.Lookup([]byte(one), -1) {
			depth[at]++
			depth[at+len(one)]--
		}
	}
	var kept strings.Builder
	covered := 0
	for i := range len(text) {
		before := covered
		covered += depth[i]
		switch {
		case covered == 0:
			kept.WriteByte(text[i])
		case before == 0:
			kept.WriteString("[redacted]")
		}
	}
	return kept.String()
}

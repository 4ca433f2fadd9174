package exec

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/internal/yamlfile"
)

// scope is what a credential can do, as far as anybody but its program knows: which
// program made it, with which parameters. Immutable.
type scope struct {
	program    string
	about      string // words of the configuration's
	expires    bool   // nobody can end it before it dies
	parameters map[string]value
}

// value is one text or a list of some; a list is sorted and has nothing twice.
type value struct {
	list  bool
	texts []string
}

// Covers: the same program; every parameter the same, or of a list no more. A parameter
// that is left out may mean nothing or everything to a program, so it must be left out of
// both or given to both.
func (s *scope) Covers(other backend.Scope) bool {
	o, ours := other.(*scope)
	if !ours || s == nil || o == nil || s.program != o.program || len(s.parameters) != len(o.parameters) {
		return false
	}
	for name, v := range s.parameters {
		theirs, given := o.parameters[name]
		if !given || !v.covers(theirs) {
			return false
		}
	}
	return true
}

func (v value) covers(other value) bool {
	if !v.list || !other.list {
		return v.list == other.list && slices.Equal(v.texts, other.texts)
	}
	return len(other.texts) > 0 && !slices.ContainsFunc(other.texts, func(text string) bool { return !slices.Contains(v.texts, text) })
}

const maxNamed = 5 // of one kind, that String names one by one

// String says the scope in words: "program tokens (a key of the reports service): area
// "reports", can "read"".
func (s *scope) String() string {
	words := "program " + s.program
	if s.about != "" {
		words += " (" + s.about + ")"
	}
	var given []string
	for _, name := range slices.Sorted(maps.Keys(s.parameters)) {
		given = append(given, name+" "+some(s.parameters[name].texts))
	}
	if len(given) > maxNamed {
		given = append(given[:maxNamed], fmt.Sprintf("and %d parameters more", len(given)-maxNamed))
	}
	if len(given) > 0 {
		words += ": " + strings.Join(given, ", ")
	}
	if s.expires {
		words += "; it cannot be revoked and expires by itself"
	}
	return words
}

func some(texts []string) string {
	var quoted []string
	for i, text := range texts {
		if i == maxNamed {
			quoted = append(quoted, fmt.Sprintf("%d more", len(texts)-maxNamed))
			break
		}
		quoted = append(quoted, yamlfile.Quote(text))
	}
	return strings.Join(quoted, " and ")
}

// written are the parameters as a program reads them.
func (s *scope) written() map[string]any {
	all := map[string]any{}
	for name, v := range s.parameters {
		if v.list {
			all[name] = v.texts
		} else {
			all[name] = strings.Join(v.texts, "")
		}
	}
	return all
}

// granted is the scope of what a program says it granted.
func (s *scope) granted(said map[string]json.RawMessage) (*scope, bool) {
	g := &scope{program: s.program, about: s.about, expires: s.expires, parameters: map[string]value{}}
	for name, raw := range said {
		var text string
		v := value{list: s.parameters[name].list}
		if v.list {
			if json.Unmarshal(raw, &v.texts) != nil {
				return nil, false
			}
			slices.Sort(v.texts)
			v.texts = slices.Compact(v.texts)
		} else if json.Unmarshal(raw, &text) != nil {
			return nil, false
		} else {
			v.texts = []string{text}
		}
		g.parameters[name] = v
	}
	return g, true
}

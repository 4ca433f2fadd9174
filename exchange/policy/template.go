package policy

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/exchange/identity"
	"github.com/stepkey/stepkey/internal/yamlfile"
)

// template is a credential's block, with the texts in it that hold ${…}.
type template struct {
	block backend.Block
	texts map[yamlfile.Node][]piece
}

// piece is a part of a text: as it stands, or what comes of an expression.
type piece struct {
	literal string
	filled  *expression
	from    int // where the expression begins in its text, in characters
}

// unfilled is a place of a block that could not be filled, and why.
type unfilled struct {
	at         yamlfile.Node
	expression string
	why        string
}

func (e *unfilled) Error() string { return yamlfile.Quote("${"+e.expression+"}") + ": " + e.why }

// fill returns the block as it is for one workload. Every place must come out as text
// that widens nothing: see plainText.
func (t template) fill(f facts) (backend.Block, *unfilled) {
	if len(t.texts) == 0 {
		return t.block, nil
	}
	block, err := t.block.Rewrite(func(n yamlfile.Node, text string) (string, error) {
		pieces, ours := t.texts[n]
		if !ours {
			return text, nil
		}
		var b strings.Builder
		for _, p := range pieces {
			b.WriteString(p.literal)
			if p.filled == nil {
				continue
			}
			text, why := p.filled.fills(f)
			if why != "" {
				return "", &unfilled{n.At(p.from), p.filled.text, why}
			}
			b.WriteString(text)
		}
		return b.String(), nil
	})
	var none *unfilled
	errors.As(err, &none)
	return block, none
}

// fills returns what comes of an expression, if it may stand in a block.
func (e *expression) fills(f facts) (text, why string) {
	result, why := e.eval(f)
	if why != "" {
		return "", why
	}
	if text, why = resultText(result); why != "" {
		return "", why
	}
	if e.path {
		return text, badPath(text)
	}
	return text, badPlain(text)
}

func resultText(result ref.Val) (text, why string) {
	switch v := result.(type) {
	case types.String:
		return string(v), ""
	case types.Int:
		return decimal(int64(v)), ""
	}
	return "", "it gives neither text nor a whole number"
}

func decimal(number any) string {
	n, _ := number.(int64)
	return strconv.FormatInt(n, 10)
}

const (
	maxFilled = 256  // bytes that one expression may give
	maxPath   = 1024 // and as a path
)

var plainText = regexp.MustCompile(`\A[A-Za-z0-9_][A-Za-z0-9._-]*\z`)

// badPlain says why a text may not fill a place of a block. What comes out of a claim or
// an input is taken only if no backend could read more into it than one name: letters,
// digits, and . _ - between them. So there is no separator of paths or lists, no
// wildcard, no quote, no sign of another language, no option (-x), no hidden or parent
// directory (.x, a..b) and no empty text, which after a prefix would mean everything.
func badPlain(text string) string {
	switch {
	case text == "":
		return "it gives empty text"
	case len(text) > maxFilled:
		return fmt.Sprintf("it gives %d bytes; at most %d", len(text), maxFilled)
	case strings.Contains(text, "/") && badPath(text) == "":
		return "it gives " + yamlfile.Quote(text) + ", which holds a /; if a path is meant, write ${path(…)}"
	case !plainText.MatchString(text) || strings.Contains(text, ".."):
		return "it gives " + yamlfile.Quote(text) + ", and may only give letters, digits, and . _ - after the first, without two dots in a row"
	}
	return ""
}

// badPath is badPlain for ${path(…)}: such texts between single slashes, so that it can
// neither leave the place it is in nor begin at another.
func badPath(text string) string {
	if len(text) > maxPath {
		return fmt.Sprintf("it gives %d bytes; at most %d", len(text), maxPath)
	}
	for segment := range strings.SplitSeq(text, "/") {
		if len(segment) > maxFilled || !plainText.MatchString(segment) || strings.Contains(segment, "..") {
			return "it gives " + yamlfile.Quote(text) + ", and between its slashes may only stand letters, digits, and . _ - after the first, without two dots in a row"
		}
	}
	return ""
}

// sample is somebody who may have the task: values of the first entry of allow, and of
// what it leaves open an example.
func (t *Task) sample() facts {
	claims := identity.Claims{}
	for _, pieces := range t.template.texts {
		for _, p := range pieces {
			if p.filled == nil {
				continue
			}
			for _, name := range p.filled.claims {
				claims[name] = t.allow[0].sampleClaim(name)
			}
		}
	}
	inputs := make(map[string]any, len(t.Inputs))
	for i := range t.Inputs {
		inputs[t.Inputs[i].Name] = t.Inputs[i].value(t.Inputs[i].Example)
	}
	return facts{Workload: identity.Workload{Claims: claims}, inputs: inputs}
}

// template reads a block's texts. ${…} holds an expression, $${ writes ${, and there is
// no other sign. Keys hold none: what a block is about must be seen in the file.
func (r *reader) template(block backend.Block, allow []entry) (t template, filled bool) {
	r.noOpenerInKeys(block)
	t = template{block: block, texts: map[yamlfile.Node][]piece{}}
	var kinds []string
	for _, e := range allow {
		kinds = append(kinds, e.kind)
	}
	_, _ = block.Rewrite(func(n yamlfile.Node, text string) (string, error) { // only looks
		if strings.Contains(text, "${") {
			pieces, some := r.pieces(source{node: n, text: text, kinds: kinds, fills: true})
			t.texts[n], filled = pieces, filled || some
		}
		return text, nil
	})
	return t, filled
}

func (r *reader) noOpenerInKeys(n yamlfile.Node) {
	for _, key := range n.Keys() {
		if strings.Contains(key, "${") {
			r.refuse(n.Key(key), "a key holds no expression (${…}); write the key out")
		}
		r.noOpenerInKeys(n.Get(key))
	}
	for _, item := range n.Items() {
		r.noOpenerInKeys(item)
	}
}

// pieces takes a text apart; some reports whether it holds an expression.
func (r *reader) pieces(s source) (pieces []piece, some bool) {
	rest := s.text
	for rest != "" {
		next := strings.Index(rest, "${")
		if next < 0 {
			return append(pieces, piece{literal: rest}), some
		}
		if next > 0 && rest[next-1] == '$' {
			pieces = append(pieces, piece{literal: rest[:next-1] + "${"})
			rest = rest[next+len("${"):]
			continue
		}
		one := s
		one.from = utf8.RuneCountInString(s.text) - utf8.RuneCountInString(rest[next+len("${"):])
		end := closing(rest[next+len("${"):])
		if end < 0 {
			r.refuse(s.node.At(one.from-len("${")), "this ${ has no }; write $${ where ${ itself is meant")
			return nil, true
		}
		one.text = rest[next+len("${"):][:end]
		pieces = append(pieces, piece{literal: rest[:next], filled: r.compile(one), from: one.from})
		rest, some = rest[next+len("${")+end+1:], true
	}
	return pieces, some
}

// closing is where the } stands that ends an expression: outside CEL's texts and its own
// brackets.
func closing(text string) int {
	var quote byte
	open := 0
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case quote != 0 && c == '\\':
			i++
		case quote != 0 && c == quote:
			quote = 0
		case quote != 0:
		case c == '"' || c == '\'':
			quote = c
		case c == '{':
			open++
		case c == '}' && open == 0:
			return i
		case c == '}':
			open--
		}
	}
	return -1
}

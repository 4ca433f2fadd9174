package yamlfile

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"
)

// converter turns the library's nodes into values of ours, and refuses what the
// library is lax about: it joins lines that look like lists and mappings to the
// text before them, and takes brackets inside brackets for text. A task file must
// not be read as another than the one a reviewer sees.
type converter struct {
	*source
	words int // scalars seen, to compare with those of the file
	flow  int // brackets around
}

// words counts the scalars among tokens.
func words(tokens token.Tokens) int {
	n := 0
	for _, t := range tokens {
		if isWord(t) {
			n++
		}
	}
	return n
}

func isWord(t *token.Token) bool {
	switch t.Type {
	case token.StringType, token.SingleQuoteType, token.DoubleQuoteType, token.BoolType, token.NullType,
		token.IntegerType, token.BinaryIntegerType, token.OctetIntegerType, token.HexIntegerType,
		token.FloatType, token.InfinityType, token.NanType:
		return true
	}
	return false
}

// convert reads one value and what is in it.
func (c *converter) convert(n ast.Node, depth int) (*value, error) {
	v := &value{at: at(n.GetToken())}
	if depth > maxDepth {
		return nil, c.tooDeep(v.at)
	}
	switch n := n.(type) {
	case *ast.MappingNode:
		return c.mapping(n, depth)
	case *ast.SequenceNode:
		return c.list(n, depth)
	case *ast.StringNode:
		v.kind, v.text = kindText, n.Value
		v.plain = n.Token.Type == token.StringType
	case *ast.LiteralNode:
		v.kind, v.text = kindText, n.Value.Value
		if n.Value.Token != nil && isWord(n.Value.Token) {
			c.words++
		}
		return v, nil
	case *ast.BoolNode:
		v.kind, v.text = kindBool, n.Token.Value
	case *ast.IntegerNode:
		v.kind, v.text = kindInt, n.Token.Value
	case *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		v.kind, v.text = kindFloat, n.GetToken().Value
	case *ast.NullNode:
		v.kind = kindNull
	default:
		return nil, c.fault(v.at, "this kind of YAML is not used here")
	}
	return v, c.word(n.GetToken())
}

// word checks one scalar as it stands in the file.
func (c *converter) word(t *token.Token) error {
	if !isWord(t) { // nothing where a value would be
		return nil
	}
	c.words++
	var why string
	if t.Type == token.SingleQuoteType || t.Type == token.DoubleQuoteType {
		why = c.quotedFault(t)
	} else {
		why = c.plainFault(t)
	}
	if why != "" {
		return c.fault(at(t), why)
	}
	return nil
}

// Quoted text that ends in its line, and of double quotes such with only what
// YAML 1.2, 5.7, lets stand after a backslash: the library takes anything.
var (
	singleQuoted = regexp.MustCompile(`\A'(?:[^']|'')*'`)
	doubleQuoted = regexp.MustCompile(`\A"(?:[^"\\]|\\.)*"`)
	escapedWell  = regexp.MustCompile(`\A"(?:[^"\\]|\\(?:[0abtnvfreN_LP "/\\]|x[0-9A-Fa-f]{2}|u[0-9A-Fa-f]{4}|U[0-9A-Fa-f]{8}))*"`)
)

func (c *converter) quotedFault(t *token.Token) (why string) {
	written := c.from(at(t))
	switch {
	case !singleQuoted.MatchString(written) && !doubleQuoted.MatchString(written):
		return "quoted text must end in its line; write long text with | or >"
	case t.Type == token.DoubleQuoteType && !escapedWell.MatchString(written):
		return `unknown escape after a backslash; write \\ for a backslash, or use single quotes`
	}
	return ""
}

func (c *converter) plainFault(t *token.Token) (why string) {
	text := t.Value
	switch {
	case !strings.HasPrefix(c.from(at(t)), text):
		return "this text runs on in the next line; put it in quotes in one line, or write it with | or >"
	case strings.IndexAny(text, ":,[]{}#&*!|>'\"%@`") == 0,
		strings.HasPrefix(text, "- "), strings.HasPrefix(text, "? "),
		strings.Contains(text, ": "), strings.HasSuffix(text, ":"),
		c.flow > 0 && strings.ContainsAny(text, "[]{},"):
		return "put this text in quotes; it holds signs of YAML"
	}
	return ""
}

func (c *converter) list(n *ast.SequenceNode, depth int) (*value, error) {
	v := &value{kind: kindList, at: at(n.GetToken())}
	if err := c.enter(n.IsFlowStyle, v.at); err != nil {
		return nil, err
	}
	defer c.leave(n.IsFlowStyle)
	for _, item := range n.Values {
		one, err := c.convert(item, depth+1)
		if err != nil {
			return nil, err
		}
		if c.flow == 0 && one.kind != kindNull && one.at.column <= v.at.column {
			return nil, c.fault(one.at, "indent this, or it does not belong to the list")
		}
		v.items = append(v.items, one)
	}
	return v, nil
}

func (c *converter) mapping(n *ast.MappingNode, depth int) (*value, error) {
	v := &value{kind: kindMapping, at: at(n.GetToken())}
	if len(n.Values) > 0 && !n.IsFlowStyle {
		v.at = at(n.Values[0].Key.GetToken()) // the library's place is that of the colon
	}
	if err := c.enter(n.IsFlowStyle, v.at); err != nil {
		return nil, err
	}
	defer c.leave(n.IsFlowStyle)
	lines := make(map[string]int, len(n.Values))
	for _, pair := range n.Values {
		one, err := c.entry(pair, depth)
		if err != nil {
			return nil, err
		}
		if line, twice := lines[one.key]; twice {
			return nil, c.fault(one.at, fmt.Sprintf("key %s is already given in line %d", Quote(one.key), line))
		}
		lines[one.key] = one.at.line
		v.entries = append(v.entries, one)
	}
	return v, nil
}

// enter notes brackets. Inside brackets everything is in brackets: the library
// would take {a: b: c} for two mappings.
func (c *converter) enter(flow bool, p place) error {
	if c.flow > 0 && !flow {
		return c.fault(p, "inside brackets, write a mapping as {a: b} and a list as [a, b]")
	}
	if flow {
		c.flow++
	}
	return nil
}

func (c *converter) leave(flow bool) {
	if flow {
		c.flow--
	}
}

func (c *converter) entry(pair *ast.MappingValueNode, depth int) (entry, error) {
	key, ok := pair.Key.(*ast.StringNode)
	keyAt := at(pair.Key.GetToken())
	if !ok {
		return entry{}, c.fault(keyAt, "a key must be text; write it in quotes")
	}
	if err := c.word(key.Token); err != nil {
		return entry{}, err
	}
	child, err := c.convert(pair.Value, depth+1)
	if err != nil {
		return entry{}, err
	}
	if c.flow == 0 && child.kind < kindList && child.at.line > keyAt.line && child.at.column <= keyAt.column {
		return entry{}, c.fault(child.at, fmt.Sprintf("indent this, or it does not belong to %s", Quote(key.Value)))
	}
	if child.kind == kindNull {
		child.at = keyAt // nothing is in no place of its own
	}
	return entry{key.Value, keyAt, child}, nil
}

package runnersim

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/rhysd/actionlint"
)

// contexts are the values an expression may name, by the first word: github, env,
// vars, inputs, secrets, steps, runner, job. A value is nil, a bool, a float64, a
// string, or a map[string]any.
type contexts map[string]any

// status answers success(), failure(), cancelled() and always().
type status struct{ failed, cancelled bool }

// interpolate replaces every ${{ }} in text.
func (c contexts) interpolate(text string) (string, error) {
	var out strings.Builder
	for {
		before, rest, found := strings.Cut(text, "${{")
		out.WriteString(before)
		if !found {
			return out.String(), nil
		}
		node, used, err := parseExpression(rest)
		if err != nil {
			return "", err
		}
		v, err := evaluator{contexts: c}.eval(node)
		if err != nil {
			return "", fmt.Errorf("evaluating ${{ %s }}: %w", strings.TrimSpace(strings.TrimSuffix(rest[:used], "}}")), err)
		}
		s, err := asString(v)
		if err != nil {
			return "", fmt.Errorf("evaluating ${{ %s }}: %w", strings.TrimSpace(strings.TrimSuffix(rest[:used], "}}")), err)
		}
		out.WriteString(s)
		text = rest[used:]
	}
}

// holds evaluates an if: condition. Without a status function it means
// success() && (condition), as GitHub documents.
func (c contexts) holds(condition string, s status) (bool, error) {
	condition = strings.TrimSpace(condition)
	if inner, ok := strings.CutPrefix(condition, "${{"); ok {
		condition = strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(inner), "}}"))
	}
	if condition == "" {
		return !s.failed && !s.cancelled, nil
	}
	node, _, err := parseExpression(condition + "}}")
	if err != nil {
		return false, err
	}
	if !asksStatus(node) && (s.failed || s.cancelled) {
		return false, nil
	}
	v, err := evaluator{contexts: c, status: &s}.eval(node)
	if err != nil {
		return false, fmt.Errorf("evaluating if: %s: %w", condition, err)
	}
	return truthy(v), nil
}

// parseExpression reads up to and with the closing }} and says how far that was.
func parseExpression(source string) (actionlint.ExprNode, int, error) {
	lexer := actionlint.NewExprLexer(source)
	node, problem := actionlint.NewExprParser().Parse(lexer)
	if problem != nil {
		return nil, 0, fmt.Errorf("reading the expression %q: %s", firstLine(source), problem.Message)
	}
	return node, lexer.Offset(), nil
}

func asksStatus(node actionlint.ExprNode) bool {
	found := false
	actionlint.VisitExprNode(node, func(n, _ actionlint.ExprNode, entering bool) {
		if call, ok := n.(*actionlint.FuncCallNode); ok && entering {
			switch strings.ToLower(call.Callee) {
			case "success", "failure", "cancelled", "always":
				found = true
			}
		}
	})
	return found
}

type evaluator struct {
	contexts contexts
	status   *status // nil where no status function may stand
}

func (e evaluator) eval(node actionlint.ExprNode) (any, error) {
	switch n := node.(type) {
	case *actionlint.NullNode:
		return nil, nil
	case *actionlint.BoolNode:
		return n.Value, nil
	case *actionlint.IntNode:
		return float64(n.Value), nil
	case *actionlint.FloatNode:
		return n.Value, nil
	case *actionlint.StringNode:
		return n.Value, nil
	case *actionlint.VariableNode:
		v, ok := e.contexts[n.Name]
		if !ok {
			return nil, fmt.Errorf("the context %q is not supported by this runner", n.Name)
		}
		return v, nil
	case *actionlint.ObjectDerefNode:
		return e.property(n.Receiver, n.Property)
	case *actionlint.IndexAccessNode:
		return e.index(n)
	case *actionlint.NotOpNode:
		v, err := e.eval(n.Operand)
		return !truthy(v), err
	case *actionlint.LogicalOpNode:
		return e.logical(n)
	case *actionlint.CompareOpNode:
		return e.compare(n)
	case *actionlint.FuncCallNode:
		return e.call(n)
	default:
		return nil, fmt.Errorf("%T is not supported by this runner", node)
	}
}

// property of something that is not there is null, as on GitHub. Names are
// compared without regard to case.
func (e evaluator) property(receiver actionlint.ExprNode, name string) (any, error) {
	v, err := e.eval(receiver)
	if err != nil {
		return nil, err
	}
	object, ok := v.(map[string]any)
	if !ok {
		return nil, nil
	}
	if v, ok := object[name]; ok {
		return v, nil
	}
	for key, v := range object {
		if strings.EqualFold(key, name) {
			return v, nil
		}
	}
	return nil, nil
}

func (e evaluator) index(n *actionlint.IndexAccessNode) (any, error) {
	key, err := e.eval(n.Index)
	if err != nil {
		return nil, err
	}
	name, ok := key.(string)
	if !ok {
		return nil, errors.New("an index that is no string is not supported by this runner")
	}
	return e.property(n.Operand, name)
}

// logical returns an operand, not a boolean: a || 'default' is how GitHub's
// expressions say "or else".
func (e evaluator) logical(n *actionlint.LogicalOpNode) (any, error) {
	left, err := e.eval(n.Left)
	if err != nil {
		return nil, err
	}
	if truthy(left) == (n.Kind == actionlint.LogicalOpNodeKindOr) {
		return left, nil
	}
	return e.eval(n.Right)
}

func (e evaluator) compare(n *actionlint.CompareOpNode) (any, error) {
	if !n.Kind.IsEqualityOp() {
		return nil, fmt.Errorf("the operator %s is not supported by this runner", n.Kind)
	}
	left, err := e.eval(n.Left)
	if err != nil {
		return nil, err
	}
	right, err := e.eval(n.Right)
	if err != nil {
		return nil, err
	}
	same, err := equal(left, right)
	return same == (n.Kind == actionlint.CompareOpNodeKindEq), err
}

// equal compares strings without regard to case. GitHub turns values of unlike
// types into numbers first; that is refused here, since it surprises everyone.
func equal(a, b any) (bool, error) {
	switch left := a.(type) {
	case string:
		if right, ok := b.(string); ok {
			return strings.EqualFold(left, right), nil
		}
	case bool:
		if right, ok := b.(bool); ok {
			return left == right, nil
		}
	case float64:
		if right, ok := b.(float64); ok {
			return left == right, nil
		}
	case nil:
		if b == nil {
			return true, nil
		}
	}
	if text, ok := a.(string); ok && b == nil {
		return text == "", nil
	}
	if text, ok := b.(string); ok && a == nil {
		return text == "", nil
	}
	return false, errors.New("comparing values of unlike types is not supported by this runner")
}

func (e evaluator) call(n *actionlint.FuncCallNode) (any, error) {
	name := strings.ToLower(n.Callee)
	switch name {
	case "success", "failure", "cancelled", "always":
		return e.ask(name, len(n.Args))
	case "contains", "startswith", "endswith":
		return e.search(name, n.Args)
	default:
		return nil, fmt.Errorf("the function %s() is not supported by this runner", n.Callee)
	}
}

func (e evaluator) ask(name string, args int) (any, error) {
	if e.status == nil || args > 0 {
		return nil, fmt.Errorf("%s() stands alone in an if: condition, without arguments", name)
	}
	switch name {
	case "success":
		return !e.status.failed && !e.status.cancelled, nil
	case "failure":
		return e.status.failed && !e.status.cancelled, nil
	case "cancelled":
		return e.status.cancelled, nil
	default:
		return true, nil
	}
}

func (e evaluator) search(name string, args []actionlint.ExprNode) (any, error) {
	if len(args) != 2 {
		return nil, fmt.Errorf("%s() takes two arguments", name)
	}
	var text [2]string
	for i, arg := range args {
		v, err := e.eval(arg)
		if err != nil {
			return nil, err
		}
		if text[i], err = asString(v); err != nil {
			return nil, err
		}
		text[i] = strings.ToLower(text[i])
	}
	switch name {
	case "contains":
		return strings.Contains(text[0], text[1]), nil
	case "startswith":
		return strings.HasPrefix(text[0], text[1]), nil
	default:
		return strings.HasSuffix(text[0], text[1]), nil
	}
}

func truthy(v any) bool {
	switch v := v.(type) {
	case nil:
		return false
	case bool:
		return v
	case float64:
		return v != 0
	case string:
		return v != ""
	default:
		return true
	}
}

func asString(v any) (string, error) {
	switch v := v.(type) {
	case nil:
		return "", nil
	case bool:
		return strconv.FormatBool(v), nil
	case float64:
		return strconv.FormatFloat(v, 'G', 15, 64), nil
	case string:
		return v, nil
	default:
		return "", errors.New("an object has no text; name one of its values")
	}
}

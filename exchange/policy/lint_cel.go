package policy

import (
	"slices"

	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"

	"github.com/stepkey/stepkey/internal/yamlfile"
)

// looker collects from one condition what the linter wants to know. It reads the tree as
// it was parsed, without types: whether the condition is good is for compile to say.
type looker struct {
	node yamlfile.Node // the text that holds it
	text string
	info *ast.SourceInfo
	*condExpr
}

// readWhen returns what the linter sees in the conditions of an entry. One that cannot
// be parsed is not looked at.
func readWhen(n yamlfile.Node) (all []*condExpr) {
	items := []yamlfile.Node{n}
	if n.IsList() {
		items = n.Items()
	}
	env, err := baseEnv()
	for _, item := range items {
		words := text(item)
		if words == "" || err != nil {
			continue
		}
		parsed, issues := env.Parse(words)
		if issues.Err() != nil {
			continue
		}
		tree := parsed.NativeRep()
		l := looker{node: item, text: words, info: tree.SourceInfo(), condExpr: &condExpr{node: item}}
		l.walk(tree.Expr(), false)
		all = append(all, l.condExpr)
	}
	return all
}

// at is the place of a part of the condition.
func (c *looker) at(e ast.Expr) yamlfile.Node {
	return c.node.At(offset(c.text, c.info.GetStartLocation(e.ID())))
}

// walk collects from e and all below it; negated says that e is to be false.
func (c *looker) walk(e ast.Expr, negated bool) {
	if name := claimNamed(e); name != "" {
		c.claims = append(c.claims, name)
	}
	switch e.Kind() {
	case ast.IdentKind:
		c.inputs = c.inputs || variable(e) == "inputs"
	case ast.SelectKind:
		c.walk(e.AsSelect().Operand(), negated)
	case ast.ListKind:
		c.walkAll(e.AsList().Elements(), negated)
	case ast.MapKind:
		for _, entry := range e.AsMap().Entries() {
			c.walkAll([]ast.Expr{entry.AsMapEntry().Key(), entry.AsMapEntry().Value()}, negated)
		}
	case ast.ComprehensionKind:
		l := e.AsComprehension()
		c.walkAll([]ast.Expr{l.IterRange(), l.AccuInit(), l.LoopCondition(), l.LoopStep(), l.Result()}, negated)
	case ast.CallKind:
		c.call(e.AsCall(), negated)
	}
}

func (c *looker) walkAll(all []ast.Expr, negated bool) {
	for _, e := range all {
		c.walk(e, negated)
	}
}

func (c *looker) call(call ast.CallExpr, negated bool) {
	args := call.Args()
	if call.IsMemberFunction() {
		args = slices.Concat([]ast.Expr{call.Target()}, args)
	}
	switch name := call.FunctionName(); name {
	case operators.LogicalNot:
		c.walkAll(args, !negated)
		return
	case operators.Equals, operators.NotEquals:
		c.equals(args, negated != (name == operators.NotEquals))
	case operators.In:
		c.in(args, negated)
	case "startsWith", "endsWith", "contains", "matches":
		if len(args) == 2 {
			words, written := literal(args[1])
			if written || name == "contains" || name == "endsWith" { // of others, nobody knows
				c.compared = append(c.compared, comparison{c.at(args[1]), claimIn(args[0]), name, words, negated})
			}
		}
	}
	c.walkAll(args, negated)
}

func (c *looker) equals(args []ast.Expr, negated bool) {
	for i, e := range args {
		other := args[len(args)-1-i]
		if words, fixed := literal(other); fixed && claimIn(e) != "" {
			c.compared = append(c.compared, comparison{c.at(other), claimIn(e), "==", words, negated})
		}
	}
}

func (c *looker) in(args []ast.Expr, negated bool) {
	if name, written := literal(args[0]); written && len(args) == 2 && variable(args[1]) == "claims" && !negated {
		c.asked = append(c.asked, name)
	}
	if len(args) != 2 || args[1].Kind() != ast.ListKind {
		return
	}
	for _, e := range args[1].AsList().Elements() {
		if words, fixed := literal(e); fixed && claimIn(args[0]) != "" {
			c.compared = append(c.compared, comparison{c.at(e), claimIn(args[0]), "in", words, negated})
		}
	}
}

// claimIn returns the claim that e is, or is made from by calls upon it, as in
// claims.ref.substring(11).
func claimIn(e ast.Expr) string {
	if name := claimNamed(e); name != "" || e.Kind() != ast.CallKind {
		return name
	}
	call := e.AsCall()
	switch {
	case call.IsMemberFunction():
		return claimIn(call.Target())
	case len(call.Args()) == 1: // a conversion
		return claimIn(call.Args()[0])
	}
	return ""
}

// claimNamed returns the claim that e is: claims.ref or claims["ref"].
func claimNamed(e ast.Expr) string {
	switch {
	case e.Kind() == ast.SelectKind && variable(e.AsSelect().Operand()) == "claims":
		return e.AsSelect().FieldName()
	case e.Kind() == ast.CallKind && e.AsCall().FunctionName() == operators.Index:
		if args := e.AsCall().Args(); variable(args[0]) == "claims" {
			name, _ := literal(args[1])
			return name
		}
	}
	return ""
}

package policy

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"

	"github.com/stepkey/stepkey/internal/yamlfile"
)

// source is an expression as it stands in a task file.
type source struct {
	node  yamlfile.Node // the text that holds it
	from  int           // where in the text it begins, in characters
	text  string
	kinds []string // of the issuers whose claims it reads
	fills bool     // it fills a place of a block, and is no condition
}

// compile returns the expression of a source, or nil after it has refused it.
func (r *reader) compile(s source) *expression {
	switch {
	case strings.TrimSpace(s.text) == "":
		r.refuse(s.node.At(s.from), "the expression is empty")
		return nil
	case len(s.text) > maxExpression:
		r.refuse(s.node.At(s.from), "the expression has %d bytes; at most %d", len(s.text), maxExpression)
		return nil
	}
	if r.env == nil {
		var err error
		if r.env, err = envWith(r.declared); err != nil {
			r.refuse(s.node, "expressions cannot be read: %v", err)
			return nil
		}
	}
	parsed, issues := r.env.Parse(s.text)
	if r.issues(s, issues) {
		return nil
	}
	w := walker{reader: r, source: s, info: parsed.NativeRep().SourceInfo()}
	w.walk(parsed.NativeRep().Expr(), true)
	if w.faults > 0 {
		return nil
	}
	checked, issues := r.env.Check(parsed)
	if r.issues(s, issues) || !r.rightType(s, checked.OutputType()) {
		return nil
	}
	return r.planned(s, checked, w)
}

// issues reports the first thing that CEL has to say against an expression; what
// follows is mostly about the same.
func (r *reader) issues(s source, issues *cel.Issues) bool {
	if issues.Err() == nil {
		return false
	}
	for _, e := range issues.Errors() {
		r.refuse(s.node.At(s.from+offset(s.text, e.Location)), "%s", inWords(e.Message))
		return true
	}
	r.refuse(s.node.At(s.from), "the expression cannot be read: %v", issues.Err())
	return true
}

// inWords adds to CEL's messages what they leave out, and takes away what says nothing
// to whoever writes a task file.
func inWords(message string) string {
	message, _, _ = strings.Cut(message, " expecting {")
	switch {
	case strings.Contains(message, "'<EOF>'"):
		return "the expression ends too early"
	case strings.HasPrefix(message, "found no matching overload"):
		return message + "; every claim is text"
	case strings.HasPrefix(message, "comprehension exceeds"):
		return fmt.Sprintf("lists are gone through inside lists more than %d deep", maxNesting)
	}
	return message
}

// offset is a place of CEL's as a count of characters.
func offset(text string, at common.Location) int {
	before := 0
	lines := strings.SplitAfter(text, "\n")
	for _, line := range lines[:min(max(at.Line()-1, 0), len(lines))] {
		before += len([]rune(line))
	}
	return before + max(at.Column(), 0)
}

func (r *reader) rightType(s source, is *cel.Type) bool {
	switch {
	case !s.fills && !is.IsExactType(types.BoolType):
		r.refuse(s.node.At(s.from), "a condition must be true or false; this is %s", is)
	case s.fills && !is.IsExactType(types.StringType) && !is.IsExactType(types.IntType):
		r.refuse(s.node.At(s.from), "what fills a place must be text or a whole number (string or int); this is %s", is)
	default:
		return true
	}
	return false
}

func (r *reader) planned(s source, checked *cel.Ast, w walker) *expression {
	estimate, err := r.env.EstimateCost(checked, sizes{})
	if err != nil || estimate.Max > maxCost {
		r.refuse(s.node.At(s.from), "this may take too long to decide; write a simpler expression")
		return nil
	}
	program, err := r.env.Program(checked, cel.EvalOptions(cel.OptOptimize), cel.CostLimit(maxCost))
	if err != nil {
		r.refuse(s.node.At(s.from), "%v", err)
		return nil
	}
	return &expression{text: strings.TrimSpace(s.text), place: place(s.node), program: program, claims: w.claims, inputs: w.inputs, path: w.path}
}

// walker looks at an expression before its types are checked: which claims and inputs
// it reads, by name, and that it reads them in no other way.
type walker struct {
	*reader
	source
	info   *ast.SourceInfo
	claims []string
	inputs []string
	path   bool
	faults int
}

func (w *walker) fault(e ast.Expr, format string, args ...any) {
	w.faults++
	at := offset(w.text, w.info.GetStartLocation(e.ID()))
	if runes := []rune(w.text); at < len(runes) && runes[at] == '.' {
		at++ // CEL's place of a name is the dot before it
	}
	w.refuse(w.node.At(w.from+at), format, args...)
}

// walk goes through e; outermost is the whole expression.
func (w *walker) walk(e ast.Expr, outermost bool) {
	switch e.Kind() {
	case ast.IdentKind:
		if name := variable(e); name != "" {
			w.fault(e, "%s is read by name, as %s.%s", name, name, map[string]string{"claims": "ref", "inputs": "version"}[name])
		}
	case ast.SelectKind:
		if !w.read(e, variable(e.AsSelect().Operand()), e.AsSelect().FieldName(), true) {
			w.walk(e.AsSelect().Operand(), false)
		}
	case ast.CallKind:
		w.call(e, outermost)
	case ast.ListKind:
		w.all(e.AsList().Elements())
	case ast.MapKind:
		for _, entry := range e.AsMap().Entries() {
			w.all([]ast.Expr{entry.AsMapEntry().Key(), entry.AsMapEntry().Value()})
		}
	case ast.StructKind:
		for _, field := range e.AsStruct().Fields() {
			w.walk(field.AsStructField().Value(), false)
		}
	case ast.ComprehensionKind:
		w.comprehension(e)
	}
}

func (w *walker) all(of []ast.Expr) {
	for _, e := range of {
		w.walk(e, false)
	}
}

// comprehension also refuses a name for the elements that would hide a variable.
func (w *walker) comprehension(e ast.Expr) {
	c := e.AsComprehension()
	for _, name := range []string{c.IterVar(), c.IterVar2(), c.AccuVar()} {
		if name == "claims" || name == "inputs" {
			w.fault(e, "%s is a name of its own here; call the elements otherwise", name)
		}
	}
	w.all([]ast.Expr{c.IterRange(), c.AccuInit(), c.LoopCondition(), c.LoopStep(), c.Result()})
}

// variable is the name of the variable that e is, if it is one of ours.
func variable(e ast.Expr) string {
	if e.Kind() != ast.IdentKind {
		return ""
	}
	name := strings.TrimPrefix(e.AsIdent(), ".")
	if name == "claims" || name == "inputs" {
		return name
	}
	return ""
}

func (w *walker) call(e ast.Expr, outermost bool) {
	c := e.AsCall()
	args := c.Args()
	switch c.FunctionName() {
	case operators.Index:
		if name, ok := literal(args[1]); ok && w.read(e, variable(args[0]), name, false) {
			return
		}
	case operators.In:
		if name, ok := literal(args[0]); ok && w.read(e, variable(args[1]), name, false) {
			return
		}
	case "matches":
		w.pattern(e, args)
	case "path":
		w.path = true
		if !outermost || !w.fills {
			w.fault(e, "path(…) is for the whole of what stands in ${…}")
		}
	}
	if c.IsMemberFunction() {
		w.walk(c.Target(), false)
	}
	w.all(args)
}

// pattern demands that a regular expression stands in the file: what a claim or an
// input holds must not decide what matches.
func (w *walker) pattern(e ast.Expr, args []ast.Expr) {
	if len(args) == 0 {
		return // CEL says so
	}
	pattern, ok := literal(args[len(args)-1])
	if !ok {
		w.fault(e, "write the regular expression of matches out, as matches('^v[0-9]+$')")
	} else if _, err := regexp.Compile(pattern); err != nil {
		w.fault(args[len(args)-1], "%s is no regular expression (RE2, as in Go)", yamlfile.Quote(pattern))
	}
}

func literal(e ast.Expr) (string, bool) {
	if e.Kind() != ast.LiteralKind {
		return "", false
	}
	text, ok := e.AsLiteral().Value().(string)
	return text, ok
}

// read notes that a variable of ours is read by name. In the form claims["name"] a
// claim may be one that no issuer of the kind gives by itself.
func (w *walker) read(e ast.Expr, variable, name string, known bool) bool {
	switch variable {
	case "claims":
		w.claim(e, name, known)
	case "inputs":
		w.input(e, name)
	default:
		return false
	}
	return true
}

func (w *walker) claim(e ast.Expr, name string, known bool) {
	if !slices.Contains(w.claims, name) {
		w.claims = append(w.claims, name)
	}
	for _, kind := range w.kinds {
		if why := forbidden(kind, name); why != "" && (!w.fills || neverRule(name) != "identity-by-actor") {
			w.fault(e, "%s may not be read here: %s", name, why)
			w.reader.faults[len(w.reader.faults)-1].Rule = neverRule(name)
			return
		}
		if why := unknownClaim(kind, name); why != "" && known {
			w.fault(e, "%s", why)
			return
		}
	}
}

func (w *walker) input(e ast.Expr, name string) {
	if !slices.Contains(w.inputs, name) {
		w.inputs = append(w.inputs, name)
	}
	t := Task{Inputs: w.declared}
	if !slices.ContainsFunc(t.Inputs, func(i Input) bool { return i.Name == name }) {
		w.fault(e, "%s; declare it under inputs", t.noInput(name))
	}
}

package policy

import (
	"strings"
	"sync"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/cost"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
)

// Expressions are CEL (cel.dev) over two variables:
//
//   - claims: the workload's claims by name, all text, as Claims.Text has them. One that
//     is absent is absent: to read it is an error, and has(claims.name) asks before.
//   - inputs: what was asked for with the task, typed as the task file declares it.
//
// Nothing else comes in: no clock, no randomness, no look-up. An expression is compiled
// once, when its file is read, and can never cost more than maxCost.

const (
	maxExpression = 1024   // bytes of one expression
	maxCost       = 20_000 // CEL's units, some tens of nanoseconds each
	maxNesting    = 2      // macros inside each other that go through lists
	maxClaim      = 1024   // characters that a claim is taken to have when cost is estimated
)

// baseEnv is what all task files have in common. Safe for concurrent use.
var baseEnv = sync.OnceValues(func() (*cel.Env, error) {
	return cel.NewEnv(
		cel.Variable("claims", cel.MapType(cel.StringType, cel.StringType)),
		cel.Function("path", cel.Overload("path_string", []*cel.Type{cel.StringType}, cel.StringType,
			cel.UnaryBinding(func(text ref.Val) ref.Val { return text }))),
		cel.ParserExpressionSizeLimit(maxExpression),
		cel.ParserRecursionLimit(50),
		cel.ASTValidators(cel.ValidateRegexLiterals(), cel.ValidateComprehensionNestingLimit(maxNesting)),
	)
})

// inputsType is the CEL type of inputs.
const inputsType = "inputs"

// envWith is the base and a task's inputs.
func envWith(inputs []Input) (*cel.Env, error) {
	base, err := baseEnv()
	if err != nil || len(inputs) == 0 {
		return base, err
	}
	fields := make(map[string]*types.FieldType, len(inputs))
	for _, i := range inputs {
		fields[i.Name] = i.field()
	}
	provider := inputTypes{base.CELTypeProvider(), fields}
	return base.Extend(cel.CustomTypeProvider(provider), cel.Variable("inputs", cel.ObjectType(inputsType)))
}

// field says how CEL reads an input. Every declared one has a value.
func (i *Input) field() *types.FieldType {
	name, kind := i.Name, types.StringType
	if i.Type == NumberInput {
		kind = types.IntType
	}
	return &types.FieldType{
		Type:  kind,
		IsSet: func(any) bool { return true },
		GetFrom: func(inputs any) (any, error) {
			values, _ := inputs.(map[string]any)
			if value, ok := values[name]; ok {
				return value, nil
			}
			return nil, noValue(name)
		},
	}
}

type noValue string

func (e noValue) Error() string { return "no such input: " + string(e) }

// inputTypes knows one type more than CEL: that of a task's inputs.
type inputTypes struct {
	types.Provider
	fields map[string]*types.FieldType
}

func (t inputTypes) FindStructType(name string) (*types.Type, bool) {
	if name == inputsType {
		return types.NewTypeTypeWithParam(types.NewObjectType(inputsType)), true
	}
	return t.Provider.FindStructType(name)
}

func (t inputTypes) FindStructFieldNames(name string) ([]string, bool) {
	if name == inputsType {
		return nil, true
	}
	return t.Provider.FindStructFieldNames(name)
}

func (t inputTypes) FindStructFieldType(name, field string) (*types.FieldType, bool) {
	if name == inputsType {
		f, ok := t.fields[field]
		return f, ok
	}
	return t.Provider.FindStructFieldType(name, field)
}

// sizes bounds what CEL cannot know the size of, for the cost of an expression.
type sizes struct{}

func (sizes) EstimateSize(n cost.AstNode) *cost.SizeEstimate {
	if path := n.Path(); len(path) > 0 && (path[0] == "claims" || path[0] == "inputs") {
		return &cost.SizeEstimate{Min: 0, Max: maxClaim}
	}
	return nil
}

func (sizes) EstimateCallCost(function, _ string, _ *cost.AstNode, args []cost.AstNode) *cost.CallEstimate {
	if function != "path" || len(args) != 1 {
		return nil
	}
	return cost.NewCallEstimate(cost.Estimate{Min: 1, Max: 1}, args[0].ComputedSize())
}

// expression is one that was compiled. Immutable, safe for concurrent use.
type expression struct {
	text    string
	place   string
	program cel.Program
	claims  []string // that it reads, each once
	inputs  []string
	path    bool // its result may be several segments: see path
}

// eval returns what comes of the expression, or in words why nothing does.
func (e *expression) eval(f facts) (result ref.Val, why string) {
	claims := make(map[string]string, len(e.claims))
	for _, name := range e.claims {
		if text, ok := f.Claims.Text(name); ok {
			claims[name] = text
		}
	}
	result, _, err := e.program.Eval(map[string]any{"claims": claims, "inputs": f.inputs})
	if err == nil {
		return result, ""
	}
	said := err.Error()
	if name, missing := strings.CutPrefix(said, "no such key: "); missing {
		return nil, "no such claim: " + shown(name)
	}
	return nil, shown(said)
}

// shown is somebody else's text in a line of ours.
func shown(text string) string {
	const most = 120
	var b strings.Builder
	left := most
	for _, r := range text {
		if left--; left < 0 {
			return b.String() + "…"
		}
		if !printable(string(r)) {
			r = '?'
		}
		b.WriteRune(r)
	}
	return b.String()
}

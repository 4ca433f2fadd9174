package policy

import (
	"go/ast"
	"go/parser"
	"go/token"
	"regexp"
	"slices"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/stepkey/stepkey/exchange/backend"
)

// A new key of a block without words, or a new claim, would be offered without any.
func TestTheSchemaHasWordsForAllThatItNames(t *testing.T) {
	blocks := []schema{
		backend.SchemaOf[taskFile](func(key string) any { return taskKey(key, nil) }),
		backend.SchemaOf[entryBlock](entryKey), backend.SchemaOf[limitsBlock](limitKey), backend.SchemaOf[inputBlock](inputKey), claimsSchema(), acceptSchema(),
	}
	looked := 0
	for _, block := range blocks {
		properties, _ := block["properties"].(schema)
		for key, of := range properties {
			looked++
			if one, _ := of.(schema); of != false && (one["description"] == nil || one["description"] == "") {
				t.Errorf("%s has no words", key)
			}
		}
	}
	if looked < 60 {
		t.Errorf("only %d keys are named", looked)
	}
}

// The words are for claims that somebody gives and that may be matched.
func TestTheSchemaHasNoWordsForClaimsThatNobodyMayMatch(t *testing.T) {
	for kind, words := range claimWords {
		for claim := range words {
			if givenClaims[kind][claim] == "" || forbidden(kind, claim) != "" {
				t.Errorf("%s has words for %s", kind, claim)
			}
		}
	}
}

func TestTheSchemaRefusesTheClaimsThatTheReaderNeverTakes(t *testing.T) {
	tree, err := parser.ParseFile(token.NewFileSet(), "allow.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var named []string
	ast.Inspect(tree, func(n ast.Node) bool {
		if f, ok := n.(*ast.FuncDecl); ok {
			return f.Name.Name == "never"
		}
		if c, ok := n.(*ast.CaseClause); ok {
			for _, literal := range c.List {
				if name, err := strconv.Unquote(literal.(*ast.BasicLit).Value); err == nil {
					named = append(named, name)
				}
			}
		}
		return true
	})
	slices.Sort(named)
	if diff := cmp.Diff(named, neverNames); diff != "" {
		t.Errorf("neverNames (-never +names):\n%s", diff)
	}
}

func TestNumbersAboveOneAreTold(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		most := rapid.Int64Range(1, 100_000).Draw(t, "most")
		number := rapid.OneOf(rapid.Int64Range(0, 1_000_000), rapid.Int64Range(max(most-2, 0), most+2)).Draw(t, "number")
		told := regexp.MustCompile(`^` + moreThan(most) + `$`).MatchString(strconv.FormatInt(number, 10))
		if told != (number > most) {
			t.Fatalf("%d is more than %d: %t", number, most, told)
		}
	})
}

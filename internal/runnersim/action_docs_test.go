package runnersim

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rhysd/actionlint"
)

// The page on the action, docs/action.md, says what is so.

func actionPage(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../../docs/action.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

var yamlBlock = regexp.MustCompile("(?ms)^```yaml\n(.*?)^```$")

func TestEachWorkflowOfTheActionsPageIsOne(t *testing.T) {
	described, err := readAction("../..")
	if err != nil {
		t.Fatal(err)
	}
	linter, err := actionlint.NewLinter(io.Discard, &actionlint.LinterOptions{})
	if err != nil {
		t.Fatal(err)
	}
	blocks := yamlBlock.FindAllStringSubmatch(actionPage(t), -1)
	if len(blocks) < 5 {
		t.Fatalf("%d workflows", len(blocks))
	}
	for _, block := range blocks {
		findings, err := linter.Lint("docs/action.md", []byte(block[1]), nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, finding := range findings {
			t.Errorf("%v in:\n%s", finding, block[1])
		}
		p, err := readPlan([]byte(block[1]), "")
		if err != nil {
			t.Errorf("%v:\n%s", err, block[1])
			continue
		}
		if !p.idToken {
			t.Errorf("the job gets no ID token:\n%s", block[1])
		}
		for _, s := range p.steps {
			for name := range s.with {
				if _, known := described.Inputs[name]; strings.HasPrefix(s.uses, "stepkey/") && !known {
					t.Errorf("the action has no input %s:\n%s", name, block[1])
				}
			}
		}
	}
}

// table is the one below a heading: its rows' cells, without code marks.
func table(t *testing.T, page, heading string) [][]string {
	t.Helper()
	_, text, found := strings.Cut(page, "\n## "+heading+"\n")
	if !found {
		t.Fatalf("no section %q", heading)
	}
	var rows [][]string
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "## ") {
			break
		}
		if !strings.HasPrefix(line, "|") {
			continue
		}
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		for i := range cells {
			cells[i] = strings.Trim(strings.TrimSpace(cells[i]), "`")
		}
		rows = append(rows, cells)
	}
	if len(rows) < 3 {
		t.Fatalf("no table below %q", heading)
	}
	return rows[2:]
}

func TestTheActionsPageHasItsInputsAndOutputs(t *testing.T) {
	described, err := readAction("../..")
	if err != nil {
		t.Fatal(err)
	}
	want, got := map[string]string{}, map[string]string{}
	for name, input := range described.Inputs {
		want[name] = input.Default
	}
	for _, row := range table(t, actionPage(t), "Inputs") {
		got[row[0]] = row[1]
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("inputs and their defaults, in action.yml (-) and on the page (+):\n%s", diff)
	}
	var outputs []string
	for _, row := range table(t, actionPage(t), "Outputs") {
		outputs = append(outputs, row[0])
	}
	slices.Sort(outputs)
	if diff := cmp.Diff(slices.Sorted(maps.Keys(described.Outputs)), outputs); diff != "" {
		t.Errorf("outputs, in action.yml (-) and on the page (+):\n%s", diff)
	}
}

func TestEveryTitleOfAnErrorIsInTheActionsTroubleshooting(t *testing.T) {
	var got []string
	for _, row := range table(t, actionPage(t), "Troubleshooting") {
		got = append(got, row[0])
	}
	if !slices.IsSortedFunc(got, func(a, b string) int { return strings.Compare(strings.ToLower(a), strings.ToLower(b)) }) {
		t.Errorf("the titles are not in order: %q", got)
	}
	slices.Sort(got)
	if diff := cmp.Diff(titles(t), got); diff != "" {
		t.Errorf("titles, of the program (-) and on the page (+):\n%s", diff)
	}
}

// titles are what the action's halves can put above an annotation.
func titles(t *testing.T) []string {
	t.Helper()
	all := map[string]bool{}
	add := func(e ast.Expr) {
		switch e := e.(type) {
		case *ast.BasicLit:
			if text, err := strconv.Unquote(e.Value); err == nil && e.Kind == token.STRING {
				all[text] = true
			}
		case *ast.BinaryExpr: // "input " and its name
			if left, ok := e.X.(*ast.BasicLit); ok {
				text, _ := strconv.Unquote(left.Value)
				all[text+"…"] = true
			}
		}
	}
	files, err := filepath.Glob("../../cmd/stepkey/action_*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"ask", "idtoken", "inputs", "mask", "runner", "step", "summary", "words"} {
		files = append(files, "../../cmd/stepkey/"+name+".go")
	}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.CompositeLit:
				if kind, ok := n.Type.(*ast.Ident); ok && kind.Name == "trouble" && len(n.Elts) > 0 {
					add(n.Elts[0])
				}
			case *ast.CallExpr:
				if called, ok := n.Fun.(*ast.SelectorExpr); ok && called.Sel.Name == "warn" && len(n.Args) > 0 {
					add(n.Args[0])
				}
			case *ast.AssignStmt:
				for i, to := range n.Lhs {
					if to, ok := to.(*ast.Ident); ok && to.Name == "title" && len(n.Rhs) == len(n.Lhs) {
						add(n.Rhs[i])
					}
				}
			}
			return true
		})
	}
	return slices.Sorted(maps.Keys(all))
}

package house

import (
	"fmt"
	"go/ast"
	"path"
	"slices"
	"strings"
)

// filesParse: a file that does not parse is seen by no other rule.
func filesParse(t *tree) []string { return t.broken }

// sizesStayReadable applies to tests as well: a table that makes a test long is
// better off as a variable beside it.
func sizesStayReadable(t *tree) (broken []string) {
	for _, file := range t.gofile {
		if lines := strings.Count(t.files[file.path], "\n"); lines > maxFileLines {
			broken = append(broken, fmt.Sprintf("%s: %d lines, and %d is the limit; a file tells one part of the story", file.path, lines, maxFileLines))
		}
		ast.Inspect(file.ast, func(n ast.Node) bool {
			name, kind, body := function(n)
			if kind == nil {
				return true
			}
			if lines := t.lines(n); body != nil && lines > maxFunctionLines {
				broken = append(broken, fmt.Sprintf("%s: %s has %d lines, and %d is the limit; name its parts", t.at(n.Pos()), name, lines, maxFunctionLines))
			}
			if count := kind.Params.NumFields(); count > maxParameters {
				broken = append(broken, fmt.Sprintf("%s: %s takes %d parameters, and %d is the limit; some of them are one thing that has no name yet", t.at(n.Pos()), name, count, maxParameters))
			}
			return true
		})
	}
	return broken
}

// function takes apart a declared function or a function literal; kind is nil for
// any other node.
func function(n ast.Node) (name string, kind *ast.FuncType, body *ast.BlockStmt) {
	switch n := n.(type) {
	case *ast.FuncDecl:
		return n.Name.Name, n.Type, n.Body
	case *ast.FuncLit:
		return "a function literal", n.Type, n.Body
	default:
		return "", nil, nil
	}
}

// lines counts the lines of a node, comments above it not included.
func (t *tree) lines(n ast.Node) int {
	first := n.Pos()
	if declared, ok := n.(*ast.FuncDecl); ok {
		first = declared.Type.Pos()
	}
	return t.fset.Position(n.End()).Line - t.fset.Position(first).Line + 1
}

// namesSayWhatIsInside: of packages, their folders, and Go files.
func namesSayWhatIsInside(t *tree) (broken []string) {
	for _, file := range t.gofile {
		stem := strings.TrimSuffix(strings.TrimSuffix(path.Base(file.path), ".go"), "_test")
		folder := path.Base(file.dir)
		declared := strings.TrimSuffix(file.ast.Name.Name, "_test")
		for _, name := range []string{stem, folder, declared} {
			if slices.Contains(emptyNames, name) {
				broken = append(broken, fmt.Sprintf("%s: %q says nothing about what is inside; name what it knows", file.path, name))
				break
			}
		}
	}
	return broken
}

// nothingRunsBeforeMain: wiring stands in main, where it can be read in order.
func nothingRunsBeforeMain(t *tree) (broken []string) {
	for _, file := range t.gofile {
		for _, declaration := range file.ast.Decls {
			f, ok := declaration.(*ast.FuncDecl)
			if ok && f.Recv == nil && f.Name.Name == "init" {
				broken = append(broken, t.at(f.Pos())+": func init runs before anyone asked; call it by name from main")
			}
		}
	}
	return broken
}

// testsDoNotSleep: a test that sleeps is slow when right and flaky when wrong.
func testsDoNotSleep(t *tree) (broken []string) {
	for _, file := range t.gofile {
		if !file.test {
			continue
		}
		ast.Inspect(file.ast, func(n ast.Node) bool {
			if s, ok := n.(*ast.SelectorExpr); ok && file.qualified(s) == "time.Sleep" {
				broken = append(broken, t.at(s.Pos())+": tests do not sleep; inject a clock, use testing/synctest, or wait for the event itself")
			}
			return true
		})
	}
	return broken
}

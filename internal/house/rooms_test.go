package house

import (
	"fmt"
	"go/ast"
	"path"
	"slices"
	"strconv"
	"strings"
)

// roomsAreNamed: every top-level entry and every package folder is in the plan,
// and what the plan names is there.
func roomsAreNamed(t *tree) (broken []string) {
	seen := map[string]bool{}
	for _, name := range t.paths() {
		top, _, _ := strings.Cut(name, "/")
		if !seen[top] && !slices.Contains(topLevel, top) {
			broken = append(broken, fmt.Sprintf("%s: the plan names no such top-level entry; move it into a room, or add it to topLevel and ARCHITECTURE.md", top))
		}
		seen[top] = true
	}
	for _, file := range t.gofile {
		if _, ok := rooms[file.dir]; !ok && !seen[file.dir+"/"] {
			broken = append(broken, fmt.Sprintf("%s: a room without a rule; give it a row in rooms and a line in ARCHITECTURE.md, or put its code into a room that exists", file.dir))
		}
		seen[file.dir+"/"] = true
	}
	for dir, r := range rooms {
		if !r.later && !seen[dir+"/"] {
			broken = append(broken, fmt.Sprintf("%s: the plan names this room, and it has no Go file", dir))
		}
	}
	slices.Sort(broken)
	return broken
}

// importsFollowThePlan: non-test files import only the rooms of ours that their
// own room lists, and limited packages only where they may.
func importsFollowThePlan(t *tree) (broken []string) {
	for _, file := range t.gofile {
		if file.test {
			continue
		}
		for _, spec := range file.ast.Imports {
			if complaint := importComplaint(file.dir, importPath(spec)); complaint != "" {
				broken = append(broken, t.at(spec.Pos())+": "+complaint)
			}
			if spec.Name != nil && spec.Name.Name == "." {
				broken = append(broken, t.at(spec.Pos())+": a dot import hides where a name comes from; import it by name")
			}
		}
	}
	return broken
}

func importComplaint(dir, imports string) string {
	if ours, ok := strings.CutPrefix(imports, module+"/"); ok {
		if !slices.Contains(rooms[dir].imports, ours) {
			return fmt.Sprintf("%s may not import %s; it may import %s", dir, ours, orNothing(rooms[dir].imports))
		}
		return ""
	}
	if imports == "math/rand/v2" {
		return "" // not below math/rand, whatever its path says
	}
	for _, limit := range imported {
		for _, name := range limit.names {
			if (imports == name || strings.HasPrefix(imports, name+"/")) && !limit.allows(dir) {
				return fmt.Sprintf("%s may not import %s: %s", dir, imports, limit.why)
			}
		}
	}
	return ""
}

func orNothing(names []string) string {
	if len(names) == 0 {
		return "nothing of ours"
	}
	return strings.Join(names, ", ")
}

func (l limit) allows(dir string) bool {
	if len(l.never) > 0 {
		return !within(dir, l.never)
	}
	return within(dir, l.only)
}

// limitedNamesStayInTheirRooms: the environment, the arguments and the end of the
// process belong to cmd.
func limitedNamesStayInTheirRooms(t *tree) (broken []string) {
	for _, file := range t.gofile {
		if file.test {
			continue
		}
		ast.Inspect(file.ast, func(n ast.Node) bool {
			selector, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			name := file.qualified(selector)
			for _, limit := range used {
				if slices.Contains(limit.names, name) && !limit.allows(file.dir) {
					broken = append(broken, fmt.Sprintf("%s: %s may not use %s: %s", t.at(selector.Pos()), file.dir, name, limit.why))
				}
			}
			return true
		})
	}
	return broken
}

// clocksAreInjected: what ends leases must be testable at any hour. Tests and the
// rooms of the plan may read the wall clock.
func clocksAreInjected(t *tree) (broken []string) {
	for _, file := range t.gofile {
		if file.test || within(file.dir, clockReadIn) {
			continue
		}
		ast.Inspect(file.ast, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			if selector, ok := call.Fun.(*ast.SelectorExpr); ok && slices.Contains(clocks, file.qualified(selector)) {
				broken = append(broken, fmt.Sprintf("%s: %s reads the wall clock; take a Now func() time.Time", t.at(call.Pos()), file.dir))
			}
			return true
		})
	}
	return broken
}

// qualified names what a selector on an imported package means as
// "import/path.Name", whatever the file calls that package; "" for any other.
func (f goFile) qualified(selector *ast.SelectorExpr) string {
	ident, ok := selector.X.(*ast.Ident)
	if !ok {
		return ""
	}
	for _, spec := range f.ast.Imports {
		imports := importPath(spec)
		local := path.Base(imports)
		if spec.Name != nil {
			local = spec.Name.Name
		}
		if local == ident.Name {
			return imports + "." + selector.Sel.Name
		}
	}
	return ""
}

func importPath(spec *ast.ImportSpec) string {
	unquoted, err := strconv.Unquote(spec.Path.Value)
	if err != nil {
		return spec.Path.Value // the parser has refused it already
	}
	return unquoted
}

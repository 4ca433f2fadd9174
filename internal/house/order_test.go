package house

import (
	"fmt"
	"go/ast"
	"slices"
	"strings"
)

const backendRoom = "exchange/backend"

// ordersComeFromLeases: whoever can make a backend.Order can have a credential
// made that no lease knows of.
func ordersComeFromLeases(t *tree) (broken []string) {
	for _, file := range t.gofile {
		mayMake := slices.Contains(ordersMadeIn, file.dir) || file.test && within(file.dir+"/", []string{backendRoom + "/..."})
		if mayMake {
			continue
		}
		ast.Inspect(file.ast, func(n ast.Node) bool {
			if file.makesOrder(n) {
				broken = append(broken, fmt.Sprintf("%s: %s makes a backend.Order; only %s may, so that no credential exists without a lease",
					t.at(n.Pos()), file.dir, strings.Join(ordersMadeIn, ", ")))
			}
			return true
		})
	}
	return broken
}

// makesOrder reports whether a node makes an Order, or a name by which one could
// be made unseen: Order{…}, []Order{{…}}, new(Order), var o Order, type o = Order.
func (f goFile) makesOrder(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.CompositeLit:
		switch made := n.Type.(type) {
		case *ast.ArrayType:
			return len(n.Elts) > 0 && f.isOrder(made.Elt)
		case *ast.MapType:
			return len(n.Elts) > 0 && f.isOrder(made.Value)
		}
		return f.isOrder(n.Type)
	case *ast.CallExpr:
		called, ok := n.Fun.(*ast.Ident)
		return ok && called.Name == "new" && len(n.Args) == 1 && f.isOrder(n.Args[0])
	case *ast.ValueSpec:
		return f.isOrder(n.Type)
	case *ast.TypeSpec:
		return f.isOrder(n.Type)
	}
	return false
}

// isOrder reports whether an expression is the type backend.Order or a pointer to it.
func (f goFile) isOrder(e ast.Expr) bool {
	switch e := e.(type) {
	case *ast.StarExpr:
		return f.isOrder(e.X)
	case *ast.SelectorExpr:
		return f.qualified(e) == module+"/"+backendRoom+".Order"
	case *ast.Ident:
		return f.dir == backendRoom && e.Name == "Order"
	}
	return false
}

// issueIsCalledOnce: one place in the exchange asks a backend for a credential.
// Method values count as calls. Rooms that cannot come by a backend at all may
// have methods of that name: the command line's, the simulated issuer's.
func issueIsCalledOnce(t *tree) (broken []string) {
	for _, file := range t.gofile {
		atBackends := within(file.dir+"/", []string{backendRoom + "/..."})
		if file.test || atBackends || slices.Contains(issueCalledIn, file.path) || !reaches(file.dir, backendRoom) {
			continue
		}
		ast.Inspect(file.ast, func(n ast.Node) bool {
			if s, ok := n.(*ast.SelectorExpr); ok && s.Sel.Name == "Issue" {
				broken = append(broken, fmt.Sprintf("%s: Issue is called in %s alone, after the lease's intent is committed", t.at(s.Pos()), strings.Join(issueCalledIn, ", ")))
			}
			return true
		})
	}
	return broken
}

// workloadsAreVerified: identity.Unverified makes a workload of any claims at all, and
// whoever hands one to the exchange has let anybody in. A name for it counts as a call.
func workloadsAreVerified(t *tree) (broken []string) {
	for _, file := range t.gofile {
		if file.test || slices.Contains(unverifiedIn, file.path) {
			continue
		}
		ast.Inspect(file.ast, func(n ast.Node) bool {
			if s, ok := n.(*ast.SelectorExpr); ok && file.qualified(s) == module+"/exchange/identity.Unverified" {
				broken = append(broken, fmt.Sprintf("%s: identity.Unverified is for %s alone; a workload that gets something is made by Verify", t.at(s.Pos()), strings.Join(unverifiedIn, ", ")))
			}
			return true
		})
	}
	return broken
}

// reaches reports whether a room may import another, directly or through others.
func reaches(from, to string) bool {
	return slices.ContainsFunc(rooms[from].imports, func(next string) bool {
		return next == to || reaches(next, to)
	})
}

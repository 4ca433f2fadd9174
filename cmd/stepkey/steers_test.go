package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

func TestVariablesThatAreNotForAnExchange(t *testing.T) {
	for _, name := range []string{
		"PATH", "path", "Ld_Preload", "LD_AUDIT", "DYLD_INSERT_LIBRARIES", "HOME", "GLIBC_TUNABLES",
		"GIT_SSH_COMMAND", "GIT_SSH", "GIT_ASKPASS", "GIT_EXEC_PATH", "GIT_CONFIG_COUNT", "GIT_CONFIG_KEY_0", "GIT_PROXY_COMMAND", "GIT_DIR", "SVN_SSH",
		"GITHUB_ENV", "GITHUB_PATH", "GITHUB_OUTPUT", "GITHUB_TOKEN_2", "RUNNER_TEMP", "ACTIONS_ID_TOKEN_REQUEST_URL", "INPUT_TASK", "STATE_lease_token",
		"STEPKEY_EXCHANGE", "STEPKEY_LEASE", "STEPKEY_ALLOW_HTTP",
		"ENV", "BASH_ENV", "BASH_FUNC_ls", "BASHOPTS", "SHELLOPTS", "IFS", "PS4", "PROMPT_COMMAND", "CDPATH", "ZDOTDIR",
		"PERL5LIB", "PERL5OPT", "PERL5DB", "PYTHONPATH", "PYTHONSTARTUP", "PYTHONHOME", "RUBYOPT", "RUBYLIB", "NODE_OPTIONS", "NODE_PATH",
		"JAVA_TOOL_OPTIONS", "MAVEN_OPTS", "DOTNET_STARTUP_HOOKS", "npm_config_script_shell", "LUA_INIT", "MAKEFLAGS", "GOFLAGS", "RUSTFLAGS",
		"SSH_ASKPASS", "SUDO_ASKPASS", "EDITOR", "KUBE_EDITOR", "PAGER", "AWS_PAGER", "GH_BROWSER", "RSYNC_RSH", "LESSOPEN",
	} {
		if !steers(name) {
			t.Errorf("an exchange may set %s", name)
		}
	}
	for _, name := range []string{
		"GIT_USERNAME", "GIT_PASSWORD", "GIT_TOKEN", "GIT_SSL_KEY", "NODE_AUTH_TOKEN", "NPM_TOKEN", "CARGO_REGISTRY_TOKEN", "TWINE_PASSWORD", "GEM_HOST_API_KEY",
		"SSH_KEY", "SSH_CERTIFICATE", "SSH_KNOWN_HOSTS", "KUBECONFIG", "REGISTRY_AUTH_FILE", "TOKEN_FILE", "REPORTS_TOKEN", "GITLAB_TOKEN", "PGOPTIONS",
	} {
		if steers(name) {
			t.Errorf("no task can have %s", name)
		}
	}
}

// What the exchange's own backends name is taken.
func TestTheVariablesOfEveryBackendAreTaken(t *testing.T) {
	none := []string{"exec", "ssh", "backendtest", "reach"} // the operator's program names them; files only; no backends
	folders, err := os.ReadDir(backends)
	if err != nil {
		t.Fatal(err)
	}
	form := regexp.MustCompile(`^[A-Z][A-Z0-9]*(_[A-Z0-9]+)*$`)
	for _, folder := range folders {
		if !folder.IsDir() || slices.Contains(none, folder.Name()) {
			continue
		}
		names := slices.DeleteFunc(keysOf(t, folder.Name(), "env", "map[string]string"), func(key string) bool { return !form.MatchString(key) })
		if len(names) == 0 {
			t.Errorf("%s: no variable is found, so none was looked at", folder.Name())
		}
		for _, name := range names {
			if steers(name) || !isName(name, "") {
				t.Errorf("%s gives %s, and that is refused", folder.Name(), name)
			}
		}
		t.Logf("%s: %q", folder.Name(), names)
	}
}

const backends = "../../exchange/backend"

// keysOf are the texts under which a backend's sources put something into a map: written
// with one of its type, or added to one of its name. To have the backend issue would take
// an order, which nobody can have but from a lease.
func keysOf(t *testing.T, backend, name, mapType string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(backends, backend, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	keys := map[string]bool{}
	note := func(key ast.Expr) {
		if text, ok := key.(*ast.BasicLit); ok && text.Kind == token.STRING {
			if plain, err := strconv.Unquote(text.Value); err == nil {
				keys[plain] = true
			}
		}
	}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(parsed, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.CompositeLit:
				if m, ok := n.Type.(*ast.MapType); ok && typeText(m) == mapType {
					for _, element := range n.Elts {
						if pair, ok := element.(*ast.KeyValueExpr); ok {
							note(pair.Key)
						}
					}
				}
			case *ast.AssignStmt:
				for _, left := range n.Lhs {
					at, ok := left.(*ast.IndexExpr)
					if ok && strings.EqualFold(name, strings.TrimPrefix(typeText(at.X), "issued.")) {
						note(at.Index)
					}
				}
			}
			return true
		})
	}
	return slices.Sorted(maps.Keys(keys))
}

// typeText is a type, or a name, as it is written.
func typeText(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.SelectorExpr:
		return typeText(e.X) + "." + e.Sel.Name
	case *ast.MapType:
		return "map[" + typeText(e.Key) + "]" + typeText(e.Value)
	}
	return "?"
}

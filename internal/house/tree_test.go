package house

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
)

const module = "github.com/stepkey/stepkey"

// A tree is the committed text of a repository, by slash-separated path from its
// root. Every rule is a function of a tree, so that each can be shown a small one.
type tree struct {
	files  map[string]string
	gofile []goFile
	fset   *token.FileSet
	broken []string // Go files that do not parse
}

// A goFile is a parsed Go file outside testdata.
type goFile struct {
	path, dir string
	test      bool
	ast       *ast.File
}

func newTree(files map[string]string) *tree {
	t := &tree{files: files, fset: token.NewFileSet()}
	for _, name := range t.paths() {
		if path.Ext(name) != ".go" || slices.Contains(strings.Split(name, "/"), "testdata") {
			continue
		}
		parsed, err := parser.ParseFile(t.fset, name, files[name], parser.SkipObjectResolution|parser.ParseComments)
		if err != nil {
			t.broken = append(t.broken, err.Error())
			continue
		}
		t.gofile = append(t.gofile, goFile{
			path: name, dir: path.Dir(name), test: strings.HasSuffix(name, "_test.go"), ast: parsed,
		})
	}
	return t
}

// paths lists all files, sorted.
func (t *tree) paths() []string { return slices.Sorted(maps.Keys(t.files)) }

// holds reports whether name is a file or a folder with a file in it.
func (t *tree) holds(name string) bool {
	if _, ok := t.files[name]; ok || name == "." {
		return true
	}
	for file := range t.files {
		if strings.HasPrefix(file, name+"/") {
			return true
		}
	}
	return false
}

// at names a place in a Go file as "path:line".
func (t *tree) at(pos token.Pos) string {
	p := t.fset.Position(pos)
	return p.Filename + ":" + strconv.Itoa(p.Line)
}

// fromText reads a tree from a txtar archive.
func fromText(archive string) *tree {
	files := map[string]string{}
	for _, file := range txtar.Parse([]byte(archive)).Files {
		files[file.Name] = string(file.Data)
	}
	return newTree(files)
}

// fromDisk reads the repository that this test stands in: what git tracks or
// would add. Without a .git (an unpacked archive) it is every file but bin/.
func fromDisk(t *testing.T) *tree {
	t.Helper()
	root := moduleRoot(t)
	names, err := listed(root)
	if err != nil {
		t.Fatalf("listing the repository: %v", err)
	}
	for dir := range foldersOf(names) {
		// Only so that "go test" sees a new file and does not answer from its cache:
		// it knows what this process opens, not what git reads.
		if _, err := os.ReadDir(filepath.Join(root, filepath.FromSlash(dir))); err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatalf("reading the repository: %v", err)
		}
	}
	files := map[string]string{}
	for _, name := range names {
		data, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(name)))
		if errors.Is(err, fs.ErrNotExist) {
			continue // tracked, and deleted since
		}
		if err != nil {
			t.Fatalf("reading the repository: %v", err)
		}
		files[name] = string(data)
	}
	return newTree(files)
}

// foldersOf is every folder above the given files, the root included.
func foldersOf(names []string) map[string]bool {
	folders := map[string]bool{".": true}
	for _, name := range names {
		for dir := path.Dir(name); !folders[dir]; dir = path.Dir(dir) {
			folders[dir] = true
		}
	}
	return folders
}

func moduleRoot(t *testing.T) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		if filepath.Dir(dir) == dir {
			t.Fatal("no go.mod above this test")
		}
		dir = filepath.Dir(dir)
	}
}

func listed(root string) ([]string, error) {
	if _, err := os.Lstat(filepath.Join(root, ".git")); err != nil {
		return walked(root)
	}
	// safe.directory: a checkout often belongs to another user than the tests run as.
	git := exec.Command("git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	git.Dir = root
	var stderr strings.Builder
	git.Stderr = &stderr
	out, err := git.Output()
	if err != nil {
		return nil, fmt.Errorf("git ls-files: %w: %s", err, stderr.String())
	}
	return strings.FieldsFunc(string(out), func(r rune) bool { return r == 0 }), nil
}

func walked(root string) ([]string, error) {
	var names []string
	err := fs.WalkDir(os.DirFS(root), ".", func(name string, entry fs.DirEntry, err error) error {
		if entry != nil && entry.IsDir() && name == "bin" {
			return fs.SkipDir
		}
		if err == nil && entry.Type().IsRegular() {
			names = append(names, name)
		}
		return err
	})
	return names, err
}

// within reports whether dir is one of the patterns' rooms; "cmd/..." is every
// room below cmd.
func within(dir string, patterns []string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool {
		if above, ok := strings.CutSuffix(pattern, "..."); ok {
			return strings.HasPrefix(dir, above)
		}
		return dir == pattern
	})
}

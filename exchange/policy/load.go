package policy

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/exchange/identity"
	"github.com/stepkey/stepkey/internal/yamlfile"
)

// A Scoper reads and checks a credential block; every backend is one. Strict and
// pure. Its errors are *yamlfile.Error, so that they keep their place.
type Scoper interface {
	Scope(backend.Block) (backend.Scope, error)
}

// Check is what task files are held against.
type Check struct {
	Issuers  []identity.Issuer // as configured; their Name and Kind are read
	Backends map[string]Scoper // by the key under credential
}

// Load reads the task files of a folder: <task>.yaml or <task>.yml, side by side.
// Hidden files, *.test.yaml and files of other kinds are not read. The error joins
// every fault of every file as *yamlfile.Error, in file order; then there is no Set.
func Load(fsys fs.FS, c Check) (*Set, error) {
	set, faults, err := readTasks(fsys, c)
	if err != nil {
		return nil, err
	}
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	return set, nil
}

// Lint reads as Load does and says everything there is to say about the files: errors,
// warnings and what they accept, in file order. There is no Set where one of them is an
// error. err means that there is nothing to say, because the folder cannot be read.
func Lint(fsys fs.FS, c Check) (*Set, []Finding, error) {
	set, faults, err := readTasks(fsys, c)
	if alone := yamlfile.Faults(err); len(alone) > 0 {
		return nil, []Finding{findingOf(alone[0], "")}, nil
	}
	switch {
	case err != nil:
		return nil, nil, err
	case len(faults) > 0:
		return nil, set.found, nil
	}
	return set, set.found, nil
}

// readTasks returns the set of those files that are good, and the faults of the others.
func readTasks(fsys fs.FS, c Check) (*Set, []error, error) {
	names, err := taskFiles(fsys)
	if err != nil {
		return nil, nil, err
	}
	set := &Set{tasks: make(map[string]Task, len(names))}
	var faults []error
	for _, name := range names {
		task, read := readTaskFile(fsys, name, c)
		if before, twice := set.tasks[task.Name]; twice {
			read.faults = append(read.faults, &yamlfile.Error{File: name, Line: 1, Column: 1,
				Message: fmt.Sprintf("task %s is already in %s", yamlfile.Quote(task.Name), before.File)})
		}
		set.found = append(set.found, read.findings()...)
		if len(read.faults) > 0 {
			faults = append(faults, inOrder(read.faults)...)
			continue
		}
		set.tasks[task.Name] = task
	}
	return set, faults, nil
}

// readTaskFile is readTask of a file, which may be gone or closed to us by now.
func readTaskFile(fsys fs.FS, name string, c Check) (Task, *reader) {
	data, err := fs.ReadFile(fsys, name)
	if err != nil {
		fault := &yamlfile.Error{File: name, Message: fmt.Sprintf("reading the task file: %v", err)}
		return Task{}, &reader{file: name, faults: []*yamlfile.Error{fault}}
	}
	return readTask(name, data, c)
}

// Findings are the warnings about the files of the set, and what they accept, in file
// order.
func (s *Set) Findings() []Finding { return slices.Clone(s.found) }

// taskFiles returns the names of the task files, sorted. A folder inside is a
// fault and not skipped: its tasks would be missing without a word.
func taskFiles(fsys fs.FS) ([]string, error) {
	listed, err := fs.ReadDir(fsys, ".")
	if err != nil {
		return nil, fmt.Errorf("reading the folder of task files: %w", err)
	}
	var names []string
	for _, f := range listed {
		name := f.Name()
		kind := strings.ToLower(path.Ext(name))
		switch {
		case strings.HasPrefix(name, "."):
		case f.IsDir():
			return nil, &yamlfile.Error{File: name, Message: "task files lie side by side; a folder among them is not read"}
		case kind != ".yaml" && kind != ".yml":
		case strings.HasSuffix(name, testFiles):
		default:
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, nil
}

// inOrder sorts the faults of one file by their place.
func inOrder(faults []*yamlfile.Error) []error {
	slices.SortStableFunc(faults, func(a, b *yamlfile.Error) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	sorted := make([]error, len(faults))
	for i, f := range faults {
		sorted[i] = f
	}
	return sorted
}

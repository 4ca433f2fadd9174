package policy

import (
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
)

// memory is a folder whose files were read already: what is loaded is what was
// compared, whatever happens on the disk meanwhile.
type memory map[string][]byte

var (
	_ fs.ReadDirFS  = memory{}
	_ fs.ReadFileFS = memory{}
)

// Open opens nothing: Load lists the folder and reads its files whole.
func (m memory) Open(name string) (fs.File, error) {
	return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrInvalid}
}

func (m memory) ReadDir(string) ([]fs.DirEntry, error) {
	var all []fs.DirEntry
	for _, name := range slices.Sorted(maps.Keys(m)) {
		all = append(all, memoryFile(name))
	}
	return all, nil
}

func (m memory) ReadFile(name string) ([]byte, error) {
	data, ok := m[name]
	if !ok {
		return nil, &fs.PathError{Op: "read", Path: name, Err: fs.ErrNotExist}
	}
	return slices.Clone(data), nil
}

// memoryFile is the entry of one file.
type memoryFile string

func (f memoryFile) Name() string             { return string(f) }
func (memoryFile) IsDir() bool                { return false }
func (memoryFile) Type() fs.FileMode          { return 0 }
func (memoryFile) Info() (fs.FileInfo, error) { return nil, fs.ErrInvalid }

// maxTaskFile is one byte more than yamlfile reads, so that it says what is wrong with
// a file that is larger, and a huge one does no harm.
const maxTaskFile = 256<<10 + 1

// readAll reads the task files of a folder.
func readAll(fsys fs.FS, names []string) (memory, error) {
	all := memory{}
	for _, name := range names {
		data, err := readFile(fsys, name)
		if err != nil {
			return nil, fmt.Errorf("reading the task file: %w", err)
		}
		all[name] = data
	}
	return all, nil
}

func readFile(fsys fs.FS, name string) ([]byte, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	return io.ReadAll(io.LimitReader(f, maxTaskFile))
}

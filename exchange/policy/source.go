package policy

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stepkey/stepkey/internal/yamlfile"
)

const (
	// lookEvery is how often the folder is looked at. Nothing tells of changes: in a
	// cluster's mount a link is swapped above the files, and a network file system sends
	// no events of other machines, so that a watcher would see some changes and not others.
	lookEvery = 2 * time.Second
	// readEvery is how often the files are read although nothing about them changed:
	// times and sizes can be set, and be coarse.
	readEvery = time.Minute
	// settles is how old a file's time must be before it says that the file did not
	// change since: some file systems count in steps of two seconds.
	settles = 3 * time.Second
	// goneAgain is when the tasks that went are told of once more: a request that took
	// the generation before may have written its lease down after the first time.
	goneAgain = time.Minute
)

// Folder is a folder of task files that is read again when it changes.
//
// A generation comes into force whole: when the folder was the same in two looks in a
// row, and every file of it is good. Until then, and where one is not, the one before
// stays in force. Safe for concurrent use.
type Folder struct {
	fsys  fs.FS
	check Check
	opts  FolderOptions

	set   atomic.Pointer[Set]
	stale atomic.Bool

	mu      sync.Mutex // one look at a time; guards the rest
	last    glance     // of the look before
	judged  digest     // what became the set in force, or was refused
	settled bool       // a second look agreed with the first generation
	gone    []string   // tasks to be told of once more
	again   time.Time  // when
}

// FolderOptions are how a folder tells what happens. All but Now may be left out.
type FolderOptions struct {
	Now func() time.Time
	Log *slog.Logger
	// Settled is told once of the first generation, when a second look agreed with it.
	Settled func(context.Context, *Set)
	// Gone is told of tasks that were in force and are no more, twice: at once and a
	// minute later.
	Gone func(ctx context.Context, tasks []string)
	// Changed is told of each generation after the first, when it is in force.
	Changed func(context.Context, *Set)
}

// digest is of names and contents, or of why they could not be read.
type digest [sha256.Size]byte

// glance is what one look saw.
type glance struct {
	stats  digest    // names, sizes and times
	newest time.Time // of the files' times
	files  memory
	fault  error
	digest digest
	read   time.Time // when the files were
}

// OpenFolder loads the folder as it stands. A fault in it is an error.
func OpenFolder(fsys fs.FS, c Check, o FolderOptions) (*Folder, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	f := &Folder{fsys: fsys, check: c, opts: o}
	f.last = f.look()
	set, err := f.last.load(c)
	if err != nil {
		return nil, err
	}
	f.judged = f.last.digest
	f.set.Store(set)
	return f, nil
}

// Set is the generation in force. A request takes one and keeps it.
func (f *Folder) Set() *Set { return f.set.Load() }

// Stale reports whether the folder says something that cannot be taken, so that what
// is in force is older.
func (f *Folder) Stale() bool { return f.stale.Load() }

// Run looks every two seconds until ctx ends, and at once when told to.
func (f *Folder) Run(ctx context.Context, now <-chan struct{}) {
	ticks := time.NewTicker(lookEvery)
	defer ticks.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticks.C:
			f.Look(ctx)
		case <-now:
			f.Reload(ctx)
		}
	}
}

// Look takes the folder as it is if it changed, and has not since the look before.
func (f *Folder) Look(ctx context.Context) {
	f.mu.Lock()
	defer f.mu.Unlock()
	seen, before := f.look(), f.last.digest
	f.last = seen
	switch seen.digest {
	case f.judged:
		f.settle(ctx)
	case before:
		f.take(ctx, seen)
	}
	f.tellAgain(ctx)
}

// Reload takes the folder as it is at once: whoever asks for that says that it is whole.
func (f *Folder) Reload(ctx context.Context) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.last = glance{} // read it, whatever its files' times say
	f.last = f.look()
	f.take(ctx, f.last)
}

// look reads the folder, unless nothing about its files can have changed.
func (f *Folder) look() glance {
	now := f.opts.Now()
	names, err := taskFiles(f.fsys)
	if err != nil {
		return broken(err, now)
	}
	stats, newest, err := statAll(f.fsys, names)
	if err != nil {
		return broken(err, now)
	}
	l := f.last
	if l.fault == nil && l.stats == stats && l.newest.Add(settles).Before(l.read) && now.Before(l.read.Add(readEvery)) {
		return l
	}
	files, err := readAll(f.fsys, names)
	if err != nil {
		return broken(err, now)
	}
	return glance{stats: stats, newest: newest, files: files, digest: files.digest(), read: now}
}

func broken(err error, now time.Time) glance {
	return glance{fault: err, digest: sha256.Sum256([]byte("unreadable: " + err.Error())), read: now}
}

func statAll(fsys fs.FS, names []string) (stats digest, newest time.Time, err error) {
	h := sha256.New()
	for _, name := range names {
		s, err := fs.Stat(fsys, name)
		if err != nil {
			return digest{}, newest, fmt.Errorf("reading the task file: %w", err)
		}
		fmt.Fprintf(h, "%q %d %d %s\n", name, s.Size(), s.ModTime().UnixNano(), s.Mode())
		if s.ModTime().After(newest) {
			newest = s.ModTime()
		}
	}
	return digest(h.Sum(nil)), newest, nil
}

func (m memory) digest() digest {
	h := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(m)) {
		fmt.Fprintf(h, "%q %d\n", name, len(m[name]))
		h.Write(m[name])
	}
	return digest(h.Sum(nil))
}

func (g glance) load(c Check) (*Set, error) {
	if g.fault != nil {
		return nil, g.fault
	}
	return Load(g.files, c)
}

// take puts what was seen into force, or says why it stays out.
func (f *Folder) take(ctx context.Context, seen glance) {
	f.judged = seen.digest
	set, err := seen.load(f.check)
	f.stale.Store(err != nil)
	if err != nil {
		f.complain(ctx, err)
		return
	}
	before := f.set.Swap(set)
	gone := before.without(set)
	f.opts.Log.InfoContext(ctx, "the task files changed; the new ones are in force", "tasks", len(set.tasks), "gone", gone)
	set.Warn(ctx, f.opts.Log)
	if f.opts.Changed != nil {
		f.opts.Changed(ctx, set)
	}
	if !f.settled {
		f.settle(ctx)
	}
	if len(gone) > 0 {
		f.gone, f.again = union(f.gone, gone), f.opts.Now().Add(goneAgain)
		f.tell(ctx, gone)
	}
}

// complain says each finding once for each change.
func (f *Folder) complain(ctx context.Context, err error) {
	const words = "the task files changed and cannot be taken; those before stay in force"
	faults := yamlfile.Faults(err)
	for _, fault := range faults {
		f.opts.Log.ErrorContext(ctx, words, "file", fault.File, "line", fault.Line, "column", fault.Column, "finding", fault.Message)
	}
	if len(faults) == 0 {
		f.opts.Log.ErrorContext(ctx, words, "error", err)
	}
}

// settle tells of the first generation. It waits for a second look because what is
// missing from a folder that is half written would be taken for gone.
func (f *Folder) settle(ctx context.Context) {
	if f.settled || f.stale.Load() {
		return
	}
	f.settled = true
	if f.opts.Settled != nil {
		f.opts.Settled(ctx, f.set.Load())
	}
}

// tellAgain is for leases of requests that had the generation before in hand.
func (f *Folder) tellAgain(ctx context.Context) {
	if len(f.gone) == 0 || f.opts.Now().Before(f.again) {
		return
	}
	set := f.set.Load()
	gone := slices.DeleteFunc(f.gone, set.Has)
	f.gone = nil
	f.tell(ctx, gone)
}

func (f *Folder) tell(ctx context.Context, gone []string) {
	if f.opts.Gone != nil && len(gone) > 0 {
		f.opts.Gone(ctx, gone)
	}
}

// Has reports whether there is a task of that name.
func (s *Set) Has(task string) bool {
	_, ok := s.tasks[task]
	return ok
}

// without lists the tasks of s that other does not have, sorted.
func (s *Set) without(other *Set) []string {
	var gone []string
	for _, name := range slices.Sorted(maps.Keys(s.tasks)) {
		if !other.Has(name) {
			gone = append(gone, name)
		}
	}
	return gone
}

func union(a, b []string) []string {
	all := slices.Concat(a, b)
	slices.Sort(all)
	return slices.Compact(all)
}

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// folderPrefix begins the name of each folder for a credential's files; digits follow.
const folderPrefix = "stepkey-exec-"

// A storage is where such folders can be.
type storage struct {
	places   []string // the best first
	inMemory func(path string) bool
}

// storagePlaces are a folder of the user's own, one of everybody's, and one that is always
// there. Which of them are in memory is another question.
func storagePlaces(getenv func(string) string) []string {
	places := []string{"/dev/shm", os.TempDir()}
	if own := getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(own) {
		places = append([]string{own}, places...)
	}
	return places
}

// A folder is for one credential's files. Its lock is ours for as long as this process
// lives: whoever finds it free knows that nobody will remove the folder.
type folder struct {
	path   string
	lock   *os.File
	onDisk bool
}

// make takes a place in memory, or else any.
func (s storage) make() (*folder, error) {
	var all []error
	for _, onDisk := range []bool{false, true} {
		for _, place := range s.places {
			if s.inMemory(place) == onDisk {
				continue
			}
			made, err := makeFolder(place)
			if err == nil {
				made.onDisk = onDisk
				return made, nil
			}
			all = append(all, err)
		}
	}
	return nil, fmt.Errorf("making a folder for the credential's files: %w", errors.Join(all...))
}

// errNotOurs: a folder is somebody else's, or in use, or gone.
var errNotOurs = errors.New("not ours to take")

// makeFolder makes one and locks it. In between another process may take it for one that
// was left behind; then another is made. A place where that goes on keeps no permissions.
func makeFolder(place string) (*folder, error) {
	for range 100 {
		path, err := os.MkdirTemp(place, folderPrefix) // 0700
		if err != nil {
			return nil, err
		}
		lock, err := lockFolder(path)
		if err == nil {
			return &folder{path: path, lock: lock}, nil
		}
		_ = os.Remove(path) // it may be gone
		if !errors.Is(err, errNotOurs) {
			return nil, err
		}
	}
	return nil, fmt.Errorf("a folder in %s does not stay ours alone", place)
}

// remove takes the files away, and the lock only with them: what cannot be removed now is
// for the next start.
func (f *folder) remove() error {
	if err := os.RemoveAll(f.path); err != nil {
		return fmt.Errorf("removing the folder %s with the credential's files: %w", f.path, err)
	}
	_ = f.lock.Close()
	return nil
}

// lockFolder locks one of this user's that nobody has locked.
func lockFolder(path string) (_ *os.File, err error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, errNotOurs
	}
	defer func() {
		if err != nil {
			_ = f.Close()
		}
	}()
	opened, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if owner, ok := opened.Sys().(*syscall.Stat_t); !ok || int(owner.Uid) != os.Geteuid() || opened.Mode().Perm() != 0o700 {
		return nil, errNotOurs
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); errors.Is(err, unix.EWOULDBLOCK) {
		return nil, errNotOurs
	} else if err != nil {
		return nil, fmt.Errorf("locking %s: %w", path, err)
	}
	if there, err := os.Lstat(path); err != nil || !os.SameFile(there, opened) { // somebody had the lock, and removed it
		return nil, errNotOurs
	}
	return f, nil
}

// sweep removes the folders whose stepkey was killed before it could.
func (s storage) sweep() (removed []string, err error) {
	for _, place := range s.places {
		entries, _ := os.ReadDir(place) // one that cannot be read has nothing of ours
		for _, entry := range entries {
			digits, named := strings.CutPrefix(entry.Name(), folderPrefix)
			if !named || digits == "" || strings.Trim(digits, "0123456789") != "" {
				continue
			}
			path := filepath.Join(place, entry.Name())
			lock, lockErr := lockFolder(path)
			if lockErr != nil {
				continue
			}
			left := folder{path: path, lock: lock}
			if removeErr := left.remove(); removeErr != nil {
				_ = lock.Close()
				err = errors.Join(err, removeErr)
				continue
			}
			removed = append(removed, path)
		}
	}
	return removed, err
}

package ssh

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// file is the list as sshd reads it. A host whose list is missing or broken refuses every
// key, so the file is only ever replaced whole.
type file struct {
	path string

	tag     string      // of the edition that we put there
	written fs.FileInfo // what that was: anybody else's change is seen
}

const lockAgainIn = 10 * time.Millisecond

// lock keeps other processes, such as stepkey-exchange revoke, from replacing the file.
// It ends with the process that holds it.
func (f *file) lock(ctx context.Context) (unlock func(), err error) {
	path := f.path + ".lock"
	held, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("locking the list of revoked certificates: %w", err)
	}
	again := time.NewTicker(lockAgainIn)
	defer again.Stop()
	for {
		taken, err := tryLock(held)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("locking the list of revoked certificates by %s: %w", path, err), held.Close())
		}
		if taken {
			return func() { _ = held.Close() }, nil
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return nil, errors.Join(fmt.Errorf("another process keeps %s locked (fuser shows which), so the list of revoked certificates cannot be written: %w", path, ctx.Err()), held.Close())
		}
	}
}

// put replaces the file unless it has the edition already. nil means that what is there
// survives the machine's loss of power.
func (f *file) put(e *edition) error {
	if f.has(e) {
		return nil
	}
	if err := replace(f.path, e.list); err != nil {
		return fmt.Errorf("writing the list of revoked certificates: %w", err)
	}
	now, err := os.Stat(f.path)
	if err != nil {
		return fmt.Errorf("looking at the list of revoked certificates: %w", err)
	}
	f.tag, f.written = e.tag, now
	return nil
}

func (f *file) has(e *edition) bool {
	now, err := os.Stat(f.path)
	return err == nil && f.tag == e.tag && os.SameFile(now, f.written) && now.Size() == f.written.Size() && now.ModTime().Equal(f.written.ModTime())
}

// replace puts text where path is, by way of a file beside it. sshd may run as another
// user than we, and the list is no secret.
func replace(path string, text []byte) (err error) {
	beside := path + ".new"
	if err := os.Remove(beside); err != nil && !errors.Is(err, fs.ErrNotExist) { // of a process that died
		return err
	}
	next, err := os.OpenFile(beside, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644) //nolint:gosec // for sshd to read
	if err != nil {
		return err
	}
	if err := fill(next, text); err != nil {
		return errors.Join(err, os.Remove(beside))
	}
	if err := os.Rename(beside, path); err != nil {
		return errors.Join(err, os.Remove(beside))
	}
	return syncFolder(filepath.Dir(path))
}

func fill(next *os.File, text []byte) error {
	_, err := next.Write(text)
	if err == nil {
		err = next.Chmod(0o644) // whatever the umask says
	}
	if err == nil {
		err = next.Sync()
	}
	return errors.Join(err, next.Close())
}

// syncFolder makes a rename durable.
func syncFolder(path string) error {
	folder, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}

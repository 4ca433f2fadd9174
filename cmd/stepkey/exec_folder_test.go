package main

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// Memory comes first, wherever it stands among the places; a disk is better than nothing.
func TestFilesAreInMemoryWhereThereIsSome(t *testing.T) {
	disk, memory := t.TempDir(), t.TempDir()
	for _, c := range []struct {
		name, want string
		places     []string
		inMemory   string
	}{
		{"the second place", memory, []string{disk, memory}, memory},
		{"the only one", memory, []string{memory}, memory},
		{"none", disk, []string{disk, memory}, ""},
		{"none that can be written to", disk, []string{memory + "/none", disk}, memory + "/none"},
	} {
		s := storage{places: c.places, inMemory: func(path string) bool { return path == c.inMemory }}
		made, err := s.make()
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if got := filepath.Dir(made.path); got != c.want || made.onDisk != (c.want == disk) {
			t.Errorf("%s: %s, on a disk: %v", c.name, got, made.onDisk)
		}
		if err := made.remove(); err != nil {
			t.Error(err)
		}
	}
	if _, err := (storage{places: []string{disk + "/none"}, inMemory: func(string) bool { return true }}).make(); err == nil || !strings.Contains(err.Error(), "/none") {
		t.Errorf("no place at all: %v", err)
	}
}

// However many start at one moment: a folder that was made is there until it is removed by
// whom it belongs to.
func TestNoFolderIsSweptThatIsInUse(t *testing.T) {
	s := storage{places: []string{t.TempDir()}, inMemory: func(string) bool { return true }}
	var sweeping, making sync.WaitGroup
	over := make(chan struct{})
	for range 4 {
		sweeping.Go(func() {
			for {
				if _, err := s.sweep(); err != nil {
					t.Error(err)
				}
				select {
				case <-over:
					return
				default:
				}
			}
		})
		making.Go(func() {
			for range 300 {
				made, err := s.make()
				if err != nil {
					t.Error(err)
					return
				}
				if err := os.WriteFile(filepath.Join(made.path, "KEY"), []byte("canary"), 0o600); err != nil {
					t.Error(err)
				}
				if _, err := os.ReadFile(filepath.Join(made.path, "KEY")); err != nil {
					t.Error(err)
				}
				if err := made.remove(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	making.Wait()
	close(over)
	sweeping.Wait()
	if left, err := os.ReadDir(s.places[0]); err != nil || len(left) > 0 {
		t.Errorf("%v, %v", left, err)
	}
}

// What a process holds is kept, and what a killed one held is not.
func TestTheLockLastsAsLongAsTheFolder(t *testing.T) {
	s := storage{places: []string{t.TempDir()}, inMemory: func(string) bool { return true }}
	made, err := s.make()
	if err != nil {
		t.Fatal(err)
	}
	if removed, err := s.sweep(); err != nil || len(removed) > 0 {
		t.Errorf("in use: %v, %v", removed, err)
	}
	if err := made.lock.Close(); err != nil { // as the kernel does when a process is gone
		t.Fatal(err)
	}
	if removed, err := s.sweep(); err != nil || len(removed) != 1 || removed[0] != made.path {
		t.Errorf("left behind: %v, %v", removed, err)
	}
}

package ssh_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"
	cryptossh "golang.org/x/crypto/ssh"
	"pgregory.net/rapid"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/exchange/backend/ssh"
	"github.com/stepkey/stepkey/internal/needs"
)

func someLeases(n int) []backend.LeaseID {
	var all []backend.LeaseID
	for range n {
		all = append(all, newLease())
	}
	return all
}

// OpenSSH's own reader lists what we wrote: those serial numbers, under each authority,
// and no other.
func TestOpenSSHReadsTheListThatWeWrite(t *testing.T) {
	needs.Programs(t, "ssh-keygen")
	dir := t.TempDir()
	_, one := newSigner(t)
	_, two := newSigner(t)
	for _, n := range []int{0, 1, 2, 1000} {
		for _, authorities := range [][]cryptossh.PublicKey{{one.PublicKey()}, {one.PublicKey(), two.PublicKey()}} {
			leases := append(someLeases(n), "lease_1", "lease_00000000000000000000000000") // no certificate has such a lease
			write(t, dir+"/krl", string(ssh.WriteKRL(authorities, leases, time.Now())))
			shown, err := exec.CommandContext(t.Context(), "ssh-keygen", "-Q", "-l", "-f", dir+"/krl").CombinedOutput()
			if err != nil {
				t.Fatalf("%d: %v\n%s", n, err, shown)
			}
			var want []string
			for _, lease := range leases[:n] {
				serial, _ := ssh.SerialOf(lease)
				for range authorities {
					want = append(want, fmt.Sprint("serial: ", serial))
				}
			}
			var got []string
			for line := range strings.Lines(string(shown)) {
				if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
					got = append(got, line)
				}
			}
			slices.Sort(want)
			slices.Sort(got)
			if !slices.Equal(got, want) {
				t.Errorf("of %d it lists %d, want %d:\n%.500s", n, len(got), len(want), shown)
			}
			if sections := strings.Count(string(shown), "# CA key"); n > 0 && sections != len(authorities) {
				t.Errorf("%d authorities, want %d", sections, len(authorities))
			}
		}
	}
}

func TestAListHasTheSerialsOfItsLeasesInWhateverOrder(t *testing.T) {
	_, ca := newSigner(t)
	keys := []cryptossh.PublicKey{ca.PublicKey()}
	rapid.Check(t, func(t *rapid.T) {
		var leases []backend.LeaseID
		want := map[uint64]bool{}
		for _, id := range rapid.SliceOfN(rapid.SliceOfN(rapid.Byte(), 16, 16), 0, 20).Draw(t, "ids") {
			id[0] &= 0x7f // a ULID's first character is 0 to 7
			lease := backend.LeaseID("lease_" + ulid.ULID(id).String())
			leases = append(leases, lease)
			if serial, ok := ssh.SerialOf(lease); ok {
				want[serial] = true
			}
		}
		at := time.Unix(rapid.Int64Range(-5, 1<<33).Draw(t, "at"), 0)
		list := ssh.WriteKRL(keys, leases, at)
		read, err := ssh.ReadKRL(list)
		if err != nil {
			t.Fatal(err)
		}
		got := read[string(ca.PublicKey().Marshal())]
		if !slices.IsSorted(got) || len(slices.Compact(slices.Clone(got))) != len(want) {
			t.Fatalf("%v, want %v", got, want)
		}
		for _, serial := range got {
			if !want[serial] || serial == 0 {
				t.Fatalf("the serial %d is of none", serial)
			}
		}
		shuffled := rapid.Permutation(leases).Draw(t, "shuffled")
		if again := ssh.WriteKRL(keys, shuffled, at); string(again) != string(list) {
			t.Fatal("another order gives another list")
		}
	})
}

func TestLeasesOfAnotherFormHaveNoSerial(t *testing.T) {
	for _, lease := range []backend.LeaseID{"", "lease_", "lease_1", "01ARZ3NDEKTSV4RRFFQ69G5FAV", "lease_01ARZ3NDEKTSV4RRFFQ69G5FAVX",
		"lease_01ARZ3NDEKTSV4RRFFQ69G5FA!", "lease_81ARZ3NDEKTSV4RRFFQ69G5FAV", "lease_01ARZ3NDEK0000000000000000"} {
		if serial, ok := ssh.SerialOf(lease); ok {
			t.Errorf("%q has the serial %d", lease, serial)
		}
	}
}

// A reader opens the file again and again while it is replaced: it sees a whole list
// each time.
func TestAReaderNeverSeesHalfAList(t *testing.T) {
	_, ca := newSigner(t)
	keys := []cryptossh.PublicKey{ca.PublicKey()}
	path := filepath.Join(t.TempDir(), "krl")
	lists := [][]byte{ssh.WriteKRL(keys, nil, time.Now()), ssh.WriteKRL(keys, someLeases(5000), time.Now())}
	if err := ssh.Replace(path, lists[0]); err != nil {
		t.Fatal(err)
	}
	ctx, over := context.WithCancel(t.Context())
	var readers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			for ctx.Err() == nil {
				text, err := os.ReadFile(path)
				if err == nil {
					_, err = ssh.ReadKRL(text)
				}
				if err != nil {
					t.Errorf("a reader sees %d bytes: %v", len(text), err)
					return
				}
			}
		})
	}
	for i := range 100 {
		if err := ssh.Replace(path, lists[i%2]); err != nil {
			t.Error(err)
		}
	}
	over()
	readers.Wait()
}

const killedWriter = "STEPKEY_TEST_KRL"

// TestWriterThatIsKilled is the process that the next test kills.
func TestWriterThatIsKilled(t *testing.T) {
	path := os.Getenv(killedWriter)
	if path == "" {
		t.Skip("this is a process of another test")
	}
	_, ca := newSigner(t)
	for n := 0; t.Context().Err() == nil; n = (n + 700) % 7000 {
		if err := ssh.Replace(path, ssh.WriteKRL([]cryptossh.PublicKey{ca.PublicKey()}, someLeases(n), time.Now())); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAWriterThatIsKilledLeavesAWholeList(t *testing.T) {
	path := filepath.Join(t.TempDir(), "krl")
	write(t, path, "")
	for round := range 15 {
		before, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		writer := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestWriterThatIsKilled$") //nolint:gosec // this program again
		writer.Env = append(os.Environ(), killedWriter+"="+path)
		var said bytes.Buffer
		writer.Stdout, writer.Stderr = &said, &said
		if err := writer.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- writer.Wait() }()
		again := time.NewTicker(time.Duration(300+round*137) * time.Microsecond)
		for replaced := false; !replaced; { // however long a process takes to start
			select {
			case <-again.C:
				now, err := os.Stat(path)
				replaced = err != nil || !os.SameFile(now, before)
			case err := <-ended:
				t.Fatalf("round %d: the writer ended by itself: %v\n%s", round, err, &said)
			}
		}
		again.Stop()
		if err := writer.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := <-ended; err == nil {
			t.Errorf("round %d: the writer ended by itself\n%s", round, &said)
		}
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ssh.ReadKRL(text); err != nil {
			t.Errorf("round %d: %v", round, err)
		}
	}
	// What it left beside the list is in nobody's way.
	write(t, path+".new", "half of a")
	if err := ssh.Replace(path, []byte("next")); err != nil {
		t.Error(err)
	}
	if left, err := filepath.Glob(path + "*"); err != nil || len(left) != 1 {
		t.Errorf("left: %v, %v", left, err)
	}
}

func TestAListThatCannotBeWrittenLeavesTheOneBefore(t *testing.T) {
	dir := t.TempDir()
	path := dir + "/krl"
	write(t, path, "before")
	if err := os.MkdirAll(path+".new/full", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := ssh.Replace(path, []byte("next")); err == nil {
		t.Error("it was written although there was no place beside it")
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != "before" {
		t.Errorf("then there is %q, %v", text, err)
	}
	if err := os.MkdirAll(dir+"/folder/full", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := ssh.Replace(dir+"/folder", []byte("next")); err == nil {
		t.Error("it took the place of a folder")
	}
	if _, err := os.Stat(dir + "/folder.new"); err == nil {
		t.Error("what could not be put in place is left beside it")
	}
	if err := ssh.Replace(dir+"/none/krl", []byte("next")); err == nil {
		t.Error("it was written into a folder that is not there")
	}
}

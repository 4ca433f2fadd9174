package ssh_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	cryptossh "golang.org/x/crypto/ssh"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/exchange/backend/reach"
	"github.com/stepkey/stepkey/exchange/backend/ssh"
	"github.com/stepkey/stepkey/internal/secret"
)

// desk is a backend without a host: what it signs and lists is looked at here.
type desk struct {
	testing.TB
	*ssh.Backend
	ledger *ledger
	ca     cryptossh.Signer
	krl    string
	mu     sync.Mutex
	at     time.Time
}

func (d *desk) now() time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.at
}

func (d *desk) wait(span time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.at = d.at.Add(span)
}

func sit(t testing.TB) *desk {
	t.Helper()
	d := &desk{TB: t, ledger: &ledger{}, krl: filepath.Join(t.TempDir(), "krl"), at: time.Date(2026, 11, 23, 15, 0, 0, 999, time.UTC)}
	_, d.ca = newSigner(t)
	d.Backend = d.replica(d.krl)
	return d
}

// replica is another process on the same leases.
func (d *desk) replica(krl string) *ssh.Backend {
	d.Helper()
	limits, err := ssh.Config{Principals: []string{"deploy"}, Hosts: map[string][]string{
		"web1.example.com": {string(publicLine(d.ca))}, "web2.example.com:2222": {"@cert-authority " + string(publicLine(d.ca))},
	}}.Limits()
	if err != nil {
		d.Fatal(err)
	}
	return ssh.New(ssh.Options{Limits: limits, Authorities: []cryptossh.Signer{d.ca}, KRL: krl, Ended: d.ledger.withdrawn, Now: d.now})
}

func (d *desk) listed(list []byte) []uint64 {
	d.Helper()
	read, err := ssh.ReadKRL(list)
	if err != nil {
		d.Fatal(err)
	}
	return read[string(d.ca.PublicKey().Marshal())]
}

func (d *desk) inFile() []uint64 {
	d.Helper()
	text, err := os.ReadFile(d.krl)
	if err != nil {
		d.Fatal(err)
	}
	return d.listed(text)
}

func serials(leases ...backend.LeaseID) []uint64 {
	var all []uint64
	for _, lease := range leases {
		serial, _ := ssh.SerialOf(lease)
		all = append(all, serial)
	}
	slices.Sort(all)
	return all
}

// The backend's word that a certificate is revoked is as durable as the lease's end: what
// is not written down there is not claimed.
func TestRevokeClaimsOnlyWhatIsWrittenDown(t *testing.T) {
	d := sit(t)
	lease := newLease()
	if err := d.Revoke(t.Context(), lease, secret.String{}); err == nil || errors.Is(err, backend.ErrLost) {
		t.Errorf("a lease that did not end: %v", err)
	}
	if got := d.inFile(); len(got) != 0 {
		t.Errorf("it is listed: %v", got)
	}
	d.ledger.end(lease)
	if err := d.Revoke(t.Context(), lease, secret.String{}); err != nil {
		t.Error(err)
	}
	if got := d.inFile(); !slices.Equal(got, serials(lease)) {
		t.Errorf("the file lists %v", got)
	}
}

func TestWhileTheStoreOrTheDiskIsDownNothingIsClaimed(t *testing.T) {
	d := sit(t)
	one, two := newLease(), newLease()
	d.ledger.end(one)
	if err := d.Revoke(t.Context(), one, secret.String{}); err != nil {
		t.Fatal(err)
	}
	d.ledger.end(two)
	d.ledger.fail(errDown)
	if err := d.Revoke(t.Context(), two, secret.String{}); !errors.Is(err, errDown) || !errors.Is(err, backend.ErrUnavailable) || errors.Is(err, backend.ErrLost) {
		t.Errorf("without the store: %v", err)
	}
	if got := d.inFile(); !slices.Equal(got, serials(one)) {
		t.Errorf("the file lists %v, want what it did before", got)
	}
	d.ledger.fail(nil)
	if err := os.MkdirAll(d.krl+".new/full", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := d.Revoke(t.Context(), two, secret.String{}); !errors.Is(err, backend.ErrUnavailable) {
		t.Errorf("without a place for the file: %v", err)
	}
	if err := d.Refresh(t.Context()); err == nil {
		t.Error("brought up to date without a place for the file")
	}
	if err := os.RemoveAll(d.krl + ".new"); err != nil {
		t.Fatal(err)
	}
	if err := d.Revoke(t.Context(), two, secret.String{}); err != nil || !slices.Equal(d.inFile(), serials(one, two)) {
		t.Errorf("after that: %v, %v", err, d.inFile())
	}
}

func TestAFileThatWentOrWasChangedIsPutBack(t *testing.T) {
	d := sit(t)
	lease := newLease()
	d.ledger.end(lease)
	for name, harm := range map[string]func() error{
		"nothing":         func() error { return nil },
		"removed":         func() error { return os.Remove(d.krl) },
		"emptied":         func() error { return os.Truncate(d.krl, 0) },
		"another's":       func() error { return ssh.Replace(d.krl, ssh.WriteKRL(nil, nil, d.at)) },
		"changed quietly": func() error { return os.WriteFile(d.krl, make([]byte, len(mustRead(t, d.krl))), 0o600) },
	} {
		if err := d.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := harm(); err != nil {
			t.Fatal(err)
		}
		if err := d.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := d.inFile(); !slices.Equal(got, serials(lease)) {
			t.Errorf("%s: the file lists %v", name, got)
		}
	}
	before, _ := os.Stat(d.krl)
	d.wait(time.Hour)
	if err := d.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if after, _ := os.Stat(d.krl); !os.SameFile(before, after) {
		t.Error("it was written again although nothing had changed")
	}
}

func mustRead(t testing.TB, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// Two processes on one file, such as an exchange and stepkey-exchange revoke: none puts
// an older list over a newer one, so what both confirmed is in the file.
func TestProcessesOnOneFileLoseNothing(t *testing.T) {
	d := sit(t)
	replicas := []*ssh.Backend{d.Backend, d.replica(d.krl), d.replica(d.krl)}
	var all sync.WaitGroup
	for n := range 60 {
		all.Go(func() {
			lease := newLease()
			d.ledger.end(lease)
			if err := replicas[n%3].Revoke(t.Context(), lease, secret.String{}); err != nil {
				t.Error(err)
			}
			want, _ := ssh.SerialOf(lease)
			if got := d.inFile(); !slices.Contains(got, want) {
				t.Errorf("%d was confirmed, and of %d in the file it is none", want, len(got))
			}
		})
	}
	all.Wait()
	if got := d.inFile(); len(got) != 60 {
		t.Errorf("the file lists %d", len(got))
	}
}

func TestAnAskerThatGivesUpHoldsUpNobody(t *testing.T) {
	d := sit(t)
	reads, goOn := make(chan struct{}), make(chan struct{})
	slow := ssh.New(ssh.Options{Authorities: []cryptossh.Signer{d.ca}, Ended: func(ctx context.Context) ([]backend.LeaseID, error) {
		reads <- struct{}{}
		<-goOn
		return d.ledger.withdrawn(ctx)
	}})
	lease := newLease()
	d.ledger.end(lease)
	first := make(chan error, 1)
	go func() { first <- slow.Revoke(t.Context(), lease, secret.String{}) }()
	<-reads
	gone, leave := context.WithCancel(t.Context())
	leave()
	if err := slow.Revoke(gone, lease, secret.String{}); !errors.Is(err, context.Canceled) {
		t.Errorf("the one that gave up: %v", err)
	}
	close(goOn)
	if err := <-first; err != nil {
		t.Error(err)
	}
}

// Many at once share what they read: the first that comes reads, and one for all others.
func TestManyRevocationsAtOnceReadTheLeasesTwice(t *testing.T) {
	d := sit(t)
	reads, goOn := make(chan struct{}, 100), make(chan struct{})
	b := ssh.New(ssh.Options{Authorities: []cryptossh.Signer{d.ca}, Ended: func(ctx context.Context) ([]backend.LeaseID, error) {
		reads <- struct{}{}
		<-goOn
		return d.ledger.withdrawn(ctx)
	}})
	const many = 50
	var asking, all sync.WaitGroup
	asking.Add(many)
	for range many {
		lease := newLease()
		d.ledger.end(lease)
		all.Go(func() {
			asking.Done()
			if err := b.Revoke(t.Context(), lease, secret.String{}); err != nil {
				t.Error(err)
			}
		})
	}
	asking.Wait()
	<-reads
	close(goOn)
	all.Wait()
	if n := 1 + len(reads); n >= many/2 { // two, less those that were not on their feet yet
		t.Errorf("%d revocations read the leases %d times", many, n)
	}
}

func get(t testing.TB, h http.Handler, headers ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, "/ssh/krl", nil)
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestEveryReplicaServesTheSameList(t *testing.T) {
	d := sit(t)
	one, two := newLease(), newLease()
	other := d.replica("")
	here, there := d.Handlers()["GET /ssh/krl"], other.Handlers()["GET /ssh/krl"]
	d.ledger.end(one)
	d.ledger.end(two)
	if err := other.Revoke(t.Context(), one, secret.String{}); err != nil {
		t.Fatal(err)
	}
	a, b := get(t, here), get(t, there)
	if !slices.Equal(d.listed(a.Body.Bytes()), serials(one, two)) || !slices.Equal(d.listed(b.Body.Bytes()), serials(one, two)) {
		t.Errorf("served: %v and %v", d.listed(a.Body.Bytes()), d.listed(b.Body.Bytes()))
	}
	tag := a.Header().Get("ETag")
	if tag == "" || tag != b.Header().Get("ETag") {
		t.Errorf("the tags are %s and %s", tag, b.Header().Get("ETag"))
	}
	d.wait(time.Minute)
	if again := get(t, there, "If-None-Match", tag); again.Code != http.StatusNotModified {
		t.Errorf("the same a minute later: %d", again.Code)
	}
	three := newLease()
	d.ledger.end(three)
	d.wait(time.Minute)
	if changed := get(t, there, "If-None-Match", tag); changed.Code != http.StatusOK || !slices.Equal(d.listed(changed.Body.Bytes()), serials(one, two, three)) {
		t.Errorf("after a change: %d", changed.Code)
	}
}

func TestAskingForTheListIsCheapAndAFaultIsNoList(t *testing.T) {
	d := sit(t)
	h := d.Handlers()["GET /ssh/krl"]
	for range 100 {
		get(t, h)
	}
	if d.ledger.reads != 1 {
		t.Errorf("100 in one moment read the leases %d times", d.ledger.reads)
	}
	if _, err := os.Stat(d.krl); err == nil {
		t.Error("asking for the list wrote the file")
	}
	d.wait(time.Minute)
	d.ledger.fail(fmt.Errorf("%w: postgres://secret@db", errDown))
	answer := get(t, h)
	said, _ := io.ReadAll(answer.Body)
	if answer.Code != http.StatusServiceUnavailable || strings.Contains(string(said), "postgres") {
		t.Errorf("without the store: %d %s", answer.Code, said)
	}
}

// Another process may hold the file's lock for ever, stopped or stuck. Then no lease is
// said to be revoked, and somebody hears of it; but hosts go on to fetch the list.
func TestAHeldLockStopsTheFileAndNotTheServedList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := sit(t)
		held, err := os.OpenFile(d.krl+".lock", os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		if taken, err := ssh.TryLock(held); !taken || err != nil {
			t.Fatal(taken, err)
		}
		began, over := time.Now(), make(chan error, 2)
		ctx, done := context.WithTimeout(t.Context(), time.Hour)
		defer done()
		go func() { over <- d.Refresh(ctx) }()
		synctest.Wait() // it waits for the lock
		lease := newLease()
		d.ledger.end(lease)
		asker, leave := context.WithTimeout(t.Context(), 15*time.Second)
		defer leave()
		go func() { over <- d.Revoke(asker, lease, secret.String{}) }()
		synctest.Wait()

		for range 3 {
			w := httptest.NewRecorder()
			d.Handlers()["GET /ssh/krl"].ServeHTTP(w, httptest.NewRequestWithContext(asker, http.MethodGet, "/ssh/krl", nil))
			if w.Code != http.StatusOK || !slices.Equal(d.listed(w.Body.Bytes()), serials(lease)) {
				t.Fatalf("%s later, served: %d %q", time.Since(began), w.Code, w.Body)
			}
			d.wait(time.Minute)
		}
		if waited := time.Since(began); waited != 0 {
			t.Errorf("who fetched the list waited %s", waited)
		}
		for range 2 {
			if err := <-over; !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), d.krl+".lock locked") {
				t.Errorf("while the lock is held: %v", err)
			}
		}
		if waited := time.Since(began); waited > time.Minute {
			t.Errorf("it waited %s for the lock", waited)
		}

		if err := held.Close(); err != nil {
			t.Fatal(err)
		}
		if err := d.Revoke(t.Context(), lease, secret.String{}); err != nil || !slices.Equal(d.inFile(), serials(lease)) {
			t.Errorf("after that: %v", err)
		}
	})
}

// A store that hangs holds up a host only as long as the host's answer may take.
func TestAStoreThatHangsIsAnAnswerWithoutAList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := ssh.New(ssh.Options{Ended: func(ctx context.Context) ([]backend.LeaseID, error) {
			return nil, reach.Pause(ctx, time.Hour)
		}})
		began := time.Now()
		if answer := get(t, b.Handlers()["GET /ssh/krl"]); answer.Code != http.StatusServiceUnavailable || time.Since(began) > time.Minute {
			t.Errorf("after %s it answers %d", time.Since(began), answer.Code)
		}
	})
}

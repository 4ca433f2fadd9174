package ssh

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	cryptossh "golang.org/x/crypto/ssh"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/internal/secret"
)

// Revoke makes sure that the lease is one of those that ended, by the durable record of
// them, and that the list which follows from it is in the file, where there is one. What
// is served follows from the same record. Hosts refuse the certificate at the first
// login after they took that list; sessions that are open go on.
//
// A lease that is not written down as ended is an error: what only this process knew
// would be forgotten with it.
func (b *Backend) Revoke(ctx context.Context, lease backend.LeaseID, _ secret.String) error {
	e, err := b.press.fresh(ctx)
	if err != nil {
		return fmt.Errorf("revoking the SSH certificate of lease %s: %w; %w", lease, err, backend.ErrUnavailable)
	}
	if !e.lists(lease) {
		return fmt.Errorf("revoking the SSH certificate of lease %s: it is not written down that the lease ended, so no list would have it tomorrow", lease)
	}
	return nil
}

// refreshFor bounds one Refresh: who asks for it has no deadline, and a fault that is never
// told is not mended.
const refreshFor = 10 * time.Second

// Refresh brings the file of the list up to date, since other replicas revoke, too, and
// certificates die. It does nothing where there is no file.
func (b *Backend) Refresh(ctx context.Context) error {
	if b.press.file == nil {
		return nil
	}
	ctx, done := context.WithTimeout(ctx, refreshFor)
	defer done()
	if _, err := b.press.fresh(ctx); err != nil {
		return fmt.Errorf("bringing the list of revoked SSH certificates up to date: %w", err)
	}
	return nil
}

// press makes editions of the list. Those who ask while one is being made share the
// next: many revocations at once read the leases and write the file twice, not each.
//
// The file has a turn of its own. Another process may keep it locked, and who only wants
// to know the list is not to wait for that.
type press struct {
	authorities []cryptossh.PublicKey
	ended       Ended
	now         func() time.Time
	asked       atomic.Int64 // how many asked so far

	reading turn     // who has it reads the leases
	last    *edition // guarded by reading

	file   *file    // nil: none
	filing turn     // who has it writes the file; taken before reading, where both are
	filed  *edition // what is in the file; guarded by filing
}

// edition is one list and what is in it. Immutable.
type edition struct {
	list   []byte
	tag    string            // of what it lists; the same for all replicas
	leases []backend.LeaseID // sorted
	at     time.Time         // just before the leases were read
	asked  int64             // who asked up to then may have it
}

func (e *edition) lists(lease backend.LeaseID) bool {
	_, found := slices.BinarySearch(e.leases, lease)
	return found
}

// turn is had by one at a time. Who waits for it may give up.
type turn chan struct{}

func (t turn) take(ctx context.Context) error {
	select {
	case t <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("waiting for the list of revoked certificates: %w", ctx.Err())
	}
}

func (t turn) give() { <-t }

func newPress(authorities []cryptossh.PublicKey, ended Ended, path string, now func() time.Time) *press {
	p := &press{authorities: authorities, ended: ended, now: now, reading: make(turn, 1), filing: make(turn, 1)}
	if path != "" {
		p.file = &file{path: path}
	}
	return p
}

// fresh is an edition of leases that were read after it was called. It is in the file,
// where there is one.
func (p *press) fresh(ctx context.Context) (*edition, error) {
	mine := p.asked.Add(1)
	good := func(e *edition) bool { return e.asked >= mine }
	if p.file == nil {
		return p.edition(ctx, good)
	}
	if err := p.filing.take(ctx); err != nil {
		return nil, err
	}
	defer p.filing.give()
	if p.filed != nil && good(p.filed) {
		return p.filed, nil
	}
	return p.print(ctx)
}

// recent is an edition that is at most so old. A file that cannot be written, or is locked,
// is not in its way.
func (p *press) recent(ctx context.Context, old time.Duration) (*edition, error) {
	return p.edition(ctx, func(last *edition) bool { return p.now().Sub(last.at) < old })
}

// print makes an edition and puts it into the file. The leases are read while the file
// is locked, so that no process puts an older list over a newer one.
func (p *press) print(ctx context.Context) (*edition, error) {
	unlock, err := p.file.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	made, err := p.edition(ctx, func(*edition) bool { return false })
	if err != nil {
		return nil, err
	}
	if err := p.file.put(made); err != nil {
		return nil, err
	}
	p.filed = made
	return made, nil
}

// edition is the last one if that is good, or the next.
func (p *press) edition(ctx context.Context, good func(*edition) bool) (*edition, error) {
	if err := p.reading.take(ctx); err != nil {
		return nil, err
	}
	defer p.reading.give()
	if p.last != nil && good(p.last) {
		return p.last, nil
	}
	next, err := p.read(ctx)
	if err != nil {
		return nil, err
	}
	p.last = next
	return next, nil
}

func (p *press) read(ctx context.Context) (*edition, error) {
	if p.ended == nil {
		return nil, errors.New("nothing says which leases ended")
	}
	e := &edition{asked: p.asked.Load(), at: p.now()}
	leases, err := p.ended(ctx)
	if err != nil {
		return nil, fmt.Errorf("reading which leases ended: %w", err)
	}
	e.leases = slices.Clone(leases)
	slices.Sort(e.leases)
	e.list = writeKRL(p.authorities, e.leases, e.at)
	sum := sha256.Sum256(e.list[krlDated:])
	e.tag = hex.EncodeToString(sum[:16])
	return e, nil
}

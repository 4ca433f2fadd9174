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

// Refresh brings the file of the list up to date, since other replicas revoke, too, and
// certificates die. It does nothing where there is no file.
func (b *Backend) Refresh(ctx context.Context) error {
	if b.press.file == nil {
		return nil
	}
	if _, err := b.press.fresh(ctx); err != nil {
		return fmt.Errorf("bringing the list of revoked SSH certificates up to date: %w", err)
	}
	return nil
}

// press makes editions of the list. Those who ask while one is being made share the
// next: many revocations at once read the leases and write the file twice, not each.
type press struct {
	authorities []cryptossh.PublicKey
	ended       Ended
	file        *file // nil: none
	now         func() time.Time

	asked atomic.Int64  // how many asked so far
	turn  chan struct{} // of one: who holds it makes an edition
	last  *edition      // guarded by turn
}

// edition is one list and what is in it. Immutable.
type edition struct {
	list   []byte
	tag    string            // of what it lists; the same for all replicas
	leases []backend.LeaseID // sorted
	at     time.Time         // just before the leases were read
	asked  int64             // who asked up to then may have it
	filed  bool              // it is in the file, or there is none
}

func (e *edition) lists(lease backend.LeaseID) bool {
	_, found := slices.BinarySearch(e.leases, lease)
	return found
}

func newPress(authorities []cryptossh.PublicKey, ended Ended, path string, now func() time.Time) *press {
	p := &press{authorities: authorities, ended: ended, now: now, turn: make(chan struct{}, 1)}
	if path != "" {
		p.file = &file{path: path}
	}
	return p
}

// fresh is an edition of leases that were read after it was called. It is in the file.
func (p *press) fresh(ctx context.Context) (*edition, error) {
	mine := p.asked.Add(1)
	return p.edition(ctx, p.print, func(last *edition) bool { return last.filed && last.asked >= mine })
}

// recent is an edition that is at most so old. A file that cannot be written is not in
// its way.
func (p *press) recent(ctx context.Context, old time.Duration) (*edition, error) {
	return p.edition(ctx, p.read, func(last *edition) bool { return p.now().Sub(last.at) < old })
}

func (p *press) edition(ctx context.Context, made func(context.Context) (*edition, error), good func(*edition) bool) (*edition, error) {
	select {
	case p.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, fmt.Errorf("waiting for the list of revoked certificates: %w", ctx.Err())
	}
	defer func() { <-p.turn }()
	if p.last != nil && good(p.last) {
		return p.last, nil
	}
	next, err := made(ctx)
	if err != nil {
		return nil, err
	}
	p.last = next
	return next, nil
}

// print makes an edition and puts it into the file. The leases are read while the file
// is locked, so that no process puts an older list over a newer one.
func (p *press) print(ctx context.Context) (*edition, error) {
	if p.file == nil {
		return p.read(ctx)
	}
	unlock, err := p.file.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	made, err := p.read(ctx)
	if err != nil {
		return nil, err
	}
	if err := p.file.put(made); err != nil {
		return nil, err
	}
	made.filed = true
	return made, nil
}

func (p *press) read(ctx context.Context) (*edition, error) {
	if p.ended == nil {
		return nil, errors.New("nothing says which leases ended")
	}
	e := &edition{asked: p.asked.Load(), at: p.now(), filed: p.file == nil}
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

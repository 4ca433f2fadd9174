package exec

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/internal/secret"
)

// Revoke asks the program that made the credential to end it. Without a handle nobody
// knows which program that was, or whether it did; then each is asked to end what it has
// under the lease's name, those that are retired, too: one that is not configured is not
// asked, and nothing here can tell that it was ever there.
func (b *Backend) Revoke(ctx context.Context, lease backend.LeaseID, handle secret.String) error {
	if handle.Empty() {
		return b.revokeByName(ctx, lease)
	}
	p, err := b.maker(lease, handle)
	if err != nil {
		return fmt.Errorf("revoking the credential of lease %s: %w", lease, err)
	}
	if !p.revocable {
		return fmt.Errorf("revoking the credential of lease %s: the program %s cannot; it dies by itself: %w", lease, p.name, backend.ErrLost)
	}
	if err := p.end(ctx, lease, handle); err != nil {
		return fmt.Errorf("revoking the credential of lease %s by the program %s: %w", lease, p.name, err)
	}
	return nil
}

// maker is the program that a handle is of.
func (b *Backend) maker(lease backend.LeaseID, handle secret.String) (*program, error) {
	var h sealed
	if err := json.Unmarshal([]byte(handle.Reveal()), &h); err != nil || h.Lease != string(lease) {
		return nil, errors.New("the handle is not one of this backend and this lease")
	}
	p := b.programs[h.Program]
	if p == nil {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.missed[h.Program] = true
		return nil, noLonger(h.Program)
	}
	return p, nil
}

func noLonger(name string) error {
	return fmt.Errorf("the program %s is no longer configured; bring it back, with retired: true, until its leases are over", shown(name))
}

// missing are the faults of programs that were here once, as a handle proved, and that
// nobody can ask. Without them, to hear "gone" from all the others proves nothing.
func (b *Backend) missing() (faults []error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(b.missed)) {
		faults = append(faults, noLonger(name))
	}
	return faults
}

func (b *Backend) revokeByName(ctx context.Context, lease backend.LeaseID) error {
	var mu sync.Mutex
	var all sync.WaitGroup
	faults := b.missing()
	for _, name := range slices.Sorted(maps.Keys(b.programs)) {
		p := b.programs[name]
		all.Go(func() {
			err := fmt.Errorf("it cannot revoke: %w", backend.ErrLost)
			if p.revocable {
				err = p.end(ctx, lease, secret.String{})
			}
			if err != nil {
				mu.Lock()
				defer mu.Unlock()
				faults = append(faults, fmt.Errorf("the program %s: %w", p.name, err))
			}
		})
	}
	all.Wait()
	return named(lease, faults)
}

// named is what came of asking everybody. Only where nobody's answer may become better
// by asking again is it lost.
func named(lease backend.LeaseID, faults []error) error {
	var again []error
	for _, err := range faults {
		if !errors.Is(err, backend.ErrLost) {
			again = append(again, err)
		}
	}
	if len(again) > 0 {
		return fmt.Errorf("revoking what lease %s may have: %w", lease, errors.Join(again...))
	}
	if len(faults) > 0 {
		return fmt.Errorf("revoking what lease %s may have: %w", lease, errors.Join(faults...))
	}
	return nil
}

// end is nil only where the program says that the credential is gone.
func (p *program) end(ctx context.Context, lease backend.LeaseID, handle secret.String) error {
	said, known, err := p.tell(ctx, revokeVerb, lease, handle)
	switch {
	case err != nil:
		return err
	case said.Error != nil:
		err := errors.New(said.Error.words(append(said.secrets(), known)...))
		if said.Error.Unavailable {
			err = fmt.Errorf("%w; %w", err, backend.ErrUnavailable)
		}
		if said.Error.Lost && !said.Error.NotCreated && !said.Error.Unavailable {
			err = fmt.Errorf("%w; %w", err, backend.ErrLost)
		}
		return err
	case said.Gone == nil || !*said.Gone:
		return errors.New("it does not say that the credential is gone")
	}
	return nil
}

// tell asks a program about a credential that it made.
func (p *program) tell(ctx context.Context, verb string, lease backend.LeaseID, handle secret.String) (answer, string, error) {
	var h sealed
	if !handle.Empty() {
		if err := json.Unmarshal([]byte(handle.Reveal()), &h); err != nil {
			return answer{}, "", errors.New("the handle is not one of this backend")
		}
	}
	said, err := p.ask(ctx, p.ending, request{Verb: verb, Lease: string(lease), Handle: h.Handle})
	return said, h.Handle, unavailable(err)
}

// Gone asks the program whether what the credential opens refuses it now.
func (b *Backend) Gone(ctx context.Context, lease backend.LeaseID, handle secret.String) (bool, error) {
	p, err := b.maker(lease, handle)
	switch {
	case err != nil:
		return false, fmt.Errorf("asking whether the credential of lease %s is gone: %w", lease, err)
	case !p.probes:
		return false, fmt.Errorf("asking whether the credential of lease %s is gone: the program %s cannot say", lease, p.name)
	}
	said, known, err := p.tell(ctx, probeVerb, lease, handle)
	if err == nil && said.Error != nil {
		err = errors.New(said.Error.words(append(said.secrets(), known)...))
	}
	if err == nil && said.Gone == nil {
		err = errors.New("its answer says neither that it is gone nor that it is not")
	}
	if err != nil {
		return false, fmt.Errorf("asking the program %s whether the credential of lease %s is gone: %w", p.name, lease, err)
	}
	return *said.Gone, nil
}

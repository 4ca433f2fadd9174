package lease

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/stepkey/stepkey/exchange/backend"
)

// resealAtOnce is how many handles are sealed anew in one transaction.
const resealAtOnce = 200

// sealedHandle is the handle of one live lease, as it stands in the store.
type sealedHandle struct {
	lease  backend.LeaseID
	sealed []byte
}

// Reseal seals every live handle with the newest key that is not sealed with it yet, and
// counts those that no key opens: their leases cannot be ended until a key file that does is
// back. Where processes have different key files, each does it for what it can open.
func (s *Store) Reseal(ctx context.Context) (broken int, err error) {
	handles, err := s.sealedBefore(ctx)
	if err != nil {
		return 0, err
	}
	for len(handles) > 0 {
		some := handles[:min(resealAtOnce, len(handles))]
		handles = handles[len(some):]
		err := s.transact(ctx, "sealing with the newest key", func(tx session) error {
			for _, h := range some {
				value, err := s.keys.open(h.lease, h.sealed)
				if err != nil {
					broken++
					continue
				}
				anew, err := s.keys.seal(h.lease, value)
				if err != nil {
					return err
				}
				// One that is over or was sealed again since it was read is left alone.
				if _, err := tx.exec(ctx, `UPDATE leases SET handle = ? WHERE id = ? AND handle = ?`, anew, string(h.lease), h.sealed); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return broken, err
		}
	}
	return broken, nil
}

// sealedBefore are the live handles that another key than the newest has sealed.
func (s *Store) sealedBefore(ctx context.Context) (before []sealedHandle, err error) {
	rows, err := s.reading().query(ctx, `SELECT id, handle FROM leases WHERE due_at IS NOT NULL AND handle IS NOT NULL`)
	if err != nil {
		return nil, fmt.Errorf("reading what is sealed: %w", err)
	}
	defer func() { err = errors.Join(err, rows.Err(), rows.Close()) }()
	for rows.Next() {
		var h sealedHandle
		if err := rows.Scan(&h.lease, &h.sealed); err != nil {
			return nil, fmt.Errorf("reading what is sealed: %w", err)
		}
		if len(h.sealed) > 0 && !s.keys.sealedByNewest(h.sealed) {
			before = append(before, h)
		}
	}
	return before, nil
}

// sealedByNewest reads the prefix that Tink puts before what it seals: 1, and the key's id
// in four bytes, the highest first.
func (k *Keys) sealedByNewest(sealed []byte) bool {
	return len(sealed) > 5 && sealed[0] == 1 && binary.BigEndian.Uint32(sealed[1:5]) == k.newest
}

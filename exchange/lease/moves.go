package lease

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/stepkey/stepkey/exchange/audit"
	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/internal/secret"
)

// ErrMoved: the lease is no longer in the state that the caller saw; somebody
// else moved it on.
var ErrMoved = errors.New("the lease has moved on")

// TokenPrefix starts every lease token, so that scanners and people can tell one.
const TokenPrefix = "skl_"

// Activate seals the way back, moves the lease to active and makes its lease
// token, which is stored only as a hash. A lease that somebody ended meanwhile, or
// that the keeper gave up as pending, is refused with ErrMoved: then the caller
// still holds the handle and must end the credential itself.
func (s *Store) Activate(ctx context.Context, i Intent, made backend.Issued) (Lease, secret.String, error) {
	l := i.lease
	sealed, err := s.keys.seal(l.ID, made.Handle)
	if err != nil {
		return l, secret.String{}, err
	}
	token, err := s.newToken()
	if err != nil {
		return l, secret.String{}, err
	}
	l.State = Active
	if !made.DiesAt.IsZero() && made.DiesAt.Before(l.DiesAt) {
		l.DiesAt = made.DiesAt.UTC().Truncate(time.Microsecond)
		l.EndsAt = earlier(l.EndsAt, l.DiesAt)
	}
	credential := hash(made.Values["token"])
	err = s.transact(ctx, "activating "+string(l.ID), func(tx session) error {
		result, err := tx.exec(ctx,
			`UPDATE leases SET state = 'active', token_hash = ?, credential_hash = ?, handle = ?, dies_at = ?, ends_at = ?, due_at = ?
			 WHERE id = ? AND state = 'pending' AND reason = ''`,
			hash(token), credential, sealed, l.DiesAt.UnixMicro(), l.EndsAt.UnixMicro(), dueAt(l).UnixMicro(), string(l.ID))
		if err := moved(result, err); err != nil {
			return err
		}
		e := entry(l, audit.Active, "", "")
		e.Credential = base64.StdEncoding.EncodeToString(credential)
		_, err = s.enter(ctx, tx, e)
		return err
	})
	return l, token, err
}

// Keep seals the handle of a credential that nobody is to have and that could not be
// ended yet, so that the keeper can end it. The lease is never activated. One that was
// given up as unconfirmed meanwhile, since nobody else could name its credential, can
// be ended now after all.
func (s *Store) Keep(ctx context.Context, i Intent, handle secret.String, reason string) error {
	sealed, err := s.keys.seal(i.lease.ID, handle)
	if err != nil {
		return err
	}
	return s.transact(ctx, "keeping the handle of "+string(i.lease.ID), func(tx session) error {
		result, err := tx.exec(ctx, `UPDATE leases SET handle = ?, reason = CASE reason WHEN '' THEN ? ELSE reason END,
			due_at = CASE state WHEN 'unconfirmed' THEN ? ELSE due_at END WHERE id = ? AND state IN ('pending', 'unconfirmed')`,
			sealed, reason, s.now().UnixMicro(), string(i.lease.ID))
		if err := moved(result, err); err != nil {
			return err
		}
		_, err = s.enter(ctx, tx, entry(i.lease, audit.Revoking, "", reason))
		return err
	})
}

// Fail moves a pending lease to failed: it is certain that nothing exists. Its
// subject token may be used again.
func (s *Store) Fail(ctx context.Context, i Intent, reason string) error {
	return s.transact(ctx, "failing "+string(i.lease.ID), func(tx session) error {
		return s.finish(ctx, tx, i.lease, Verdict{To: Failed, Reason: reason})
	})
}

// Held is a lease that its holder is ending right now: nobody else will try for a
// while. Only StartEnding makes one.
type Held struct {
	Lease
	Handle secret.String
	Broken error // the handle is sealed and cannot be opened: no attempt can succeed until the keys are back
}

// StartEnding claims the lease for one attempt to end it and writes down why, once.
// An active lease becomes revoking; one in any other live state stays in it. A
// final lease comes back as it is, with no claim and no handle. The first reason
// stands: later callers do not rewrite why.
func (s *Store) StartEnding(ctx context.Context, id backend.LeaseID, why string) (Held, error) {
	var held Held
	err := s.transact(ctx, "ending "+string(id), func(tx session) error {
		l, sealed, err := one(ctx, tx, `id = ?`+tx.forUpdate, string(id))
		if err != nil || l.State.Final() {
			held = Held{Lease: l}
			return err
		}
		if l, err = s.startEnding(ctx, tx, l, why, s.now().Add(claimFor)); err != nil {
			return err
		}
		held.Lease = l
		held.Handle, held.Broken = s.keys.open(l.ID, sealed)
		return nil
	})
	return held, err
}

// startEnding moves a live lease to its end as far as we alone can, and says when
// the keeper is to look at it.
func (s *Store) startEnding(ctx context.Context, tx session, l Lease, why string, due time.Time) (Lease, error) {
	first := l.Reason == ""
	if first {
		l.Reason = why
	}
	if l.State == Active {
		l.State = Revoking
	}
	_, err := tx.exec(ctx, `UPDATE leases SET state = ?, reason = ?, due_at = ? WHERE id = ?`,
		string(l.State), l.Reason, due.UnixMicro(), string(l.ID))
	if err == nil && first {
		_, err = s.enter(ctx, tx, entry(l, audit.Revoking, "", why))
	}
	return l, err
}

// Conclude writes down what came of an attempt to end a lease. When the lease moved
// on meanwhile it is left alone, and returned as it is now.
func (s *Store) Conclude(ctx context.Context, held Held, v Verdict) (Lease, error) {
	var now Lease
	err := s.transact(ctx, "concluding the end of "+string(held.ID), func(tx session) error {
		current, sealed, err := one(ctx, tx, `id = ?`+tx.forUpdate, string(held.ID))
		if err != nil || current.State != held.State {
			now = current
			return err
		}
		if v.To == Unconfirmed && len(sealed) > 0 && held.Handle.Empty() { // kept while we asked without it
			v.To, v.Due = current.State, s.now()
		}
		switch {
		case v.To.Final():
			err = s.finish(ctx, tx, current, v)
		default:
			err = s.postpone(ctx, tx, current, v)
		}
		if err == nil {
			now, _, err = one(ctx, tx, `id = ?`, string(held.ID))
		}
		return err
	})
	return now, err
}

// finish is the last move of a lease: what was sealed for revoking it goes, and a
// subject token that came to nothing is free again.
func (s *Store) finish(ctx context.Context, tx session, l Lease, v Verdict) error {
	if !l.State.mayBecome(v.To) {
		return fmt.Errorf("%w: from %s to %s", ErrMoved, l.State, v.To)
	}
	result, err := tx.exec(ctx,
		`UPDATE leases SET state = ?, ended_at = ?, due_at = NULL, handle = NULL, reason = CASE reason WHEN '' THEN ? ELSE reason END
		 WHERE id = ? AND state = ?`,
		string(v.To), s.now().UnixMicro(), v.Reason, string(l.ID), string(l.State))
	if err := moved(result, err); err != nil {
		return err
	}
	if v.To == Failed {
		if _, err := tx.exec(ctx, `DELETE FROM used_tokens WHERE lease = ?`, string(l.ID)); err != nil {
			return err
		}
	}
	reason := v.Reason
	if reason == "" {
		reason = l.Reason
	}
	_, err = s.enter(ctx, tx, entry(l, audit.Event(v.To), "", reason))
	return err
}

// postpone leaves a lease to a later attempt, in its state or as unconfirmed.
func (s *Store) postpone(ctx context.Context, tx session, l Lease, v Verdict) error {
	event := audit.EndFailed
	if v.To != l.State {
		if !l.State.mayBecome(v.To) {
			return fmt.Errorf("%w: from %s to %s", ErrMoved, l.State, v.To)
		}
		event = audit.Event(v.To)
	}
	_, err := tx.exec(ctx, `UPDATE leases SET state = ?, attempts = attempts + 1, due_at = ? WHERE id = ?`,
		string(v.To), v.Due.UnixMicro(), string(l.ID))
	if err == nil {
		_, err = s.enter(ctx, tx, entry(l, event, "", v.Reason))
	}
	return err
}

func moved(result sql.Result, err error) error {
	if err != nil {
		return err
	}
	if n, err := result.RowsAffected(); err != nil || n == 0 {
		return errors.Join(err, ErrMoved)
	}
	return nil
}

// newToken makes a lease token of 256 random bits.
func (s *Store) newToken() (secret.String, error) {
	var b [32]byte
	if _, err := io.ReadFull(s.rand, b[:]); err != nil {
		return secret.String{}, fmt.Errorf("making a lease token: %w", err)
	}
	return secret.New(TokenPrefix + base64.RawURLEncoding.EncodeToString(b[:])), nil
}

// hash is how a token is stored and found. Both kinds are long random values, so a
// plain SHA-256 cannot be turned back.
func hash(token secret.String) []byte {
	if token.Empty() {
		return nil
	}
	sum := sha256.Sum256([]byte(token.Reveal()))
	return sum[:]
}

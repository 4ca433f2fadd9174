package backendtest

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/internal/secret"
)

var endFaults = []fault{
	{"revoke does nothing", func(h honest) backend.Backend {
		return faulty{honest: h, revoke: func(context.Context, backend.LeaseID, secret.String) error { return nil }}
	}, "revoking ends a credential, once and again"},
	{"revoke works once", func(h honest) backend.Backend {
		return faulty{honest: h, revoke: func(ctx context.Context, lease backend.LeaseID, handle secret.String) error {
			before := h.live()
			err := h.Revoke(ctx, lease, handle)
			if err == nil && h.live() == before {
				return errors.New("there is no such key")
			}
			return err
		}}
	}, "revoking ends a credential, once and again"},
	{"revoke without a handle ends everything", func(h honest) backend.Backend {
		return faulty{honest: h, revoke: func(ctx context.Context, lease backend.LeaseID, handle secret.String) error {
			if handle.Empty() {
				h.mu.Lock()
				defer h.mu.Unlock()
				clear(h.byKey)
				return nil
			}
			return h.Revoke(ctx, lease, handle)
		}}
	}, "revoking what was never issued ends nothing else"},
	{"revoke without a handle says gone and does nothing", func(h honest) backend.Backend {
		return faulty{honest: h, revoke: func(ctx context.Context, lease backend.LeaseID, handle secret.String) error {
			if handle.Empty() {
				return nil
			}
			return h.Revoke(ctx, lease, handle)
		}}
	}, "a lost answer leaves no false certainty"},
	{"revoke without a handle asks to be tried for ever", func(h honest) backend.Backend {
		return faulty{honest: h, revoke: func(ctx context.Context, lease backend.LeaseID, handle secret.String) error {
			if handle.Empty() {
				return errors.New("the handle is missing")
			}
			return h.Revoke(ctx, lease, handle)
		}}
	}, "a lost answer leaves no false certainty"},
	{"every failure is called certain", func(h honest) backend.Backend {
		return issuing(h, func(_ backend.Order, _ *backend.Issued, err error) error {
			if err != nil {
				return fmt.Errorf("%w; %w", err, backend.ErrNotCreated)
			}
			return nil
		})
	}, "a lost answer leaves no false certainty"},
	{"a creation without an answer is tried again", func(h honest) backend.Backend {
		return faulty{honest: h, issue: func(ctx context.Context, o backend.Order) (backend.Issued, error) {
			issued, err := h.Issue(ctx, o)
			if errors.Is(err, errNoAnswer) {
				return h.Issue(ctx, o)
			}
			return issued, err
		}}
	}, "a lost answer leaves no false certainty"},
	{"revoke calls an outage gone", func(h honest) backend.Backend {
		return faulty{honest: h, revoke: func(ctx context.Context, lease backend.LeaseID, handle secret.String) error {
			_ = h.Revoke(ctx, lease, handle)
			return nil
		}}
	}, "while the outside system is down nothing is claimed"},
	{"revoke calls an outage lost", func(h honest) backend.Backend {
		return faulty{honest: h, revoke: func(ctx context.Context, lease backend.LeaseID, handle secret.String) error {
			if err := h.Revoke(ctx, lease, handle); err != nil {
				return fmt.Errorf("%w: %w", err, backend.ErrLost)
			}
			return nil
		}}
	}, "while the outside system is down nothing is claimed"},
	{"an outage is not called one", func(h honest) backend.Backend {
		return issuing(h, func(_ backend.Order, _ *backend.Issued, err error) error {
			if errors.Is(err, backend.ErrUnavailable) {
				return errors.New("something went wrong")
			}
			return err
		})
	}, "while the outside system is down nothing is claimed"},
	{"an error holds the key", func(h honest) backend.Backend {
		return faulty{honest: h, revoke: func(ctx context.Context, lease backend.LeaseID, handle secret.String) error {
			if err := h.Revoke(ctx, lease, handle); err != nil {
				return fmt.Errorf("DELETE /keys/%s: %w", handle.Reveal(), err)
			}
			return nil
		}}
	}, "while the outside system is down nothing is claimed"},
	{"a request that is over is called uncreated and filled", func(h honest) backend.Backend {
		return faulty{honest: h, issue: func(ctx context.Context, o backend.Order) (backend.Issued, error) {
			if ctx.Err() != nil {
				_, _ = h.Issue(context.WithoutCancel(ctx), o)
			}
			return h.Issue(ctx, o)
		}}
	}, "a request that is over makes no false claim"},
	{"what cannot be revoked is called revoked", func(h honest) backend.Backend {
		return faulty{honest: h,
			terms: func(o backend.Order) backend.Terms { return backend.Terms{DiesAt: o.At.Add(noteLife)} },
			revoke: func(context.Context, backend.LeaseID, secret.String) error {
				return nil
			}}
	}, "revoking ends a credential, once and again"},
	{"those who come together share one credential", func(h honest) backend.Backend {
		meeting := make(chan backend.Issued)
		return issuing(h, func(_ backend.Order, issued *backend.Issued, err error) error {
			select {
			case meeting <- *issued:
			case *issued = <-meeting:
			case <-time.After(20 * time.Millisecond):
			}
			return err
		})
	}, "many at once do not disturb each other"},
	{"revoke without a handle never looks", func(h honest) backend.Backend {
		return faulty{honest: h, revoke: func(ctx context.Context, lease backend.LeaseID, handle secret.String) error {
			if handle.Empty() {
				return fmt.Errorf("there is no handle: %w", backend.ErrLost)
			}
			return h.Revoke(ctx, lease, handle)
		}}
	}, "a handle that is lost loses nothing that has a name"},
	{"what was never issued is lost without a look", func(h honest) backend.Backend {
		return faulty{honest: h, revoke: func(ctx context.Context, lease backend.LeaseID, handle secret.String) error {
			before := h.live()
			err := h.Revoke(ctx, lease, handle)
			if err == nil && handle.Empty() && h.live() == before {
				return backend.ErrLost
			}
			return err
		}}
	}, "revoking what was never issued ends nothing else"},
	{"only what this process was told is found", func(h honest) backend.Backend {
		known := map[backend.LeaseID]secret.String{}
		f := issuing(h, func(o backend.Order, issued *backend.Issued, err error) error {
			known[o.Lease] = issued.Handle
			return err
		})
		f.revoke = func(ctx context.Context, lease backend.LeaseID, _ secret.String) error {
			if known[lease].Empty() {
				return backend.ErrLost
			}
			return h.Revoke(ctx, lease, known[lease])
		}
		return f
	}, "a lost answer leaves no false certainty"},
	{"a request that is over is told that all is revoked", func(h honest) backend.Backend {
		return faulty{honest: h, revoke: func(ctx context.Context, lease backend.LeaseID, handle secret.String) error {
			if ctx.Err() != nil {
				return nil
			}
			return h.Revoke(ctx, lease, handle)
		}}
	}, "revoking for a request that is over makes no false claim"},
	{"a request that is over is told that it is lost", func(h honest) backend.Backend {
		return faulty{honest: h, revoke: func(ctx context.Context, lease backend.LeaseID, handle secret.String) error {
			if ctx.Err() != nil {
				return fmt.Errorf("%w: %w", ctx.Err(), backend.ErrLost)
			}
			return h.Revoke(ctx, lease, handle)
		}}
	}, "revoking for a request that is over makes no false claim"},
	{"whoever comes second is told that all is revoked", func(h honest) backend.Backend {
		var under atomic.Bool
		return faulty{honest: h, revoke: func(ctx context.Context, lease backend.LeaseID, handle secret.String) error {
			if !under.CompareAndSwap(false, true) {
				return nil
			}
			defer under.Store(false)
			<-time.After(20 * time.Millisecond)
			return h.Revoke(ctx, lease, handle)
		}}
	}, "several revocations of one lease agree"},
	{"whoever comes second is told that it is lost", func(h honest) backend.Backend {
		var begun atomic.Bool
		return faulty{honest: h, revoke: func(ctx context.Context, lease backend.LeaseID, handle secret.String) error {
			if !begun.CompareAndSwap(false, true) {
				return backend.ErrLost
			}
			return h.Revoke(ctx, lease, handle)
		}}
	}, "several revocations of one lease agree"},
	{"a revocation without an answer is never believed", func(h honest) backend.Backend {
		var failed atomic.Bool
		return faulty{honest: h, revoke: func(ctx context.Context, lease backend.LeaseID, handle secret.String) error {
			err := h.Revoke(ctx, lease, handle)
			if err != nil && failed.CompareAndSwap(false, true) || err == nil && !failed.Load() {
				return err
			}
			return errors.New("it was tried before")
		}}
	}, "a lost answer to a revocation is neither an end nor a loss"},
	{"a revocation without an answer is called lost", func(h honest) backend.Backend {
		return faulty{honest: h, revoke: func(ctx context.Context, lease backend.LeaseID, handle secret.String) error {
			if err := h.Revoke(ctx, lease, handle); err != nil {
				return fmt.Errorf("%w: %w", err, backend.ErrLost)
			}
			return nil
		}}
	}, "a lost answer to a revocation is neither an end nor a loss"},
	{"what is kept open goes on, and nothing says so", func(h honest) backend.Backend {
		h.set(&h.lasts, true)
		return h
	}, "what is kept open ends, or is said to remain"},
	{"what is kept open ends, and is said to remain", func(h honest) backend.Backend {
		return faulty{honest: h, terms: func(o backend.Order) backend.Terms {
			t := h.Terms(o)
			t.Remains = "a session that is open"
			return t
		}}
	}, "what is kept open ends, or is said to remain"},
	{"everything is gone to whoever looks", func(h honest) backend.Backend {
		return faulty{honest: h, gone: func(secret.String) (bool, error) { return true, nil }}
	}, "who looks tells what lives from what is gone"},
	{"nothing is gone to whoever looks", func(h honest) backend.Backend {
		return faulty{honest: h, gone: func(secret.String) (bool, error) { return false, nil }}
	}, "who looks tells what lives from what is gone"},
	{"what does not answer is gone", func(h honest) backend.Backend {
		return faulty{honest: h, gone: func(handle secret.String) (bool, error) {
			has, err := h.has(handle.Reveal())
			return err != nil || !has, nil
		}}
	}, "while the outside system is down nothing is claimed"},
	{"an error holds the exchange's own password", func(h honest) backend.Backend {
		return issuing(h, func(_ backend.Order, _ *backend.Issued, err error) error {
			if err != nil {
				return fmt.Errorf("stepkey:%s@notes: %w", ownPassword, err)
			}
			return nil
		})
	}, "while the outside system is down nothing is claimed"},
}

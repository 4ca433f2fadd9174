package kubernetes

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/exchange/backend/reach"
	"github.com/stepkey/stepkey/internal/secret"
)

// Issue makes the lease's objects, and last of all the token. All have names that say the
// lease, and who has no token can do nothing with them: what is left where this process
// ends in between, or where an answer is lost, Revoke finds by the name.
func (b *Backend) Issue(ctx context.Context, o backend.Order) (backend.Issued, error) {
	want, ours := o.Scope.(*scope)
	if !ours || want == nil || b.token == nil {
		return backend.Issued{}, fmt.Errorf("issuing a Kubernetes token: the order's scope is not one of this backend: %w", backend.ErrNotCreated)
	}
	name, named := nameOf(o.Lease)
	left := o.At.Add(inFlight).Sub(b.now())
	switch {
	case !named:
		return backend.Issued{}, fmt.Errorf("issuing a Kubernetes token: the lease's id cannot be part of an object's name: %w", backend.ErrNotCreated)
	case left <= 0 || !b.now().Before(b.end(o)):
		return backend.Issued{}, fmt.Errorf("issuing a Kubernetes token: the order is from %s, so a token made now would outlive what was promised: %w",
			o.At.UTC().Format(time.RFC3339), backend.ErrNotCreated)
	}
	ctx, cancel := context.WithTimeout(ctx, left)
	defer cancel()
	m := made{want: want, name: name, accounts: b.limits.Accounts, order: o}
	issued, err := b.issue(ctx, m)
	if err != nil {
		return issued, fmt.Errorf("issuing a Kubernetes token for %s: %w", want, err)
	}
	return issued, nil
}

func (b *Backend) issue(ctx context.Context, m made) (backend.Issued, error) {
	h := b.handleOf(m)
	bound, first, err := b.makeObjects(ctx, m)
	if err != nil && first && nothingDone(err) {
		return backend.Issued{}, fmt.Errorf("%w: %w", err, backend.ErrNotCreated)
	}
	var token grantedToken
	if err == nil {
		token, err = b.requestToken(ctx, m, bound)
	}
	if err != nil {
		return b.withdraw(ctx, m, h, err)
	}
	latest := b.Terms(m.order).DiesAt
	dies := b.now().Add(token.life + pastEnd + remembered) // it was made before it was answered
	if dies.After(latest) {
		dies = latest
	}
	issued := b.credential(m.want.namespace, token.text)
	issued.Handle, issued.Granted, issued.DiesAt = h.sealed(), m.want, dies
	return issued, nil
}

// makeObjects makes all that the token hangs on. The binding comes before its service
// account: API servers learn of it a little later, and by then they have. first: the
// error is of the first object.
func (b *Backend) makeObjects(ctx context.Context, m made) (bound *objectRef, first bool, err error) {
	if m.want.form == byAccount {
		var got boundSecret
		if err := b.create(ctx, secrets, m.want.namespace, m.secret(), &got); err != nil {
			return nil, true, err
		}
		return &objectRef{APIVersion: "v1", Kind: "Secret", Name: m.name, UID: got.Metadata.UID}, false, nil
	}
	first = true
	if m.want.form == byRules {
		var got role
		if err := b.create(ctx, roles, m.want.namespace, m.role(), &got); err != nil {
			return nil, first, err
		}
		if first = false; !m.role().same(got) {
			return nil, first, errChanged
		}
	}
	var got roleBinding
	if err := b.create(ctx, roleBindings, m.want.namespace, m.roleBinding(), &got); err != nil {
		return nil, first, err
	}
	if !m.roleBinding().same(got) {
		return nil, false, errChanged
	}
	return nil, false, b.create(ctx, serviceAccounts, m.accounts, m.serviceAccount(), nil)
}

var errChanged = errors.New("something in the cluster changed what was to be made, so that it may do more or less than the task says; look at its admission webhooks")

func (b *Backend) create(ctx context.Context, k kind, namespace string, in, out any) error {
	if err := b.call(ctx, http.MethodPost, k.in(namespace), in, out); err != nil {
		return fmt.Errorf("making %s in namespace %s: %w", k.words, namespace, err)
	}
	return nil
}

// withdraw takes away again what was made, also when the request that wanted it is over.
// Where an answer is missing it does not: what was not answered may still be carried out,
// so that Revoke by whoever has the handle comes later and finds more.
func (b *Backend) withdraw(ctx context.Context, m made, h handle, why error) (backend.Issued, error) {
	issued := backend.Issued{Handle: h.sealed()}
	var f *failed
	if errors.As(why, &f) && !f.nothingDone() {
		return issued, fmt.Errorf("%w; what was made for it may be there", why)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), reach.RequestFor)
	defer cancel()
	if err := b.Revoke(ctx, m.order.Lease, issued.Handle); err != nil {
		return issued, fmt.Errorf("%w; what was made for it could not be taken away: %w", why, err)
	}
	return backend.Issued{}, fmt.Errorf("%w; what was made for it was taken away: %w", why, backend.ErrNotCreated)
}

// handle is what is sealed. A lease's objects are found by their name; where they are, a
// configuration that was changed in between may not say any more.
type handle struct {
	Server    string `json:"server"`
	Name      string `json:"name"`
	Namespace string `json:"namespace"`
	Accounts  string `json:"accounts,omitempty"`
	Form      form   `json:"form"`
}

func (b *Backend) handleOf(m made) handle {
	return handle{Server: b.server, Name: m.name, Namespace: m.want.namespace, Accounts: m.accounts, Form: m.want.form}
}

func (h handle) sealed() secret.String {
	text, err := json.Marshal(h)
	if err != nil {
		return secret.New("{}") // texts are always JSON
	}
	return secret.New(string(text))
}

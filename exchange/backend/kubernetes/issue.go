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
	uid, first, err := b.makeObjects(ctx, m)
	if err != nil && first && nothingDone(err) {
		return backend.Issued{}, fmt.Errorf("%w: %w", err, backend.ErrNotCreated)
	}
	var token grantedToken
	if err == nil {
		token, err = b.requestToken(ctx, m, uid)
	}
	if err != nil {
		return b.withdraw(ctx, m, err)
	}
	latest := b.Terms(m.order).DiesAt
	dies := b.now().Add(token.life + pastEnd + remembered) // it was made before it was answered
	if dies.After(latest) {
		dies = latest
	}
	issued := b.credential(m.want.namespace, token.text)
	issued.Handle, issued.Granted, issued.DiesAt = b.handleOf(m).sealed(), m.want, dies
	return issued, nil
}

// makeObjects makes all that the token hangs on; uid is of the one with which it dies. The
// binding comes before its service account: API servers learn of it a little later, and by
// then they have. first: the error is of the first object.
func (b *Backend) makeObjects(ctx context.Context, m made) (uid string, first bool, err error) {
	var last typed
	if m.want.form == byAccount {
		err := b.create(ctx, secrets, m.want.namespace, m.secret(), &last)
		return last.Metadata.UID, true, err
	}
	first = true
	if m.want.form == byRules {
		var got role
		if err := b.create(ctx, roles, m.want.namespace, m.role(), &got); err != nil {
			return "", first, err
		}
		if first = false; !m.role().same(got) {
			return "", first, errChanged
		}
	}
	var got roleBinding
	if err := b.create(ctx, roleBindings, m.want.namespace, m.roleBinding(), &got); err != nil {
		return "", first, err
	}
	if !m.roleBinding().same(got) {
		return "", false, errChanged
	}
	err = b.create(ctx, serviceAccounts, m.accounts, m.serviceAccount(), &last)
	return last.Metadata.UID, false, err
}

var errChanged = errors.New("something in the cluster changed what was to be made, so that it may do more or less than the task says; look at its admission webhooks")

func (b *Backend) create(ctx context.Context, k kind, namespace string, in, out any) error {
	if err := b.call(ctx, http.MethodPost, k.in(namespace), in, out); err != nil {
		return fmt.Errorf("making %s in namespace %s: %w", k.words, namespace, err)
	}
	return nil
}

// withdraw takes away again what was made, also when the request that wanted it is over.
// Where an answer is missing it does not, and returns no handle: what was not answered may
// still be carried out, and whoever has a handle asks at once, is told that nothing is there
// and is done. The lease's name is enough for who asks when nothing can be under way any more.
func (b *Backend) withdraw(ctx context.Context, m made, why error) (backend.Issued, error) {
	var f *failed
	if errors.As(why, &f) && !f.NothingDone() {
		return backend.Issued{}, fmt.Errorf("%w; what was made for it may be there", why)
	}
	h := b.handleOf(m)
	h.Unended = errors.Is(why, errUnended)
	issued := backend.Issued{Handle: h.sealed()}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), reach.RequestFor)
	defer cancel()
	if err := b.Revoke(ctx, m.order.Lease, issued.Handle); err != nil {
		return issued, fmt.Errorf("%w; taking away what was made for it: %w", why, err)
	}
	return backend.Issued{}, fmt.Errorf("%w; what was made for it was taken away: %w", why, backend.ErrNotCreated)
}

// handle is what is sealed. A lease's objects are found by their name; where they are, a
// configuration that was changed in between may not say any more.
type handle struct {
	Server    string `json:"server"`
	Name      string `json:"name"` // of the objects; a handle with another is of another lease
	Namespace string `json:"namespace"`
	Accounts  string `json:"accounts,omitempty"`
	Form      form   `json:"form"`
	Unended   bool   `json:"unended,omitempty"` // a token was made that does not die with the objects
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

package kubernetes

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/exchange/backend/reach"
	"github.com/stepkey/stepkey/internal/secret"
)

// place is where an object of a lease may be.
type place struct {
	kind      kind
	namespace string
}

// Revoke deletes the lease's objects by their name: first what its token may do by them,
// then what it hangs on. One that cannot be deleted keeps none of the others. nil means
// that the server answered for each that it is not there.
//
// A handle may say that a token was made that hangs on none of them; that is ErrLost.
//
// Without a handle it looks wherever the configuration has leases. Nobody was given a
// token then, and what a creation makes that is carried out later is deleted when the
// lease, which is pending until then, is ended again.
func (b *Backend) Revoke(ctx context.Context, lease backend.LeaseID, h secret.String) error {
	name, named := nameOf(lease)
	if !named || b.token == nil {
		return nil // Issue makes nothing for such an id
	}
	var known handle
	if json.Unmarshal([]byte(h.Reveal()), &known) != nil || known.Name != name {
		known = handle{} // as if it were lost: the name is enough
	}
	places := known.places()
	if known.Namespace == "" {
		places = b.limits.places()
	}
	found, err := b.deleteAll(ctx, places, name)
	if err == nil && !found && known.Server != "" && known.Server != b.server {
		err = fmt.Errorf("it was made on %s, and the configuration now names %s, which has nothing of it; configure the former until its leases are over",
			reach.OneLine(known.Server, maxMessage), b.server)
	}
	if err == nil && known.Unended {
		err = fmt.Errorf("all that was made for it is deleted, but a token that does not die with it was made, and handed to nobody: %w", backend.ErrLost)
	}
	if err != nil {
		return fmt.Errorf("revoking the Kubernetes token of lease %s: %w", lease, err)
	}
	return nil
}

// places in the order in which they are deleted.
func (h handle) places() []place {
	switch h.Form {
	case byAccount:
		return []place{{secrets, h.Namespace}}
	case byRules:
		return []place{{roleBindings, h.Namespace}, {roles, h.Namespace}, {serviceAccounts, h.Accounts}}
	}
	return []place{{roleBindings, h.Namespace}, {serviceAccounts, h.Accounts}}
}

// places are all where leases may have objects, those first that let a token do something.
func (l Limits) places() []place {
	var all []place
	accounts := false
	for _, namespace := range slices.Sorted(maps.Keys(l.Namespaces)) {
		in := l.Namespaces[namespace]
		if in.bound() {
			accounts = true
			all = append(all, place{roleBindings, namespace})
		}
		if in.Rules {
			all = append(all, place{roles, namespace})
		}
		if len(in.ServiceAccounts) > 0 {
			all = append(all, place{secrets, namespace})
		}
	}
	if accounts {
		all = append(all, place{serviceAccounts, l.Accounts})
	}
	return all
}

func (b *Backend) deleteAll(ctx context.Context, places []place, name string) (found bool, err error) {
	var faults []error
	for _, at := range places {
		was, err := b.delete(ctx, at, name)
		found = found || was
		if err != nil {
			faults = append(faults, fmt.Errorf("deleting %s in namespace %s: %w", at.kind.words, at.namespace, err))
		}
	}
	return found, errors.Join(faults...)
}

var errHeld = errors.New("it is still there after it was deleted; look at its metadata.finalizers, which somebody added")

// delete deletes an object, and asks for it to be deleted again: that it is not there
// then is the proof. Reading it would prove no more, and take the right to read all
// Secrets of a namespace.
func (b *Backend) delete(ctx context.Context, at place, name string) (found bool, err error) {
	for range 2 {
		err := b.call(ctx, http.MethodDelete, at.kind.in(at.namespace)+"/"+name, deletion, nil)
		switch {
		case notFound(err, name):
			return found, nil
		case err != nil:
			return found, err
		}
		found = true
	}
	return found, errHeld
}

var deletion = struct {
	APIVersion  string `json:"apiVersion"`
	Kind        string `json:"kind"`
	Propagation string `json:"propagationPolicy"`
}{"v1", "DeleteOptions", "Background"}

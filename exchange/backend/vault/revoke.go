package vault

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/internal/secret"
)

// accessed is how a token is spoken of by whoever does not have it.
type accessed struct {
	Accessor string `json:"accessor"`
}

// Revoke ends a token by its accessor, which is the handle, and with it all that was had
// by it: its children, and the leases of what it read. nil means that the server did, or
// does not know the token any more. Without a handle it is ErrLost.
func (b *Backend) Revoke(ctx context.Context, lease backend.LeaseID, handle secret.String) error {
	if handle.Empty() {
		return fmt.Errorf("revoking the Vault token of lease %s: the server's answer was lost, and it finds a token by nothing else; "+
			"if it was made, it dies at its time to live, the lease's end: %w", lease, backend.ErrLost)
	}
	err := b.call(ctx, "auth/token/revoke-accessor", accessed{handle.Reveal()}, nil)
	if err == nil || unknown(err) {
		return nil
	}
	return fmt.Errorf("revoking the Vault token of lease %s: %w", lease, classify(err, false, handle))
}

// unknown: the server has no token of that accessor. OpenBao answers with a warning and no
// error, older servers and Vault with these words and a 400, 403 or 404. That the
// exchange's own token is refused is said in other words.
func unknown(err error) bool {
	var f *failed
	if !errors.As(err, &f) {
		return false
	}
	switch f.status {
	case http.StatusBadRequest, http.StatusForbidden, http.StatusNotFound:
		return f.says("invalid accessor") || f.says("token not found")
	}
	return false
}

// Gone asks for the token by its accessor.
func (b *Backend) Gone(ctx context.Context, lease backend.LeaseID, handle secret.String) (bool, error) {
	if handle.Empty() {
		return false, fmt.Errorf("asking whether the Vault token of lease %s is gone: nothing names it", lease)
	}
	var got struct {
		Data struct {
			Accessor string `json:"accessor"`
		} `json:"data"`
	}
	err := b.call(ctx, "auth/token/lookup-accessor", accessed{handle.Reveal()}, &got)
	switch {
	case err == nil && got.Data.Accessor == handle.Reveal():
		return false, nil
	case err == nil:
		return false, fmt.Errorf("asking whether the Vault token of lease %s is gone: the server answers about another", lease)
	case unknown(err), badToken(err):
		return true, nil
	}
	return false, fmt.Errorf("asking whether the Vault token of lease %s is gone: %w", lease, classify(err, false, handle))
}

// badToken: the accessor is still listed, and its token is not. Only the look-up says so.
func badToken(err error) bool {
	var f *failed
	return errors.As(err, &f) && f.status == http.StatusForbidden && f.says("bad token")
}

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

// Revoke ends a token by its accessor, and with it all that was had by it: its children,
// and the leases of what it read. nil means that the server did, or does not know the token
// any more. Without a handle it is ErrLost.
func (b *Backend) Revoke(ctx context.Context, lease backend.LeaseID, sealed secret.String) error {
	h := readHandle(sealed)
	if h.Accessor == "" {
		return fmt.Errorf("revoking the Vault token of lease %s: the server's answer was lost, and it finds a token by nothing else; "+
			"if it was made, it dies at its time to live, the lease's end: %w", lease, backend.ErrLost)
	}
	err := b.isOf(h)
	if err == nil {
		err = b.call(ctx, "auth/token/revoke-accessor", accessed{h.Accessor}, nil)
	}
	if err == nil || unknown(err) {
		return nil
	}
	return fmt.Errorf("revoking the Vault token of lease %s: %w", lease, withoutSecret(err, secret.New(h.Accessor)))
}

// unknown: the server has no token of that accessor. OpenBao answers with a warning and no
// error, older servers and Vault with these words and a 400, 403 or 404. That the
// exchange's own token is refused is said in other words.
func unknown(err error) bool {
	var f *failed
	if !errors.As(err, &f) {
		return false
	}
	switch f.Status {
	case http.StatusBadRequest, http.StatusForbidden, http.StatusNotFound:
		return f.says("invalid accessor") || f.says("token not found")
	}
	return false
}

// Gone asks for the token by its accessor.
func (b *Backend) Gone(ctx context.Context, lease backend.LeaseID, sealed secret.String) (bool, error) {
	h := readHandle(sealed)
	if h.Accessor == "" {
		return false, fmt.Errorf("asking whether the Vault token of lease %s is gone: nothing names it", lease)
	}
	var got struct {
		Data accessed `json:"data"`
	}
	err := b.isOf(h)
	if err == nil {
		err = b.call(ctx, "auth/token/lookup-accessor", accessed{h.Accessor}, &got)
	}
	switch {
	case err == nil && got.Data.Accessor == h.Accessor:
		return false, nil
	case err == nil:
		return false, fmt.Errorf("asking whether the Vault token of lease %s is gone: the server answers about another", lease)
	case unknown(err), badToken(err):
		return true, nil
	}
	return false, fmt.Errorf("asking whether the Vault token of lease %s is gone: %w", lease, withoutSecret(err, secret.New(h.Accessor)))
}

// badToken: the accessor is still listed, and its token is not. Only the look-up says so.
func badToken(err error) bool {
	var f *failed
	return errors.As(err, &f) && f.Status == http.StatusForbidden && f.says("bad token")
}

package vault

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/stepkey/stepkey/exchange/backend/reach"
	"github.com/stepkey/stepkey/internal/secret"
)

// handle is what is sealed. Another server, and another namespace of the same one, does not
// know the accessor and would say that the token is gone, so where it was made belongs to it.
type handle struct {
	Address   string `json:"address"`
	Namespace string `json:"namespace,omitempty"`
	Accessor  string `json:"accessor"`
}

// of is a handle of what is made here.
func (b *Backend) of(accessor string) handle {
	return handle{b.address, strings.TrimSuffix(b.namespace, "/"), accessor}
}

func (b *Backend) handle(accessor string) secret.String {
	text, err := json.Marshal(b.of(accessor))
	if err != nil {
		return secret.New(accessor) // three texts are always JSON
	}
	return secret.New(string(text))
}

// readHandle reads what was sealed. The first releases sealed the accessor alone, and leases live
// across an upgrade: such a one has no address.
func readHandle(sealed secret.String) handle {
	var h handle
	if !strings.HasPrefix(sealed.Reveal(), "{") {
		h.Accessor = sealed.Reveal()
	} else if json.Unmarshal([]byte(sealed.Reveal()), &h) != nil {
		return handle{} // as if it were lost
	}
	return h
}

// isOf refuses the handle of a token that was made elsewhere: what this server says of it
// proves nothing.
func (b *Backend) isOf(h handle) error {
	if here := b.of(h.Accessor); h.Address != "" && h != here {
		return fmt.Errorf("it was made on %s, and the configuration now names %s; configure the former until its leases are over", h.where(), here.where())
	}
	return nil
}

func (h handle) where() string {
	if h.Namespace == "" {
		return reach.OneLine(h.Address, maxMessage)
	}
	return reach.OneLine(h.Address+" in namespace "+h.Namespace, maxMessage)
}

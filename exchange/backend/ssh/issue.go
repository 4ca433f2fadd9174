package ssh

import (
	"context"
	"crypto/ed25519"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/oklog/ulid/v2"
	cryptossh "golang.org/x/crypto/ssh"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/internal/secret"
)

const leasePrefix = "lease_"

// serialOf is the certificate's number: the last 64 of the 80 random bits of the lease's
// ULID. Two leases of one moment share it once in 2^64 times; a certificate is then
// refused too early and never too late. There is none for a lease of another form, and
// none for 0, which hosts take for "has no number" and never find in a list.
func serialOf(lease backend.LeaseID) (uint64, bool) {
	text, ours := strings.CutPrefix(string(lease), leasePrefix)
	id, err := ulid.ParseStrict(text)
	serial := binary.BigEndian.Uint64(id[8:])
	return serial, ours && err == nil && serial != 0
}

// Issue makes a key pair and a certificate for it. Nobody is asked, so an error always
// means that nothing was created. The certificate's key id is the lease, and so there
// is no handle: the lease names what is to be revoked.
func (b *Backend) Issue(_ context.Context, o backend.Order) (backend.Issued, error) {
	want, ours := o.Scope.(*scope)
	if !ours || want == nil {
		return backend.Issued{}, fmt.Errorf("issuing an SSH certificate: the order's scope is not one of this backend: %w", backend.ErrNotCreated)
	}
	issued, err := b.issue(o, want)
	if err != nil {
		return backend.Issued{}, fmt.Errorf("issuing an SSH certificate: %w; %w", err, backend.ErrNotCreated)
	}
	return issued, nil
}

func (b *Backend) issue(o backend.Order, want *scope) (backend.Issued, error) {
	serial, ok := serialOf(o.Lease)
	switch {
	case len(b.authorities) == 0:
		return backend.Issued{}, errors.New("there is no key that signs; name one as ca in the configuration")
	case !ok:
		return backend.Issued{}, fmt.Errorf("the lease %q gives no serial number; ask again", o.Lease)
	case !b.now().Before(b.validBefore(o)):
		return backend.Issued{}, errors.New("the order's time is over, so a certificate would be dead already")
	}
	seed := make([]byte, ed25519.SeedSize)
	if _, err := io.ReadFull(b.rand, seed); err != nil {
		return backend.Issued{}, fmt.Errorf("making a key pair: %w", err)
	}
	key := ed25519.NewKeyFromSeed(seed)
	public, err := cryptossh.NewPublicKey(key.Public())
	if err != nil {
		return backend.Issued{}, fmt.Errorf("making a key pair: %w", err)
	}
	file, err := cryptossh.MarshalPrivateKey(key, string(o.Lease))
	if err != nil {
		return backend.Issued{}, fmt.Errorf("writing the private key: %w", err)
	}
	certificate := &cryptossh.Certificate{
		Key: public, Serial: serial, CertType: cryptossh.UserCert, KeyId: string(o.Lease),
		ValidPrincipals: want.principals,
		ValidAfter:      uint64(o.At.Add(-skew).Unix()),  //nolint:gosec // no lease began before 1970
		ValidBefore:     uint64(b.validBefore(o).Unix()), //nolint:gosec // it is after now
		Permissions:     want.permissions(),
	}
	if err := certificate.SignCert(b.rand, b.authorities[0]); err != nil {
		return backend.Issued{}, fmt.Errorf("signing: %w", err)
	}
	return backend.Issued{
		Values: map[string]secret.String{
			"key":         secret.New(string(pem.EncodeToMemory(file))),
			"certificate": secret.New(string(cryptossh.MarshalAuthorizedKey(certificate))),
			"known_hosts": secret.New(b.known(want)),
		},
		Granted: want,
		DiesAt:  b.Terms(o).DiesAt,
	}, nil
}

func (b *Backend) known(want *scope) string {
	var lines strings.Builder
	for _, host := range want.hosts {
		lines.WriteString(b.limits.Hosts[host])
	}
	return lines.String()
}

// permissions are the scope as sshd reads it. The options that limit are critical: a
// host that does not know one refuses the certificate.
func (s *scope) permissions() cryptossh.Permissions {
	p := cryptossh.Permissions{CriticalOptions: map[string]string{}, Extensions: map[string]string{}}
	if s.command != "" {
		p.CriticalOptions["force-command"] = s.command
	}
	var from []string
	for _, source := range s.sources {
		from = append(from, source.String())
	}
	if len(from) > 0 {
		p.CriticalOptions["source-address"] = strings.Join(from, ",")
	}
	for _, extension := range s.extensions {
		p.Extensions[extension] = ""
	}
	return p
}

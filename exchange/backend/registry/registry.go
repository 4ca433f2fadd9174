// Package registry is the backend for container registries that take tokens as
// distribution does (docker-registry 2 and 3, and others that are built on it).
//
// It hides how a lease becomes a login that every client of registries can use. The
// credential is a user name and a password, which hold by themselves all that there is to
// know: nothing of them is stored. A client shows them to the exchange, where the registry
// sends it, and gets a signed token for a minute. So the end of a lease is known at once
// where passwords are shown, and a minute later where tokens are taken.
//
// What the registry does not offer, this backend cannot either: nobody asks about a token
// that is out, and the registry takes it for a minute longer than is written in it. Scope's
// words, Terms and the page say so. The protocol is docs/spec/auth of distribution.
package registry

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/internal/yamlfile"
)

// Config is the operator's, strictly decoded.
type Config struct {
	Keys         []string `yaml:"keys,required"`         // files: private keys. The first signs; passwords of the others are still taken
	Issuer       string   `yaml:"issuer,required"`       // as in the registry's configuration
	Service      string   `yaml:"service,required"`      // as in the registry's configuration
	Registry     string   `yaml:"registry,required"`     // the host that clients log in to, with its port if it has one
	Repositories []string `yaml:"repositories,required"` // what tasks may name: names, or a beginning that ends with /
	KeyID        string   `yaml:"key_id"`                // libtrust (the default) or thumbprint
}

// Usable reports whether a lease's credential is good now: made, and nobody has begun to
// end it. It reads what is durable and the same for all replicas, and knows no lease that
// is not there.
type Usable func(context.Context, backend.LeaseID) (bool, error)

// Open reads the key files and makes the backend. It asks no network, and usable not yet.
func (c Config) Open(now func() time.Time, usable Usable) (*Backend, error) {
	limits, err := c.Limits()
	if err != nil {
		return nil, err
	}
	o := Options{Limits: limits, Usable: usable, Now: now}
	if len(c.Keys) == 0 {
		return nil, errors.New("keys: name the file with the private key that signs; openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out FILE makes one")
	}
	for _, path := range c.Keys {
		key, err := readKey(path, c.idStyle())
		if err != nil {
			return nil, fmt.Errorf("keys: file %q: %w", path, err)
		}
		o.Keys = append(o.Keys, key)
	}
	return New(o), nil
}

var (
	validHost = regexp.MustCompile(`\A[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?(:[0-9]{1,5})?\z`)
	validWord = regexp.MustCompile(`\A[!-~]([ -~]{0,253}[!-~])?\z`)
)

func (c Config) idStyle() string {
	if c.KeyID == "" {
		return libtrust
	}
	return c.KeyID
}

// Limits checks what the configuration says of tasks and of the registry. It reads no file.
func (c Config) Limits() (Limits, error) {
	l := Limits{Issuer: c.Issuer, Service: c.Service, Registry: c.Registry, Repositories: []string{}}
	switch {
	case !validHost.MatchString(c.Registry):
		return l, fmt.Errorf("registry: %s is none: want the host that clients log in to, in lower case, with its port if it has one, as registry.example.com", yamlfile.Quote(c.Registry))
	case !validWord.MatchString(c.Issuer):
		return l, fmt.Errorf("issuer: %s is none: want what the registry's configuration has at auth, token, issuer", yamlfile.Quote(c.Issuer))
	case !validWord.MatchString(c.Service):
		return l, fmt.Errorf("service: %s is none: want what the registry's configuration has at auth, token, service", yamlfile.Quote(c.Service))
	case c.idStyle() != libtrust && c.idStyle() != thumbprint:
		return l, fmt.Errorf("key_id: %s is none: want libtrust, which docker-registry 2 knows keys by, or thumbprint (RFC 7638)", yamlfile.Quote(c.KeyID))
	}
	for _, name := range c.Repositories {
		if len(name) > maxName || !validName.MatchString(strings.TrimSuffix(name, "/")) {
			return l, fmt.Errorf("repositories: %s is none: %s, or the beginning of names up to a /", yamlfile.Quote(name), nameForm)
		}
		l.Repositories = append(l.Repositories, name)
	}
	return l, nil
}

// Limits are what tasks may ask for, and of which registry. Repositories that are nil limit
// nothing: task files are also checked where no configuration is at hand.
type Limits struct {
	Issuer, Service string
	Registry        string
	Repositories    []string // a name, or with / at its end all below
}

// allows reports whether tasks may name a repository.
func (l Limits) allows(name string) bool {
	return l.Repositories == nil || slices.ContainsFunc(l.Repositories, func(one string) bool {
		return one == name || strings.HasSuffix(one, "/") && strings.HasPrefix(name, one)
	})
}

// Options are what New needs: what Config says, opened.
type Options struct {
	Limits
	Keys   []*Key // the first signs
	Usable Usable
	Now    func() time.Time
	Rand   io.Reader // of the tokens' numbers; default crypto/rand
}

// Backend makes passwords for a registry, and tokens for those who show one. Safe for
// concurrent use.
type Backend struct {
	limits Limits
	keys   []*Key
	usable Usable
	now    func() time.Time
	rand   io.Reader
}

var _ backend.Backend = (*Backend)(nil)

// New makes a backend of opened options.
func New(o Options) *Backend {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Rand == nil {
		o.Rand = rand.Reader
	}
	if o.Usable == nil {
		o.Usable = func(context.Context, backend.LeaseID) (bool, error) {
			return false, errors.New("there is no store of leases to look into")
		}
	}
	return &Backend{limits: o.Limits, keys: slices.Clone(o.Keys), usable: o.Usable, now: o.Now, rand: o.Rand}
}

const (
	// tokenLife is the shortest that clients know: they take less for as much.
	tokenLife = time.Minute
	// leeway is how long distribution takes a token after its end.
	leeway = time.Minute
	// skew is how far the registry's clock and ours may be apart.
	skew = time.Minute
)

// remains: registries ask nobody about a token.
const remains = "a token that is out, for up to 2 minutes"

// Terms: no token is signed for longer than the lease, so the last is dead when the
// registry's leeway is over, by whichever clock is late. Revoke ends the password.
func (b *Backend) Terms(o backend.Order) backend.Terms {
	return backend.Terms{DiesAt: until(o).Add(leeway + skew), Revocable: true, Remains: remains}
}

// until is in the whole seconds that passwords and tokens have.
func until(o backend.Order) time.Time { return o.Until.Truncate(time.Second) }

// Lifetimes is what the linter of task files holds a task's ttl against: a build asks when
// it comes to push, and a push is done in minutes. A login lives as long as its lease.
func (*Backend) Lifetimes() (sensible, longest time.Duration) { return 30 * time.Minute, 0 }

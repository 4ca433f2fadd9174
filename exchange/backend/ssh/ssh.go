// Package ssh is the backend for OpenSSH user certificates.
//
// It hides how a task's block becomes a certificate over a key pair that nobody had
// before, good for these principals, from these addresses, for this command and for
// nothing that was not asked for; and how the end of a lease comes to the hosts: as a
// key revocation list (KRL) that is made from the leases each time and kept nowhere
// else.
//
// What SSH does not offer, this backend cannot either: a host asks nobody about a
// certificate. It looks at its own copy of the list, and only at a login, so a session
// that is open goes on. Scope's words, Terms and the pages say so.
package ssh

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"time"

	cryptossh "golang.org/x/crypto/ssh"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/internal/yamlfile"
)

// Config is the operator's, strictly decoded.
type Config struct {
	CA         []string            `yaml:"ca,required"`         // files: private keys. The first signs; certificates of the others can still be revoked
	Principals []string            `yaml:"principals,required"` // what tasks may name
	Hosts      map[string][]string `yaml:"hosts,required"`      // name, or name:port -> host keys, as in a .pub file
	MaxTTL     time.Duration       `yaml:"max_ttl"`             // of a certificate; an hour unless given
	KRL        string              `yaml:"krl"`                 // a file that is replaced when the list changes
}

// Ended lists the leases of this backend that ended, or began to, and whose credentials
// may not have died yet. It reads what is durable and the same for all replicas.
type Ended func(context.Context) ([]backend.LeaseID, error)

// Open reads the key files and makes the backend. It asks no network, and ended not yet.
func (c Config) Open(now func() time.Time, ended Ended) (*Backend, error) {
	o := Options{KRL: c.KRL, Ended: ended, Now: now}
	if len(c.CA) == 0 {
		return nil, errors.New("ca: name the file with the private key that signs; ssh-keygen -t ed25519 -N '' -f FILE makes one")
	}
	for _, path := range c.CA {
		authority, err := readAuthority(path)
		if err != nil {
			return nil, fmt.Errorf("ca: file %q: %w", path, err)
		}
		o.Authorities = append(o.Authorities, authority)
	}
	limits, err := c.Limits()
	if err != nil {
		return nil, err
	}
	o.Limits = limits
	return New(o), nil
}

// Limits checks what the configuration says of tasks. It reads no file. Where there is no
// configuration, nothing is limited; in one, an empty list is refused: it reads as nobody,
// and a list that is left nil would mean everybody.
func (c Config) Limits() (Limits, error) {
	if reflect.ValueOf(c).IsZero() {
		return Limits{}, nil
	}
	l := Limits{Principals: []string{}, Hosts: map[string]string{}, MaxTTL: c.MaxTTL}
	switch {
	case c.MaxTTL < 0 || c.MaxTTL > maxLife:
		return l, fmt.Errorf("max_ttl is %s; a certificate lives a day at most", c.MaxTTL)
	case len(c.Principals) == 0:
		return l, errors.New("principals: none is named, so that no task could log in; name those that tasks may have, as [deploy]")
	case len(c.Hosts) == 0:
		return l, errors.New("hosts: none is named, so that no task could log in anywhere; name those that tasks may have, with their keys, as web1.example.com: [ssh-ed25519 AAAA…]")
	}
	for _, principal := range c.Principals {
		if !validPrincipal.MatchString(principal) {
			return l, fmt.Errorf("principals: %s is none: %s", yamlfile.Quote(principal), principalForm)
		}
		l.Principals = append(l.Principals, principal)
	}
	for name, keys := range c.Hosts {
		host, ok := parseHost(name)
		if !ok {
			return l, fmt.Errorf("hosts: %s is none: %s", yamlfile.Quote(name), hostForm)
		}
		lines, err := knownHosts(host, keys)
		if err != nil {
			return l, fmt.Errorf("hosts: %s: %w", host, err)
		}
		if _, twice := l.Hosts[host]; twice {
			return l, fmt.Errorf("hosts: %s is given twice", host)
		}
		l.Hosts[host] = lines
	}
	return l, nil
}

// Limits are what tasks may ask for. A nil field limits nothing: task files are also
// checked where no configuration is at hand.
type Limits struct {
	Principals []string
	Hosts      map[string]string // as known_hosts spells the name -> its lines there
	MaxTTL     time.Duration     // default one hour
}

// Options are what New needs: what Config says, opened.
type Options struct {
	Limits
	Authorities []cryptossh.Signer // the first signs
	KRL         string             // file; empty: the list is only served
	Ended       Ended
	Now         func() time.Time
	Rand        io.Reader // of keys and nonces; default crypto/rand
}

// Backend makes OpenSSH user certificates. Safe for concurrent use.
type Backend struct {
	limits      Limits
	authorities []cryptossh.Signer
	now         func() time.Time
	rand        io.Reader
	press       *press
}

var _ backend.Backend = (*Backend)(nil)

// New makes a backend over authorities that exist already, for those whose keys live in
// a key management service.
func New(o Options) *Backend {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Rand == nil {
		o.Rand = rand.Reader
	}
	if o.MaxTTL == 0 {
		o.MaxTTL = time.Hour
	}
	var keys []cryptossh.PublicKey
	for _, authority := range o.Authorities {
		keys = append(keys, authority.PublicKey())
	}
	return &Backend{
		limits: o.Limits, authorities: slices.Clone(o.Authorities), now: o.Now, rand: o.Rand,
		press: newPress(keys, o.Ended, o.KRL, o.Now),
	}
}

const (
	// skew is how far a host's clock and ours may be apart.
	skew = time.Minute
	// maxLife is of every certificate: no lease outlives a day.
	maxLife = 24 * time.Hour
)

// Terms: a certificate is dead at its own end, by whichever clock is late.
func (b *Backend) Terms(o backend.Order) backend.Terms {
	return backend.Terms{DiesAt: b.validBefore(o).Add(skew), Revocable: true, Remains: "a session that is open"}
}

// validBefore is the lease's end, or the operator's limit where that comes first, in the
// whole seconds that a certificate has.
func (b *Backend) validBefore(o backend.Order) time.Time {
	end := o.Until
	if latest := o.At.Add(b.limits.MaxTTL); latest.Before(end) {
		end = latest
	}
	return end.Truncate(time.Second)
}

// Lifetimes is what the linter of task files holds a task's ttl against: a deploy is
// done in minutes, and a login of the last second goes on by itself.
func (b *Backend) Lifetimes() (sensible, longest time.Duration) {
	return 15 * time.Minute, b.limits.MaxTTL
}

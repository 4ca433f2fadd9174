// Package vault is the backend for tokens of HashiCorp Vault and OpenBao, over the HTTP
// API that both have.
//
// It hides how a task's block becomes a token with those policies and no other, although
// much adds to a token on its way: the default policy, the policies of the entity that a
// child inherits, a role's period. What the server answers is held against the order,
// and what is more is revoked at once.
//
// What a server does not offer, this backend cannot either: a token that may be named by
// us takes root privileges, so one whose answer was lost can be found by nobody; it dies
// at its time to live, which is the lease's.
package vault

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/exchange/backend/reach"
	"github.com/stepkey/stepkey/internal/secret"
	"github.com/stepkey/stepkey/internal/yamlfile"
)

// Config is the operator's, strictly decoded.
type Config struct {
	Address   string        `yaml:"address,required"`    // https://HOST:8200
	Namespace string        `yaml:"namespace"`           // as team/ci
	CAFile    string        `yaml:"ca_file"`             // PEM; the system's own unless given
	TokenFile string        `yaml:"token_file,required"` // the exchange's own token; read at each request, so that it may be replaced
	Policies  []string      `yaml:"policies,required"`   // what tasks may name
	Roles     []string      `yaml:"roles"`               // token roles of which each task names one; none: no role is used
	MaxTTL    time.Duration `yaml:"max_ttl"`             // of a token; an hour unless given
}

// Open reads the files and makes the backend. It asks no network.
func (c Config) Open(now func() time.Time) (*Backend, error) {
	limits, err := c.Limits()
	if err != nil {
		return nil, err
	}
	if err := reach.CheckAddress(c.Address, "https://vault.example.com:8200", false); err != nil {
		return nil, fmt.Errorf("address: %w", err)
	}
	if c.Namespace != "" && !validNamespace.MatchString(c.Namespace) {
		return nil, fmt.Errorf("namespace: %s is none; want its path, as team/ci", yamlfile.Quote(c.Namespace))
	}
	var roots *x509.CertPool
	if c.CAFile != "" {
		if roots, _, err = reach.Roots(c.CAFile); err != nil {
			return nil, fmt.Errorf("ca_file: %w", err)
		}
	}
	token := func() (secret.String, error) { return reach.Token(c.TokenFile, "token") }
	if _, err := token(); err != nil {
		return nil, fmt.Errorf("token_file: %w", err)
	}
	return New(Options{Limits: limits, Address: c.Address, Namespace: c.Namespace, Token: token, Transport: reach.Transport(roots), Now: now}), nil
}

// Limits checks what the configuration says of tasks. It reads no file.
func (c Config) Limits() (Limits, error) {
	l := Limits{Policies: slices.Clone(c.Policies), Roles: slices.Clone(c.Roles), MaxTTL: c.MaxTTL}
	if l.Roles == nil {
		l.Roles = []string{}
	}
	if len(l.Policies) == 0 {
		return l, errors.New("policies: name those that tasks may ask for, as [deploy-web]")
	}
	for _, policy := range l.Policies {
		if why := badPolicy(policy); why != "" {
			return l, fmt.Errorf("policies: %s: %s", yamlfile.Quote(policy), why)
		}
	}
	for _, role := range l.Roles {
		if !validRole.MatchString(role) {
			return l, fmt.Errorf("roles: %s is none: %s", yamlfile.Quote(role), roleForm)
		}
	}
	if c.MaxTTL < 0 || c.MaxTTL > maxLife || c.MaxTTL > 0 && c.MaxTTL < minLife {
		return l, fmt.Errorf("max_ttl is %s; want %s to %s", c.MaxTTL, minLife, maxLife)
	}
	return l, nil
}

// Limits are what tasks may ask for. A nil list limits nothing: task files are also
// checked where no configuration is at hand.
type Limits struct {
	Policies []string
	Roles    []string
	MaxTTL   time.Duration // default one hour
}

// Options are what New needs: what Config says, opened.
type Options struct {
	Limits
	Address   string
	Namespace string
	Token     func() (secret.String, error) // the exchange's own, asked at each request
	Transport http.RoundTripper             // default one of its own
	Now       func() time.Time
}

// Backend makes tokens of Vault or OpenBao. Safe for concurrent use.
type Backend struct {
	limits    Limits
	address   string
	namespace string
	token     func() (secret.String, error)
	http      *http.Client
	now       func() time.Time
}

var (
	_ backend.Backend = (*Backend)(nil)
	_ backend.Prover  = (*Backend)(nil)
)

// New makes a backend over a token that is had by other means than a file.
func New(o Options) *Backend {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.MaxTTL == 0 {
		o.MaxTTL = time.Hour
	}
	return &Backend{
		limits: o.Limits, address: strings.TrimSuffix(o.Address, "/"), namespace: o.Namespace, token: o.Token, now: o.Now,
		http: reach.Client(o.Transport),
	}
}

const (
	// inFlight is how long after the lease's intent a create may be sent and carried out.
	// Issue keeps it, so that Terms is true.
	inFlight = 30 * time.Second

	minLife, maxLife = time.Minute, 24 * time.Hour // of max_ttl; no lease outlives a day
)

// Terms: a token is made to live to the lease's end, counted by the server's clock from
// its making, which may be a little after we asked. That the two clocks show another time
// does not matter.
func (b *Backend) Terms(o backend.Order) backend.Terms {
	return backend.Terms{DiesAt: b.end(o).Add(inFlight), Revocable: true}
}

// end is the lease's end, or the operator's limit where that comes first.
func (b *Backend) end(o backend.Order) time.Time {
	if latest := o.At.Add(b.limits.MaxTTL); latest.Before(o.Until) {
		return latest
	}
	return o.Until
}

// Lifetimes is what the linter of task files holds a task's ttl against: a step that
// reads secrets is done in minutes.
func (b *Backend) Lifetimes() (sensible, longest time.Duration) {
	return 15 * time.Minute, b.limits.MaxTTL
}

var validNamespace = regexp.MustCompile(`\A[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*/?\z`)

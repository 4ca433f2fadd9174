// Package kubernetes is the backend for tokens of Kubernetes service accounts.
//
// It hides how a task's block becomes a token of the API server's that can be taken back,
// although the server keeps no list of tokens and revokes none: each hangs on an object
// of the lease's own, and dies with it. That is a service account of the lease's own with
// a role binding, so that other leases are not widened by it; or, where the task names a
// service account that others use too, an empty Secret to which the token is bound.
//
// Service accounts of leases stand in a namespace that holds nothing else. Who makes
// tokens for accounts whose names nobody knows beforehand may make one for every account
// of that namespace: there, these are leases' alone.
//
// What the server does not offer, this backend cannot either: API servers remember for
// some seconds that a token was good, and a watch that is open goes on. Terms says so.
package kubernetes

import (
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
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
	Server     string               `yaml:"server,required"`     // https://HOST:6443
	CAFile     string               `yaml:"ca_file,required"`    // PEM, the cluster's
	TokenFile  string               `yaml:"token_file,required"` // the exchange's own token; read at each request, since the kubelet replaces it
	Accounts   string               `yaml:"accounts_namespace"`  // where the service accounts of leases stand, alone
	Namespaces map[string]Namespace `yaml:"namespaces,required"` // that tasks may name
	Audiences  []string             `yaml:"audiences"`           // of tokens; the API server's own unless given
	MaxTTL     time.Duration        `yaml:"max_ttl"`             // of a lease; an hour unless given
	Client     Client               `yaml:"client"`
}

// Namespace is what tasks may have in one namespace.
type Namespace struct {
	Rules           bool     `yaml:"rules"` // of their own, as far as the server lets the exchange give them
	Roles           []string `yaml:"roles"`
	ClusterRoles    []string `yaml:"cluster_roles"`
	ServiceAccounts []string `yaml:"service_accounts"`
}

// Client is how steps reach the server, where that is not how the exchange does. An
// empty field is the exchange's own.
type Client struct {
	Server string `yaml:"server"`
	CAFile string `yaml:"ca_file"`
}

// Open reads the files and makes the backend. It asks no network.
func (c Config) Open(now func() time.Time) (*Backend, error) {
	limits, err := c.Limits()
	if err != nil {
		return nil, err
	}
	if err := checkServer(c.Server); err != nil {
		return nil, fmt.Errorf("server: %w", err)
	}
	roots, ca, err := reach.Roots(c.CAFile)
	if err != nil {
		return nil, fmt.Errorf("ca_file: %w", err)
	}
	o := Options{
		Limits: limits, Server: c.Server, CA: ca, Audiences: slices.Clone(c.Audiences),
		Transport: reach.Transport(roots), Now: now, ClientServer: c.Server, ClientCA: ca,
	}
	if c.Client.Server != "" {
		if err := checkServer(c.Client.Server); err != nil {
			return nil, fmt.Errorf("client: server: %w", err)
		}
		o.ClientServer = c.Client.Server
	}
	if c.Client.CAFile != "" {
		if _, o.ClientCA, err = reach.Roots(c.Client.CAFile); err != nil {
			return nil, fmt.Errorf("client: ca_file: %w", err)
		}
	}
	o.Token = func() (secret.String, error) { return reach.Token(c.TokenFile, "token") }
	if _, err := o.Token(); err != nil {
		return nil, fmt.Errorf("token_file: %w", err)
	}
	return New(o), nil
}

// Limits checks what the configuration says of tasks. It reads no file.
func (c Config) Limits() (Limits, error) {
	l := Limits{Accounts: c.Accounts, Namespaces: maps.Clone(c.Namespaces), MaxTTL: c.MaxTTL}
	if len(l.Namespaces) == 0 {
		return l, errors.New("namespaces: name those that tasks may use, as web: {rules: true}")
	}
	if c.Accounts != "" {
		if why := namespaceFault(c.Accounts); why != "" {
			return l, fmt.Errorf("accounts_namespace: %s cannot be one: %s", yamlfile.Quote(c.Accounts), why)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.Namespaces)) {
		if err := c.checkNamespace(name); err != nil {
			return l, fmt.Errorf("namespaces: %s: %w", yamlfile.Quote(name), err)
		}
	}
	for _, audience := range c.Audiences {
		if audience == "" {
			return l, errors.New("audiences: one is empty; leave audiences out for the API server's own")
		}
	}
	if c.MaxTTL != 0 && (c.MaxTTL < shortest || c.MaxTTL > longest) {
		return l, fmt.Errorf("max_ttl is %s; want %s to %s", c.MaxTTL, shortest, longest)
	}
	return l, nil
}

func (c Config) checkNamespace(name string) error {
	n := c.Namespaces[name]
	switch why := namespaceFault(name); {
	case why != "":
		return errors.New(why)
	case name == c.Accounts:
		return errors.New("it is accounts_namespace, which holds nothing but the service accounts of leases")
	case n.bound() && c.Accounts == "":
		return errors.New("with rules, roles and cluster_roles each lease has a service account of its own; name the namespace for those as accounts_namespace")
	case !n.bound() && len(n.ServiceAccounts) == 0:
		return errors.New("tasks may have nothing there; give it rules: true, roles, cluster_roles or service_accounts")
	}
	for what, names := range map[form][]string{byRole: n.Roles, byClusterRole: n.ClusterRoles, byAccount: n.ServiceAccounts} {
		for _, one := range names {
			if why := what.fault(one); why != "" {
				return fmt.Errorf("%ss: %s may not be given to tasks: %s", what, yamlfile.Quote(one), why)
			}
		}
	}
	return nil
}

// bound: leases with a service account of their own may be there.
func (n Namespace) bound() bool { return n.Rules || len(n.Roles) > 0 || len(n.ClusterRoles) > 0 }

// Limits are what tasks may ask for. Nil namespaces limit nothing: task files are also
// checked where no configuration is at hand.
type Limits struct {
	Accounts   string
	Namespaces map[string]Namespace
	MaxTTL     time.Duration // default one hour
}

// Options are what New needs: what Config says, opened.
type Options struct {
	Limits
	Server       string
	CA           string // PEM
	ClientServer string // what steps are told
	ClientCA     string
	Audiences    []string
	Token        func() (secret.String, error) // the exchange's own, asked at each request; nil: no server is there
	Transport    http.RoundTripper             // default one that trusts CA
	Now          func() time.Time
}

// Backend makes tokens of service accounts. Safe for concurrent use.
type Backend struct {
	limits    Limits
	server    string
	client    target
	audiences []string
	token     func() (secret.String, error)
	http      *http.Client
	now       func() time.Time
}

// target is where steps find the server.
type target struct{ server, ca string }

var _ backend.Backend = (*Backend)(nil)

// New makes a backend. It asks no network. Without Options.Token it can only read task
// files.
func New(o Options) *Backend {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.MaxTTL == 0 {
		o.MaxTTL = time.Hour
	}
	if o.Transport == nil {
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM([]byte(o.CA))
		o.Transport = reach.Transport(roots)
	}
	return &Backend{
		limits: o.Limits, server: strings.TrimSuffix(o.Server, "/"), audiences: o.Audiences, token: o.Token, now: o.Now,
		client: target{server: strings.TrimSuffix(o.ClientServer, "/"), ca: o.ClientCA},
		http:   reach.Client(o.Transport),
	}
}

const (
	// inFlight is how long after the lease's intent something may be asked for and made.
	// Issue keeps it, so that Terms is true.
	inFlight = 30 * time.Second

	shortest = 10 * time.Minute // that a token lives: the server makes none for less
	longest  = 24 * time.Hour   // of max_ttl; no lease outlives a day
	// API servers take a token for another minute after its end, for clocks that differ,
	// and remember for ten seconds that they took it.
	pastEnd    = time.Minute
	remembered = 15 * time.Second
)

// Terms: a token lives to the lease's end, and ten minutes at least, counted by the
// server's clock from its making; that the two clocks show another time does not matter.
func (b *Backend) Terms(o backend.Order) backend.Terms {
	end, least := b.end(o).Add(reach.RequestFor), o.At.Add(inFlight+shortest)
	if end.Before(least) {
		end = least
	}
	t := backend.Terms{DiesAt: end.Add(pastEnd + remembered), Revocable: true}
	if s, ours := o.Scope.(*scope); ours && s != nil {
		t.Remains = s.form.remains()
	}
	return t
}

// end is the lease's end, or the operator's limit where that comes first.
func (b *Backend) end(o backend.Order) time.Time {
	if latest := o.At.Add(b.limits.MaxTTL); latest.Before(o.Until) {
		return latest
	}
	return o.Until
}

// Lifetimes is what the linter of task files holds a task's ttl against: a rollout takes
// minutes.
func (b *Backend) Lifetimes() (sensible, most time.Duration) {
	return 30 * time.Minute, b.limits.MaxTTL
}

func checkServer(server string) error {
	u, err := url.Parse(server)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return errors.New("want https:// and a host, as https://10.0.0.1:6443; tokens travel there, so it is never http")
	}
	return nil
}

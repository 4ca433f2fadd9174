package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/exchange/identity"
	"github.com/stepkey/stepkey/exchange/lease"
	"github.com/stepkey/stepkey/internal/yamlfile"
)

// config is the configuration file. Unknown keys are refused with their place;
// paths in it are relative to the file itself.
type config struct {
	URL      string                  `yaml:"url,required"`
	Listen   string                  `yaml:"listen"`
	Admin    string                  `yaml:"admin"`
	Tasks    string                  `yaml:"tasks,required"`
	Store    string                  `yaml:"store"`
	Keys     string                  `yaml:"keys"`
	Retain   time.Duration           `yaml:"retain"`
	Owners   []string                `yaml:"owners"`
	Prove    bool                    `yaml:"prove"`
	Issuers  map[string]issuerConfig `yaml:"issuers,required"`
	Backends yamlfile.Node           `yaml:"backends"`

	Webhooks  webhooksConfig   `yaml:"webhooks"`
	Reconcile *reconcileConfig `yaml:"reconcile"`
	OctoSTS   *octoSTSConfig   `yaml:"octo_sts"`

	RepositoryTasks *repositoryTasksConfig `yaml:"repository_tasks"`

	file string
	now  func() time.Time // the clock of all that is opened from it
	// withdrawn is lease.Store's, for backends that publish a list of them.
	withdrawn func(ctx context.Context, backend string) ([]backend.LeaseID, error)
	// usable looks into the store, for backends that are shown what they gave.
	usable func(ctx context.Context, backend string, id backend.LeaseID) (bool, error)
}

type issuerConfig struct {
	Kind    string        `yaml:"kind,required"`
	URL     string        `yaml:"url,required"`
	MaxAge  time.Duration `yaml:"max_age"`
	Private bool          `yaml:"private_network"`
	CAFile  string        `yaml:"ca_file"`

	KeysURL     string              `yaml:"jwks_uri"`
	KeysFile    string              `yaml:"jwks_file"`
	TrustDomain string              `yaml:"trust_domain"` // of kind spiffe
	Job         *identity.JobClaims `yaml:"job"`          // of kind oidc
}

// defaults are good for trying it out and for one machine behind a proxy.
func defaults() config {
	return config{Listen: "127.0.0.1:8700", Admin: "127.0.0.1:8701", Store: "stepkey.db", Keys: "stepkey.keys", Retain: 30 * 24 * time.Hour, now: time.Now}
}

func readConfig(path string) (config, error) {
	c := defaults()
	c.file = path
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return c, fmt.Errorf("there is no configuration %s; docs/quickstart.md has one to start from", path)
	}
	if err != nil {
		return c, fmt.Errorf("reading the configuration: %w", err)
	}
	node, err := yamlfile.Parse(path, text)
	if err != nil {
		return c, err
	}
	if err := node.Decode(&c); err != nil {
		return c, err
	}
	return c, c.check(node)
}

func (c config) check(node yamlfile.Node) error {
	u, err := url.Parse(c.URL)
	switch {
	case err != nil, u.Host == "", u.Scheme != "https" && u.Scheme != "http", u.User != nil, u.RawQuery != "", u.Fragment != "", u.Path != "":
		return node.Get("url").Errorf("url is what workloads call and ask as audience: https:// and a host, nothing after it, not even a slash")
	case len(c.Issuers) == 0:
		return node.Get("issuers").Errorf("no issuer is listed, so nobody could ask for anything")
	case len(c.Backends.Keys()) == 0:
		return node.Errorf("no backend is configured, so nothing could be given")
	}
	for _, owner := range c.Owners {
		if strings.Trim(owner, "0123456789") != "" {
			return node.Get("owners").Errorf("owners are numeric ids (repository_owner_id), since names can be taken over")
		}
	}
	return errors.Join(c.checkJobs(node), c.checkOctoSTS(node), c.checkTasks(node))
}

// beside makes a path of the configuration relative to the file it stands in.
func (c config) beside(path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(filepath.Dir(c.file), path)
}

// store is what lease.Open takes.
func (c config) store() string {
	if lease.IsPostgres(c.Store) {
		return c.Store
	}
	return c.beside(c.Store)
}

// openStore opens the store with the keys that seal its handles.
func (c config) openStore(ctx context.Context) (*lease.Store, error) {
	keys, err := lease.ReadKeys(c.beside(c.Keys))
	if err != nil {
		return nil, err
	}
	return lease.Open(ctx, c.store(), keys, lease.Options{Now: c.now})
}

func (c config) issuerNames() []string {
	var names []string
	for name := range c.Issuers {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func (c config) issuers() ([]identity.Issuer, error) {
	var all []identity.Issuer
	var mistakes []error
	for _, name := range c.issuerNames() {
		i := c.Issuers[name]
		issuer := identity.Issuer{Name: name, Kind: i.Kind, URL: i.URL, MaxAge: i.MaxAge, Private: i.Private,
			KeysURL: i.KeysURL, TrustDomain: i.TrustDomain, Job: i.Job}
		if i.KeysFile != "" {
			issuer.KeysFile = c.beside(i.KeysFile)
		}
		if i.CAFile != "" {
			text, err := os.ReadFile(c.beside(i.CAFile))
			if err != nil {
				return nil, fmt.Errorf("reading ca_file of issuer %q: %w", name, err)
			}
			issuer.Roots = x509.NewCertPool()
			if !issuer.Roots.AppendCertsFromPEM(text) {
				return nil, fmt.Errorf("reading ca_file of issuer %q: %s holds no certificate in PEM form", name, i.CAFile)
			}
		}
		mistakes = append(mistakes, issuer.Check())
		all = append(all, issuer)
	}
	if err := errors.Join(mistakes...); err != nil {
		return nil, fmt.Errorf("reading the issuers in %s: %w", c.file, err)
	}
	return all, nil
}

// openBackends makes every configured backend. Keys and files are read, no network
// is touched.
func (c config) openBackends() (map[string]backend.Backend, error) {
	open := map[string]backend.Backend{}
	for _, name := range c.Backends.Keys() {
		kind, known := backends[name]
		if !known {
			return nil, c.unknownBackend(name)
		}
		b, err := kind.open(c, c.Backends.Get(name))
		if err != nil {
			return nil, fmt.Errorf("opening backend %q: %w", name, err)
		}
		open[name] = b
	}
	return open, nil
}

func (c config) unknownBackend(name string) error {
	return c.Backends.Get(name).Errorf("there is no backend %s; there is: %s", yamlfile.Quote(name), strings.Join(backendNames(), ", "))
}

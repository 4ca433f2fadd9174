package main

import (
	"context"
	"os"
	"slices"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/exchange/backend/exec"
	"github.com/stepkey/stepkey/exchange/backend/github"
	"github.com/stepkey/stepkey/exchange/backend/kubernetes"
	"github.com/stepkey/stepkey/exchange/backend/mysql"
	"github.com/stepkey/stepkey/exchange/backend/postgres"
	"github.com/stepkey/stepkey/exchange/backend/registry"
	"github.com/stepkey/stepkey/exchange/backend/s3"
	"github.com/stepkey/stepkey/exchange/backend/ssh"
	"github.com/stepkey/stepkey/exchange/backend/vault"
	"github.com/stepkey/stepkey/exchange/policy"
	"github.com/stepkey/stepkey/internal/yamlfile"
)

// backends is every kind of credential that this binary can give, one line each.
var backends = map[string]kind{
	"exec":       {openExec, scopeExec},
	"github":     {openGitHub, scopeGitHub},
	"kubernetes": {openKubernetes, scopeKubernetes},
	"mysql":      {openMySQL, scopeMySQL},
	"postgres":   {openPostgres, scopePostgres},
	"registry":   {openRegistry, scopeRegistry},
	"s3":         {openS3, scopeS3},
	"ssh":        {openSSH, scopeSSH},
	"vault":      {openVault, scopeVault},
}

// kind is how a backend is made from its part of the configuration.
type kind struct {
	// open reads the keys and files that it needs; it touches no network.
	open func(config, yamlfile.Node) (backend.Backend, error)
	// scoper reads task files alone, for checking them where no secret is at hand.
	// An absent node stands for a configuration of defaults.
	scoper func(yamlfile.Node) (policy.Scoper, error)
}

func backendNames() []string {
	var names []string
	for name := range backends {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func openGitHub(c config, node yamlfile.Node) (backend.Backend, error) {
	var g github.Config
	if err := node.Decode(&g); err != nil {
		return nil, err
	}
	g.PrivateKey = c.beside(g.PrivateKey)
	return g.Open(c.now)
}

func scopeGitHub(node yamlfile.Node) (policy.Scoper, error) {
	var g github.Config
	if err := node.Decode(&g); err != nil {
		return nil, err
	}
	return github.New(github.Options{Owner: g.Owner}), nil
}

func openMySQL(c config, node yamlfile.Node) (backend.Backend, error) {
	var m mysql.Config
	if err := node.Decode(&m); err != nil {
		return nil, err
	}
	m.PasswordFile = c.beside(m.PasswordFile)
	if m.RootCertificate != "" {
		m.RootCertificate = c.beside(m.RootCertificate)
	}
	return m.Open(c.now)
}

// scopeMySQL knows no databases and roles where no configuration is.
func scopeMySQL(node yamlfile.Node) (policy.Scoper, error) {
	var m mysql.Config
	if err := node.Decode(&m); err != nil {
		return nil, err
	}
	limits, err := m.Limits()
	if err != nil {
		return nil, err
	}
	return mysql.New(mysql.Options{Limits: limits})
}

func openPostgres(c config, node yamlfile.Node) (backend.Backend, error) {
	var p postgres.Config
	if err := node.Decode(&p); err != nil {
		return nil, err
	}
	p.PasswordFile = c.beside(p.PasswordFile)
	if p.RootCertificate != "" {
		p.RootCertificate = c.beside(p.RootCertificate)
	}
	return p.Open(c.now)
}

// scopePostgres knows no databases and roles where no configuration is.
func scopePostgres(node yamlfile.Node) (policy.Scoper, error) {
	var p postgres.Config
	if err := node.Decode(&p); err != nil {
		return nil, err
	}
	limits, err := p.Limits()
	if err != nil {
		return nil, err
	}
	return postgres.New(postgres.Options{Limits: limits})
}

func openRegistry(c config, node yamlfile.Node) (backend.Backend, error) {
	var r registry.Config
	if err := node.Decode(&r); err != nil {
		return nil, err
	}
	for i, path := range r.Keys {
		r.Keys[i] = c.beside(path)
	}
	return r.Open(c.now, func(ctx context.Context, id backend.LeaseID) (bool, error) { return c.usable(ctx, "registry", id) })
}

// scopeRegistry knows no registry and no repositories where no configuration is.
func scopeRegistry(node yamlfile.Node) (policy.Scoper, error) {
	var r registry.Config
	if !node.Exists() {
		return registry.New(registry.Options{}), nil
	}
	if err := node.Decode(&r); err != nil {
		return nil, err
	}
	limits, err := r.Limits()
	if err != nil {
		return nil, err
	}
	return registry.New(registry.Options{Limits: limits}), nil
}

func openS3(c config, node yamlfile.Node) (backend.Backend, error) {
	var s s3.Config
	if err := node.Decode(&s); err != nil {
		return nil, err
	}
	s.SecretKeyFile = c.beside(s.SecretKeyFile)
	if s.CAFile != "" {
		s.CAFile = c.beside(s.CAFile)
	}
	return s.Open(c.now)
}

// scopeS3 knows no buckets where no configuration is.
func scopeS3(node yamlfile.Node) (policy.Scoper, error) {
	var s s3.Config
	if !node.Exists() {
		return s3.New(s3.Options{}), nil
	}
	if err := node.Decode(&s); err != nil {
		return nil, err
	}
	limits, err := s.Limits()
	if err != nil {
		return nil, err
	}
	return s3.New(s3.Options{Limits: limits}), nil
}

func openSSH(c config, node yamlfile.Node) (backend.Backend, error) {
	var s ssh.Config
	if err := node.Decode(&s); err != nil {
		return nil, err
	}
	for i, path := range s.CA {
		s.CA[i] = c.beside(path)
	}
	if s.KRL != "" {
		s.KRL = c.beside(s.KRL)
	}
	return s.Open(c.now, func(ctx context.Context) ([]backend.LeaseID, error) { return c.withdrawn(ctx, "ssh") })
}

func scopeSSH(node yamlfile.Node) (policy.Scoper, error) {
	var s ssh.Config
	if err := node.Decode(&s); err != nil {
		return nil, err
	}
	limits, err := s.Limits()
	if err != nil {
		return nil, err
	}
	return ssh.New(ssh.Options{Limits: limits}), nil
}

func openExec(c config, node yamlfile.Node) (backend.Backend, error) {
	var e exec.Config
	if err := node.Decode(&e); err != nil {
		return nil, err
	}
	return e.Open(c.now, os.LookupEnv)
}

// scopeExec knows no programs where no configuration is.
func scopeExec(node yamlfile.Node) (policy.Scoper, error) {
	var e exec.Config
	if !node.Exists() {
		return exec.New(exec.Options{}), nil
	}
	if err := node.Decode(&e); err != nil {
		return nil, err
	}
	o, err := e.Options()
	if err != nil {
		return nil, err
	}
	return exec.New(o), nil
}

func openVault(c config, node yamlfile.Node) (backend.Backend, error) {
	var v vault.Config
	if err := node.Decode(&v); err != nil {
		return nil, err
	}
	v.TokenFile = c.beside(v.TokenFile)
	if v.CAFile != "" {
		v.CAFile = c.beside(v.CAFile)
	}
	return v.Open(c.now)
}

// scopeVault knows no policies and roles where no configuration is.
func scopeVault(node yamlfile.Node) (policy.Scoper, error) {
	var v vault.Config
	if !node.Exists() {
		return vault.New(vault.Options{}), nil
	}
	if err := node.Decode(&v); err != nil {
		return nil, err
	}
	limits, err := v.Limits()
	if err != nil {
		return nil, err
	}
	return vault.New(vault.Options{Limits: limits}), nil
}

func openKubernetes(c config, node yamlfile.Node) (backend.Backend, error) {
	var k kubernetes.Config
	if err := node.Decode(&k); err != nil {
		return nil, err
	}
	k.CAFile, k.TokenFile = c.beside(k.CAFile), c.beside(k.TokenFile)
	if k.Client.CAFile != "" {
		k.Client.CAFile = c.beside(k.Client.CAFile)
	}
	return k.Open(c.now)
}

// scopeKubernetes knows no namespaces where no configuration is.
func scopeKubernetes(node yamlfile.Node) (policy.Scoper, error) {
	var k kubernetes.Config
	if !node.Exists() {
		return kubernetes.New(kubernetes.Options{}), nil
	}
	if err := node.Decode(&k); err != nil {
		return nil, err
	}
	limits, err := k.Limits()
	if err != nil {
		return nil, err
	}
	return kubernetes.New(kubernetes.Options{Limits: limits}), nil
}

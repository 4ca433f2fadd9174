package kubernetes_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stepkey/stepkey/exchange/backend/kubernetes"
)

func TestAConfigurationThatCannotBeMeantIsRefused(t *testing.T) {
	s := stage(t)
	none, empty := filepath.Join(t.TempDir(), "none"), filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, []byte("a b\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	web := func(n kubernetes.Namespace) map[string]kubernetes.Namespace { return listing("web", n) }
	for says, spoil := range map[string]func(*kubernetes.Config){
		"server: want https://":          func(c *kubernetes.Config) { c.Server = "http://10.0.0.1:8080" },
		"client: server: want https://":  func(c *kubernetes.Config) { c.Client.Server = "10.0.0.1" },
		"ca_file: reading":               func(c *kubernetes.Config) { c.CAFile = none },
		"ca_file: " + empty:              func(c *kubernetes.Config) { c.CAFile = empty },
		"client: ca_file":                func(c *kubernetes.Config) { c.Client.CAFile = empty },
		"token_file: reading":            func(c *kubernetes.Config) { c.TokenFile = none },
		"holds no token":                 func(c *kubernetes.Config) { c.TokenFile = empty },
		"namespaces: name those":         func(c *kubernetes.Config) { c.Namespaces = nil },
		"one of the cluster's own":       func(c *kubernetes.Config) { c.Namespaces = listing("kube-system", kubernetes.Namespace{Rules: true}) },
		"want a namespace's name":        func(c *kubernetes.Config) { c.Namespaces = listing("a/b", kubernetes.Namespace{Rules: true}) },
		"it is accounts_namespace":       func(c *kubernetes.Config) { c.Namespaces = listing(accounts, kubernetes.Namespace{Rules: true}) },
		"accounts_namespace: \"Leases\"": func(c *kubernetes.Config) { c.Accounts = "Leases" },
		"name the namespace for those":   func(c *kubernetes.Config) { c.Accounts = "" },
		"tasks may have nothing there":   func(c *kubernetes.Config) { c.Namespaces = web(kubernetes.Namespace{}) },
		"roles: \"a/b\" may not":         func(c *kubernetes.Config) { c.Namespaces = web(kubernetes.Namespace{Roles: []string{"a/b"}}) },
		"cluster_roles: \"cluster-admin\"": func(c *kubernetes.Config) {
			c.Namespaces = web(kubernetes.Namespace{ClusterRoles: []string{"cluster-admin"}})
		},
		"service_accounts: \"stepkey-lease\"": func(c *kubernetes.Config) {
			c.Namespaces = web(kubernetes.Namespace{ServiceAccounts: []string{"stepkey-lease"}})
		},
		"audiences: one is empty":        func(c *kubernetes.Config) { c.Audiences = []string{""} },
		"max_ttl is 25h0m0s":             func(c *kubernetes.Config) { c.MaxTTL = 25 * time.Hour },
		"max_ttl is 1m0s; want 10m0s to": func(c *kubernetes.Config) { c.MaxTTL = time.Minute },
	} {
		c := s.config()
		spoil(&c)
		if _, err := c.Open(time.Now); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("want …%s…: %v", says, err)
		}
	}
	c := s.config()
	c.Client, c.MaxTTL = kubernetes.Client{Server: "https://203.0.113.7", CAFile: s.CA}, 10*time.Minute
	if _, err := c.Open(nil); err != nil {
		t.Errorf("a good one: %v", err)
	}
	c.Accounts, c.Namespaces = "", web(kubernetes.Namespace{ServiceAccounts: []string{"publisher"}})
	if _, err := c.Open(nil); err != nil {
		t.Errorf("without accounts of its own: %v", err)
	}
}

package main

import (
	"slices"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/exchange/backend/github"
	"github.com/stepkey/stepkey/exchange/policy"
	"github.com/stepkey/stepkey/internal/yamlfile"
)

// backends is every kind of credential that this binary can give, one line each.
var backends = map[string]kind{
	"github": {openGitHub, scopeGitHub},
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

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/stepkey/stepkey/exchange/identity"
	"github.com/stepkey/stepkey/exchange/policy"
	"github.com/stepkey/stepkey/internal/yamlfile"
)

type checkCommand struct {
	Dir    string `arg:"" type:"existingdir" help:"The folder of task files."`
	Config string `type:"existingfile" help:"The configuration file, for the issuers and backends that task files may name. Without it: an issuer named github, and every backend."`
	Output string `enum:"text,json,sarif" default:"text" help:"text for people, json, or sarif for code scanning (${default})."`
	Strict bool   `help:"Fail on warnings, too."`
}

// Run prints what each task file allows, and everything that is wrong or fragile, and
// runs the tests beside them.
func (k checkCommand) Run(_ context.Context, around surroundings) error {
	against, err := k.against()
	if err != nil {
		return err
	}
	set, found, err := policy.Lint(os.DirFS(k.Dir), against)
	if err != nil {
		return err
	}
	if set != nil && len(set.Tasks()) == 0 {
		return errors.New("there is no task file in " + k.Dir)
	}
	v := verdict{dir: nearby(k.Dir), set: set, found: found}
	if err := v.runTests(os.DirFS(k.Dir), against); err != nil {
		return err
	}
	if err := v.print(k.Output, around); err != nil {
		return fmt.Errorf("printing the findings: %w", err)
	}
	if err := k.listed(set); err != nil {
		return err
	}
	if v.count(policy.Error) > 0 || k.Strict && v.count(policy.Warning) > 0 {
		return errors.New(v.summary())
	}
	return nil
}

// listed checks that the tasks which the configuration names are there. set is nil where
// the task files are refused: then there is enough to mend.
func (k checkCommand) listed(set *policy.Set) error {
	if k.Config == "" || set == nil {
		return nil
	}
	c, err := readConfig(k.Config)
	if err != nil {
		return err
	}
	_, err = c.octoSTSTasks(set)
	return err
}

// nearby is a folder relative to where we are, if it is below: that is how code
// scanning and editors know files.
func nearby(dir string) string {
	here, err := os.Getwd()
	if err != nil {
		return dir
	}
	if near, err := filepath.Rel(here, dir); err == nil && filepath.IsLocal(near) {
		return near
	}
	return dir
}

func (k checkCommand) against() (policy.Check, error) {
	if k.Config == "" {
		return anything()
	}
	c, err := readConfig(k.Config)
	if err != nil {
		return policy.Check{}, err
	}
	issuers, err := c.issuers()
	if err != nil {
		return policy.Check{}, err
	}
	against := policy.Check{Issuers: issuers, Backends: map[string]policy.Scoper{}}
	for _, name := range c.Backends.Keys() {
		kind, known := backends[name]
		if !known {
			return policy.Check{}, c.unknownBackend(name)
		}
		if against.Backends[name], err = kind.scoper(c.Backends.Get(name)); err != nil {
			return policy.Check{}, err
		}
	}
	return against, nil
}

// anything is what task files are checked against when no configuration says what
// there is.
func anything() (policy.Check, error) {
	against := policy.Check{Issuers: []identity.Issuer{{Name: "github", Kind: "github"}}, Backends: map[string]policy.Scoper{}}
	for name, kind := range backends {
		var err error
		if against.Backends[name], err = kind.scoper(yamlfile.Node{}); err != nil {
			return policy.Check{}, err
		}
	}
	return against, nil
}

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"text/tabwriter"

	"github.com/stepkey/stepkey/exchange/identity"
	"github.com/stepkey/stepkey/exchange/policy"
	"github.com/stepkey/stepkey/internal/yamlfile"
)

type checkCommand struct {
	Dir    string `arg:"" type:"existingdir" help:"The folder of task files."`
	Config string `type:"existingfile" help:"The configuration file, for the issuers and backends that task files may name. Without it: an issuer named github, and every backend."`
}

// Run prints what each task file allows, or everything that is wrong.
func (k checkCommand) Run(_ context.Context, around surroundings) error {
	against, err := k.against()
	if err != nil {
		return err
	}
	set, err := policy.Load(os.DirFS(k.Dir), against)
	if faults := yamlfile.Faults(err); len(faults) > 0 {
		for _, f := range faults {
			fmt.Fprintln(around.err, f)
		}
		return fmt.Errorf("%d faults in the task files of %s", len(faults), k.Dir)
	}
	if err != nil {
		return err
	}
	if len(set.Tasks()) == 0 {
		return errors.New("there is no task file in " + k.Dir)
	}
	return k.print(around, set)
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

func (k checkCommand) print(around surroundings, set *policy.Set) error {
	table := tabwriter.NewWriter(around.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "TASK\tGIVES\tFOR AT MOST\tPER JOB\tPURPOSE")
	for _, t := range set.Tasks() {
		fmt.Fprintf(table, "%s\t%s\t%s\t%d\t%s\n", t.Name, t.Scope, t.TTL, t.PerJob, t.Purpose)
	}
	if err := table.Flush(); err != nil {
		return fmt.Errorf("printing the tasks: %w", err)
	}
	return nil
}

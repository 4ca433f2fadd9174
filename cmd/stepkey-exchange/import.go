package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/stepkey/stepkey/exchange/identity"
	"github.com/stepkey/stepkey/exchange/policy"
)

type importCommands struct {
	OctoSTS importOctoSTS `cmd:"" name:"octo-sts" help:"Make a task file of an octo-sts trust policy. What has no exact counterpart is refused; what the policy does not say is a line to fill in. Needs no network and no secrets."`
}

type importOctoSTS struct {
	File            string   `arg:"" type:"existingfile" help:"The trust policy, <identity>.sts.yaml."`
	Scope           string   `help:"Where the policy stands: owner/repository, or the owner for an organization's."`
	Task            string   `help:"The name of the new task; the identity's if not given."`
	OwnerID         string   `name:"owner-id" help:"The number of the owner that the subject names."`
	RepositoryID    string   `name:"repository-id" help:"The number of the repository that the subject names."`
	Event           []string `help:"An event that may use the task, such as push. Can be repeated."`
	PatternAnchored bool     `help:"Your octo-sts anchored patterns as a whole (September 2026 and later), so that a|b never let in a-evil."`
	Out             string   `type:"existingdir" help:"The folder of task files to write to; the task file is printed if not given."`
	Config          string   `type:"existingfile" help:"The configuration file, for the issuers. Without it: GitHub's, named github."`
}

// Run writes the task file, and says what the policy says otherwise or not at all.
func (c importOctoSTS) Run(_ context.Context, around surroundings) error {
	text, err := os.ReadFile(c.File)
	if err != nil {
		return fmt.Errorf("reading the trust policy: %w", err)
	}
	issuers, err := c.issuers()
	if err != nil {
		return err
	}
	made := policy.ImportOctoSTS(filepath.Base(c.File), text, policy.OctoSTS{
		Issuers: issuers, Scope: c.Scope, Task: c.Task, OwnerID: c.OwnerID, RepositoryID: c.RepositoryID,
		Events: c.Event, PatternAnchored: c.PatternAnchored,
	})
	for _, f := range made.Findings {
		fmt.Fprintf(around.err, "%s:%d:%d: %s: %s: %s\n    %s\n", f.File, f.Line, f.Column, f.Rule.Severity, f.Rule.Title, f.Message, f.Rule.Fix)
	}
	if made.Text == nil {
		return fmt.Errorf("%s is not taken over", filepath.Base(c.File))
	}
	if err := c.write(around, made); err != nil {
		return err
	}
	if made.Open > 0 {
		fmt.Fprintf(around.err, "%d lines are yours to fill in, marked DECIDE; check refuses the file until then.\n", made.Open)
	}
	return nil
}

func (c importOctoSTS) issuers() ([]identity.Issuer, error) {
	if c.Config == "" {
		return []identity.Issuer{{Name: "github", Kind: "github", URL: "https://token.actions.githubusercontent.com"}}, nil
	}
	configured, err := readConfig(c.Config)
	if err != nil {
		return nil, err
	}
	return configured.issuers()
}

// write never writes over a task file: somebody may have filled it in.
func (c importOctoSTS) write(around surroundings, made policy.Imported) error {
	if c.Out == "" {
		_, err := around.out.Write(made.Text)
		return err
	}
	file, err := os.OpenFile(filepath.Join(c.Out, made.Task+".yaml"), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644) //nolint:gosec // a task file is for everybody to read
	if err != nil {
		return fmt.Errorf("writing the task file: %w", err)
	}
	if _, err := file.Write(made.Text); err != nil {
		return fmt.Errorf("writing the task file: %w", err)
	}
	return file.Close()
}

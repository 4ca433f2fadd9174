package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/stepkey/stepkey/exchange/audit"
	"github.com/stepkey/stepkey/exchange/lease"
)

type auditCommand struct {
	Config string `default:"stepkey.yaml" type:"path" help:"The configuration file (${default})."`
	Lease  string `help:"Only this lease."`
	ID     string `help:"Only this entry, by the audit_id that a refusal named."`
	Limit  int    `default:"200" help:"How many entries, counted from the newest (${default})."`
	JSON   bool   `help:"One JSON object a line."`
}

// Run reads the store beside the service that owns it.
func (a auditCommand) Run(ctx context.Context, around surroundings) error {
	c, err := readConfig(a.Config)
	if err != nil {
		return err
	}
	store, err := lease.OpenToRead(ctx, c.store())
	if err != nil {
		return err
	}
	entries, err := store.Audit(ctx, lease.AuditQuery{Lease: a.Lease, ID: a.ID, Limit: a.Limit})
	if err := errors.Join(err, store.Close()); err != nil {
		return err
	}
	if a.ID != "" && len(entries) == 0 {
		return fmt.Errorf("there is no audit entry %s in the store that %s names", a.ID, a.Config)
	}
	if a.JSON {
		return printJSON(around, entries)
	}
	return printTable(around, entries)
}

func printJSON(around surroundings, entries []audit.Entry) error {
	lines := json.NewEncoder(around.out)
	for _, e := range entries {
		if err := lines.Encode(e); err != nil {
			return fmt.Errorf("printing the audit log: %w", err)
		}
	}
	return nil
}

func printTable(around surroundings, entries []audit.Entry) error {
	table := tabwriter.NewWriter(around.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "TIME\tEVENT\tTASK\tLEASE\tJOB\tWHAT")
	for _, e := range entries {
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\n", e.At.Format(time.RFC3339), e.Event, dash(e.Task), dash(e.Lease), dash(e.Job), what(e))
	}
	if err := table.Flush(); err != nil {
		return fmt.Errorf("printing the audit log: %w", err)
	}
	return nil
}

// what is the most telling of an entry, on one line.
func what(e audit.Entry) string {
	for _, text := range []string{e.Reason, e.Granted} {
		if text != "" {
			first, _, _ := strings.Cut(text, "\n")
			return first
		}
	}
	return "-"
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

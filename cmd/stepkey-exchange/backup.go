package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/stepkey/stepkey/exchange/lease"
)

type backupCommand struct {
	File   string `arg:"" type:"path" help:"Where to write it; an existing file is never overwritten."`
	Config string `default:"stepkey.yaml" type:"path" help:"The configuration file (${default})."`
}

// Run copies a SQLite store beside the service that owns it.
func (b backupCommand) Run(ctx context.Context, around surroundings) error {
	c, err := readConfig(b.Config)
	if err != nil {
		return err
	}
	store, err := lease.OpenToRead(ctx, c.store())
	if err != nil {
		return err
	}
	if err := errors.Join(store.Backup(ctx, b.File), store.Close()); err != nil {
		return err
	}
	fmt.Fprintf(around.out, "%s is a copy of the store. It is of no use without the key file; keep that elsewhere.\n", b.File)
	return nil
}

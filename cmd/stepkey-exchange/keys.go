package main

import (
	"fmt"

	"github.com/stepkey/stepkey/exchange/lease"
)

type keysCommands struct {
	Create keysCreate `cmd:"" help:"Make a new key file. An existing one is never overwritten."`
	Rotate keysRotate `cmd:"" help:"Seal with a new key from now on; those before it still open what they sealed. Restart the exchange afterwards."`
}

type keysCreate struct {
	File string `arg:"" type:"path" help:"Where to write it."`
}

func (k keysCreate) Run(around surroundings) error {
	if err := lease.CreateKeys(k.File); err != nil {
		return err
	}
	fmt.Fprintf(around.out, "%s holds a new key. Back it up apart from the store: without it, live leases cannot be revoked.\n", k.File)
	return nil
}

type keysRotate struct {
	File string `arg:"" type:"existingfile" help:"The key file."`
}

func (k keysRotate) Run(around surroundings) error {
	if err := lease.RotateKeys(k.File); err != nil {
		return err
	}
	fmt.Fprintf(around.out, "%s seals with a new key; those before it still open what they sealed. Restart the exchange before you rotate again.\n", k.File)
	return nil
}

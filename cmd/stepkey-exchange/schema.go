package main

import (
	"fmt"

	"github.com/stepkey/stepkey/exchange/policy"
)

type schemaCommand struct{}

// Run prints the schema of task files with every backend of this binary.
func (schemaCommand) Run(around surroundings) error {
	against, err := anything()
	if err != nil {
		return err
	}
	text, err := policy.Schema(against.Backends)
	if err != nil {
		return err
	}
	if _, err := around.out.Write(text); err != nil {
		return fmt.Errorf("printing the schema: %w", err)
	}
	return nil
}

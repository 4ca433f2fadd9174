package main

import (
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// The stories in testdata/stepkey-exchange run the real main in processes of their own.

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"stepkey-exchange": main, crashing: crash})
}

func TestStories(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "../../testdata/stepkey-exchange",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(e *testscript.Env) error {
			here, err := os.Getwd()
			e.Setenv("REPOSITORY", here+"/../..")
			return err
		},
	})
}

// Command registry is the container registry "distribution" of version 3, whose only Debian
// package is of version 2. It has the command line and the configuration of its own program,
// with no store but files and no login but by token.
package main

import (
	"os"

	"github.com/distribution/distribution/v3/registry"
	_ "github.com/distribution/distribution/v3/registry/auth/token"
	_ "github.com/distribution/distribution/v3/registry/storage/driver/filesystem"
)

func main() {
	if registry.RootCmd.Execute() != nil { // it has said why
		os.Exit(1)
	}
}

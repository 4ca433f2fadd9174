// Command stepkey-demo tells one release pipeline from start to end on this
// machine: a step gets its credential, uses it, somebody misuses it, the step
// loses it; in a second job somebody else asks for it, too, and nobody keeps it. GitHub is simulated on loopback. Everything else is what runs in
// production: the exchange and the two halves of the action are processes of their
// own that speak HTTP.
//
// Each line is checked: it exits with 1 if anything did not go as told.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
)

func main() {
	hold := len(os.Args) == 2 && os.Args[1] == "--hold"
	if len(os.Args) > 1 && !hold {
		fmt.Fprintln(os.Stderr, "usage: stepkey-demo [--hold]\n\n--hold keeps GitHub and the exchange running at the end and prints a curl to try.")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, hold)
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "\nstepkey-demo: %v\n", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, hold bool) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("finding the binaries beside this one: %w", err)
	}
	dir, err := os.MkdirTemp("", "stepkey-demo-")
	if err != nil {
		return fmt.Errorf("making room for the demo: %w", err)
	}
	w, err := build(ctx, filepath.Dir(self), dir)
	if err != nil {
		return errors.Join(err, os.RemoveAll(dir))
	}
	err = tell(ctx, w, os.Stdout)
	if err == nil && hold {
		w.hold(ctx)
	}
	return errors.Join(err, w.close(), os.RemoveAll(dir))
}

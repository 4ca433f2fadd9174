// Command stepkey-exchange is the service: it trades a workload's OIDC token for
// one credential for one task, and ends that credential. It also checks task
// files, makes and rotates the key file, and shows the audit log.
//
// Nothing is decided here. This command reads the configuration, wires the rooms
// together and prints.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"
)

// version is set when a release is built.
var version = "dev"

type commands struct {
	Serve   serveCommand   `cmd:"" help:"Run the exchange."`
	Check   checkCommand   `cmd:"" help:"Read task files as the exchange would, and say what is wrong with them. Needs no network and no secrets."`
	Explain explainCommand `cmd:"" help:"Decide a task for the claims in a file, and say of every rule what it wanted and what it saw. Verifies nothing, gives nothing."`
	Schema  schemaCommand  `cmd:"" help:"Print the JSON Schema of task files, for editors."`
	Import  importCommands `cmd:"" help:"Make task files of what other services have."`
	Keys    keysCommands   `cmd:"" help:"Make or rotate the file of keys that seal what is needed to revoke."`
	Audit   auditCommand   `cmd:"" help:"Show the audit log, newest last."`
	Revoke  revokeCommand  `cmd:"" help:"End leases now: one, or all of a job, a repository or a task, or all there are. Works beside a running exchange and without one."`
	Backup  backupCommand  `cmd:"" help:"Copy a SQLite store, also while the exchange runs."`
	Version struct{}       `cmd:"" help:"Print the version."`
}

// surroundings are what a command may touch outside its arguments.
type surroundings struct {
	out io.Writer
	err io.Writer
}

func main() {
	os.Exit(run(os.Args[1:], surroundings{os.Stdout, os.Stderr}))
}

func run(args []string, s surroundings) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var c commands
	exit := -1
	parser := kong.Must(&c, kong.Name("stepkey-exchange"), kong.UsageOnError(), kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
		kong.Description("One narrowly scoped credential for one defined task, gone when the task is over."),
		kong.Writers(s.out, s.err), kong.Exit(func(code int) { exit = code }), kong.BindTo(ctx, (*context.Context)(nil)), kong.Bind(s))
	parsed, err := parser.Parse(args)
	if exit >= 0 {
		return exit // --help was printed
	}
	if err != nil {
		fmt.Fprintf(s.err, "stepkey-exchange: %v\nRun stepkey-exchange --help for what there is.\n", err)
		return 2
	}
	if parsed.Command() == "version" {
		fmt.Fprintln(s.out, "stepkey-exchange", version)
		return 0
	}
	if err := parsed.Run(); err != nil {
		fmt.Fprintf(s.err, "stepkey-exchange: %v\n", err)
		if _, misused := errors.AsType[usage](err); misused {
			return 2
		}
		return 1
	}
	return 0
}

package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/stepkey/stepkey/exchange/client"
)

// A command is one of the things that people and scripts start by its name. All are
// listed in commands: parsing, help, completion and the manual page go by that. The
// standard library's flag package parses: the larger one of the service would add
// 2 MB to a binary of 7.
type command struct {
	name    string
	args    string // what follows the flags, for the usage line
	summary string // one line, a sentence
	about   string // what its help says beyond that, in lines of at most 80 characters
	// define declares the flags. A usage text names its value in backquotes and is a
	// sentence. The flags' values are there when the action runs.
	define func(*flag.FlagSet) action
	// failed is the exit code of an error that names none, and of a command line that
	// makes no sense. Zero: exitFailed and exitUsage.
	failed int
}

// An action does what a command is for. args are what followed the flags.
type action func(ctx context.Context, s *step, args []string) error

// commands are in the order in which the help lists them.
func commands() []command {
	return []command{
		execCommand(),
		issueCommand(),
		revokeCommand(),
		statusCommand(),
		completionCommand(),
		manCommand(),
		versionCommand(),
	}
}

// An exit ends the program with that code; what there is to say has been said.
type exit int

func (e exit) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

const (
	exitFailed = 1 // a command failed, and said why
	exitUsage  = 2 // the command line makes no sense
)

// exchangeFlags are for every command that speaks to an exchange.
type exchangeFlags struct {
	exchange string
	quiet    bool
}

func (f *exchangeFlags) define(flags *flag.FlagSet) {
	flags.StringVar(&f.exchange, "exchange", "", "The `URL` of the exchange. Default: the variable STEPKEY_EXCHANGE.")
	flags.BoolVar(&f.quiet, "quiet", false, "Say nothing but what went wrong.")
}

// askFlags are for every command that asks for a credential. No flag takes a secret:
// everyone on the machine can read those in the list of processes.
type askFlags struct {
	exchangeFlags
	audience string
	ttl      time.Duration
	inputs   texts
	idToken  string
}

func (f *askFlags) define(flags *flag.FlagSet) {
	f.exchangeFlags.define(flags)
	flags.StringVar(&f.audience, "audience", "", "The audience (`TEXT`) of the ID token. Default: the exchange's URL.")
	flags.Func("ttl", "End the credential after this `DURATION`, as in 90s or 10m. Default: what the task allows.", func(given string) error {
		ttl, err := time.ParseDuration(given)
		if err != nil || ttl < time.Second {
			return errors.New("give a duration of at least a second, like 90s, 10m or 1h30m")
		}
		f.ttl = ttl
		return nil
	})
	flags.Var(&f.inputs, "input", "One input of the task, as `NAME=VALUE`; as NAME@TASK=VALUE for one task of several. Repeatable.")
	flags.StringVar(&f.idToken, "id-token", "", "The `SOURCE` of the ID token: "+strings.Join(sourceForms(), ", ")+". Default: what the environment shows.")
}

// texts is a flag that may be given again.
type texts []string

func (t *texts) String() string { return strings.Join(*t, " ") }
func (t *texts) Set(given string) error {
	*t = append(*t, given)
	return nil
}

// asks are the inputs of one task's request.
func (f *askFlags) asks(s *step, task string) (in inputs, err error) {
	if in.exchange, err = f.dial(s); err != nil {
		return in, err
	}
	if s.source == nil { // one for all tasks: it knows which tokens are spent
		if err := s.chooseSource(f.idToken); err != nil {
			return in, err
		}
	}
	if in.task, err = taskName(task); err != nil {
		return in, err
	}
	if in.values, err = f.inputsOf(task); err != nil {
		return in, err
	}
	in.ttl, in.audience = f.ttl, cmp.Or(f.audience, in.exchange.URL())
	return in, nil
}

// dial checks the URL; it does not connect.
func (f *exchangeFlags) dial(s *step) (*client.Client, error) {
	given := cmp.Or(f.exchange, s.getenv("STEPKEY_EXCHANGE"))
	if given == "" {
		return nil, &trouble{"no exchange", "name your exchange: --exchange https://exchange.example.com, or the variable STEPKEY_EXCHANGE"}
	}
	c, err := client.New(given, client.Options{
		HTTP: s.http, UserAgent: "stepkey/" + version(), AllowHTTP: s.getenv("STEPKEY_ALLOW_HTTP") == "true", Now: s.now,
	})
	if err != nil {
		return nil, &trouble{"no exchange", "the exchange cannot be used: " + err.Error()}
	}
	return c, nil
}

// inputsOf are the inputs that are meant for this task.
func (f *askFlags) inputsOf(task string) (map[string]string, error) {
	values := map[string]string{}
	for _, given := range f.inputs {
		name, value, found := strings.Cut(given, "=")
		name, of, only := strings.Cut(name, "@")
		_, twice := values[name]
		switch {
		case !found || value == "" || !isName(name, "") || (only && of == ""):
			return nil, &trouble{"bad input", "--input takes NAME=VALUE, or NAME@TASK=VALUE for one task of several, as in --input version=v1.2.3"}
		case only && of != task:
		case twice:
			return nil, &trouble{"bad input", fmt.Sprintf("--input gives %s of %s a second time", name, task)}
		default:
			values[name] = value
		}
	}
	return values, nil
}

func versionCommand() command {
	return command{
		name: "version", summary: "Print the version.",
		define: func(*flag.FlagSet) action {
			return func(context.Context, *step, []string) error {
				_, err := fmt.Fprintf(os.Stdout, "stepkey %s (%s %s/%s)\n", version(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
				return err
			}
		},
	}
}

// command does what args (without the program's name) say. What is for programs goes
// to stdout, what is for people to stderr.
func (s *step) command(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	if len(args) == 0 {
		writeHelp(stderr)
		return exitUsage
	}
	if slices.Contains([]string{"help", "--help", "-help", "-h"}, args[0]) {
		writeHelp(stdout)
		return 0
	}
	for _, c := range commands() {
		if c.name == args[0] {
			return s.start(ctx, c, args[1:], stdout, stderr)
		}
	}
	names := make([]string, 0, len(commands()))
	for _, c := range commands() {
		names = append(names, c.name)
	}
	meant := ""
	if near := nearest(args[0], names); near != "" {
		meant = fmt.Sprintf("; did you mean %s?", near)
	}
	_, _ = fmt.Fprintf(stderr, "stepkey: there is no command %.64q%s See: stepkey --help\n", args[0], cmp.Or(meant, "."))
	return exitUsage
}

func (s *step) start(ctx context.Context, c command, args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet(c.name, flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	run := c.define(flags)
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		writeCommandHelp(stdout, c, flags)
		return 0
	case err != nil:
		_, _ = fmt.Fprintf(stderr, "stepkey %s: %v. See: stepkey %s --help\n", c.name, err, c.name)
		return cmp.Or(c.failed, exitUsage)
	}
	quiet := flags.Lookup("quiet")
	s.speakAs(stderr, quiet != nil && quiet.Value.String() == "true")
	err := run(ctx, s, flags.Args())
	if code, ok := errors.AsType[exit](err); ok {
		return int(code)
	}
	if err != nil {
		told := explain(err)
		s.fail(told.title, told.text)
		return cmp.Or(c.failed, exitFailed)
	}
	return 0
}

func writeHelp(w io.Writer) {
	_, _ = fmt.Fprint(w, "usage: stepkey COMMAND [FLAG...]\n\nA credential for one task, for as long as the task takes.\n\n")
	for _, c := range commands() {
		_, _ = fmt.Fprintf(w, "  %-11s %s\n", c.name, c.summary)
	}
	_, _ = fmt.Fprint(w, "\nOf each command: stepkey COMMAND --help\n\nstepkey main and stepkey post are the two halves of the action; its inputs come as\nINPUT_ variables.\n")
}

// writeCommandHelp shows every flag with two hyphens; one is understood too.
func writeCommandHelp(w io.Writer, c command, flags *flag.FlagSet) {
	_, _ = fmt.Fprintf(w, "usage: stepkey %s\n\n%s\n", strings.TrimSpace(c.name+" [FLAG...] "+c.args), c.summary)
	if c.about != "" {
		_, _ = fmt.Fprintf(w, "\n%s\n", strings.TrimSpace(c.about))
	}
	_, _ = fmt.Fprint(w, "\nFlags\n")
	flags.VisitAll(func(f *flag.Flag) {
		value, usage := flag.UnquoteUsage(f)
		_, _ = fmt.Fprintf(w, "  %s\n        %s\n", strings.TrimSpace("--"+f.Name+" "+value), usage)
	})
}

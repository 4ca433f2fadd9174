package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/stepkey/stepkey/exchange/client"
	"github.com/stepkey/stepkey/internal/secret"
)

const issueAbout = `The credential goes to stdout as JSON, or to a file that only its owner can
read. It is never shown on a terminal. Whoever asks has to give it back: with
stepkey revoke and the lease token that comes with it. Where one command needs
the credential, stepkey exec is safer: it gives back by itself.

Formats
  json   all there is to know: task, lease, times, values, variables
  env    export NAME='value' lines for a shell, the lease token as STEPKEY_LEASE
  token  the credential's value alone, if it has one only; keep the lease token
         with --lease-file

Examples
  stepkey issue --task publish-release --output credential.json
  stepkey revoke --lease-file credential.json

  eval "$(stepkey issue --task publish-release --format env)"
  gh release create v1.2.3
  stepkey revoke

` + scriptCodes

type issueFlags struct {
	askFlags
	task, output, format, leaseFile string
}

func issueCommand() command {
	return command{
		name: "issue", summary: "Get the credential of a task, for scripts that give it back themselves.", about: issueAbout,
		define: func(flags *flag.FlagSet) action {
			var f issueFlags
			f.define(flags)
			flags.StringVar(&f.task, "task", "", "The `TASK` that the credential is for.")
			flags.StringVar(&f.output, "output", "", "Write to this `FILE`, readable by its owner alone, and not to stdout.")
			flags.StringVar(&f.format, "format", "json", "What to write: `json|env|token`.")
			flags.StringVar(&f.leaseFile, "lease-file", "", "Also write the lease token to this `FILE`, readable by its owner alone.")
			return func(ctx context.Context, s *step, args []string) error {
				ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
				defer stop()
				signal.Ignore(syscall.SIGPIPE) // a reader that is gone must not end this before the credential is given back
				s.speakAs(os.Stderr, f.quiet)
				return s.ended(s.issue(ctx, f, args, os.Stdout), explain)
			}
		},
	}
}

// issuedLease is what issue prints as JSON, for programs. Secrets are plain here: this
// is where they are handed over.
type issuedLease struct {
	Task       string            `json:"task"`
	LeaseID    string            `json:"lease_id"`
	LeaseToken string            `json:"lease_token"`
	EndsAt     time.Time         `json:"ends_at"`          // RFC 3339, UTC
	DiesAt     time.Time         `json:"dies_at,omitzero"` // left out where nothing but its end ends it
	Revocable  bool              `json:"revocable"`
	Remains    string            `json:"remains,omitempty"` // what its end leaves of it, in words
	Granted    string            `json:"granted"`
	Kind       string            `json:"kind"`
	Values     map[string]string `json:"values"`
	Env        map[string]string `json:"env"`
}

func (s *step) issue(signalled context.Context, f issueFlags, args []string, stdout *os.File) error {
	switch {
	case len(args) > 0:
		return misuse("issue takes flags only; to run a command with the credential, use stepkey exec")
	case f.task == "":
		return misuse("--task is missing: name the task that the credential is for, as in --task publish-release")
	case !slices.Contains([]string{"json", "env", "token"}, f.format):
		return misuse("--format is one of json, env, token")
	case f.output == "" && isTerminal(stdout):
		return misuse("the credential would be shown on this terminal: write it to a file (--output FILE), or pipe it to the program that needs it")
	}
	in, err := f.asks(s, f.task)
	if err != nil {
		return err
	}
	// Nothing that would keep the credential from its place may turn up after it exists.
	places, err := openPlaces(f, stdout)
	if err != nil {
		return err
	}
	defer places.drop()

	ctx, cancel := context.WithTimeout(signalled, s.waits.mainAll)
	defer cancel()
	grant, err := s.ask(ctx, in)
	if err != nil {
		return err
	}
	if err := s.maskGrant(grant); err != nil {
		return s.takeBack(ctx, in, grant, err)
	}
	if err := places.fill(f.format, grant); err != nil {
		return s.takeBack(ctx, in, grant, err)
	}
	if signalled.Err() != nil {
		return s.takeBack(ctx, in, grant, cancelled("while the credential was handed over"))
	}
	places.keep()
	s.info("%s: %s, until %s (lease %s)", grant.Task, grant.Granted, moment(grant.EndsAt), grant.LeaseID)
	return nil
}

// places are where a grant goes to.
type places struct {
	stdout io.Writer
	output *secretFile // nil: stdout
	lease  *secretFile // nil: the lease token goes nowhere by itself
}

func openPlaces(f issueFlags, stdout io.Writer) (*places, error) {
	p := &places{stdout: stdout}
	for path, file := range map[string]**secretFile{f.output: &p.output, f.leaseFile: &p.lease} {
		if path == "" {
			continue
		}
		var err error
		if *file, err = newSecretFile(path); err != nil {
			p.drop()
			return nil, err
		}
	}
	return p, nil
}

// fill writes the lease token first: who holds a credential must be able to end it.
func (p *places) fill(format string, g *client.Grant) error {
	text, err := rendered(format, g)
	if err != nil {
		return err
	}
	if p.lease != nil {
		if err := p.lease.appear([]byte(g.LeaseToken.Reveal() + "\n")); err != nil {
			return err
		}
	}
	if p.output != nil {
		return p.output.appear(text)
	}
	if _, err := p.stdout.Write(text); err != nil {
		return &trouble{"not handed over", fmt.Sprintf("the credential cannot be written to stdout: %v", errors.Unwrap(err))}
	}
	return nil
}

// drop leaves nothing behind of what was not kept.
func (p *places) drop() {
	for _, file := range []*secretFile{p.lease, p.output} {
		if file != nil {
			file.drop()
		}
	}
}

func (p *places) keep() {
	for _, file := range []*secretFile{p.lease, p.output} {
		if file != nil {
			file.kept = true
		}
	}
}

// A secretFile appears at its path whole, readable by its owner alone, or not at all.
type secretFile struct {
	path string
	file *os.File // elsewhere in the same folder until it appears
	kept bool
}

func newSecretFile(path string) (*secretFile, error) {
	if info, err := os.Lstat(path); err == nil && !info.Mode().IsRegular() {
		return nil, &trouble{"no place for it", path + " is not a file that could be replaced"}
	}
	file, err := os.CreateTemp(filepath.Dir(path), ".stepkey-*") // 0600
	if err != nil {
		return nil, &trouble{"no place for it", fmt.Sprintf("no file can be made in the folder of %s: %v", path, errors.Unwrap(err))}
	}
	return &secretFile{path: path, file: file}, nil
}

func (f *secretFile) appear(text []byte) error {
	_, err := f.file.Write(text)
	err = errors.Join(err, f.file.Close())
	if err == nil {
		err = os.Rename(f.file.Name(), f.path)
	}
	if err != nil {
		return &trouble{"not handed over", fmt.Sprintf("%s cannot be written: %v", f.path, err)}
	}
	return nil
}

// drop may be called whatever became of the file.
func (f *secretFile) drop() {
	if f.kept {
		return
	}
	_ = f.file.Close()
	if os.Remove(f.file.Name()) != nil { // it appeared, unless it could not be removed
		_ = os.Remove(f.path)
	}
}

// rendered is a grant as the format has it.
func rendered(format string, g *client.Grant) ([]byte, error) {
	switch format {
	case "env":
		return renderedEnv(g)
	case "token":
		return renderedToken(g)
	}
	return encodeJSON(issuedLease{
		Task: g.Task, LeaseID: g.LeaseID, LeaseToken: g.LeaseToken.Reveal(), EndsAt: g.EndsAt, DiesAt: momentOrNone(g.DiesAt),
		Revocable: g.Revocable, Remains: g.Remains, Granted: g.Granted, Kind: g.Kind, Values: revealed(g.Values), Env: revealed(g.Env),
	})
}

func revealed(values map[string]secret.String) map[string]string {
	plain := make(map[string]string, len(values))
	for name, value := range values {
		plain[name] = value.Reveal()
	}
	return plain
}

// renderedEnv is for a shell's eval, so nothing but assignments may be in it, and none
// that decides which programs run.
func renderedEnv(g *client.Grant) ([]byte, error) {
	if len(g.Env) == 0 {
		return nil, &trouble{"no variables", "this credential comes with no variables: take --format json and its values " + strings.Join(slices.Sorted(maps.Keys(g.Values)), ", ")}
	}
	var b bytes.Buffer
	for _, name := range slices.Sorted(maps.Keys(g.Env)) {
		value := g.Env[name].Reveal()
		if !isName(name, "") || steers(name) {
			return nil, unfit("one of the credential's variables has a name that must not be set from outside")
		}
		if strings.ContainsRune(value, 0) {
			return nil, unfit("the credential's variable " + name + " contains a NUL byte, which no environment can hold")
		}
		fmt.Fprintf(&b, "export %s=%s\n", name, shellQuoted(value))
	}
	fmt.Fprintf(&b, "export %s=%s\n", leaseVariable, shellQuoted(g.LeaseToken.Reveal()))
	return b.Bytes(), nil
}

// shellQuoted is one word to every POSIX shell.
func shellQuoted(value string) string {
	return "'" + strings.ReplaceAll(value, "'", `'\''`) + "'"
}

func renderedToken(g *client.Grant) ([]byte, error) {
	if len(g.Values) != 1 {
		return nil, &trouble{"more than one value", "this credential has several values (" + strings.Join(slices.Sorted(maps.Keys(g.Values)), ", ") + "), so --format token cannot choose: take json or env"}
	}
	for _, value := range g.Values {
		return []byte(value.Reveal() + "\n"), nil
	}
	return nil, nil
}

package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"

	"github.com/stepkey/stepkey/exchange/client"
	"github.com/stepkey/stepkey/internal/secret"
)

// kubernetesFile is where docs/cli.md has a pod's token projected.
const kubernetesFile = "/var/run/secrets/stepkey/token"

// fixed is a source of one token that others made: it has the audience that they chose,
// and is good for one request.
type fixed struct {
	name  string
	where string                 // for people
	read  func() (string, error) // looks again each time: files are rotated
	none  string                 // what to do where there is none
	other string                 // how to get one for another audience
	fresh string                 // how to get a new one

	mu    sync.Mutex
	spent map[[sha256.Size]byte]error // how the call with it ended, once it has
}

func (f *fixed) String() string { return f.name }
func (f *fixed) mints() bool    { return false }

func (f *fixed) ready() error {
	_, err := f.look()
	return err
}

func (f *fixed) look() (secret.String, error) {
	text, err := f.read()
	if err != nil {
		return secret.String{}, &trouble{"no ID token", fmt.Sprintf("there is no ID token: %v. %s", err, f.none)}
	}
	token, err := readIDToken(text)
	if err != nil {
		return secret.String{}, &trouble{"no ID token", fmt.Sprintf("what %s holds cannot be used: %v", f.where, err)}
	}
	return token, nil
}

func (f *fixed) token(_ context.Context, audience string) (secret.String, error) {
	token, err := f.look()
	if err != nil {
		return secret.String{}, err
	}
	named, err := audiencesOf(token)
	if err != nil {
		return secret.String{}, &trouble{"no ID token", fmt.Sprintf("what %s holds cannot be used: %v", f.where, err)}
	}
	if !isAmong(audience, named) {
		return secret.String{}, &trouble{"ID token for another audience", fmt.Sprintf("the ID token in %s is for %s and not for %s, so it was not sent. %s", f.where, quoted(named), quoted([]string{audience}), f.other)}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	name := sha256.Sum256([]byte(token.Reveal()))
	if why, known := f.spent[name]; known {
		return secret.String{}, f.usedUp(why)
	}
	if f.spent == nil {
		f.spent = map[[sha256.Size]byte]error{}
	}
	f.spent[name] = nil
	return token, nil
}

func (f *fixed) sent(token secret.String, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	name := sha256.Sum256([]byte(token.Reveal()))
	if none, ok := errors.AsType[*client.Unreachable](err); ok && !none.Arrived {
		delete(f.spent, name)
		return
	}
	f.spent[name] = err
}

// usedUp is why there is no other try. It tells first of what another try would be for.
type usedUp struct {
	told  *trouble
	cause error // nil: the call with the token did not fail
}

func (u *usedUp) Error() string { return u.told.text }
func (u *usedUp) Unwrap() error { return u.told }

func (f *fixed) usedUp(cause error) error {
	if cause == nil {
		return &usedUp{told: &trouble{"ID token used up", fmt.Sprintf("the ID token in %s was sent already, and an exchange takes each only once; another request needs a new one. %s", f.where, f.fresh)}}
	}
	told := explain(cause)
	return &usedUp{cause: cause, told: &trouble{told.title, fmt.Sprintf("%s It was not asked again: the ID token in %s was sent already, and an exchange takes each only once. %s", sentence(told.text), f.where, f.fresh)}}
}

func isAmong(audience string, named []string) bool {
	for _, name := range named {
		if name == audience {
			return true
		}
	}
	return false
}

// quoted makes other people's text fit for one line.
func quoted(names []string) string {
	parts := make([]string, len(names))
	for i, name := range names {
		parts[i] = fmt.Sprintf("%.200q", name)
	}
	return strings.Join(parts, ", ")
}

func newVariable(s *step, name string) source {
	return &fixed{
		name: "env:" + name, where: name, read: variable(s.getenv, name),
		none:  "Put one into that variable, or name another source with --id-token",
		other: "Have it made for the exchange, or say with --audience what the exchange is to expect",
		fresh: "Put a new one into that variable and start again",
	}
}

func newGitLab(s *step, name string) source {
	return &fixed{
		name: "gitlab:" + name, where: name, read: variable(s.getenv, name),
		none:  "Add `id_tokens:` with `" + name + ": {aud: <URL of the exchange>}` to the job",
		other: "Look at `aud` below `id_tokens: " + name + "` in the job",
		fresh: "GitLab gives a job one token for each entry of `id_tokens:`, so give each request an entry of its own and name it with --id-token gitlab:NAME, or run the job again",
	}
}

func variable(getenv func(string) string, name string) func() (string, error) {
	return func() (string, error) {
		value := getenv(name)
		if value == "" {
			return "", errors.New(name + " is not set")
		}
		return value, nil
	}
}

func newFile(_ *step, path string) source {
	return &fixed{
		name: "file:" + path, where: path, read: content(path),
		none:  "Write one to that file, or name another source with --id-token",
		other: "Have it made for the exchange, or say with --audience what the exchange is to expect",
		fresh: "Write a new one to that file",
	}
}

func newKubernetes(_ *step, path string) source {
	return &fixed{
		name: "kubernetes:" + path, where: path, read: content(path),
		none:  "Add a projected volume with a `serviceAccountToken` to the pod, its `audience` the URL of the exchange",
		other: "Look at `audience` of the pod's projected `serviceAccountToken`",
		fresh: "The cluster writes a new one when it rotates this one, and into each new pod",
	}
}

func newSPIFFE(_ *step, path string) source {
	return &fixed{
		name: "spiffe:" + path, where: path, read: content(path),
		none:  "Have a JWT-SVID written there, its audience the URL of the exchange",
		other: "Have the JWT-SVID made for the exchange's URL",
		fresh: "Have a new JWT-SVID written there",
	}
}

// content reads a file anew at each call. Who else may read it is not asked: projected
// tokens are often readable by all of their container.
func content(path string) func() (string, error) {
	return func() (string, error) {
		info, err := os.Stat(path)
		if err != nil {
			return "", fmt.Errorf("%s cannot be read: %w", path, errors.Unwrap(err))
		}
		if !info.Mode().IsRegular() { // a pipe would be waited for, and is empty the next time
			return "", fmt.Errorf("%s is not a file", path)
		}
		f, err := os.Open(path)
		if err != nil {
			return "", fmt.Errorf("%s cannot be read: %w", path, errors.Unwrap(err))
		}
		defer func() { _ = f.Close() }()
		text, err := io.ReadAll(io.LimitReader(f, maxIDToken+3)) // one byte and a newline too long is enough to tell
		if err != nil {
			return "", fmt.Errorf("%s cannot be read: %w", path, errors.Unwrap(err))
		}
		return string(text), nil
	}
}

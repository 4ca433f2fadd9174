package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/stepkey/stepkey/exchange/client"
	"github.com/stepkey/stepkey/internal/secret"
)

// Exit codes of the commands for scripts, beside exitFailed and exitUsage.
const (
	exitRefused  = 3 // the exchange said no
	exitNoAnswer = 4 // the exchange was not reached, or could not answer yet
	exitOver     = 5 // status: the lease is over
)

// scriptCodes stand in the help of each command for scripts.
const scriptCodes = `Exit codes
  0  done
  1  failed here: no ID token, or a file that cannot be written
  2  the command line makes no sense
  3  the exchange refused: its words are on stderr
  4  the exchange was not reached or is not done: trying again may help`

// misuse is a command line that makes no sense.
type misuse string

func (m misuse) Error() string { return string(m) }

// ended says what went wrong, in the words of explain or of explainEnd, and ends the
// program with the code that tells a script.
func (s *step) ended(err error, words func(error) *trouble) error {
	if err == nil {
		return nil
	}
	if s.voice == nil {
		s.speakAs(os.Stderr, false)
	}
	if code, ok := errors.AsType[exit](err); ok {
		return code
	}
	if wrong, ok := errors.AsType[misuse](err); ok {
		s.fail("command line", wrong.Error())
		return exit(exitUsage)
	}
	told := words(err)
	s.fail(told.title, flagsForInputs.Replace(told.text))
	return exit(scriptCode(err))
}

// flagsForInputs turns the action's words for what was given into the command line's.
var flagsForInputs = strings.NewReplacer("the input `exchange`", "--exchange", "the input `audience`", "--audience", "the input `task`", "--task", "this action", "this program")

func scriptCode(err error) int {
	if used, ok := errors.AsType[*usedUp](err); ok {
		err = used.cause
	}
	if _, ok := errors.AsType[*client.Unreachable](err); ok {
		return exitNoAnswer
	}
	refused, ok := errors.AsType[*client.Error](err)
	switch {
	case !ok:
		return exitFailed
	case refused.Status >= 500, refused.Code == client.CodeSlowDown:
		return exitNoAnswer
	case refused.Code == "":
		return exitFailed
	}
	return exitRefused
}

// printJSON writes for programs: one object, indented.
func printJSON(w io.Writer, value any) error {
	text, err := encodeJSON(value)
	if err != nil {
		return err
	}
	if _, err := w.Write(text); err != nil {
		return fmt.Errorf("writing the answer: %w", err)
	}
	return nil
}

func encodeJSON(value any) ([]byte, error) {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(value); err != nil {
		return nil, fmt.Errorf("writing JSON: %w", err)
	}
	return b.Bytes(), nil
}

// leaseVariable holds a lease token. Flags never do: everyone on the machine can read
// those in the list of processes.
const leaseVariable = "STEPKEY_LEASE"

// maxLeaseText bounds what is read for a lease token, in bytes: it may stand within all
// that `issue` printed.
const maxLeaseText = 512 << 10

// leaseToken finds the lease token: in the file, in the variable, or on stdin.
func leaseToken(getenv func(string) string, file string, stdin *os.File) (secret.String, error) {
	switch held := getenv(leaseVariable); {
	case file != "" && file != "-":
		f, err := os.Open(file)
		if err != nil {
			return secret.String{}, &trouble{"no lease token", fmt.Sprintf("the file %s cannot be read: %v", file, errors.Unwrap(err))}
		}
		defer func() { _ = f.Close() }()
		return leaseTokenFrom(f, file)
	case file == "" && held != "":
		return leaseTokenFrom(strings.NewReader(held), leaseVariable)
	case file == "" && isTerminal(stdin):
		return secret.String{}, misuse("give the lease token: on stdin, in a file (--lease-file FILE), or in the variable " + leaseVariable)
	}
	return leaseTokenFrom(stdin, "stdin")
}

func leaseTokenFrom(r io.Reader, where string) (secret.String, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxLeaseText+1))
	if err != nil {
		return secret.String{}, &trouble{"no lease token", fmt.Sprintf("%s cannot be read: %v", where, err)}
	}
	token, err := readLeaseToken(text)
	if err != nil {
		return secret.String{}, &trouble{"no lease token", fmt.Sprintf("%s holds no lease token: %v", where, err)}
	}
	return token, nil
}

// maxLeaseToken is generous: an exchange's own are some 50 bytes.
const maxLeaseToken = 4 << 10

// readLeaseToken takes the token alone, or the JSON that `issue` prints. Errors never
// repeat the text.
func readLeaseToken(text []byte) (secret.String, error) {
	if len(text) > maxLeaseText {
		return secret.String{}, fmt.Errorf("it is longer than %d KiB", maxLeaseText>>10)
	}
	token := strings.TrimSpace(string(text))
	if strings.HasPrefix(token, "{") {
		var issued issuedLease
		if json.Unmarshal(text, &issued) != nil || issued.LeaseToken == "" {
			return secret.String{}, errors.New("it is not the JSON that `stepkey issue` prints, with a lease_token")
		}
		token = issued.LeaseToken
	}
	bad := func(r rune) bool { return r <= ' ' || r > '~' }
	switch {
	case token == "":
		return secret.String{}, errors.New("it is empty")
	case len(token) > maxLeaseToken || strings.ContainsFunc(token, bad):
		return secret.String{}, errors.New("it is not one word of letters, digits and signs")
	}
	return secret.New(token), nil
}

package exec

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	osexec "os/exec"
	"runtime"
	"time"

	"github.com/stepkey/stepkey/exchange/backend"
)

const (
	maxAnswer = 1 << 20 // bytes
	// lingerFor is how long the output of a program that is over may stay open, by a
	// process that left its group.
	lingerFor = 2 * time.Second
)

var (
	// errNotRun: the program read nothing, so it has done nothing.
	errNotRun = errors.New("it was not run")
	// errNoTime: it was stopped, whatever it had done by then.
	errNoTime = errors.New("it did not answer in time and was killed")
)

// slots bound how many runs of a program there are at one moment.
type slots chan struct{}

// ask runs a program once. With errNotRun nothing was done; with any other error
// something may have been. An answer may stand beside an error.
func (p *program) ask(ctx context.Context, s slots, r request) (answer, error) {
	r.Version, r.Program = version, p.name
	input, err := json.Marshal(r)
	if err != nil {
		return answer{}, fmt.Errorf("%w: writing what it is asked: %w", errNotRun, err)
	}
	select {
	case s <- struct{}{}:
		defer func() { <-s }()
	case <-ctx.Done():
		return answer{}, fmt.Errorf("%w: %w, while as many of its runs as at_once allows were under way", errNotRun, ctx.Err())
	}
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	if ctx.Err() != nil {
		return answer{}, fmt.Errorf("%w: %w", errNotRun, ctx.Err())
	}
	output, ended := p.execute(ctx, input)
	if errors.Is(ended, errNotRun) || errors.Is(ended, errNoTime) {
		return answer{}, ended
	}
	a, err := readAnswer(output)
	var exit *osexec.ExitError
	switch {
	case ended == nil:
		return a, err
	case err == nil && a.Error != nil && errors.As(ended, &exit) && exit.Exited():
		return a, nil // it failed, said so, and left with a status that says the same
	}
	return a, ended
}

// execute runs the program to its end and returns what it wrote. The error is errNotRun,
// errNoTime, an exit status, or that its output was none.
func (p *program) execute(ctx context.Context, input []byte) ([]byte, error) {
	// A program that is to die with the exchange dies with the thread that started it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd := osexec.CommandContext(ctx, p.command[0], p.command[1:]...) //nolint:gosec // all of it is the operator's; a request's words are only on standard input
	cmd.Dir, cmd.Env, cmd.WaitDelay = p.directory, p.environment, lingerFor
	output := &bounded{left: maxAnswer}
	cmd.Stdout = output
	family := newFamily(cmd)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNotRun, err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("%w: %w", errNotRun, err)
	}
	if err := family.confine(); err != nil {
		_ = family.kill()
		family.await()
		_ = cmd.Wait()
		return nil, fmt.Errorf("%w: %w", errNotRun, err)
	}
	go func() { // ends at the latest when Wait closes the pipe
		_, _ = stdin.Write(input)
		_ = stdin.Close()
	}()
	family.await()
	err = cmd.Wait()
	switch {
	case output.over:
		return nil, fmt.Errorf("its answer is longer than %d bytes", maxAnswer)
	case ctx.Err() != nil && err != nil:
		return nil, fmt.Errorf("%w (%w)", errNoTime, ctx.Err())
	case errors.Is(err, osexec.ErrWaitDelay):
		return nil, errors.New("it is over, and a process that it left behind kept its output open")
	case err != nil:
		return output.text.Bytes(), err
	}
	return output.text.Bytes(), nil
}

// bounded keeps so much and refuses more. The pipe is closed then, so that the program
// cannot wait for somebody to read on.
type bounded struct {
	text bytes.Buffer
	left int
	over bool
}

func (b *bounded) Write(p []byte) (int, error) {
	if len(p) > b.left {
		b.over = true
		return 0, io.ErrShortWrite
	}
	b.left -= len(p)
	return b.text.Write(p)
}

// unavailable adds that waiting may help, where it may.
func unavailable(err error) error {
	if errors.Is(err, errNotRun) || errors.Is(err, errNoTime) {
		return fmt.Errorf("%w; %w", err, backend.ErrUnavailable)
	}
	return err
}

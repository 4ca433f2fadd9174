package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/stepkey/stepkey/internal/secret"
)

// tokenProgram is a source that runs a CI's own program for each token. The audience is all
// that stands among its arguments; the token comes by its output.
type tokenProgram struct {
	*step
	name   string
	args   func(audience string) []string
	absent string // what to do where the program is not there
}

// programTries: these programs try again by themselves.
const programTries = 2

func (p tokenProgram) String() string            { return p.name }
func (p tokenProgram) mints() bool               { return true }
func (p tokenProgram) sent(secret.String, error) {}

func (p tokenProgram) command() string { return p.args("")[0] }

func (p tokenProgram) ready() error {
	if !hasProgram(p.command()) {
		return &trouble{"no ID token", fmt.Sprintf("the program %s is not in PATH, and it is what gives ID tokens here. %s", p.command(), p.absent)}
	}
	return nil
}

func (p tokenProgram) token(ctx context.Context, audience string) (secret.String, error) {
	if err := p.ready(); err != nil {
		return secret.String{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, p.waits.idTokenAll)
	defer cancel()
	var last error
	token, err := backoff.Retry(ctx, func() (token secret.String, _ error) {
		token, last = p.once(ctx, audience)
		return token, last
	}, p.waits.pauses(), backoff.WithMaxTries(programTries), backoff.WithMaxElapsedTime(p.waits.idTokenAll))
	if err != nil {
		return secret.String{}, &trouble{"no ID token", fmt.Sprintf("%s gave no ID token: %v", p.command(), last)}
	}
	return token, nil
}

func (p tokenProgram) once(ctx context.Context, audience string) (secret.String, error) {
	args := p.args(audience)
	printed, complained := &head{most: maxIDToken + 3}, &head{most: 2 << 10}
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Stdout, cmd.Stderr = printed, complained
	cmd.WaitDelay = time.Second // for what it may have started and left
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return secret.String{}, errors.New("it did not answer in time")
		}
		return secret.String{}, fmt.Errorf("%w%s", err, complained.lastWords())
	}
	token, err := readIDToken(printed.String())
	if err != nil {
		return secret.String{}, backoff.Permanent(fmt.Errorf("what it printed cannot be used: %w", err))
	}
	return token, nil
}

// head keeps the beginning of what is written, and lets the writer go on.
type head struct {
	bytes.Buffer
	most int
}

func (h *head) Write(p []byte) (int, error) {
	if room := h.most - h.Len(); room > 0 {
		_, _ = h.Buffer.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}

// tokenLike is what looks like a JWT inside other text.
var tokenLike = regexp.MustCompile(`ey[A-Za-z0-9_-]{6,}\.[A-Za-z0-9_-]*(\.[A-Za-z0-9_-]*)?`)

// lastWords are the last line of what a program said about its failure, as part of a
// sentence of ours.
func (h *head) lastWords() string {
	text := strings.TrimSpace(tokenLike.ReplaceAllString(h.String(), secret.Redacted))
	text = strings.TrimSpace(text[strings.LastIndexByte(text, '\n')+1:])
	if text == "" {
		return ""
	}
	return fmt.Sprintf("; it said %.300q", text)
}

func newBuildkite(s *step) source {
	return tokenProgram{
		step: s, name: "buildkite",
		args: func(audience string) []string {
			// The ids are claims only where they are asked for, and tasks pin them.
			return []string{"buildkite-agent", "oidc", "request-token", "--audience", audience, "--claim", "organization_id,pipeline_id"}
		},
		absent: "Inside a container, mount the agent's program (the Docker plugin's `mount-buildkite-agent: true`), or name another source with --id-token",
	}
}

// newCircleCI prefers the program, which makes tokens for the exchange. The variable's
// token is for the organization, and there is one a job.
func newCircleCI(s *step) source {
	if !hasProgram("circleci") {
		return &fixed{
			name: "circleci", where: circleCIVariable, read: variable(s.getenv, circleCIVariable),
			none:  "CircleCI sets it in each job, apart from builds of pull requests from forks; look whether the executor passes it on",
			other: "CircleCI makes that one for the organization. Put the program circleci into the image, which makes tokens for any audience, or say with --audience what the exchange is to expect",
			fresh: "Put the program circleci into the image, which makes a new one for each request, or run the job again",
		}
	}
	return tokenProgram{
		step: s, name: "circleci",
		args: func(audience string) []string {
			claims, _ := json.Marshal(map[string]string{"aud": audience}) // strings cannot fail
			return []string{"circleci", "run", "oidc", "get", "--claims", string(claims)}
		},
	}
}

const circleCIVariable = "CIRCLE_OIDC_TOKEN_V2"

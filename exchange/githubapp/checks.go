package githubapp

import (
	"context"
	"errors"
	"sync"
)

// Checks reads what tasks may require of a workload before it gets anything: whether an
// environment is protected, and the workflow file. It makes tokens of its own for that,
// each for one repository and with one permission to read (actions for environments,
// contents for files), keeps them until shortly before they expire, and revokes them on
// Close. Safe for concurrent use.
//
// An error of it always means that there is no answer.
type Checks struct {
	app *App

	mu           sync.Mutex
	tokens       map[string]*repositoryToken // by part
	environments map[environmentKey]tagged[environmentAnswer]
	closed       bool
}

// Checks returns a reader of what tasks require. Close it.
func (a *App) Checks() *Checks {
	return &Checks{app: a, tokens: map[string]*repositoryToken{}, environments: map[environmentKey]tagged[environmentAnswer]{}}
}

// of finds or makes the place for a token, and forgets those that are over.
func (c *Checks) of(doing, key string, fresh *repositoryToken) (*repositoryToken, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, refuse(doing, "this exchange is stopping")
	}
	if known := c.tokens[key]; known != nil {
		return known, nil
	}
	for other, known := range c.tokens {
		if known.over() {
			delete(c.tokens, other)
		}
	}
	c.tokens[key] = fresh
	return fresh, nil
}

// Close revokes the tokens and reads no more.
func (c *Checks) Close(ctx context.Context) error {
	c.mu.Lock()
	c.closed = true
	tokens := c.tokens
	c.tokens = nil
	c.mu.Unlock()
	faults := make(chan error, len(tokens))
	for _, t := range tokens {
		go func() { faults <- t.close(ctx) }()
	}
	var all error
	for range tokens {
		all = errors.Join(all, <-faults)
	}
	return all
}

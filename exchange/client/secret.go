package client

import "github.com/stepkey/stepkey/internal/secret"

// A Secret is a token or a credential's value. However it is printed, logged or encoded,
// it shows [redacted]; Reveal is the one way to what it holds.
type Secret = secret.String

// NewSecret wraps a value, such as an ID token, as soon as a program has it.
func NewSecret(value string) Secret { return secret.New(value) }

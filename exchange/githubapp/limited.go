package githubapp

// Limited reports whether GitHub asked to wait: a rate limit, primary or secondary.
func (e *Error) Limited() bool { return !e.RetryAt.IsZero() }

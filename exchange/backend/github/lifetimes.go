package github

import "time"

// Lifetimes is what the linter of task files holds a task's ttl against. A token lives
// one hour and nothing makes that longer (GitHub's documentation of installation
// tokens); a step that uploads or comments is done in minutes.
func (*Backend) Lifetimes() (sensible, longest time.Duration) {
	return 15 * time.Minute, time.Hour
}

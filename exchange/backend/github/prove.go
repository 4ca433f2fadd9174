package github

import (
	"context"
	"fmt"
	"net/http"

	"github.com/google/go-github/v60/github"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/internal/secret"
)

var _ backend.Prover = (*Backend)(nil)

// Gone asks what the token reaches, which every installation token may ask whatever
// its permissions. GitHub answers 401 to one that it does not know any more; any other
// word about the token, as that its installation is suspended, means that it may be
// good again.
func (b *Backend) Gone(ctx context.Context, lease backend.LeaseID, handle secret.String) (bool, error) {
	_, answer, err := b.app.Client(handle).Apps.ListRepos(ctx, &github.ListOptions{PerPage: 1})
	switch {
	case answer == nil:
		return false, fmt.Errorf("asking GitHub whether the token of lease %s is gone: %w", lease, err)
	case answer.StatusCode == http.StatusUnauthorized:
		return true, nil
	case err != nil && aboutSomethingElse(answer.Response):
		return false, fmt.Errorf("asking GitHub whether the token of lease %s is gone: it answered %d", lease, answer.StatusCode)
	}
	return false, nil
}

// aboutSomethingElse: GitHub is in trouble or asks us to slow down, which says nothing
// of the token.
func aboutSomethingElse(answer *http.Response) bool {
	return answer.StatusCode >= http.StatusInternalServerError || answer.StatusCode == http.StatusTooManyRequests ||
		answer.Header.Get("Retry-After") != "" || answer.Header.Get("X-Ratelimit-Remaining") == "0"
}

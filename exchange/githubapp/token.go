package githubapp

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/stepkey/stepkey/internal/secret"
)

// MaxRepositories is how many one token can name (GitHub's REST docs).
const MaxRepositories = 500

// Lifetime of every installation token. GitHub takes no other.
const Lifetime = time.Hour

// TokenRequest says what a token shall be able to do. Permissions and either ids
// or names of repositories are required: without, GitHub gives all that the App
// has.
type TokenRequest struct {
	RepositoryIDs []int64           // preferred
	Repositories  []string          // names without owner, of the installation's account
	Permissions   map[string]string // name -> read, write or admin
}

// Token is an installation token, and what GitHub says it can do.
type Token struct {
	Value        secret.String
	ExpiresAt    time.Time // on GitHub's clock
	Permissions  map[string]string
	Repositories []Repository
	Selection    string // "selected", or "all": every repository of the installation
}

// Repository as GitHub's answer names it.
type Repository struct {
	ID       int64
	Owner    string
	OwnerID  int64
	Name     string
	FullName string
}

// tokenBody is an own type: go-github's drops permissions that it has no field
// for, and a token asked for with none of them has all that the App has.
type tokenBody struct {
	RepositoryIDs []int64           `json:"repository_ids,omitempty"`
	Repositories  []string          `json:"repositories,omitempty"`
	Permissions   map[string]string `json:"permissions"`
}

type tokenAnswer struct {
	Token        secret.String     `json:"token"`
	ExpiresAt    time.Time         `json:"expires_at"`
	Permissions  map[string]string `json:"permissions"`
	Selection    string            `json:"repository_selection"`
	Repositories []struct {
		ID       int64  `json:"id"`
		Name     string `json:"name"`
		FullName string `json:"full_name"`
		Owner    struct {
			Login string `json:"login"`
			ID    int64  `json:"id"`
		} `json:"owner"`
	} `json:"repositories"`
}

// CreateToken makes a token. It is tried again only where nothing can have been
// made: a token whose answer is lost cannot be revoked by anybody. Where the
// error's NothingDone is false, one may exist.
//
// A 404 or 422 drops the installation from the cache, since that is how a
// deleted or outdated one looks; ask for it and try once more.
func (a *App) CreateToken(ctx context.Context, installation int64, want TokenRequest) (Token, error) {
	doing := fmt.Sprintf("creating a token of installation %d", installation)
	if err := want.check(doing); err != nil {
		return Token{}, err
	}
	var answer tokenAnswer
	err := a.asApp(ctx, harmless, call{
		doing: doing, method: http.MethodPost,
		path: fmt.Sprintf("app/installations/%d/access_tokens", installation),
		body: tokenBody(want), want: http.StatusCreated, into: &answer,
	})
	if e := of(err); e != nil {
		if e.Status == http.StatusNotFound || e.Status == http.StatusUnprocessableEntity {
			a.Forget(installation)
		}
		return Token{}, e
	}
	if !visible(answer.Token) {
		return Token{}, &Error{Doing: doing, Status: http.StatusCreated, Message: "the answer holds no usable token"}
	}
	return answer.token(), nil
}

func (r TokenRequest) check(doing string) error {
	count := len(r.RepositoryIDs) + len(r.Repositories)
	switch {
	case len(r.Permissions) == 0:
		return refuse(doing, "no permission is named, and GitHub would give all that the App has")
	case count == 0:
		return refuse(doing, "no repository is named, and GitHub would give all of the installation")
	case len(r.RepositoryIDs) > 0 && len(r.Repositories) > 0:
		return refuse(doing, "repositories are named by id and by name; want one of them")
	case count > MaxRepositories:
		return refuse(doing, "%d repositories are named; GitHub takes at most %d", count, MaxRepositories)
	}
	for name, level := range r.Permissions {
		if name == "" || level == "" {
			return refuse(doing, "a permission has no name or no level")
		}
	}
	return nil
}

func (r tokenAnswer) token() Token {
	t := Token{Value: r.Token, ExpiresAt: r.ExpiresAt, Permissions: r.Permissions, Selection: r.Selection}
	for _, one := range r.Repositories {
		t.Repositories = append(t.Repositories, Repository{
			ID: one.ID, Owner: one.Owner.Login, OwnerID: one.Owner.ID, Name: one.Name, FullName: one.FullName,
		})
	}
	return t
}

// visible: a token is opaque, but it must fit into one header and one variable.
func visible(token secret.String) bool {
	for _, b := range []byte(token.Reveal()) {
		if b <= ' ' || b > '~' {
			return false
		}
	}
	return !token.Empty()
}

// RevokeToken ends a token, by itself: GitHub lets nobody else do it. nil means
// that it is gone: revoked now (204), or unknown to GitHub (401) because it was
// revoked or expired before.
//
// A new token is unknown for seconds, too, or gets 403 or 404. So one 401 proves
// nothing: it is believed when three more follow without anything else between,
// one, two and three seconds later with the default pause. A first revocation of
// a token in use is not slowed down by that.
func (a *App) RevokeToken(ctx context.Context, token secret.String) error {
	const doing = "revoking a token"
	if !visible(token) {
		return refuse(doing, "there is no token to show")
	}
	var refused error
	unknown := 0
	for n := range 2 * maxTries {
		err := a.do(ctx, idempotent, func() *Error {
			return a.once(ctx, a.Client(token), call{
				doing: doing, method: http.MethodDelete, path: "installation/token", want: http.StatusNoContent,
			})
		})
		e := of(err)
		if e == nil || !e.unsettled() {
			return err
		}
		refused = err
		if unknown++; e.Status != http.StatusUnauthorized {
			unknown = 0
		}
		if unknown == maxTries {
			return nil
		}
		if !wait(ctx, time.Duration(min(n+1, 3))*4*a.pause) {
			e.Message = "it does not know the token, which is not yet certain to be gone: new ones are unknown for seconds"
			return e
		}
	}
	return refused // a suspended installation's, for one: it may be good again later
}

// Reachable reports whether GitHub already lets the token see a repository,
// asking once. Right after its making a token may get 401, 403 or 404.
func (a *App) Reachable(ctx context.Context, token secret.String, repositoryID int64) (bool, error) {
	e := a.once(ctx, a.Client(token), call{
		doing:  fmt.Sprintf("looking whether a token can see repository %d", repositoryID),
		method: http.MethodGet, path: fmt.Sprintf("repositories/%d", repositoryID), want: http.StatusOK,
	})
	switch {
	case e == nil:
		return true, nil
	case e.unsettled():
		return false, nil
	}
	return false, e
}

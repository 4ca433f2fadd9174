package githubapp

import (
	"context"
	"fmt"
	"net/http"
	"regexp"
	"strings"
)

const maxCached = 10_000 // installations by repository; beyond that the cache starts anew

// Installation is the App's place at one account. Its id changes when the App is
// installed again.
type Installation struct {
	ID          int64
	Account     string            // the login of the organization or user
	TargetType  string            // Organization or User
	Page        string            // where people change it, a URL
	Suspended   bool              // as of the answer; a suspended one is not cached
	Permissions map[string]string // what the App has there; as of the answer, for words
}

// installationAnswer is GitHub's. go-github's own type drops permissions that it
// has no field for.
type installationAnswer struct {
	ID      int64 `json:"id"`
	Account struct {
		Login string `json:"login"`
	} `json:"account"`
	TargetType  string            `json:"target_type"`
	HTMLURL     string            `json:"html_url"`
	SuspendedAt *string           `json:"suspended_at"`
	Permissions map[string]string `json:"permissions"`
}

// InstallationOfRepository finds the installation by the repository's id, which
// survives renames. Status 404: the App is not installed there, or there is no
// such repository; GitHub does not tell which.
func (a *App) InstallationOfRepository(ctx context.Context, id int64) (Installation, error) {
	doing := fmt.Sprintf("finding the App's installation for repository %d", id)
	if id <= 0 {
		return Installation{}, refuse(doing, "a repository's id is a positive number")
	}
	// The path stands in no documentation, but GitHub's own libraries use it.
	return a.installation(ctx, fmt.Sprintf("id/%d", id), doing, fmt.Sprintf("repositories/%d/installation", id))
}

// InstallationNamed finds the installation by the repository's present name. A
// former name is refused as moved (301): what is called so now may be another.
func (a *App) InstallationNamed(ctx context.Context, owner, repo string) (Installation, error) {
	doing := "finding the App's installation by name"
	if !ValidOwner(owner) || !ValidRepository(repo) {
		return Installation{}, refuse(doing, "want the names of an owner and a repository as GitHub allows them")
	}
	doing = fmt.Sprintf("finding the App's installation for %s/%s", owner, repo)
	path := fmt.Sprintf("repos/%s/%s/installation", owner, repo)
	return a.installation(ctx, "name/"+strings.ToLower(owner+"/"+repo), doing, path)
}

func (a *App) installation(ctx context.Context, key, doing, path string) (Installation, error) {
	a.mu.Lock()
	known, ok := a.installations[key]
	a.mu.Unlock()
	if ok {
		return known, nil
	}
	var answer installationAnswer
	if err := a.asApp(ctx, idempotent, call{
		doing: doing, method: http.MethodGet, path: path, want: http.StatusOK, into: &answer,
	}); err != nil {
		return Installation{}, err
	}
	found, err := answer.check(doing)
	if err != nil {
		return Installation{}, err
	}
	a.remember(key, found)
	return found, nil
}

func (r installationAnswer) check(doing string) (Installation, error) {
	if r.ID <= 0 {
		return Installation{}, &Error{Doing: doing, Status: http.StatusOK, Message: "the answer names no installation"}
	}
	if r.TargetType != "Organization" && r.TargetType != "User" {
		return Installation{}, refuse(doing, "the App is installed on %s; only installations on an organization or a user are used",
			clean(fmt.Sprintf("a target of type %q", r.TargetType)))
	}
	return Installation{
		ID: r.ID, Account: r.Account.Login, TargetType: r.TargetType, Page: r.HTMLURL,
		Suspended: r.SuspendedAt != nil, Permissions: r.Permissions,
	}, nil
}

func (a *App) remember(key string, found Installation) {
	if found.Suspended {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.installations) >= maxCached {
		clear(a.installations)
	}
	a.installations[key] = found
}

// Forget drops what is cached of an installation: after an event that says it
// was deleted, suspended or changed.
func (a *App) Forget(installation int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for key, known := range a.installations {
		if known.ID == installation {
			delete(a.installations, key)
		}
	}
}

// Names as GitHub allows them. Owners: letters, digits, hyphens, and the
// underscore of managed users; repositories also dots.
var (
	ownerName      = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,99}$`)
	repositoryName = regexp.MustCompile(`^[A-Za-z0-9._-]{1,100}$`)
)

// ValidOwner reports whether an account can have this login.
func ValidOwner(login string) bool { return ownerName.MatchString(login) }

// ValidRepository reports whether a repository can have this name, which never
// includes its owner.
func ValidRepository(name string) bool {
	return repositoryName.MatchString(name) && name != "." && name != ".." &&
		!strings.HasSuffix(strings.ToLower(name), ".git")
}

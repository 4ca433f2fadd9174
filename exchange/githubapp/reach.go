package githubapp

import (
	"context"
	"net/http"
	"strconv"
)

// Reaches reports whether the App is installed on a repository, by its id as it stands
// in the claims of a subject token, and is not suspended there. What is cached counts:
// Forget the installation first where something said otherwise. A repository that is
// gone is not reached.
func (a *App) Reaches(ctx context.Context, repository string) (bool, error) {
	id, err := strconv.ParseInt(repository, 10, 64)
	if err != nil {
		return false, refuse("finding the App's installation for a repository", "GitHub's ids of repositories are numbers")
	}
	i, err := a.InstallationOfRepository(ctx, id)
	if e := of(err); e != nil && e.Status == http.StatusNotFound {
		return false, nil
	}
	return err == nil && !i.Suspended, err
}

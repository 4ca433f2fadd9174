package githubsim

import (
	"net/http"
	"strings"
)

// door decides whether a call may go on, and finds who and what it is about.
type door func(*call) error

func anyone(*call) error { return nil }

// asApp lets an App in that signs with its key.
func asApp(c *call) error {
	value, err := c.bearer()
	if err != nil {
		return err
	}
	c.app, err = c.g.verifyAppJWT(value)
	return err
}

// asInstallation lets a live installation token in, whatever its permissions.
func asInstallation(c *call) error { return c.identify(nil) }

// reads lets in who may read that part of the repository: anybody where it is
// public.
func reads(permission string) door {
	return func(c *call) error { return c.enter(permission, "read") }
}

// writes lets in who may change that part of the repository.
func writes(permission string) door {
	return func(c *call) error { return c.enter(permission, "write") }
}

// enter asks in GitHub's order: are the credentials good, may the repository be
// seen at all, is the permission there.
func (c *call) enter(permission, level string) error {
	repo := c.namedRepository()
	if c.r.Header.Get("Authorization") != "" {
		if err := c.identify(repo); err != nil {
			return err
		}
	}
	inScope := repo != nil && c.token != nil && c.token.reaches(repo)
	switch {
	case repo == nil, !repo.public() && !inScope:
		return notFound()
	case repo.public() && level == "read":
	case c.token == nil:
		return refuse(http.StatusUnauthorized, "Requires authentication")
	case !inScope, !includes(c.token.permissions, permission, level):
		return lacksPermission(permission, level)
	}
	c.repo = repo
	return nil
}

// identify finds the token behind the header. Its first-use lag shows as a 404
// only where the repository is private.
func (c *call) identify(repo *repository) error {
	value, err := c.bearer()
	if err != nil {
		return err
	}
	if isJWT(value) {
		return c.refuseAppJWT(value)
	}
	if c.token, err = c.g.liveToken(value); err != nil {
		return err
	}
	return c.token.settle(repo != nil && !repo.public())
}

func (c *call) namedRepository() *repository {
	if c.vars["repository_id"] == "" {
		return c.g.repository(c.vars["owner"], c.vars["repo"])
	}
	id, err := c.id("repository_id")
	if err != nil {
		return nil
	}
	return c.g.repositoryByID(id)
}

func lacksPermission(permission, level string) error {
	return &refusal{
		status:  http.StatusForbidden,
		message: "Resource not accessible by integration",
		header:  http.Header{"X-Accepted-GitHub-Permissions": {permission + "=" + level}},
	}
}

// bearer takes the value out of Authorization. GitHub takes both schemes.
func (c *call) bearer() (string, error) {
	header := c.r.Header.Get("Authorization")
	if header == "" {
		return "", refuse(http.StatusUnauthorized, "Requires authentication")
	}
	scheme, value, _ := strings.Cut(header, " ")
	if !strings.EqualFold(scheme, "bearer") && !strings.EqualFold(scheme, "token") {
		return "", badCredentials()
	}
	return strings.TrimSpace(value), nil
}

// isJWT tells an App's JWT from an installation token, which has dots too.
func isJWT(value string) bool {
	return !strings.HasPrefix(value, "ghs_") && strings.Count(value, ".") == 2
}

// refuseAppJWT answers an App that should have shown an installation token.
// Assumed: 403 for a good JWT, as for every operation that Apps cannot call.
func (c *call) refuseAppJWT(value string) error {
	if _, err := c.g.verifyAppJWT(value); err != nil {
		return err
	}
	return refuse(http.StatusForbidden, "Resource not accessible by integration")
}

package githubapp

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

const maxEnvironments = 1000 // answers kept to ask whether they have changed

type environmentKey struct {
	repository int64
	name       string
}

// environmentAnswer is GitHub's ("Get an environment").
type environmentAnswer struct {
	Name  string `json:"name"`
	Rules []struct {
		Type      string            `json:"type"`
		WaitTimer int               `json:"wait_timer"` // minutes
		Reviewers []json.RawMessage `json:"reviewers"`
	} `json:"protection_rules"`
	Branches *struct {
		Protected bool `json:"protected_branches"`
		Custom    bool `json:"custom_branch_policies"`
	} `json:"deployment_branch_policy"`
}

// protection names the rules that hold somebody off. A rule of a kind that GitHub adds
// one day does not count: it may do something else.
func (a environmentAnswer) protection() []string {
	var names []string
	for _, rule := range a.Rules {
		if rule.Type == "required_reviewers" && len(rule.Reviewers) > 0 || rule.Type == "wait_timer" && rule.WaitTimer > 0 {
			names = append(names, rule.Type)
		}
	}
	if a.Branches != nil && a.Branches.Protected {
		names = append(names, "protected_branches")
	}
	if a.Branches != nil && a.Branches.Custom {
		names = append(names, "custom_branch_policies")
	}
	return names
}

// Protection names what protects an environment of a repository, which is given by the
// id that stands in a subject token: required_reviewers, wait_timer, custom_rules (those
// of other Apps), and, of its branch policy, custom_branch_policies and
// protected_branches. The latter binds nobody while the repository has no protected
// branch. How much each holds off, and whether administrators may pass it by, is not
// looked at.
//
// GitHub is asked every time, in one request, or in two where the first shows no rule;
// an unchanged answer draws on no rate limit.
func (c *Checks) Protection(ctx context.Context, repository, environment string) ([]string, error) {
	doing := fmt.Sprintf("reading the protection of environment %s of repository %s", clean(strconv.Quote(environment)), clean(repository))
	id, err := strconv.ParseInt(repository, 10, 64)
	if err != nil || id <= 0 || environment == "" || environment == "." || environment == ".." { // dots would name another path
		return nil, refuse(doing, "want the id of a repository and the name of an environment")
	}
	r, err := c.of(doing, part("actions", id), c.app.repositoryToken(
		TokenRequest{RepositoryIDs: []int64{id}, Permissions: map[string]string{"actions": "read"}},
		func(ctx context.Context) (Installation, error) { return c.app.InstallationOfRepository(ctx, id) },
	))
	if err != nil {
		return nil, err
	}
	answer, err := c.environment(ctx, r, doing, environmentKey{id, environment})
	if err != nil {
		return nil, err
	}
	if names := answer.protection(); len(names) > 0 {
		return names, nil
	}
	return customRules(ctx, r, doing, environment)
}

func (c *Checks) environment(ctx context.Context, r *repositoryToken, doing string, key environmentKey) (environmentAnswer, error) {
	c.mu.Lock()
	known := c.environments[key]
	c.mu.Unlock()
	changed, err := known.read(ctx, r, doing, func(repository string) string { return environmentPath(repository, key.name) })
	switch {
	case err != nil:
		return environmentAnswer{}, err
	case !changed:
		return known.value, nil
	case !strings.EqualFold(known.value.Name, key.name): // GitHub ignores case in these names
		return environmentAnswer{}, &Error{Doing: doing, Status: http.StatusOK, Message: "the answer is about another environment"}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.environments) >= maxEnvironments {
		clear(c.environments)
	}
	c.environments[key] = known
	return known.value, nil
}

// customRules asks for the rules of other Apps, which GitHub lists apart ("Get all
// deployment protection rules for an environment").
func customRules(ctx context.Context, r *repositoryToken, doing, environment string) ([]string, error) {
	var answer struct {
		Rules []struct {
			Enabled bool `json:"enabled"`
		} `json:"custom_deployment_protection_rules"`
	}
	err := r.read(ctx, doing, func(repository string) call {
		answer.Rules = nil
		return call{
			doing: doing, method: http.MethodGet, path: environmentPath(repository, environment) + "/deployment_protection_rules",
			want: http.StatusOK, into: &answer,
		}
	})
	if err != nil {
		return nil, err
	}
	for _, rule := range answer.Rules {
		if rule.Enabled {
			return []string{"custom_rules"}, nil
		}
	}
	return nil, nil
}

func environmentPath(repository, environment string) string {
	return fmt.Sprintf("repos/%s/environments/%s", repository, url.PathEscape(environment))
}

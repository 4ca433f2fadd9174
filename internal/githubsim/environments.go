package githubsim

import (
	"fmt"
	"net/http"
	"strings"
)

// Environment is a deployment environment of a repository and what protects it.
type Environment struct {
	Name              string
	Reviewers         int  // how many must be asked; any one suffices
	WaitTimer         int  // minutes
	ProtectedBranches bool // of the branch policy: protected branches alone
	CustomBranches    bool // of the branch policy: named patterns alone; not with ProtectedBranches
	CustomRules       int  // rules of other Apps, enabled
}

// SetEnvironment creates or changes an environment.
func (g *GitHub) SetEnvironment(owner, repo string, e Environment) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if e.Name == "" || e.ProtectedBranches && e.CustomBranches {
		panic("githubsim: an environment needs a name and takes one branch policy")
	}
	g.mustRepository(owner, repo).environments[strings.ToLower(e.Name)] = e
}

func (g *GitHub) environmentRoutes() []route {
	const environment = apiPrefix + "/repos/{owner}/{repo}/environments/{environment}"
	return []route{
		{"GET", environment, reads("actions"), getEnvironment},
		{"GET", environment + "/deployment_protection_rules", reads("actions"), getCustomRules},
	}
}

// environment finds one by its name, in any case of letters. One that only a job has
// named is there, too, and has no rules: GitHub makes it when the job starts.
func (c *call) environment() (Environment, error) {
	name := c.vars["environment"]
	if e, ok := c.repo.environments[strings.ToLower(name)]; ok {
		return e, nil
	}
	for _, j := range c.g.jobs {
		if j.repo == c.repo && strings.EqualFold(j.spec.Environment, name) {
			return Environment{Name: j.spec.Environment}, nil
		}
	}
	return Environment{}, notFound()
}

func getEnvironment(c *call) (answer, error) {
	e, err := c.environment()
	if err != nil {
		return answer{}, err
	}
	return ok(map[string]any{
		"id": 161088068, "node_id": "EN_kwDOAB", "name": e.Name,
		"url":              fmt.Sprintf("%s/repos/%s/environments/%s", c.g.URL(), c.repo.fullName(), e.Name),
		"protection_rules": e.rulesJSON(), "deployment_branch_policy": e.branchesJSON(),
		"can_admins_bypass": true,
	}), nil
}

func (e Environment) rulesJSON() []any {
	rules := []any{}
	if e.WaitTimer > 0 {
		rules = append(rules, map[string]any{"id": 3736, "node_id": "GA_kwDOAA", "type": "wait_timer", "wait_timer": e.WaitTimer})
	}
	if e.Reviewers > 0 {
		reviewers := []any{}
		for n := range e.Reviewers {
			reviewers = append(reviewers, map[string]any{"type": "User", "reviewer": map[string]any{"login": fmt.Sprintf("reviewer-%d", n+1), "id": n + 1}})
		}
		rules = append(rules, map[string]any{"id": 3755, "node_id": "GA_kwDOAB", "type": "required_reviewers", "prevent_self_review": false, "reviewers": reviewers})
	}
	if e.ProtectedBranches || e.CustomBranches {
		rules = append(rules, map[string]any{"id": 3756, "node_id": "GA_kwDOAC", "type": "branch_policy"})
	}
	return rules
}

func (e Environment) branchesJSON() any {
	if !e.ProtectedBranches && !e.CustomBranches {
		return nil
	}
	return map[string]any{"protected_branches": e.ProtectedBranches, "custom_branch_policies": e.CustomBranches}
}

func getCustomRules(c *call) (answer, error) {
	e, err := c.environment()
	if err != nil {
		return answer{}, err
	}
	rules := []any{}
	for n := range e.CustomRules {
		rules = append(rules, map[string]any{"id": n + 1, "node_id": "GA_kwDOAD", "enabled": true, "app": map[string]any{"id": n + 1, "slug": fmt.Sprintf("gate-%d", n+1)}})
	}
	return answer{status: http.StatusOK, value: map[string]any{"total_count": len(rules), "custom_deployment_protection_rules": rules}}, nil
}

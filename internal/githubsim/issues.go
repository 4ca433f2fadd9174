package githubsim

import "fmt"

func (g *GitHub) issueRoutes() []route {
	const issues = apiPrefix + "/repos/{owner}/{repo}/issues"
	return []route{
		{"GET", issues, reads("issues"), listIssues},
		{"POST", issues, writes("issues"), createIssue},
	}
}

func listIssues(c *call) (answer, error) {
	return paged(c, c.repo.issues, list[map[string]any])
}

func createIssue(c *call) (answer, error) {
	var asked struct {
		Title string `json:"title"`
		Body  string `json:"body"`
	}
	if err := c.decode(&asked); err != nil {
		return answer{}, err
	}
	if asked.Title == "" {
		return answer{}, invalid(detail{Resource: "Issue", Code: "missing_field", Field: "title"})
	}
	number := len(c.repo.issues) + 1
	issue := map[string]any{
		"id": c.g.newID(), "number": number, "title": asked.Title, "body": asked.Body, "state": "open",
		"user":       map[string]any{"login": c.bot(), "type": "Bot"},
		"created_at": stamp(c.g.opts.Now()),
		"url":        fmt.Sprintf("%s/repos/%s/issues/%d", c.g.URL(), c.repo.fullName(), number),
		"html_url":   fmt.Sprintf("%s/%s/issues/%d", c.g.base, c.repo.fullName(), number),
	}
	c.repo.issues = append(c.repo.issues, issue)
	return created(issue), nil
}

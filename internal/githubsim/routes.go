package githubsim

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// route is one operation: how it is called, who may call it, what it does.
type route struct {
	method  string
	pattern string // {name} is one segment, {name...} the rest
	door    door
	do      func(*call) (answer, error)
}

// call is one request on its way through a door. Doors and handlers run with
// g.mu held.
type call struct {
	g    *GitHub
	r    *http.Request
	body []byte
	vars map[string]string

	app   *App        // set by asApp
	token *token      // set when an installation token was shown
	repo  *repository // set by reads and writes
	free  bool        // does not count against the rate limit
}

func (g *GitHub) table() []route {
	return slices.Concat(
		g.issuerRoutes(),
		g.appRoutes(),
		g.tokenRoutes(),
		g.repositoryRoutes(),
		g.releaseRoutes(),
		g.assetRoutes(),
		g.contentRoutes(),
		g.issueRoutes(),
		g.jobRoutes(),
		g.environmentRoutes(),
		g.limitRoutes(),
	)
}

// find gives the route of a request. A path that is not exactly one of ours, or
// another method on it, has none: GitHub answers both with the same 404.
func (g *GitHub) find(r *http.Request) (route, map[string]string, bool) {
	path := strings.Split(r.URL.EscapedPath(), "/")
	for _, candidate := range g.routes {
		if candidate.method != r.Method {
			continue
		}
		if vars, matched := match(strings.Split(candidate.pattern, "/"), path); matched {
			return candidate, vars, true
		}
	}
	return route{}, nil, false
}

// match compares by segment and on the escaped path, so that a slash within a
// name ("releases/tags/v1%2Frc") stays within it.
func match(pattern, path []string) (map[string]string, bool) {
	vars := map[string]string{}
	for i, want := range pattern {
		if name, isRest := strings.CutSuffix(want, "...}"); isRest {
			rest, err := url.PathUnescape(strings.Join(path[min(i, len(path)):], "/"))
			vars[name[1:]] = rest
			return vars, err == nil && i <= len(path)
		}
		if i >= len(path) {
			return nil, false
		}
		if !strings.HasPrefix(want, "{") {
			if want != path[i] {
				return nil, false
			}
			continue
		}
		value, err := url.PathUnescape(path[i])
		if err != nil || value == "" {
			return nil, false
		}
		vars[strings.Trim(want, "{}")] = value
	}
	return vars, len(pattern) == len(path)
}

// handle does the request, all of it in one hold of the mutex.
func (g *GitHub) handle(r *http.Request, body []byte) answer {
	g.mu.Lock()
	defer g.mu.Unlock()
	c := &call{g: g, r: r, body: body}
	a, err := g.attempt(c)
	var no *refusal
	if errors.As(err, &no) {
		a = no.answer()
	} else if err != nil {
		a = (&refusal{status: http.StatusInternalServerError, message: "Server Error"}).answer()
		g.opts.Log.ErrorContext(r.Context(), "GitHub failed", "method", r.Method, "path", r.URL.Path, "error", err)
	}
	a = a.conditional(r)
	a.header = g.withStandardHeaders(a, c)
	return a
}

func (g *GitHub) attempt(c *call) (answer, error) {
	if err := acceptable(c.r); err != nil {
		return answer{}, err
	}
	found, vars, known := g.find(c.r)
	if !known {
		return answer{}, notFound()
	}
	c.vars = vars
	if err := found.door(c); err != nil {
		return answer{}, err
	}
	return found.do(c)
}

// acceptable refuses what GitHub turns away before looking at anything else.
func acceptable(r *http.Request) error {
	if r.UserAgent() == "" {
		return refuse(http.StatusForbidden, "Request forbidden by administrative rules. "+
			"Please make sure your request has a User-Agent header.")
	}
	switch r.Header.Get("X-GitHub-Api-Version") {
	case "", "2022-11-28", "2026-03-10":
		return nil
	}
	return refuse(http.StatusBadRequest, "The API version in X-GitHub-Api-Version is not supported.")
}

// id reads a number out of the path. What is no number is not there.
func (c *call) id(name string) (int64, error) {
	id, err := strconv.ParseInt(c.vars[name], 10, 64)
	if err != nil || id <= 0 {
		return 0, notFound()
	}
	return id, nil
}

// decode reads the JSON body into v. Fields v does not have are ignored, as
// most of GitHub's operations do.
func (c *call) decode(v any) error {
	if err := json.Unmarshal(c.body, v); err != nil {
		return refuse(http.StatusBadRequest, "Problems parsing JSON")
	}
	return nil
}

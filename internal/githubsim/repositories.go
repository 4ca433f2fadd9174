package githubsim

import (
	"fmt"
	"strings"
)

// Repository is what a scene says about a repository.
type Repository struct {
	ID         int64 // filled when zero
	Owner      string
	OwnerID    int64 // filled when zero: an owner keeps its id over all its repositories
	Name       string
	Private    bool
	Visibility string // public, private or internal; filled from Private when empty
	// OwnerIsUser makes the owner a user's account instead of an organization.
	OwnerIsUser bool
	// LegacySubject gives ID tokens the sub without ids, as repositories have
	// it that were created before 2026-07-15 and did not opt in.
	LegacySubject bool
}

type account struct {
	login string
	id    int64
	user  bool
}

func (a account) kind() string {
	if a.user {
		return "User"
	}
	return "Organization"
}

func (a account) json() map[string]any {
	return map[string]any{"login": a.login, "id": a.id, "type": a.kind(), "site_admin": false}
}

// repository is a Repository and what is in it.
type repository struct {
	Repository
	owner    account
	releases []*release
	files    tree
	history  map[string]tree // by commit
	commits  int             // made through the contents API
	issues   []map[string]any

	environments map[string]Environment // by name in lower case
}

func (r *repository) fullName() string { return r.Owner + "/" + r.Name }

func (r *repository) public() bool { return r.Visibility == "public" }

// AddRepository creates a repository and fills what was left zero. A second one
// of the same name takes the first one's place, as after a deletion.
func (g *GitHub) AddRepository(r Repository) Repository {
	g.mu.Lock()
	defer g.mu.Unlock()
	if r.Owner == "" || r.Name == "" {
		panic("githubsim: a repository needs an owner and a name")
	}
	owner := g.account(r.Owner, r.OwnerIsUser, r.OwnerID)
	r.Owner, r.OwnerID, r.OwnerIsUser = owner.login, owner.id, owner.user
	if r.ID == 0 {
		r.ID = g.newID()
	}
	if r.Visibility == "" {
		r.Visibility = map[bool]string{true: "private", false: "public"}[r.Private]
	}
	r.Private = r.Visibility != "public"
	repo := &repository{Repository: r, owner: owner, files: tree{}, history: map[string]tree{}, environments: map[string]Environment{}}
	g.repositories[strings.ToLower(repo.fullName())] = repo
	return r
}

// account finds or makes the account of that login. Logins ignore case; the
// first spelling stays. The caller holds g.mu.
func (g *GitHub) account(login string, user bool, id int64) account {
	key := strings.ToLower(login)
	if known, ok := g.accounts[key]; ok && (id == 0 || id == known.id) {
		return known
	}
	if id == 0 {
		id = g.newID()
	}
	g.accounts[key] = account{login: login, id: id, user: user}
	return g.accounts[key]
}

// repository finds by name, in any case of letters, or nil. The caller holds g.mu.
func (g *GitHub) repository(owner, name string) *repository {
	return g.repositories[strings.ToLower(owner+"/"+name)]
}

func (g *GitHub) repositoryByID(id int64) *repository {
	for _, r := range g.repositories {
		if r.ID == id {
			return r
		}
	}
	return nil
}

func (g *GitHub) mustRepository(owner, name string) *repository {
	if r := g.repository(owner, name); r != nil {
		return r
	}
	panic(fmt.Sprintf("githubsim: no repository %s/%s: add it first", owner, name))
}

func (g *GitHub) repositoryRoutes() []route {
	return []route{
		{"GET", apiPrefix + "/repos/{owner}/{repo}", reads("metadata"), getRepository},
		{"GET", apiPrefix + "/repositories/{repository_id}", reads("metadata"), getRepository},
	}
}

func getRepository(c *call) (answer, error) { return ok(c.g.repositoryJSON(c.repo)), nil }

func (g *GitHub) repositoryJSON(r *repository) map[string]any {
	return map[string]any{
		"id":             r.ID,
		"node_id":        fmt.Sprintf("R_kgDO%d", r.ID),
		"name":           r.Name,
		"full_name":      r.fullName(),
		"owner":          r.owner.json(),
		"private":        r.Private,
		"visibility":     r.Visibility,
		"fork":           false,
		"archived":       false,
		"default_branch": defaultBranch,
		"url":            g.URL() + "/repos/" + r.fullName(),
		"html_url":       g.base + "/" + r.fullName(),
	}
}

package githubsim

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// installation is an App on an account, with the permissions it had when it
// was installed.
type installation struct {
	g           *GitHub
	id          int64
	app         *App
	account     account
	all         bool // every repository of the account, future ones too
	selected    []int64
	permissions map[string]string
	at          time.Time
	suspended   time.Time // zero: it is not
}

func (i *installation) selection() string {
	if i.all {
		return "all"
	}
	return "selected"
}

// Install puts an App on the owner's account: on the repositories named
// (without the owner), or on all it has and will have when none is named. An
// App that is installed anew gets a new id.
func (g *GitHub) Install(app App, owner string, repositories ...string) (installationID int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	registered := g.apps[app.ID]
	target, known := g.accounts[strings.ToLower(owner)]
	if registered == nil || !known {
		panic(fmt.Sprintf("githubsim: installing App %d on %s: add both first", app.ID, owner))
	}
	i := &installation{
		g: g, id: g.newID(), app: registered, account: target, all: len(repositories) == 0,
		permissions: maps.Clone(registered.Permissions), at: g.opts.Now(),
	}
	for _, name := range repositories {
		i.selected = append(i.selected, g.mustRepository(owner, name).ID)
	}
	for _, other := range g.installationsOf(registered) {
		if other.account.id == target.id {
			g.uninstall(other)
		}
	}
	g.installations[i.id] = i
	i.tell("created")
	return i.id
}

// Uninstall removes an installation. Assumed: its tokens are dead at once.
func (g *GitHub) Uninstall(installationID int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.uninstall(g.mustInstallation(installationID))
}

func (g *GitHub) uninstall(i *installation) {
	i.tell("deleted") // first: it lists what was reached
	delete(g.installations, i.id)
}

func (g *GitHub) mustInstallation(id int64) *installation {
	if i := g.installations[id]; i != nil {
		return i
	}
	panic(fmt.Sprintf("githubsim: no installation %d", id))
}

func (g *GitHub) installationsOf(app *App) []*installation {
	var all []*installation
	for _, i := range g.installations {
		if i.app == app {
			all = append(all, i)
		}
	}
	return all
}

// repositoriesOf are what an installation reaches now, by id.
func (g *GitHub) repositoriesOf(i *installation) []*repository {
	var all []*repository
	for _, r := range g.repositories {
		if r.OwnerID == i.account.id && (i.all || slices.Contains(i.selected, r.ID)) {
			all = append(all, r)
		}
	}
	slices.SortFunc(all, func(a, b *repository) int { return int(a.ID - b.ID) })
	return all
}

func (g *GitHub) appRoutes() []route {
	return []route{
		{"GET", apiPrefix + "/app", asApp, getApp},
		{"GET", apiPrefix + "/app/installations/{installation}", asApp, getInstallation},
		{"GET", apiPrefix + "/repos/{owner}/{repo}/installation", asApp, findByRepository},
		{"GET", apiPrefix + "/repositories/{repository_id}/installation", asApp, findByRepository},
		{"GET", apiPrefix + "/orgs/{account}/installation", asApp, findByAccount(false)},
		{"GET", apiPrefix + "/users/{account}/installation", asApp, findByAccount(true)},
	}
}

func getInstallation(c *call) (answer, error) {
	i, err := c.ownInstallation()
	if err != nil {
		return answer{}, err
	}
	return ok(c.g.installationJSON(i)), nil
}

// ownInstallation is the one in the path, if it is this App's.
func (c *call) ownInstallation() (*installation, error) {
	id, err := c.id("installation")
	if err != nil {
		return nil, err
	}
	i := c.g.installations[id]
	if i == nil || i.app != c.app {
		return nil, notFound()
	}
	return i, nil
}

func findByRepository(c *call) (answer, error) {
	repo := c.namedRepository()
	for _, i := range c.g.installationsOf(c.app) {
		if repo != nil && slices.Contains(c.g.repositoriesOf(i), repo) {
			return ok(c.g.installationJSON(i)), nil
		}
	}
	return answer{}, notFound()
}

// findByAccount answers for users under /users and organizations under /orgs
// alone. That /users knows no organization is assumed.
func findByAccount(user bool) func(*call) (answer, error) {
	return func(c *call) (answer, error) {
		for _, i := range c.g.installationsOf(c.app) {
			if strings.EqualFold(i.account.login, c.vars["account"]) && i.account.user == user {
				return ok(c.g.installationJSON(i)), nil
			}
		}
		return answer{}, notFound()
	}
}

func (g *GitHub) installationJSON(i *installation) map[string]any {
	own := fmt.Sprintf("%s/app/installations/%d", g.URL(), i.id)
	return map[string]any{
		"id": i.id, "app_id": i.app.ID, "client_id": i.app.ClientID, "app_slug": i.app.Slug,
		"account": i.account.json(), "target_id": i.account.id, "target_type": i.account.kind(),
		"repository_selection": i.selection(), "permissions": i.permissions, "events": []string{},
		"access_tokens_url": own + "/access_tokens", "repositories_url": g.URL() + "/installation/repositories",
		"html_url":   fmt.Sprintf("%s/organizations/%s/settings/installations/%d", g.base, i.account.login, i.id),
		"created_at": stamp(i.at), "updated_at": stamp(i.at),
		"suspended_at": stampOrNull(i.suspended), "suspended_by": i.suspendedBy(), "single_file_name": nil,
	}
}

// stamp is GitHub's form of a time: whole seconds, in UTC.
func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

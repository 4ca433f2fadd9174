package githubsim

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Suspend takes an installation out of use: its tokens are refused, no new ones are
// made, and the App is told no more of its jobs. Assumed: at once.
func (g *GitHub) Suspend(installationID int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	i := g.mustInstallation(installationID)
	i.suspended = g.opts.Now()
	i.tell("suspend")
}

// Unsuspend takes it into use again, and with it the tokens that still live.
func (g *GitHub) Unsuspend(installationID int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	i := g.mustInstallation(installationID)
	i.suspended = time.Time{}
	i.tell("unsuspend")
}

// Remove takes repositories (named without the owner) out of an installation. One
// that was on all of them is on the others from now on.
func (g *GitHub) Remove(installationID int64, repositories ...string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	i := g.mustInstallation(installationID)
	removed := i.named(repositories)
	var kept []int64
	for _, r := range g.repositoriesOf(i) {
		if !slices.Contains(removed, r) {
			kept = append(kept, r.ID)
		}
	}
	i.all, i.selected = false, kept
	i.tellRepositories("removed", nil, removed)
}

// Add puts an installation on more repositories.
func (g *GitHub) Add(installationID int64, repositories ...string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	i := g.mustInstallation(installationID)
	added := i.named(repositories)
	for _, r := range added {
		i.selected = append(i.selected, r.ID)
	}
	i.tellRepositories("added", added, nil)
}

func (i *installation) named(repositories []string) (all []*repository) {
	for _, name := range repositories {
		all = append(all, i.g.mustRepository(i.account.login, name))
	}
	return all
}

// tell makes the event installation, for which an App needs no permission and no
// subscription. The caller holds g.mu.
func (i *installation) tell(action string) {
	g := i.g
	body := map[string]any{
		"installation": g.installationJSON(i), "repositories": short(g.repositoriesOf(i)),
		"sender": i.owner().json(),
	}
	if action == "created" {
		body["requester"] = nil
	}
	i.tellApp(eventInstallation, action, body)
}

func (i *installation) tellRepositories(action string, added, removed []*repository) {
	i.tellApp(eventInstallationRepositories, action, map[string]any{
		"installation": i.g.installationJSON(i), "repository_selection": i.selection(),
		"repositories_added": short(added), "repositories_removed": short(removed),
		"requester": nil, "sender": i.owner().json(),
	})
}

func (i *installation) tellApp(event, action string, body map[string]any) {
	for _, w := range i.g.webhooks {
		if w.app == i.app {
			w.tell(event, action, 0, body)
		}
	}
}

// owner is who does to an installation what is done.
func (i *installation) owner() account {
	if i.account.user {
		return i.account
	}
	return i.g.account(strings.ToLower(i.account.login)+"-owner", true, 0)
}

func (i *installation) suspendedBy() any {
	if i.suspended.IsZero() {
		return nil
	}
	return i.owner().json()
}

// short is how events about installations list repositories.
func short(repositories []*repository) []any {
	all := []any{}
	for _, r := range repositories {
		all = append(all, map[string]any{
			"id": r.ID, "node_id": fmt.Sprintf("R_kgDO%d", r.ID),
			"name": r.Name, "full_name": r.fullName(), "private": r.Private,
		})
	}
	return all
}

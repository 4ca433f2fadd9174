package githubsim

import (
	"fmt"
	"net/http"
	"slices"
	"time"
)

type release struct {
	id         int64
	tag        string
	name       string
	body       string
	target     string
	draft      bool
	prerelease bool
	author     string
	created    time.Time
	published  time.Time
	assets     []*asset
}

// AddRelease publishes a release without assets.
func (g *GitHub) AddRelease(owner, repo, tag string) (releaseID int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	r := g.mustRepository(owner, repo)
	if r.byTag(tag) != nil {
		panic(fmt.Sprintf("githubsim: %s/%s has a release of %s", owner, repo, tag))
	}
	made := &release{
		id: g.newID(), tag: tag, name: tag, target: defaultBranch, author: owner,
		created: g.opts.Now(), published: g.opts.Now(),
	}
	r.releases = append(r.releases, made)
	return made.id
}

// byTag finds a published release: a draft does not own its tag yet.
func (r *repository) byTag(tag string) *release {
	for _, rel := range r.releases {
		if rel.tag == tag && !rel.draft {
			return rel
		}
	}
	return nil
}

func (g *GitHub) releaseRoutes() []route {
	const releases = apiPrefix + "/repos/{owner}/{repo}/releases"
	return []route{
		{"GET", releases, reads("contents"), listReleases},
		{"POST", releases, writes("contents"), createRelease},
		{"GET", releases + "/latest", reads("contents"), getLatestRelease},
		{"GET", releases + "/tags/{tag...}", reads("contents"), getReleaseByTag},
		{"GET", releases + "/{release}", reads("contents"), getRelease},
		{"PATCH", releases + "/{release}", writes("contents"), editRelease},
		{"DELETE", releases + "/{release}", writes("contents"), deleteRelease},
	}
}

// release is the one in the path. Drafts exist only for who may write.
func (c *call) release() (*release, error) {
	id, err := c.id("release")
	if err != nil {
		return nil, err
	}
	for _, rel := range c.repo.releases {
		if rel.id == id && c.sees(rel) {
			return rel, nil
		}
	}
	return nil, notFound()
}

func (c *call) sees(rel *release) bool {
	return !rel.draft || c.token != nil && c.token.reaches(c.repo) &&
		includes(c.token.permissions, "contents", "write")
}

func listReleases(c *call) (answer, error) {
	var visible []any
	for _, rel := range slices.Backward(c.repo.releases) { // the newest first
		if c.sees(rel) {
			visible = append(visible, c.releaseJSON(rel))
		}
	}
	return paged(c, visible, list[any])
}

func getLatestRelease(c *call) (answer, error) {
	for _, rel := range slices.Backward(c.repo.releases) {
		if !rel.draft && !rel.prerelease {
			return ok(c.releaseJSON(rel)), nil
		}
	}
	return answer{}, notFound()
}

func getReleaseByTag(c *call) (answer, error) {
	rel := c.repo.byTag(c.vars["tag"])
	if rel == nil {
		return answer{}, notFound()
	}
	return ok(c.releaseJSON(rel)), nil
}

func getRelease(c *call) (answer, error) {
	rel, err := c.release()
	if err != nil {
		return answer{}, err
	}
	return ok(c.releaseJSON(rel)), nil
}

// releaseEdit has the fields of create and update; nil leaves as it was.
type releaseEdit struct {
	Tag        *string `json:"tag_name"`
	Target     *string `json:"target_commitish"`
	Name       *string `json:"name"`
	Body       *string `json:"body"`
	Draft      *bool   `json:"draft"`
	Prerelease *bool   `json:"prerelease"`
}

func createRelease(c *call) (answer, error) {
	rel := &release{target: defaultBranch, author: c.bot(), created: c.g.opts.Now()}
	if err := c.apply(rel); err != nil {
		return answer{}, err
	}
	rel.id = c.g.newID()
	c.repo.releases = append(c.repo.releases, rel)
	a := created(c.releaseJSON(rel))
	a.header = http.Header{"Location": {c.releaseURL(rel)}}
	return a, nil
}

func editRelease(c *call) (answer, error) {
	rel, err := c.release()
	if err != nil {
		return answer{}, err
	}
	edited := *rel
	if err := c.apply(&edited); err != nil {
		return answer{}, err
	}
	*rel = edited
	return ok(c.releaseJSON(rel)), nil
}

// apply reads the body into rel and checks what came out.
func (c *call) apply(rel *release) error {
	var edit releaseEdit
	if err := c.decode(&edit); err != nil {
		return err
	}
	set(&rel.tag, edit.Tag)
	set(&rel.target, edit.Target)
	set(&rel.name, edit.Name)
	set(&rel.body, edit.Body)
	set(&rel.draft, edit.Draft)
	set(&rel.prerelease, edit.Prerelease)
	if rel.tag == "" {
		return invalid(detail{Resource: "Release", Code: "missing_field", Field: "tag_name"})
	}
	if other := c.repo.byTag(rel.tag); other != nil && other.id != rel.id && !rel.draft {
		return invalid(detail{Resource: "Release", Code: "already_exists", Field: "tag_name"})
	}
	if !rel.draft && rel.published.IsZero() {
		rel.published = c.g.opts.Now()
	}
	return nil
}

func set[T any](field, value *T) {
	if value != nil {
		*field = *value
	}
}

func deleteRelease(c *call) (answer, error) {
	rel, err := c.release()
	if err != nil {
		return answer{}, err
	}
	c.repo.releases = slices.DeleteFunc(c.repo.releases, func(r *release) bool { return r == rel })
	return noContent(), nil
}

// bot is the account in whose name an App acts.
func (c *call) bot() string { return c.token.installation.app.Slug + "[bot]" }

func (c *call) releaseURL(rel *release) string {
	return fmt.Sprintf("%s/repos/%s/releases/%d", c.g.URL(), c.repo.fullName(), rel.id)
}

func (c *call) releaseJSON(rel *release) map[string]any {
	assets := []any{}
	for _, a := range rel.assets {
		assets = append(assets, c.assetJSON(rel, a))
	}
	return map[string]any{
		"id": rel.id, "node_id": fmt.Sprintf("RE_kwDO%d", rel.id),
		"tag_name": rel.tag, "target_commitish": rel.target, "name": rel.name, "body": rel.body,
		"draft": rel.draft, "prerelease": rel.prerelease, "immutable": false,
		"created_at": stamp(rel.created), "published_at": stampOrNull(rel.published),
		"author":     map[string]any{"login": rel.author},
		"url":        c.releaseURL(rel),
		"assets_url": c.releaseURL(rel) + "/assets",
		"upload_url": fmt.Sprintf("%s/repos/%s/releases/%d/assets{?name,label}", c.g.UploadURL(), c.repo.fullName(), rel.id),
		"html_url":   fmt.Sprintf("%s/%s/releases/tag/%s", c.g.base, c.repo.fullName(), rel.tag),
		"assets":     assets,
	}
}

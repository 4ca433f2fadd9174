package githubsim

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

type asset struct {
	id          int64
	name        string
	label       string
	contentType string
	bytes       []byte
	uploader    string
	downloads   int
	created     time.Time
}

// Assets are the files of the release of that tag, by name; nil without one.
func (g *GitHub) Assets(owner, repo, tag string) map[string][]byte {
	g.mu.Lock()
	defer g.mu.Unlock()
	rel := g.mustRepository(owner, repo).byTag(tag)
	if rel == nil {
		return nil
	}
	files := map[string][]byte{}
	for _, a := range rel.assets {
		files[a.name] = bytes.Clone(a.bytes)
	}
	return files
}

func (g *GitHub) assetRoutes() []route {
	const releases = "/repos/{owner}/{repo}/releases"
	return []route{
		{"POST", uploadPrefix + releases + "/{release}/assets", writes("contents"), uploadAsset},
		{"GET", apiPrefix + releases + "/{release}/assets", reads("contents"), listAssets},
		{"GET", apiPrefix + releases + "/assets/{asset}", reads("contents"), getAsset},
		{"DELETE", apiPrefix + releases + "/assets/{asset}", writes("contents"), deleteAsset},
	}
}

func uploadAsset(c *call) (answer, error) {
	rel, err := c.release()
	if err != nil {
		return answer{}, err
	}
	query, contentType := c.r.URL.Query(), c.r.Header.Get("Content-Type")
	name := query.Get("name")
	switch {
	case name == "":
		return answer{}, invalid(detail{Resource: "ReleaseAsset", Code: "missing_field", Field: "name"})
	case contentType == "":
		return answer{}, invalid(detail{Resource: "ReleaseAsset", Code: "missing_field", Field: "content_type"})
	case slices.ContainsFunc(rel.assets, func(a *asset) bool { return a.name == name }):
		return answer{}, invalid(detail{Resource: "ReleaseAsset", Code: "already_exists", Field: "name"})
	}
	made := &asset{
		id: c.g.newID(), name: name, label: query.Get("label"), contentType: contentType,
		bytes: c.body, uploader: c.bot(), created: c.g.opts.Now(),
	}
	rel.assets = append(rel.assets, made)
	return created(c.assetJSON(rel, made)), nil
}

func listAssets(c *call) (answer, error) {
	rel, err := c.release()
	if err != nil {
		return answer{}, err
	}
	var all []any
	for _, a := range rel.assets {
		all = append(all, c.assetJSON(rel, a))
	}
	return paged(c, all, list[any])
}

// asset is the one in the path, and its release.
func (c *call) asset() (*release, *asset, error) {
	id, err := c.id("asset")
	if err != nil {
		return nil, nil, err
	}
	for _, rel := range c.repo.releases {
		for _, a := range rel.assets {
			if a.id == id && c.sees(rel) {
				return rel, a, nil
			}
		}
	}
	return nil, nil, notFound()
}

// getAsset tells of the asset, or gives its bytes to who accepts only those.
// GitHub may also answer the latter with a redirect to its storage.
func getAsset(c *call) (answer, error) {
	rel, a, err := c.asset()
	if err != nil {
		return answer{}, err
	}
	if !strings.Contains(c.r.Header.Get("Accept"), "application/octet-stream") {
		return ok(c.assetJSON(rel, a)), nil
	}
	a.downloads++
	return answer{status: http.StatusOK, bytes: a.bytes, contentType: "application/octet-stream"}, nil
}

func deleteAsset(c *call) (answer, error) {
	rel, gone, err := c.asset()
	if err != nil {
		return answer{}, err
	}
	rel.assets = slices.DeleteFunc(rel.assets, func(a *asset) bool { return a == gone })
	return noContent(), nil
}

func (c *call) assetJSON(rel *release, a *asset) map[string]any {
	sum := sha256.Sum256(a.bytes)
	return map[string]any{
		"id": a.id, "node_id": fmt.Sprintf("RA_kwDO%d", a.id),
		"name": a.name, "label": a.label, "state": "uploaded", "content_type": a.contentType,
		"size": len(a.bytes), "digest": "sha256:" + hex.EncodeToString(sum[:]), "download_count": a.downloads,
		"created_at": stamp(a.created), "updated_at": stamp(a.created),
		"uploader": map[string]any{"login": a.uploader},
		"url":      fmt.Sprintf("%s/repos/%s/releases/assets/%d", c.g.URL(), c.repo.fullName(), a.id),
		"browser_download_url": fmt.Sprintf("%s/%s/releases/download/%s/%s",
			c.g.base, c.repo.fullName(), rel.tag, url.PathEscape(a.name)),
	}
}

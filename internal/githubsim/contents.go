package githubsim

import (
	"bytes"
	"crypto/sha1" //nolint:gosec // git names a blob by SHA-1
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"
)

// defaultBranch is the only branch there is.
const defaultBranch = "main"

// mostInAnswer is the size in bytes of the largest file whose content GitHub puts into
// its JSON; larger ones are to be asked for as raw.
const mostInAnswer = 1 << 20

// AddFile commits a file to the default branch.
func (g *GitHub) AddFile(owner, repo, path string, content []byte) {
	g.mu.Lock()
	defer g.mu.Unlock()
	r := g.mustRepository(owner, repo)
	r.files[path] = bytes.Clone(content)
	r.commits++
}

// RemoveFile commits the absence of a file.
func (g *GitHub) RemoveFile(owner, repo, path string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	r := g.mustRepository(owner, repo)
	delete(r.files, path)
	r.commits++
}

func (g *GitHub) contentRoutes() []route {
	const contents = apiPrefix + "/repos/{owner}/{repo}/contents"
	return []route{
		{"GET", contents, reads("contents"), getContents},
		{"GET", contents + "/{path...}", reads("contents"), getContents},
		{"PUT", contents + "/{path...}", writes("contents"), putContents},
		{"DELETE", contents + "/{path...}", writes("contents"), deleteContents},
	}
}

func blobSHA(content []byte) string {
	sum := sha1.Sum(fmt.Appendf(nil, "blob %d\x00%s", len(content), content)) //nolint:gosec // as above
	return hex.EncodeToString(sum[:])
}

// commitSHA names the state after the last commit.
func (r *repository) commitSHA() string {
	sum := sha1.Sum(fmt.Appendf(nil, "commit %d of %d", r.commits, r.ID)) //nolint:gosec // as above
	return hex.EncodeToString(sum[:])
}

// getContents gives a file, or the entries of a directory.
func getContents(c *call) (answer, error) {
	files, err := c.repo.at(c.r.URL.Query().Get("ref"))
	if err != nil {
		return answer{}, err
	}
	name := strings.Trim(c.vars["path"], "/")
	content, isFile := files[name]
	if !isFile {
		return c.listDirectory(files, name)
	}
	if accept := c.r.Header.Get("Accept"); strings.Contains(accept, ".raw") {
		return answer{status: http.StatusOK, bytes: content, contentType: "application/vnd.github.raw+json; charset=utf-8"}, nil
	}
	file := c.entryJSON(files, name, "file")
	file["encoding"], file["content"] = "base64", base64.StdEncoding.EncodeToString(content)
	if len(content) > mostInAnswer {
		file["encoding"], file["content"] = "none", ""
	}
	return ok(file), nil
}

func (c *call) listDirectory(files tree, directory string) (answer, error) {
	kinds := map[string]string{}
	for name := range files {
		below, inside := strings.CutPrefix("/"+name, strings.TrimSuffix("/"+directory, "/")+"/")
		if !inside {
			continue
		}
		first, _, deeper := strings.Cut(below, "/")
		kinds[path.Join(directory, first)] = map[bool]string{true: "dir", false: "file"}[deeper]
	}
	if len(kinds) == 0 {
		return answer{}, notFound()
	}
	entries := []any{}
	for _, name := range slices.Sorted(maps.Keys(kinds)) {
		entries = append(entries, c.entryJSON(files, name, kinds[name]))
	}
	return ok(entries), nil
}

func (c *call) entryJSON(files tree, name, kind string) map[string]any {
	escaped := (&url.URL{Path: name}).EscapedPath()
	entry := map[string]any{
		"type": kind, "name": path.Base(name), "path": name, "size": 0, "sha": c.repo.commitSHA(),
		"url":          fmt.Sprintf("%s/repos/%s/contents/%s?ref=%s", c.g.URL(), c.repo.fullName(), escaped, defaultBranch),
		"html_url":     fmt.Sprintf("%s/%s/blob/%s/%s", c.g.base, c.repo.fullName(), defaultBranch, escaped),
		"download_url": nil,
	}
	if kind == "file" {
		content := files[name]
		entry["size"], entry["sha"] = len(content), blobSHA(content)
		entry["git_url"] = fmt.Sprintf("%s/repos/%s/git/blobs/%s", c.g.URL(), c.repo.fullName(), entry["sha"])
	}
	return entry
}

type contentEdit struct {
	Message string  `json:"message"`
	Content *string `json:"content"`
	SHA     string  `json:"sha"`
	Branch  string  `json:"branch"`
}

// edit reads and checks what both ways of changing a file have in common.
func (c *call) edit() (contentEdit, error) {
	var edit contentEdit
	if err := c.decode(&edit); err != nil {
		return edit, err
	}
	if strings.HasPrefix(c.vars["path"], ".github/workflows/") &&
		!includes(c.token.permissions, "workflows", "write") {
		return edit, lacksPermission("workflows", "write")
	}
	if edit.Message == "" {
		return edit, unprocessable("Invalid request.\n\n\"message\" wasn't supplied.")
	}
	if edit.Branch != "" && edit.Branch != defaultBranch {
		return edit, refuse(http.StatusNotFound, "Branch "+edit.Branch+" not found")
	}
	existing, exists := c.repo.files[c.vars["path"]]
	switch {
	case exists && edit.SHA == "":
		return edit, unprocessable("Invalid request.\n\n\"sha\" wasn't supplied.")
	case exists && edit.SHA != blobSHA(existing), !exists && edit.SHA != "":
		return edit, refuse(http.StatusConflict, c.vars["path"]+" does not match "+edit.SHA)
	}
	return edit, nil
}

func putContents(c *call) (answer, error) {
	edit, err := c.edit()
	if err != nil {
		return answer{}, err
	}
	if edit.Content == nil {
		return answer{}, unprocessable("Invalid request.\n\n\"content\" wasn't supplied.")
	}
	content, err := base64.StdEncoding.DecodeString(*edit.Content)
	if err != nil {
		return answer{}, unprocessable("content is not valid Base64")
	}
	name := c.vars["path"]
	_, existed := c.repo.files[name]
	c.repo.files[name] = content
	c.repo.commits++
	a := created(map[string]any{"content": c.entryJSON(c.repo.files, name, "file"), "commit": c.commitJSON(edit.Message)})
	if existed {
		a.status = http.StatusOK
	}
	return a, nil
}

func deleteContents(c *call) (answer, error) {
	edit, err := c.edit()
	if err != nil {
		return answer{}, err
	}
	if _, exists := c.repo.files[c.vars["path"]]; !exists {
		return answer{}, notFound()
	}
	delete(c.repo.files, c.vars["path"])
	c.repo.commits++
	return ok(map[string]any{"content": nil, "commit": c.commitJSON(edit.Message)}), nil
}

func (c *call) commitJSON(message string) map[string]any {
	author := map[string]any{"name": c.bot(), "date": stamp(c.g.opts.Now())}
	return map[string]any{"sha": c.repo.commitSHA(), "message": message, "author": author, "committer": author}
}

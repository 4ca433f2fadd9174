package githubsim

import (
	"bytes"
	"net/http"
)

// tree is the files of a repository at one commit, by path.
type tree map[string][]byte

// Head gives the commit of the default branch. What it holds can be read at it for ever,
// whatever is committed later.
func (g *GitHub) Head(owner, repo string) string {
	g.mu.Lock()
	defer g.mu.Unlock()
	r := g.mustRepository(owner, repo)
	files := tree{}
	for path, content := range r.files {
		files[path] = bytes.Clone(content)
	}
	r.history[r.commitSHA()] = files
	return r.commitSHA()
}

// at gives the files that a ref names: the default branch, its commit, or a commit that
// Head gave before.
func (r *repository) at(ref string) (tree, error) {
	switch ref {
	case "", defaultBranch, "refs/heads/" + defaultBranch, r.commitSHA():
		return r.files, nil
	}
	if files, ok := r.history[ref]; ok {
		return files, nil
	}
	return nil, refuse(http.StatusNotFound, "No commit found for the ref "+ref)
}

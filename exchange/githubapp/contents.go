package githubapp

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
)

const maxWorkflow = 1 << 20 // bytes; of larger files GitHub's answer holds no content

var (
	fullCommit   = regexp.MustCompile(`\A[0-9a-f]{40}\z`) // anything else could be a branch
	workflowPath = regexp.MustCompile(`\A\.github/workflows/[^/]+\.ya?ml\z`)
)

// contentAnswer is GitHub's ("Get repository content") for a file.
type contentAnswer struct {
	Type     string `json:"type"`
	Path     string `json:"path"`
	Size     int64  `json:"size"`
	Encoding string `json:"encoding"`
	Content  string `json:"content"`
}

// WorkflowFile returns a workflow file of a repository, given as owner/name, at a
// commit, given by its full digest. What it holds never changes. That the name may mean
// another repository by now does no harm: the digest means these bytes everywhere.
//
// A repository without the App, such as a stranger's whose reusable workflow is called,
// is not read, even if it is public.
func (c *Checks) WorkflowFile(ctx context.Context, repository, path, commit string) ([]byte, error) {
	doing := fmt.Sprintf("reading %s of %s at %.12s", clean(path), clean(repository), clean(commit))
	owner, name, _ := strings.Cut(repository, "/")
	if !ValidOwner(owner) || !ValidRepository(name) || !workflowPath.MatchString(path) || !fullCommit.MatchString(commit) {
		return nil, refuse(doing, "want a workflow file of owner/name at a full commit")
	}
	r, err := c.of(doing, part("contents", strings.ToLower(repository)), c.app.repositoryToken(
		TokenRequest{Repositories: []string{name}, Permissions: map[string]string{"contents": "read"}},
		func(ctx context.Context) (Installation, error) { return c.app.InstallationNamed(ctx, owner, name) },
	))
	if err != nil {
		return nil, err
	}
	var answer contentAnswer
	err = r.read(ctx, doing, func(repository string) call {
		answer = contentAnswer{}
		file := url.PathEscape(strings.TrimPrefix(path, ".github/workflows/"))
		return call{
			doing: doing, method: http.MethodGet, want: http.StatusOK, into: &answer,
			path: fmt.Sprintf("repos/%s/contents/.github/workflows/%s?ref=%s", repository, file, commit),
		}
	})
	if err != nil {
		return nil, err
	}
	return answer.bytes(doing, path)
}

func (a contentAnswer) bytes(doing, path string) ([]byte, error) {
	bad := func(why string) error { return &Error{Doing: doing, Status: http.StatusOK, Message: why} }
	switch {
	case a.Type != "file" || a.Path != path:
		return nil, bad("the answer is not that file")
	case a.Size > maxWorkflow:
		return nil, bad(fmt.Sprintf("the file has %d bytes; at most %d are read", a.Size, maxWorkflow))
	case a.Encoding != "base64":
		return nil, bad("the answer does not hold the file")
	}
	data, err := base64.StdEncoding.DecodeString(a.Content) // it skips line ends
	if err != nil || int64(len(data)) != a.Size {
		return nil, bad("the answer does not hold the whole file")
	}
	return data, nil
}

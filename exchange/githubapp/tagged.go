package githubapp

import (
	"context"
	"net/http"
)

// tagged is an answer that is asked for again only if it changed. An unchanged one draws
// on no rate limit.
type tagged[T any] struct {
	etag  string
	value T
}

// read asks for what is at path, which is told the repository's present name, owner/name.
// Where it changed, that takes the place of what t has; after an error t has what it had.
func (t *tagged[T]) read(ctx context.Context, with *repositoryToken, doing string, path func(repository string) string) (changed bool, err error) {
	var now tagged[T]
	err = with.read(ctx, doing, func(repository string) call {
		now = tagged[T]{}
		return call{
			doing: doing, method: http.MethodGet, path: path(repository), want: http.StatusOK, into: &now.value, etag: t.etag,
			seen: func(r *http.Response) { now.etag = r.Header.Get("ETag") },
		}
	})
	if e := of(err); e != nil && e.Status == http.StatusNotModified && t.etag != "" {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	*t = now
	return true, nil
}

package kubernetes

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/exchange/backend/reach"
)

const (
	maxAnswer  = 1 << 20 // bytes
	maxMessage = 400     // characters of the server's own words
)

// failed is a request that was not answered as it should be.
type failed struct {
	reach.Failed
	said string // the server's own words
	of   string // the name of what it speaks of
}

func (f *failed) Error() string {
	words := f.Words("the API server")
	if f.Cause != nil {
		return words
	}
	if text := reach.OneLine(f.said, maxMessage); text != "" {
		words += fmt.Sprintf(", %q", text)
	}
	if hint := f.hint(); hint != "" {
		words += "; " + hint
	}
	return words
}

// hint says what to look at.
func (f *failed) hint() string {
	switch {
	case f.Status/100 == 3:
		return "that is the address of another server, which is not asked; name the API server itself as server"
	case f.Status == http.StatusUnauthorized:
		return "look whether token_file holds a token of the exchange's service account that is still good, and server and ca_file are of its cluster"
	case f.Status == http.StatusForbidden && strings.Contains(f.said, "RBAC permissions not currently held"):
		return "the exchange's account may hand on only what it holds itself, or has the verb bind for; compare the task with the Role that docs/backends/kubernetes.md shows"
	case f.Status == http.StatusForbidden:
		return "compare the roles of the exchange's account with those that docs/backends/kubernetes.md shows"
	case f.Status == http.StatusNotFound:
		return "compare the configuration's namespaces and service accounts with what the cluster has"
	}
	return ""
}

// NothingDone: a conflict is no proof, since there is one of that name.
func (f *failed) NothingDone() bool { return f.Failed.NothingDone() && f.Status != http.StatusConflict }

// Is: so that callers need not know of answers.
func (f *failed) Is(target error) bool { return target == backend.ErrUnavailable && f.Temporary() }

// notFound: the API server says that there is nothing of that name. That it does not know
// what is asked for is no such answer.
func notFound(err error, name string) bool {
	var f *failed
	return errors.As(err, &f) && f.Status == http.StatusNotFound && f.Cause == nil && f.of == name
}

// nothingDone: see NothingDone.
func nothingDone(err error) bool {
	var f *failed
	return errors.As(err, &f) && f.NothingDone()
}

// call sends one request and reads its answer into out, where that is not nil. Its error
// is *failed.
func (b *Backend) call(ctx context.Context, method, path string, in, out any) error {
	token, err := b.token()
	if err != nil {
		return &failed{Failed: reach.Failed{Unsent: true, Own: true, Cause: err}}
	}
	body, err := json.Marshal(in)
	if err != nil {
		return &failed{Failed: reach.Failed{Unsent: true, Cause: err}}
	}
	req, err := http.NewRequestWithContext(ctx, method, b.server+path, bytes.NewReader(body))
	if err != nil {
		return &failed{Failed: reach.Failed{Unsent: true, Cause: err}}
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "stepkey")
	req.Header.Set("Authorization", "Bearer "+token.Reveal())
	resp, unsent, err := reach.Do(b.http, req)
	if err != nil {
		return &failed{Failed: reach.Failed{Unsent: unsent, Cause: err}}
	}
	defer func() { _ = resp.Body.Close() }()
	return read(resp, out)
}

var (
	errCut  = errors.New("and its answer was cut off")
	errForm = errors.New("and its answer is none of Kubernetes'; look whether server is the API server")
)

func read(resp *http.Response, out any) error {
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	// Every answer is an object of a kind. A page of something in between is none.
	var object struct {
		Kind    string `json:"kind"`
		Message string `json:"message"`
		Details struct {
			Name string `json:"name"`
		} `json:"details"`
	}
	kindless := json.Unmarshal(text, &object) != nil || object.Kind == ""
	switch {
	case resp.StatusCode >= 300 && resp.StatusCode < 400:
		return &failed{Failed: reach.Failed{Status: resp.StatusCode}}
	case resp.StatusCode >= 300 && kindless && resp.StatusCode == http.StatusNotFound:
		return &failed{Failed: reach.Failed{Status: resp.StatusCode, Cause: errForm}} // it says nothing of what is there
	case resp.StatusCode >= 300:
		return &failed{Failed: reach.Failed{Status: resp.StatusCode}, said: object.Message, of: object.Details.Name}
	case err != nil:
		return &failed{Failed: reach.Failed{Status: resp.StatusCode, Cause: errCut}}
	case kindless, out != nil && json.Unmarshal(text, out) != nil:
		return &failed{Failed: reach.Failed{Status: resp.StatusCode, Cause: errForm}}
	}
	return nil
}

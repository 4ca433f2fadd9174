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
	status int    // 0: there was no answer
	unsent bool   // no connection was had, so nothing was asked
	own    bool   // for want of the exchange's own token
	said   string // the server's own words
	of     string // the name of what it speaks of
	cause  error
}

func (f *failed) Error() string {
	switch {
	case f.own:
		return f.cause.Error()
	case f.status == 0 && f.unsent:
		return fmt.Sprintf("the API server could not be reached: %v", f.cause)
	case f.status == 0:
		return fmt.Sprintf("the API server did not answer: %v", f.cause)
	case f.cause != nil:
		return fmt.Sprintf("the API server answered %d, %v", f.status, f.cause)
	}
	words := fmt.Sprintf("the API server answered %d", f.status)
	if text := reach.OneLine(f.said, maxMessage); text != "" {
		words += fmt.Sprintf(", %q", text)
	}
	if hint := f.hint(); hint != "" {
		words += "; " + hint
	}
	return words
}

func (f *failed) Unwrap() error { return f.cause }

// hint says what to look at.
func (f *failed) hint() string {
	switch {
	case f.status/100 == 3:
		return "that is the address of another server, which is not asked; name the API server itself as server"
	case f.status == http.StatusUnauthorized:
		return "look whether token_file holds a token of the exchange's service account that is still good, and server and ca_file are of its cluster"
	case f.status == http.StatusForbidden && strings.Contains(f.said, "RBAC permissions not currently held"):
		return "the exchange's account may hand on only what it holds itself, or has the verb bind for; compare the task with the Role that docs/backends/kubernetes.md shows"
	case f.status == http.StatusForbidden:
		return "compare the roles of the exchange's account with those that docs/backends/kubernetes.md shows"
	case f.status == http.StatusNotFound:
		return "compare the configuration's namespaces and service accounts with what the cluster has"
	}
	return ""
}

// nothingDone: it is certain that the request changed nothing. A 5xx is no such answer.
func (f *failed) nothingDone() bool {
	switch f.status {
	case 0:
		return f.unsent
	case http.StatusRequestTimeout, http.StatusConflict: // of a conflict there is one of that name
		return false
	}
	return f.status >= 300 && f.status < 500
}

// temporary: waiting may help.
func (f *failed) temporary() bool {
	return f.status == 0 || f.cause != nil || f.status >= 500 || f.status == http.StatusTooManyRequests || f.status == http.StatusRequestTimeout
}

// Is: so that callers need not know of answers.
func (f *failed) Is(target error) bool { return target == backend.ErrUnavailable && f.temporary() }

// notFound: the API server says that there is nothing of that name. That it does not know
// what is asked for is no such answer.
func notFound(err error, name string) bool {
	var f *failed
	return errors.As(err, &f) && f.status == http.StatusNotFound && f.cause == nil && f.of == name
}

// nothingDone: see there.
func nothingDone(err error) bool {
	var f *failed
	return errors.As(err, &f) && f.nothingDone()
}

// call sends one request and reads its answer into out, where that is not nil. Its error
// is *failed.
func (b *Backend) call(ctx context.Context, method, path string, in, out any) error {
	token, err := b.token()
	if err != nil {
		return &failed{unsent: true, own: true, cause: err}
	}
	body, err := json.Marshal(in)
	if err != nil {
		return &failed{unsent: true, cause: err}
	}
	req, err := http.NewRequestWithContext(ctx, method, b.server+path, bytes.NewReader(body))
	if err != nil {
		return &failed{unsent: true, cause: err}
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "stepkey")
	req.Header.Set("Authorization", "Bearer "+token.Reveal())
	resp, unsent, err := reach.Do(b.http, req)
	if err != nil {
		return &failed{unsent: unsent, cause: err}
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
		return &failed{status: resp.StatusCode}
	case resp.StatusCode >= 300 && kindless && resp.StatusCode == http.StatusNotFound:
		return &failed{status: resp.StatusCode, cause: errForm} // it says nothing of what is there
	case resp.StatusCode >= 300:
		return &failed{status: resp.StatusCode, said: object.Message, of: object.Details.Name}
	case err != nil:
		return &failed{status: resp.StatusCode, cause: errCut}
	case kindless, out != nil && json.Unmarshal(text, out) != nil:
		return &failed{status: resp.StatusCode, cause: errForm}
	}
	return nil
}

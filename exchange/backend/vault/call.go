package vault

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
	"github.com/stepkey/stepkey/internal/secret"
)

const (
	maxAnswer  = 1 << 20 // bytes
	maxMessage = 200     // characters of the server's own words
)

// failed is a request that was not answered as it should be.
type failed struct {
	status int      // 0: there was no answer
	unsent bool     // no connection was had, so nothing was asked
	own    bool     // for want of the exchange's own token
	said   []string // the server's own words
	cause  error
}

func (f *failed) Error() string {
	switch {
	case f.own:
		return f.cause.Error()
	case f.status == 0 && f.unsent:
		return fmt.Sprintf("the server could not be reached: %v", f.cause)
	case f.status == 0:
		return fmt.Sprintf("the server did not answer: %v", f.cause)
	case f.status >= 300 && f.status < 400:
		return fmt.Sprintf("the server answered %d, that another one is to be asked; let address name one that serves requests itself or forwards them", f.status)
	case f.cause != nil:
		return fmt.Sprintf("the server answered %d, %v", f.status, f.cause)
	}
	words := fmt.Sprintf("the server answered %d", f.status)
	if text := reach.OneLine(strings.Join(f.said, "; "), maxMessage); text != "" {
		words += fmt.Sprintf(", %q", text)
	}
	if f.status == http.StatusForbidden {
		words += "; look whether the exchange's own token is still good, and has the policy that docs/backends/vault.md shows"
	}
	return words
}

func (f *failed) Unwrap() error { return f.cause }

// says: one of the server's errors ends so. It may put several into one, in lines with
// stars.
func (f *failed) says(words string) bool {
	for _, one := range f.said {
		for line := range strings.Lines(one) {
			if strings.HasSuffix(strings.ToLower(strings.TrimSpace(line)), words) {
				return true
			}
		}
	}
	return false
}

// nothingDone: it is certain that the request changed nothing. A 5xx is no such answer,
// but that the server is sealed is: it says so before it looks at a request.
func (f *failed) nothingDone() bool {
	switch f.status {
	case 0:
		return f.unsent
	case http.StatusRequestTimeout:
		return false
	case http.StatusServiceUnavailable:
		return f.says("is sealed")
	}
	return f.status >= 300 && f.status < 500
}

// temporary: waiting may help.
func (f *failed) temporary() bool {
	return f.status == 0 || f.cause != nil || f.status >= 500 || f.status == http.StatusTooManyRequests || f.status == http.StatusRequestTimeout
}

// call sends one request and reads its answer into out, where there is one. Its error is
// *failed, or that the exchange's own token could not be read, before anything was sent.
func (b *Backend) call(ctx context.Context, path string, in, out any) error {
	token, err := b.token()
	if err != nil {
		return &failed{unsent: true, own: true, cause: err}
	}
	body, err := json.Marshal(in)
	if err != nil {
		return &failed{unsent: true, cause: err}
	}
	// The transport sends a POST again only where it is sure that nothing of it was read.
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, b.address+"/v1/"+path, bytes.NewReader(body))
	if err != nil {
		return &failed{unsent: true, cause: err}
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "stepkey")
	req.Header.Set("X-Vault-Token", token.Reveal())
	req.Header.Set("X-Vault-Request", "true")
	if b.namespace != "" {
		req.Header.Set("X-Vault-Namespace", b.namespace)
	}
	resp, unsent, err := reach.Do(b.http, req)
	if err != nil {
		return &failed{unsent: unsent, cause: err}
	}
	defer func() { _ = resp.Body.Close() }()
	return read(resp, out)
}

var (
	errCut    = errors.New("and its answer was cut off")
	errForm   = errors.New("and its answer is none of Vault's or OpenBao's; look whether address is that of the server")
	errNoBody = errors.New("and no answer with it")
)

func read(resp *http.Response, out any) error {
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	switch {
	case resp.StatusCode >= 300:
		var refusal struct {
			Errors []string `json:"errors"`
		}
		_ = json.Unmarshal(text, &refusal) // without its words the status says enough
		return &failed{status: resp.StatusCode, said: refusal.Errors}
	case err != nil:
		return &failed{status: resp.StatusCode, cause: errCut}
	case resp.StatusCode == http.StatusNoContent && out == nil:
		return nil
	case len(bytes.TrimSpace(text)) == 0:
		return &failed{status: resp.StatusCode, cause: errNoBody}
	}
	// Every answer with a body has a request_id. A page of something in between has none.
	var frame struct {
		RequestID string `json:"request_id"`
	}
	if json.Unmarshal(text, &frame) != nil || frame.RequestID == "" {
		return &failed{status: resp.StatusCode, cause: errForm}
	}
	if out != nil && json.Unmarshal(text, out) != nil {
		return &failed{status: resp.StatusCode, cause: errForm}
	}
	return nil
}

// classify turns a failed call into the backend's terms. secrets are not repeated.
func classify(err error, creates bool, secrets ...secret.String) error {
	var f *failed
	if !errors.As(err, &f) {
		return err
	}
	for i := range f.said {
		for _, one := range secrets {
			if !one.Empty() {
				f.said[i] = strings.ReplaceAll(f.said[i], one.Reveal(), secret.Redacted)
			}
		}
	}
	if f.temporary() {
		err = fmt.Errorf("%w; %w", err, backend.ErrUnavailable)
	}
	if creates && f.nothingDone() {
		err = fmt.Errorf("%w; %w", err, backend.ErrNotCreated)
	}
	return err
}

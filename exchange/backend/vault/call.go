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
	reach.Failed
	said []string // the server's own words
}

func (f *failed) Error() string {
	words := f.Words("the server")
	switch {
	case f.Cause != nil:
		return words
	case f.Status >= 300 && f.Status < 400:
		return words + ", that another one is to be asked; let address name one that serves requests itself or forwards them"
	}
	if text := reach.OneLine(strings.Join(f.said, "; "), maxMessage); text != "" {
		words += fmt.Sprintf(", %q", text)
	}
	if f.Status == http.StatusForbidden {
		words += "; look whether the exchange's own token is still good, and has the policy that docs/backends/vault.md shows"
	}
	return words
}

// Is: so that callers need not know of answers.
func (f *failed) Is(target error) bool { return target == backend.ErrUnavailable && f.Temporary() }

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

// NothingDone: that the server is sealed is certain, too: it says so before it looks at a
// request.
func (f *failed) NothingDone() bool {
	return f.Failed.NothingDone() || f.Status == http.StatusServiceUnavailable && f.says("is sealed")
}

// call sends one request and reads its answer into out, where there is one. Its error is
// *failed, or that the exchange's own token could not be read, before anything was sent.
func (b *Backend) call(ctx context.Context, path string, in, out any) error {
	token, err := b.token()
	if err != nil {
		return &failed{Failed: reach.Failed{Unsent: true, Own: true, Cause: err}}
	}
	body, err := json.Marshal(in)
	if err != nil {
		return &failed{Failed: reach.Failed{Unsent: true, Cause: err}}
	}
	// The transport sends a POST again only where it is sure that nothing of it was read.
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, b.address+"/v1/"+path, bytes.NewReader(body))
	if err != nil {
		return &failed{Failed: reach.Failed{Unsent: true, Cause: err}}
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
		return &failed{Failed: reach.Failed{Unsent: unsent, Cause: err}}
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
		return &failed{Failed: reach.Failed{Status: resp.StatusCode}, said: refusal.Errors}
	case err != nil:
		return &failed{Failed: reach.Failed{Status: resp.StatusCode, Cause: errCut}}
	case resp.StatusCode == http.StatusNoContent && out == nil:
		return nil
	case len(bytes.TrimSpace(text)) == 0:
		return &failed{Failed: reach.Failed{Status: resp.StatusCode, Cause: errNoBody}}
	}
	// Every answer with a body has a request_id. A page of something in between has none.
	var frame struct {
		RequestID string `json:"request_id"`
	}
	if json.Unmarshal(text, &frame) != nil || frame.RequestID == "" {
		return &failed{Failed: reach.Failed{Status: resp.StatusCode, Cause: errForm}}
	}
	if out != nil && json.Unmarshal(text, out) != nil {
		return &failed{Failed: reach.Failed{Status: resp.StatusCode, Cause: errForm}}
	}
	return nil
}

// withoutSecret is a failed call in whose words the server does not repeat it.
func withoutSecret(err error, one secret.String) error {
	var f *failed
	if errors.As(err, &f) && !one.Empty() {
		for i := range f.said {
			f.said[i] = strings.ReplaceAll(f.said[i], one.Reveal(), secret.Redacted)
		}
	}
	return err
}

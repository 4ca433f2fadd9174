package kubernetes_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptrace"
	"testing"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/exchange/backend/kubernetes"
	"github.com/stepkey/stepkey/internal/secret"
)

// late is a connection that breaks under the nth request, which is carried out when land is
// called, as it is where a server took the request in and was slow.
type late struct {
	*line
	nth  int
	land func() (status int, err error)
}

func (l *late) RoundTrip(r *http.Request) (*http.Response, error) {
	if l.nth--; l.nth != -1 {
		return l.line.RoundTrip(r)
	}
	httptrace.ContextClientTrace(r.Context()).GotConn(httptrace.GotConnInfo{})
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	l.land = func() (int, error) {
		again := r.Clone(context.WithoutCancel(r.Context()))
		again.Body = io.NopCloser(bytes.NewReader(body))
		resp, err := l.line.RoundTrip(again)
		if err != nil {
			return 0, err
		}
		return resp.StatusCode, resp.Body.Close()
	}
	return nil, errBroken
}

// A creation is carried out after somebody asked for its end, who was told that nothing is
// there. So Issue gives nobody a handle to ask with, and its error says that something may
// exist: then the lease stays open until nothing can be under way, and its name is enough.
func TestWhatIsMadeAfterTheFirstRevocationIsFoundByTheNext(t *testing.T) {
	s := stage(t)
	for name, block := range every {
		for nth := range map[string]int{"rules": 3, "role": 2, "cluster role": 2, "service account": 1}[name] {
			broken := &late{line: s.line, nth: nth}
			b := s.open(func(o *kubernetes.Options) { o.Transport = broken })
			o := s.order(block)
			issued, err := b.Issue(t.Context(), o)
			if err == nil || errors.Is(err, backend.ErrNotCreated) || !errors.Is(err, backend.ErrUnavailable) || !issued.Handle.Empty() || broken.land == nil {
				t.Fatalf("%s, creation %d: there is a handle: %t; %v", name, nth, !issued.Handle.Empty(), err)
			}
			if err := s.Revoke(t.Context(), o.Lease, issued.Handle); err != nil {
				t.Errorf("%s, creation %d: %v", name, nth, err)
			}
			s.nothingLeft(o.Lease)
			// A binding to a role that the first revocation took away is refused, once the server knows.
			status, err := broken.land()
			if refused := status == http.StatusNotFound && name == "rules" && nth == 1; err != nil || status != http.StatusCreated && !refused {
				t.Fatalf("%s, creation %d: it is answered %d (%v)", name, nth, status, err)
			}
			if err := s.Revoke(t.Context(), o.Lease, secret.String{}); err != nil {
				t.Errorf("%s, creation %d, when it was carried out: %v", name, nth, err)
			}
			s.nothingLeft(o.Lease)
		}
	}
}

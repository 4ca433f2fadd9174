package kubernetes_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/exchange/backend/kubernetes"
)

// BenchmarkIssueAndRevoke is one lease after the other, each with all of its objects, and
// beside it the same requests, sent by nobody in particular: what the server itself takes.
func BenchmarkIssueAndRevoke(b *testing.B) {
	for name, block := range every {
		b.Run(name+"/backend", func(b *testing.B) {
			s := stage(b)
			for b.Loop() {
				s.wholeLife(s.Backend, s.order(block))
			}
		})
		b.Run(name+"/floor", func(b *testing.B) {
			s := stage(b)
			requests, of := s.requests(block)
			own, err := os.ReadFile(s.tokenFile)
			if err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				s.again(requests, of, string(own))
			}
			s.nothingLeft("")
		})
	}
}

func (s *scene) wholeLife(b *kubernetes.Backend, o backend.Order) {
	s.Helper()
	issued, err := b.Issue(s.Context(), o)
	if err != nil {
		s.Fatal(err)
	}
	if err := b.Revoke(s.Context(), o.Lease, issued.Handle); err != nil {
		s.Fatal(err)
	}
}

// request is one of a lease's, and what came of it.
type request struct {
	method, path, body string
	status             int
	uid                string // of what was made
}

// requests are those of one lease from its creation to its end.
func (s *scene) requests(block string) (all []request, of backend.LeaseID) {
	s.Helper()
	o := s.order(block)
	s.wholeLife(s.open(func(op *kubernetes.Options) {
		op.Transport = transport(func(r *http.Request) (*http.Response, error) {
			body, err := io.ReadAll(r.Body)
			if err != nil {
				return nil, err
			}
			again := r.Clone(r.Context())
			again.Body = io.NopCloser(bytes.NewReader(body))
			resp, err := s.line.RoundTrip(again)
			if err != nil {
				return nil, err
			}
			text, err := io.ReadAll(resp.Body)
			all = append(all, request{r.Method, r.URL.Path, string(body), resp.StatusCode, uidOf(text)})
			return answered(resp, resp.StatusCode, string(text)), err
		})
	}), o)
	if first, last := all[0], all[len(all)-1]; first.method != http.MethodPost || first.uid == "" || last.method != http.MethodDelete || last.status != http.StatusNotFound {
		s.Fatalf("this is not all that a lease takes: %v", all)
	}
	return all, o.Lease
}

func uidOf(object []byte) string {
	var got struct{ Metadata struct{ UID string } }
	_ = json.Unmarshal(object, &got) // not all that is answered is an object that was made
	return got.Metadata.UID
}

// again sends them for another lease, with the uids that its objects have.
func (s *scene) again(requests []request, of backend.LeaseID, token string) {
	s.Helper()
	other := newLease()
	names := []string{nameOf(of), nameOf(other), string(of), string(other)}
	for _, r := range requests {
		as := strings.NewReplacer(names...)
		status, text, err := s.Do(context.WithoutCancel(s.Context()), token, r.method, as.Replace(r.path), json.RawMessage(as.Replace(r.body)))
		if err != nil || status != r.status {
			s.Fatalf("%s %s is answered %d: %s (%v)", r.method, r.path, status, text, err)
		}
		if r.uid != "" {
			names = append(names, r.uid, uidOf(text))
		}
	}
}

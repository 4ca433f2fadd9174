package s3_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/oklog/ulid/v2"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/exchange/backend/s3"
	"github.com/stepkey/stepkey/internal/needs"
	"github.com/stepkey/stepkey/internal/realserver"
	"github.com/stepkey/stepkey/internal/secret"
	"github.com/stepkey/stepkey/internal/yamlfile"
)

// store is a real MinIO with two buckets, and a backend on it.
type store struct {
	testing.TB
	*realserver.MinIO
	*s3.Backend
	config s3.Config
	wire   *wire
}

// wire loses the answer to the next request when it is told to.
type wire struct {
	mu   sync.Mutex
	lose bool
}

func (w *wire) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := http.DefaultTransport.RoundTrip(r)
	w.mu.Lock()
	defer w.mu.Unlock()
	if err == nil && w.lose {
		w.lose = false
		_ = resp.Body.Close()
		return nil, errors.New("the connection was reset")
	}
	return resp, err
}

func (w *wire) loseNext() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lose = true
}

func startStore(t testing.TB) *store {
	t.Helper()
	server, err := realserver.StartMinIO(t.Context(), t.TempDir(), "127.0.0.1")
	needs.Started(t, err)
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	s := &store{TB: t, MinIO: server, wire: &wire{}}
	for _, bucket := range []string{"backups", "artifacts"} {
		if err := server.MakeBucket(t.Context(), bucket); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(t.TempDir(), "s3.secret")
	if err := os.WriteFile(file, []byte(server.Password+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.config = s3.Config{Kind: "minio", Endpoint: server.URL, AccessKey: server.User, SecretKeyFile: file, Buckets: []string{"backups", "artifacts"}, Listed: []string{"backups"}}
	s.Backend = s.as(server.URL, server.User, server.Password)
	return s
}

// as is a backend that asks there with another key.
func (s *store) as(endpoint, access, key string) *s3.Backend {
	s.Helper()
	limits, err := s.config.Limits()
	if err != nil {
		s.Fatal(err)
	}
	return s3.New(s3.Options{
		Limits: limits, Kind: "minio", Endpoint: endpoint, AccessKey: access, Transport: s.wire,
		SecretKey: func() (secret.String, error) { return secret.New(key), nil },
	})
}

// live counts the sessions that MinIO keeps: it has a folder for each.
func (s *store) live() int {
	s.Helper()
	entries, err := s.Stored(".minio.sys/config/iam/sts")
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		s.Fatal(err)
	}
	return len(entries)
}

func node(t testing.TB, block string) backend.Block {
	t.Helper()
	root, err := yamlfile.Parse("task.yaml", []byte("credential:\n  s3: "+block+"\n"))
	if err != nil {
		t.Fatal(err)
	}
	return root.Get("credential", "s3")
}

func order(t testing.TB, b *s3.Backend, block string) backend.Order {
	t.Helper()
	scope, err := b.Scope(node(t, block))
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now().UTC()
	return backend.Order{Lease: backend.LeaseID("lease_" + ulid.Make().String()), Scope: scope, At: now, Until: now.Add(20 * time.Minute), For: "acme/widget, workflow backup"}
}

func (s *store) issue(block string) (backend.LeaseID, map[string]secret.String) {
	s.Helper()
	o := order(s, s.Backend, block)
	issued, err := s.Issue(s.Context(), o)
	if err != nil {
		s.Fatal(err)
	}
	return o.Lease, issued.Values
}

// refused is an answer of the server's to a credential.
type refused struct {
	status int
	text   string
}

func (r *refused) Error() string { return fmt.Sprintf("the server answered %d: %s", r.status, r.text) }

// request is one with headers of its own.
type request struct {
	method, target, body string
	header               http.Header
}

// do is one request of S3's with a session, as a client of it makes one.
func do(ctx context.Context, values map[string]secret.String, method, target, body string) (string, error) {
	return doWith(ctx, values, request{method, target, body, nil})
}

func doWith(ctx context.Context, values map[string]secret.String, r request) (string, error) {
	req, err := http.NewRequestWithContext(ctx, r.method, values["endpoint"].Reveal()+r.target, strings.NewReader(r.body))
	if err != nil {
		return "", err
	}
	if r.header != nil {
		req.Header = r.header.Clone()
	}
	sum := sha256.Sum256([]byte(r.body))
	hash := hex.EncodeToString(sum[:])
	req.Header.Set("X-Amz-Content-Sha256", hash)
	session := aws.Credentials{
		AccessKeyID: values["access_key_id"].Reveal(), SecretAccessKey: values["secret_access_key"].Reveal(), SessionToken: values["session_token"].Reveal(),
	}
	if err := v4.NewSigner().SignHTTP(ctx, session, req, hash, "s3", values["region"].Reveal(), time.Now()); err != nil {
		return "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode/100 != 2 {
		err = &refused{resp.StatusCode, string(text)}
	}
	return resp.Header.Get("ETag") + string(text), err
}

// put writes an object.
func put(ctx context.Context, values map[string]secret.String, target string) error {
	_, err := do(ctx, values, http.MethodPut, target, "what is kept")
	return err
}

// isRefused fails unless the server itself refuses, with one of S3's codes.
func isRefused(t testing.TB, err error, what string, codes ...string) {
	t.Helper()
	var no *refused
	if !errors.As(err, &no) || no.status != http.StatusForbidden {
		t.Errorf("%s: %v; want it refused with 403", what, err)
		return
	}
	for _, code := range codes {
		if strings.Contains(no.text, "<Code>"+code+"</Code>") || strings.Contains(no.text, `"Code":"`+code+`"`) {
			return
		}
	}
	t.Errorf("%s is refused with %s; want one of %v", what, no.text, codes)
}

package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"github.com/stepkey/stepkey/exchange/client"
	"github.com/stepkey/stepkey/internal/needs"
	"github.com/stepkey/stepkey/internal/realserver"
)

// sessions are those of one run on a MinIO that all runs share. It lists none, so they are
// read from its answers, also from those that nobody got.
type sessions struct {
	*realserver.MinIO
	server http.Handler
	mu     sync.Mutex
	all    map[string]aws.Credentials // by lease
}

func startS3(t *testing.T) func(*crashRun) outsider {
	t.Helper()
	m, err := realserver.StartMinIO(t.Context(), t.TempDir(), "127.0.0.1")
	needs.Started(t, err)
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := m.MakeBucket(t.Context(), "backups"); err != nil {
		t.Fatal(err)
	}
	return func(r *crashRun) outsider {
		return &sessions{MinIO: m, server: forward(r, m.URL, nil), all: map[string]aws.Credentials{}}
	}
}

func (s *sessions) configure(r *crashRun) (backend, credential string) {
	write(r.t, r.dir, "s3.secret", []byte(s.Password+"\n"))
	address := serveWeb(r.t, &web{passage: &r.outside.passage, to: s}).URL
	return fmt.Sprintf("s3: {kind: minio, endpoint: %q, access_key: %s, secret_key_file: s3.secret, buckets: [backups]}", address, s.User),
		"s3: {bucket: backups, prefix: widget/, actions: [read, write]}"
}

func (s *sessions) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	answer := httptest.NewRecorder()
	s.server.ServeHTTP(answer, r)
	s.keep(body, answer.Body.Bytes())
	for name, values := range answer.Header() {
		w.Header()[name] = values
	}
	w.WriteHeader(answer.Code)
	_, _ = w.Write(answer.Body.Bytes())
}

func (s *sessions) keep(asked, answered []byte) {
	form, err := url.ParseQuery(string(asked))
	var got struct {
		Access string `xml:"AssumeRoleResult>Credentials>AccessKeyId"`
		Secret string `xml:"AssumeRoleResult>Credentials>SecretAccessKey"`
		Token  string `xml:"AssumeRoleResult>Credentials>SessionToken"`
	}
	if err != nil || form.Get("Action") != "AssumeRole" || xml.Unmarshal(answered, &got) != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all[form.Get("TokenRevokeType")] = aws.Credentials{AccessKeyID: got.Access, SecretAccessKey: got.Secret, SessionToken: got.Token}
}

func (*sessions) use(*crashRun, *client.Grant) {}

func (s *sessions) alive(r *crashRun) map[string]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	alive := map[string]string{}
	for id, session := range s.all {
		taken, err := s.takes(r.t.Context(), session)
		if err != nil {
			r.t.Fatal(err)
		}
		if taken {
			alive[id] = "a session"
		}
	}
	return alive
}

// takes: the server knows the session, whatever it lets it do.
func (s *sessions) takes(ctx context.Context, session aws.Credentials) (bool, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL+"/backups/widget/none", http.NoBody)
	if err != nil {
		return false, err
	}
	sum := sha256.Sum256(nil)
	hash := hex.EncodeToString(sum[:])
	req.Header.Set("X-Amz-Content-Sha256", hash)
	if err := v4.NewSigner().SignHTTP(ctx, session, req, hash, "s3", "us-east-1", time.Now()); err != nil {
		return false, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false, err
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return false, err
	}
	for _, code := range []string{"InvalidAccessKeyId", "InvalidTokenId", "ExpiredToken"} {
		if strings.Contains(string(text), "<Code>"+code+"</Code>") {
			return false, nil
		}
	}
	if resp.StatusCode != http.StatusNotFound && resp.StatusCode != http.StatusForbidden {
		return false, fmt.Errorf("MinIO answers a session with %d: %s", resp.StatusCode, text)
	}
	return true, nil
}

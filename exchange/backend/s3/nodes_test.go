package s3_test

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/exchange/backend/s3"
	"github.com/stepkey/stepkey/internal/needs"
	"github.com/stepkey/stepkey/internal/realserver"
	"github.com/stepkey/stepkey/internal/secret"
)

// Each node of a MinIO has the sessions in a memory of its own: one that is told to end a
// session tells no other.
func TestASessionEndsOnEveryNodeThatIsNamed(t *testing.T) {
	nodes, err := realserver.StartMinIONodes(t.Context(), t.TempDir(), 4)
	for _, node := range nodes {
		t.Cleanup(func() {
			if err := node.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	needs.Started(t, err)
	if err := nodes[0].MakeBucket(t.Context(), "backups"); err != nil {
		t.Fatal(err)
	}
	var urls []string
	for _, node := range nodes {
		urls = append(urls, node.URL)
	}
	knowing := onNodes(nodes[0], urls)
	o := order(t, knowing, task)
	issued, err := knowing.Issue(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	takenBy(t, issued, urls, len(urls), "before its end")
	if err := onNodes(nodes[0], nil).Revoke(t.Context(), o.Lease, issued.Handle); err != nil {
		t.Fatal(err)
	}
	takenBy(t, issued, urls, len(urls)-1, "where one node alone was told; should that be 0, docs/backends/s3.md is too strict")

	last := nodes[len(nodes)-1]
	if err := last.Close(); err != nil {
		t.Fatal(err)
	}
	if err := knowing.Revoke(t.Context(), o.Lease, issued.Handle); !errors.Is(err, backend.ErrUnavailable) {
		t.Errorf("while a node is down: %v; want ErrUnavailable", err)
	}
	takenBy(t, issued, urls[:len(urls)-1], 0, "on the nodes that could be told")
	if err := last.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := knowing.Revoke(t.Context(), o.Lease, issued.Handle); err != nil {
		t.Errorf("with all nodes up again: %v", err)
	}
	takenBy(t, issued, urls, 0, "after its end")
}

// onNodes is a backend on the first node, which was told of these.
func onNodes(first *realserver.MinIO, urls []string) *s3.Backend {
	return s3.New(s3.Options{
		Limits: s3.Limits{Buckets: []string{"backups"}}, Kind: "minio", Endpoint: first.URL, Nodes: urls, AccessKey: first.User,
		SecretKey: func() (secret.String, error) { return secret.New(first.Password), nil },
	})
}

// takenBy fails unless that many of the nodes take the session.
func takenBy(t *testing.T, issued backend.Issued, urls []string, want int, when string) {
	t.Helper()
	taken := 0
	for _, url := range urls {
		issued.Values["endpoint"] = secret.New(url)
		err := answered(t, issued.Values)
		if err == nil {
			taken++
			continue
		}
		isRefused(t, err, when, "InvalidAccessKeyId")
	}
	if taken != want {
		t.Errorf("%s: %d of %d nodes take the session, want %d", when, taken, len(urls), want)
	}
}

// answered writes an object, and asks again while the nodes are busy finding each other.
func answered(t *testing.T, values map[string]secret.String) error {
	t.Helper()
	ctx, done := context.WithTimeout(t.Context(), time.Minute)
	defer done()
	again := time.NewTicker(100 * time.Millisecond)
	defer again.Stop()
	for {
		err := put(ctx, values, "/backups/widget/x")
		var no *refused
		if !errors.As(err, &no) || no.status != http.StatusServiceUnavailable {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-again.C:
		}
	}
}

package s3_test

import (
	"encoding/xml"
	"errors"
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/internal/needs"
	"github.com/stepkey/stepkey/internal/secret"
)

// trial is one thing that may be tried with a session.
type trial struct{ method, target, body string }

var trials = map[string]trial{
	"read":                  {http.MethodGet, "/backups/widget/nightly/a", ""},
	"write":                 {http.MethodPut, "/backups/widget/nightly/b", "b"},
	"write deeper":          {http.MethodPut, "/backups/widget/nightly/2026/b", "b"},
	"delete":                {http.MethodDelete, "/backups/widget/nightly/b", ""},
	"list":                  {http.MethodGet, "/backups?list-type=2&prefix=widget%2Fnightly%2F", ""},
	"list deeper":           {http.MethodGet, "/backups?list-type=2&prefix=widget%2Fnightly%2F2026%2F", ""},
	"begin parts":           {http.MethodPost, "/backups/widget/nightly/parts?uploads=", ""},
	"list all":              {http.MethodGet, "/backups?list-type=2", ""},
	"list above":            {http.MethodGet, "/backups?list-type=2&prefix=widget%2F", ""},
	"list elsewhere":        {http.MethodGet, "/artifacts?list-type=2&prefix=widget%2Fnightly%2F", ""},
	"list uploads":          {http.MethodGet, "/backups?uploads=&prefix=widget%2Fnightly%2F", ""},
	"read above":            {http.MethodGet, "/backups/widget/a", ""},
	"write above":           {http.MethodPut, "/backups/widget/b", "b"},
	"write beside":          {http.MethodPut, "/backups/widget/nightly-2/b", "b"},
	"write to another":      {http.MethodPut, "/artifacts/widget/nightly/b", "b"},
	"delete above":          {http.MethodDelete, "/backups/widget/a", ""},
	"all buckets":           {http.MethodGet, "/", ""},
	"make a bucket":         {http.MethodPut, "/mine", ""},
	"read the policy":       {http.MethodGet, "/backups?policy=", ""},
	"open the bucket":       {http.MethodPut, "/backups?policy=", `{"Version":"2012-10-17","Statement":[]}`},
	"tag":                   {http.MethodPut, "/backups/widget/nightly/a?tagging=", `<Tagging><TagSet></TagSet></Tagging>`},
	"server's own business": {http.MethodGet, "/minio/admin/v3/info", ""},
}

// What a task may and may not, by the server's own word.
func TestMinIORefusesWhatIsNotGranted(t *testing.T) {
	s := startStore(t)
	for _, key := range []string{"widget/nightly/a", "widget/a"} {
		if err := s.Put(t.Context(), "backups", key, "a"); err != nil {
			t.Fatal(err)
		}
	}
	for block, can := range map[string][]string{
		"[read]":                      {"read"},
		"[write]":                     {"write", "write deeper", "begin parts"},
		"[list]":                      {"list", "list deeper"},
		"[delete]":                    {"delete"},
		"[read, write, list, delete]": {"read", "write", "write deeper", "begin parts", "list", "list deeper", "delete"},
	} {
		_, values := s.issue("{bucket: backups, prefix: widget/nightly/, actions: " + block + "}")
		for name, try := range trials {
			_, err := do(t.Context(), values, try.method, try.target, try.body)
			if granted := slices.Contains(can, name); granted && err != nil {
				t.Errorf("%s: %s: %v", block, name, err)
			} else if !granted {
				isRefused(t, err, block+": "+name, "AccessDenied")
			}
		}
	}
}

// gone fails unless the server does not know the session any more.
func gone(t testing.TB, values map[string]secret.String, when string) {
	t.Helper()
	isRefused(t, put(t.Context(), values, "/backups/widget/x"), when, "InvalidAccessKeyId")
}

func TestAnUploadUnderWayStopsWhenItsSessionIsRevoked(t *testing.T) {
	s := startStore(t)
	o := order(t, s.Backend, "{bucket: backups, prefix: widget/, actions: [write]}")
	issued, err := s.Issue(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	text, err := do(t.Context(), issued.Values, http.MethodPost, "/backups/widget/dump?uploads=", "")
	if err != nil {
		t.Fatal(err)
	}
	var begun struct{ UploadId string } //nolint:revive // S3's own spelling
	if err := xml.Unmarshal([]byte(text), &begun); err != nil || begun.UploadId == "" {
		t.Fatalf("the upload has no id: %v, %s", err, text)
	}
	part := "/backups/widget/dump?uploadId=" + begun.UploadId + "&partNumber="
	if _, err := do(t.Context(), issued.Values, http.MethodPut, part+"1", "the first part"); err != nil {
		t.Fatal(err)
	}
	if err := s.Revoke(t.Context(), o.Lease, issued.Handle); err != nil {
		t.Fatal(err)
	}
	_, err = do(t.Context(), issued.Values, http.MethodPut, part+"2", "the second")
	isRefused(t, err, "the next part", "InvalidAccessKeyId")
	_, err = do(t.Context(), issued.Values, http.MethodPost, "/backups/widget/dump?uploadId="+begun.UploadId, "<CompleteMultipartUpload></CompleteMultipartUpload>")
	isRefused(t, err, "putting it together", "InvalidAccessKeyId")
	if keys, err := s.Objects(t.Context(), "backups"); err != nil || len(keys) > 0 {
		t.Errorf("the bucket has %v, %v", keys, err)
	}
}

// MinIO itself forgets after a restart which sessions there are, until each is used: what
// it says then of a revocation by name is not true. The session must end nevertheless.
func TestASessionIsRevokedAfterTheServersRestart(t *testing.T) {
	s := startStore(t)
	type held struct {
		backend.Order
		backend.Issued
	}
	var all []held
	for range 2 {
		o := order(t, s.Backend, "{bucket: backups, prefix: widget/, actions: [write]}")
		issued, err := s.Issue(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, held{o, issued})
	}
	if err := errors.Join(s.Close(), s.Start(t.Context())); err != nil {
		t.Fatal(err)
	}
	byName, byHandle := all[0], all[1]
	if err := s.Revoke(t.Context(), byName.Lease, secret.String{}); !errors.Is(err, backend.ErrLost) {
		t.Errorf("without a handle: %v; want ErrLost, since the server cannot be believed", err)
	}
	if err := s.Revoke(t.Context(), byHandle.Lease, byHandle.Handle); err != nil {
		t.Fatal(err)
	}
	gone(t, byHandle.Values, "the session that was revoked")
	if left := s.live(); left != 1 {
		t.Errorf("MinIO keeps %d sessions; that of the lost handle should be there still", left)
	}
}

func TestAMeasureOfRevocationsLeavesTheOthersAlone(t *testing.T) {
	s := startStore(t)
	const many = 200
	_, other := s.issue("{bucket: backups, prefix: widget/, actions: [write]}")
	var all sync.WaitGroup
	slots := make(chan struct{}, 8)
	for range many {
		o := order(t, s.Backend, "{bucket: backups, prefix: widget/, actions: [read, write]}")
		all.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			issued, err := s.Issue(t.Context(), o)
			if err == nil {
				err = put(t.Context(), issued.Values, "/backups/widget/x")
			}
			if err == nil {
				err = s.Revoke(t.Context(), o.Lease, issued.Handle)
			}
			if err != nil {
				t.Error(err)
				return
			}
			gone(t, issued.Values, "one of many")
		})
	}
	all.Wait()
	if left := s.live(); left != 1 {
		t.Errorf("MinIO keeps %d sessions, want the one of another lease", left)
	}
	if err := put(t.Context(), other, "/backups/widget/x"); err != nil {
		t.Errorf("another lease's session: %v", err)
	}
}

// curl is what a workflow's step has. Its configuration comes by standard input, so that
// no secret is among its arguments.
func TestCurlWritesWithASession(t *testing.T) {
	needs.Programs(t, "curl")
	s := startStore(t)
	o := order(t, s.Backend, "{bucket: backups, prefix: widget/, actions: [write]}")
	issued, err := s.Issue(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	upload := func() ([]byte, error) {
		c := exec.CommandContext(t.Context(), "bash", "-euc", page.Blocks(t, "sh")[1]) // the first is for MinIO's own client
		c.Dir = t.TempDir()
		c.Env = []string{"PATH=/usr/bin:/bin"}
		for variable, name := range issued.Env {
			c.Env = append(c.Env, variable+"="+issued.Values[name].Reveal())
		}
		return c.CombinedOutput()
	}
	if said, err := upload(); err != nil {
		t.Fatalf("%v: %s", err, said)
	}
	if text, err := s.Get(t.Context(), "backups", "widget/nightly/dump.txt"); err != nil || text != "what is kept\n" {
		t.Errorf("the bucket has %q, %v", text, err)
	}
	if err := s.Revoke(t.Context(), o.Lease, issued.Handle); err != nil {
		t.Fatal(err)
	}
	if said, err := upload(); err == nil || !strings.Contains(string(said), "403") {
		t.Errorf("after the end curl says %v: %s", err, said)
	}
}

func TestWhatTheServerRefusesIsSaidWithTheRemedy(t *testing.T) {
	s := startStore(t)
	o := order(t, s.Backend, "{bucket: backups, prefix: widget/, actions: [write]}")
	for says, c := range map[string]struct{ at, access, key string }{
		"does not know the access_key":    {s.URL, "nobody", s.Password},
		"secret_key_file holds the key":   {s.URL, s.User, "another-secret-key"},
		"the server could not be reached": {"http://127.0.0.1:1", s.User, s.Password},
	} {
		b := s.as(c.at, c.access, c.key)
		_, err := b.Issue(t.Context(), o)
		if err == nil || !strings.Contains(err.Error(), says) || !errors.Is(err, backend.ErrNotCreated) || strings.Contains(err.Error(), c.key) {
			t.Errorf("%v; want …%s…, and that nothing was created", err, says)
		}
	}
}

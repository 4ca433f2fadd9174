package server

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"

	"github.com/stepkey/stepkey/internal/secret"
)

// FuzzDelivery: whatever arrives, a job is over only by a signed word that names it
// by positive numbers.
func FuzzDelivery(f *testing.F) {
	good := `{"action":"completed","workflow_job":{"id":71,"run_id":7,"run_attempt":1,"status":"completed"},"repository":{"id":456789}}`
	for _, body := range []string{
		good, "", "{", "[]", "null", `{"action":"completed"}`, `{"action":"queued","workflow_job":{"id":1}}`,
		`{"ACTION":"completed","workflow_job":{"id":1,"run_id":1,"run_attempt":99999999999,"status":"completed"},"repository":{"id":9223372036854775807}}`,
		`{"action":"completed","workflow_job":{"id":1.5,"run_id":-1,"run_attempt":0,"status":"completed"},"repository":{"id":"1"}}`,
	} {
		f.Add([]byte(body), "", true)
		f.Add([]byte(body), "sha256=00", false)
	}
	hook := GitHubWebhook{Issuer: "github", Secret: secret.New("0123456789abcdef")}
	f.Fuzz(func(t *testing.T, body []byte, signature string, sign bool) {
		m := hmac.New(sha256.New, []byte("0123456789abcdef"))
		m.Write(body)
		good := "sha256=" + hex.EncodeToString(m.Sum(nil))
		if sign {
			signature = good
		}
		r := httptest.NewRequest(http.MethodPost, "/webhooks/github", bytes.NewReader(body))
		r.Header = http.Header{"Content-Type": {"application/json"}, "X-Github-Event": {"workflow_job"}, "X-Hub-Signature-256": {signature}}
		job, err := hook.read(r)
		if signature != good && err == nil {
			t.Fatalf("taken without a signature: %+v", job)
		}
		if job == nil {
			return
		}
		for _, id := range []string{job.Repository, job.Run, job.ID} {
			if n, err := strconv.ParseInt(id, 10, 64); err != nil || n <= 0 {
				t.Errorf("%q is no id", id)
			}
		}
		if job.Issuer != "github" || job.Attempt <= 0 {
			t.Errorf("read as %+v", job)
		}
	})
}

package server

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"

	"github.com/stepkey/stepkey/internal/secret"
)

// FuzzDelivery: whatever arrives, something follows only from a signed word that names
// all it is about by positive numbers, and only as the event that its body is.
func FuzzDelivery(f *testing.F) {
	for _, body := range []string{
		`{"action":"completed","workflow_job":{"id":71,"run_id":7,"run_attempt":1,"status":"completed"},"repository":{"id":456789}}`,
		`{"action":"completed","workflow_run":{"id":7,"run_attempt":2,"status":"completed"},"repository":{"id":456789}}`,
		`{"action":"deleted","installation":{"id":5,"app_id":9},"repositories":[{"id":456789},{"id":456790}]}`,
		`{"action":"suspend","installation":{"id":5,"app_id":9}}`,
		`{"action":"removed","installation":{"id":5,"app_id":9},"repositories_added":[],"repositories_removed":[{"id":456789}]}`,
		`{"action":"deleted","installation":{"id":5},"repository":{"id":456789}}`,
		`{"action":"removed","installation":{"id":5,"app_id":9},"repositories_removed":[{"id":-1}]}`,
		`{"action":"removed","installation":{"id":0,"app_id":9},"repositories_removed":[null]}`,
		`{"action":"completed","workflow_job":{"id":1},"workflow_run":{"id":1},"repository":{"id":1}}`,
		"", "{", "[]", "null", `{"action":"completed"}`, `{"action":"queued","workflow_job":{"id":1}}`,
		`{"ACTION":"completed","workflow_job":{"id":1,"run_id":1,"run_attempt":99999999999,"status":"completed"},"repository":{"id":9223372036854775807}}`,
		`{"action":"completed","workflow_job":{"id":1.5,"run_id":-1,"run_attempt":0,"status":"completed"},"repository":{"id":"1"}}`,
	} {
		for _, event := range []string{workflowJob, workflowRun, installation, installationRepositories} {
			f.Add([]byte(body), event, "", true)
		}
		f.Add([]byte(body), workflowJob, "sha256=00", false)
	}
	hook := GitHubWebhook{Issuer: "github", Secret: secret.New("0123456789abcdef")}
	f.Fuzz(func(t *testing.T, body []byte, event, signature string, sign bool) {
		m := hmac.New(sha256.New, []byte("0123456789abcdef"))
		m.Write(body)
		good := "sha256=" + hex.EncodeToString(m.Sum(nil))
		if sign {
			signature = good
		}
		r := httptest.NewRequest(http.MethodPost, "/webhooks/github", bytes.NewReader(body))
		r.Header = http.Header{"Content-Type": {"application/json"}, "X-Github-Event": {event}, "X-Hub-Signature-256": {signature}}
		what, err := hook.read(r, make(chan struct{}, 1))
		if signature != good && err == nil {
			t.Fatalf("taken without a signature: %+v", what)
		}
		if what != nil {
			checkTold(t, *what, event)
		}
	})
}

func checkTold(t *testing.T, what told, event string) {
	var named []string
	as := ""
	if job := what.job; job != nil {
		as, named = as+workflowJob, []string{job.Repository, job.Run, strconv.Itoa(job.Attempt), job.ID}
		if job.Issuer != "github" {
			t.Errorf("read as %+v", job)
		}
	}
	if run := what.run; run != nil {
		as, named = as+workflowRun, []string{run.Repository, run.ID, strconv.Itoa(run.Attempt)}
	}
	if access := what.access; access != nil {
		named = append([]string{strconv.FormatInt(access.installation, 10)}, access.repositories...)
		if as += event; event != installation && event != installationRepositories {
			t.Errorf("read as the loss of %+v", access)
		}
	}
	if as != event {
		t.Errorf("%s was taken for %s: %s", event, as, what)
	}
	for _, id := range named {
		if n, err := strconv.ParseInt(id, 10, 64); err != nil || n <= 0 {
			t.Errorf("%q is no id", id)
		}
	}
}

// Of long bodies a few are read at once, so that who signs nothing cannot fill the
// memory with them.
func TestLongDeliveriesWaitForNone(t *testing.T) {
	long := make(chan struct{}, 1)
	send := func(n int, announced bool) error {
		r := httptest.NewRequest(http.MethodPost, "/webhooks/github", bytes.NewReader(make([]byte, n)))
		if !announced {
			r.ContentLength = -1
		}
		_, err := readDelivery(r, long)
		return err
	}
	for name, c := range map[string]struct {
		n         int
		announced bool
		taken     bool // with another one being read
	}{
		"of the usual size":          {maxUsual, true, true},
		"usual, and of no length":    {maxUsual, false, true},
		"too long, and of no length": {maxUsual + 1, false, false},
	} {
		if err := send(c.n, c.announced); (err == nil) != c.taken {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := send(maxUsual+1, true); err != nil {
		t.Errorf("one long delivery: %v", err)
	}
	long <- struct{}{}
	if err := send(maxUsual+1, true); !errors.Is(err, errBusy) {
		t.Errorf("one too many: %v", err)
	}
	if err := send(maxUsual, true); err != nil {
		t.Errorf("a usual one meanwhile: %v", err)
	}
}

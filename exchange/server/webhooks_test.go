package server_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha1" //nolint:gosec // to show that such a signature counts for nothing
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stepkey/stepkey/exchange"
	"github.com/stepkey/stepkey/exchange/client"
	"github.com/stepkey/stepkey/exchange/githubapp"
	"github.com/stepkey/stepkey/exchange/server"
	"github.com/stepkey/stepkey/internal/githubsim"
	"github.com/stepkey/stepkey/internal/secret"
)

const hookSecret = "a webhook secret that GitHub signs with"

// hooked is a scene whose exchange is told of jobs, and can ask about them.
type hooked struct {
	*scene
	app        githubsim.App // that is told and asks
	installed  int64
	forgotten  []int64 // installations; read it only after an answer
	hook       *githubsim.Webhook
	reconciler *exchange.Reconciler
}

func stageHooked(t testing.TB, within time.Duration) *hooked {
	t.Helper()
	sc := stage(t)
	app := sc.gh.AddApp(githubsim.App{Permissions: map[string]string{"actions": "read"}})
	installed := sc.gh.Install(app, "acme")
	api, err := githubapp.New(githubapp.Config{API: sc.gh.URL(), ClientID: app.ClientID, Key: app.Key})
	if err != nil {
		t.Fatal(err)
	}
	jobs := api.Jobs()
	t.Cleanup(func() { _ = jobs.Close(t.Context()) })
	sc.x.Jobs = map[string]exchange.Jobs{"github": jobViews{jobs}}
	h := &hooked{scene: sc, app: app, installed: installed}
	s := &server.Server{
		Exchange: sc.x, URL: audience, Ready: sc.store.Ready, Log: sc.x.Log,
		GitHub: &server.GitHubWebhook{
			Issuer: "github", Secret: secret.New(hookSecret), AnswerWithin: within, Reaches: api.Reaches,
			Forget: func(installation int64) { h.forgotten = append(h.forgotten, installation); api.Forget(installation) },
		},
	}
	web := httptest.NewServer(s.Public())
	t.Cleanup(web.Close)
	sc.url = web.URL
	h.hook = sc.gh.AddWebhook(app, web.URL+"/webhooks/github", hookSecret)
	h.reconciler = &exchange.Reconciler{
		Exchange: sc.x, Issuer: "github", RunsPerMinute: 60, Log: sc.x.Log,
		Now: func() time.Time { return time.Now().Add(2 * time.Minute) }, // every lease is old enough
	}
	return h
}

func (h *hooked) give(t testing.TB, j *githubsim.Job) client.TokenResponse {
	t.Helper()
	var given client.TokenResponse
	if status, _ := h.post(t, "/token", tokenForm(subjectToken(t, j)), &given); status != http.StatusOK {
		t.Fatalf("answered %d", status)
	}
	return given
}

func (h *hooked) state(t testing.TB, given client.TokenResponse) client.Introspection {
	t.Helper()
	var seen client.Introspection
	h.post(t, "/introspect", url.Values{"token": {given.Lease.Token}}, &seen)
	return seen
}

// last is the delivery that tells of the newest move.
func (h *hooked) last() githubsim.Delivery {
	all := h.hook.Deliveries()
	return all[len(all)-1]
}

// send makes one delivery by hand.
func (h *hooked) send(t *testing.T, body string, header map[string]string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, h.url+"/webhooks/github", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range header {
		for _, one := range strings.Split(value, "\n") {
			r.Header.Add(name, one)
		}
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	said, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, string(said)
}

func mac(algorithm func() hash.Hash, key, body string) string {
	m := hmac.New(algorithm, []byte(key))
	m.Write([]byte(body))
	return hex.EncodeToString(m.Sum(nil))
}

func signed(body string) map[string]string {
	return map[string]string{
		"X-GitHub-Event": "workflow_job", "Content-Type": "application/json",
		"X-Hub-Signature-256": "sha256=" + mac(sha256.New, hookSecret, body),
	}
}

func having(header map[string]string, name, value string) map[string]string {
	if value == "" {
		delete(header, name)
		return header
	}
	header[name] = value
	return header
}

func TestWhenAJobIsOverItsCredentialIsOverAtOnce(t *testing.T) {
	h := stageHooked(t, 0)
	h.hook.Hold()
	j := h.job(t, githubsim.JobSpec{})
	given := h.give(t, j)
	for _, d := range h.hook.Deliveries() { // queued, in_progress
		if status, err := h.hook.Deliver(d.ID); status != http.StatusNoContent || err != nil {
			t.Errorf("%s: %d, %v", d.Action, status, err)
		}
	}
	if status := h.use(t, given.AccessToken, "acme/widget"); status != http.StatusOK {
		t.Fatalf("while the job runs: %d", status)
	}
	j.Complete("failure")
	for range 2 { // and again
		if status, err := h.hook.Deliver(h.last().ID); status != http.StatusNoContent || err != nil {
			t.Errorf("completed: %d, %v", status, err)
		}
	}
	if status := h.use(t, given.AccessToken, "acme/widget"); status != http.StatusUnauthorized {
		t.Errorf("after its job: %d", status)
	}
	if seen := h.state(t, given); seen.State != "revoked" || seen.Reason != "its job was over" {
		t.Errorf("introspected as %+v", seen)
	}
}

func TestWhenEveryEventIsLostTheReconcilerEndsIt(t *testing.T) {
	h := stageHooked(t, 0)
	h.hook.Hold()
	j, other := h.job(t, githubsim.JobSpec{}), h.job(t, githubsim.JobSpec{})
	given, lives := h.give(t, j), h.give(t, other)
	h.reconciler.Sweep(t.Context())
	j.Complete("cancelled")
	if seen := h.state(t, given); !seen.Active {
		t.Fatalf("before the sweep: %+v", seen)
	}
	h.reconciler.Sweep(t.Context())
	if seen := h.state(t, given); seen.State != "revoked" || seen.Reason != "its job was over" {
		t.Errorf("introspected as %+v", seen)
	}
	if status := h.use(t, lives.AccessToken, "acme/widget"); status != http.StatusOK {
		t.Errorf("a job in progress: %d", status)
	}
}

func TestAnEventOfAnEarlierAttemptLeavesTheNewOneAlone(t *testing.T) {
	h := stageHooked(t, 0)
	h.hook.Hold()
	first := h.job(t, githubsim.JobSpec{})
	old := h.give(t, first)
	first.Complete("failure")
	late := h.last()
	second := h.job(t, githubsim.JobSpec{RunID: first.RunID(), RunAttempt: 2})
	given := h.give(t, second) // a newer attempt ends what the older one held
	for range 3 {
		if status, err := h.hook.Deliver(late.ID); status != http.StatusNoContent || err != nil {
			t.Errorf("%d, %v", status, err)
		}
	}
	if status := h.use(t, given.AccessToken, "acme/widget"); status != http.StatusOK {
		t.Errorf("the new attempt's credential: %d", status)
	}
	if seen := h.state(t, old); seen.Active {
		t.Errorf("the old attempt's: %+v", seen)
	}
}

// What GitHub did not send, or did not mean, changes nothing.
func TestForgedAndForeignDeliveriesEndNothing(t *testing.T) {
	h := stageHooked(t, 0)
	h.hook.Hold()
	j := h.job(t, githubsim.JobSpec{})
	given := h.give(t, j)
	event := func(change string, to any) string {
		e := map[string]any{"action": "completed", "id": j.ID(), "run": j.RunID(), "attempt": 1, "status": "completed", "repository": 456789}
		e[change] = to
		return fmt.Sprintf(`{"action":%q,"workflow_job":{"id":%v,"run_id":%v,"run_attempt":%v,"status":%q},"repository":{"id":%v}}`,
			e["action"], e["id"], e["run"], e["attempt"], e["status"], e["repository"])
	}
	good := event("", nil)
	for _, c := range []struct {
		name   string
		body   string
		header map[string]string
		status int
		says   string
	}{
		{"no signature", good, having(signed(good), "X-Hub-Signature-256", ""), 401, "X-Hub-Signature-256"},
		{"a SHA-1 signature alone", good, having(having(signed(good), "X-Hub-Signature-256", ""), "X-Hub-Signature", "sha1="+mac(sha1.New, hookSecret, good)), 401, "X-Hub-Signature-256"},
		{"a SHA-1 signature in the place of the other", good, having(signed(good), "X-Hub-Signature-256", "sha1="+mac(sha1.New, hookSecret, good)), 401, "X-Hub-Signature-256"},
		{"another secret", good, having(signed(good), "X-Hub-Signature-256", "sha256="+mac(sha256.New, "guess", good)), 401, "secret"},
		{"no secret", good, having(signed(good), "X-Hub-Signature-256", "sha256="+mac(sha256.New, "", good)), 401, "secret"},
		{"another body's signature", good + " ", signed(good), 401, "secret"},
		{"a signature cut short", good, having(signed(good), "X-Hub-Signature-256", signed(good)["X-Hub-Signature-256"][:40]), 401, "secret"},
		{"an empty signature", good, having(signed(good), "X-Hub-Signature-256", "sha256="), 401, "secret"},
		{"two signatures", good, having(signed(good), "X-Hub-Signature-256", signed(good)["X-Hub-Signature-256"]+"\n"+signed(good)["X-Hub-Signature-256"]), 401, "secret"},
		{"an empty body", "", signed(""), 400, "JSON"},
		{"no JSON", "{", signed("{"), 400, "JSON"},
		{"a form", "payload=%7B%7D", having(signed("payload=%7B%7D"), "Content-Type", "application/x-www-form-urlencoded"), 415, "application/json"},
		{"far too large", strings.Repeat(" ", 8<<20+1), nil, 413, "larger"},
		{"a ping", `{"zen":"x"}`, having(signed(`{"zen":"x"}`), "X-GitHub-Event", "ping"), 204, ""},
		{"another event", good, having(signed(good), "X-GitHub-Event", "workflow_run"), 204, ""},
		{"an event without a name", good, having(signed(good), "X-GitHub-Event", ""), 204, ""},
		{"a body of another event", `{"action":"completed","check_run":{"id":1}}`, signed(`{"action":"completed","check_run":{"id":1}}`), 204, ""},
		{"in progress", event("action", "in_progress"), signed(event("action", "in_progress")), 204, ""},
		{"completed, but not over", event("status", "in_progress"), signed(event("status", "in_progress")), 204, ""},
		{"another job", event("id", j.ID()+1), signed(event("id", j.ID()+1)), 204, ""},
		{"another run", event("run", j.RunID()+1), signed(event("run", j.RunID()+1)), 204, ""},
		{"another repository", event("repository", 456790), signed(event("repository", 456790)), 204, ""},
		{"another attempt, and the job runs", event("attempt", 2), signed(event("attempt", 2)), 204, ""},
		{"no attempt", event("attempt", 0), signed(event("attempt", 0)), 400, "positive numbers"},
		{"a negative job", event("id", -1), signed(event("id", -1)), 400, "positive numbers"},
		{"a job beyond numbers", event("id", "1e30"), signed(event("id", "1e30")), 400, "JSON"},
	} {
		t.Run(c.name, func(t *testing.T) {
			status, said := h.send(t, c.body, c.header)
			if status != c.status || !strings.Contains(said, c.says) {
				t.Errorf("answered %d %s", status, said)
			}
			if seen := h.state(t, given); !seen.Active {
				t.Fatalf("and the lease is %+v", seen)
			}
		})
	}
	if status, _ := h.send(t, good, signed(good)); status != http.StatusNoContent {
		t.Errorf("the good one: %d", status)
	}
	if seen := h.state(t, given); seen.State != "revoked" {
		t.Errorf("after the good one: %+v", seen)
	}
	if strings.Contains(h.log.String(), hookSecret) {
		t.Error("the secret is in the log")
	}
}

func TestAnotherAttemptsEventIsConfirmedByTheJobsAPI(t *testing.T) {
	h := stageHooked(t, 0)
	h.hook.Hold()
	j := h.job(t, githubsim.JobSpec{})
	given := h.give(t, j)
	j.Complete("success")
	body := strings.Replace(string(h.last().Body), `"run_attempt":1`, `"run_attempt":2`, 1)
	if status, said := h.send(t, body, signed(body)); status != http.StatusNoContent {
		t.Errorf("answered %d %s", status, said)
	}
	if seen := h.state(t, given); seen.State != "revoked" {
		t.Errorf("introspected as %+v", seen)
	}
}

func TestWithoutASecretThereIsNoWebhook(t *testing.T) {
	sc := stage(t)
	for _, method := range []string{http.MethodPost, http.MethodGet} {
		r, err := http.NewRequestWithContext(t.Context(), method, sc.url+"/webhooks/github", bytes.NewReader(nil))
		if err != nil {
			t.Fatal(err)
		}
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		if answer.StatusCode != http.StatusNotFound {
			t.Errorf("%s: %d", method, answer.StatusCode)
		}
	}
}

func TestADeliveryIsAnsweredInTimeAndTheEndGoesOn(t *testing.T) {
	h := stageHooked(t, time.Millisecond)
	h.hook.Hold()
	j := h.job(t, githubsim.JobSpec{})
	given := h.give(t, j)
	j.Complete("success")
	release, revoked := make(chan struct{}), make(chan struct{})
	h.gh.Fault(func(r *http.Request) *githubsim.Fault {
		if r.Method == http.MethodDelete {
			defer close(revoked)
			return &githubsim.Fault{Delay: release}
		}
		return nil
	})
	if status, err := h.hook.Deliver(h.last().ID); status != http.StatusAccepted || err != nil {
		t.Errorf("%d, %v", status, err)
	}
	<-revoked
	if seen := h.state(t, given); seen.State != "revoking" {
		t.Errorf("meanwhile it is %+v", seen)
	}
	close(release)
	h.gh.Fault(nil)
	for h.state(t, given).State != "revoked" { // until then, or the test's own time is over
		if t.Context().Err() != nil {
			t.Fatal("it was never confirmed")
		}
	}
}

func TestAStoreThatDoesNotAnswerShowsAmongTheDeliveries(t *testing.T) {
	h := stageHooked(t, 0)
	h.hook.Hold()
	j := h.job(t, githubsim.JobSpec{})
	j.Complete("success")
	h.store.Close()
	if status, err := h.hook.Deliver(h.last().ID); status != http.StatusServiceUnavailable || err != nil {
		t.Errorf("%d, %v", status, err)
	}
}

// BenchmarkJobOver is from the moment at which a job is over until its credential is
// refused by GitHub, over loopback, told by the webhook.
func BenchmarkJobOver(b *testing.B) {
	b.Run("webhook", func(b *testing.B) {
		h := stageHooked(b, 0)
		h.hook.Hold()
		for b.Loop() {
			b.StopTimer()
			j := h.job(b, githubsim.JobSpec{})
			h.give(b, j)
			b.StartTimer()
			j.Complete("success")
			if status, err := h.hook.Deliver(h.last().ID); status != http.StatusNoContent || err != nil {
				b.Fatal(status, err)
			}
		}
		if live := len(h.gh.LiveTokens()); live != 0 {
			b.Errorf("%d tokens live", live)
		}
	})
	// Every event is lost: this is what a sweep takes once it begins. How long until
	// then is exchange.SweepEvery at most, once the lease is a minute old.
	b.Run("sweep", func(b *testing.B) {
		h := stageHooked(b, 0)
		h.hook.Hold()
		now := time.Now()
		h.reconciler.Now = func() time.Time { // so much later each time that it may always ask
			now = now.Add(2 * time.Minute)
			return now
		}
		for b.Loop() {
			b.StopTimer()
			j := h.job(b, githubsim.JobSpec{})
			h.give(b, j)
			b.StartTimer()
			j.Complete("success")
			h.reconciler.Sweep(b.Context())
		}
		if live := len(h.gh.LiveTokens()); live != 1 { // the one that jobs are read with
			b.Errorf("%d tokens live", live)
		}
	})
}

package server_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"github.com/stepkey/stepkey/exchange"
	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/exchange/backend/github"
	"github.com/stepkey/stepkey/exchange/client"
	"github.com/stepkey/stepkey/exchange/githubapp"
	"github.com/stepkey/stepkey/exchange/identity"
	"github.com/stepkey/stepkey/exchange/lease"
	"github.com/stepkey/stepkey/exchange/policy"
	"github.com/stepkey/stepkey/exchange/server"
	"github.com/stepkey/stepkey/internal/githubsim"
)

const audience = "https://lease.example.com"

const taskFile = `task: publish-release
purpose: Upload the assets of a tagged release of acme/widget.
allow:
  - issuer: github
    claims:
      repository_owner_id: "123456"
      repository_id: "456789"
      environment: release
      event_name: [push, workflow_dispatch]
credential:
  github:
    owner: acme
    repositories: [widget]
    repository_ids: [456789]
    permissions: {contents: write}
limits: {ttl: 10m, per_job: 1}
`

// scene is the whole exchange over HTTP, with GitHub simulated on loopback.
type scene struct {
	gh    *githubsim.GitHub
	store *lease.Store
	x     *exchange.Exchange
	url   string
	log   *lockedBuffer
}

func stage(t testing.TB) *scene {
	t.Helper()
	gh, err := githubsim.Start(githubsim.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(gh.Close)
	gh.AddRepository(githubsim.Repository{ID: 456789, Owner: "acme", OwnerID: 123456, Name: "widget", Private: true})
	gh.AddRepository(githubsim.Repository{ID: 456790, Owner: "acme", OwnerID: 123456, Name: "gadget", Private: true})
	gh.AddRelease("acme", "widget", "v1.2.3")
	app := gh.AddApp(githubsim.App{ClientID: "Iv1.stepkey", Permissions: map[string]string{"contents": "write", "issues": "write"}})
	gh.Install(app, "acme")

	api, err := githubapp.New(githubapp.Config{API: gh.URL(), ClientID: app.ClientID, Key: app.Key})
	if err != nil {
		t.Fatal(err)
	}
	sc := &scene{gh: gh, log: &lockedBuffer{}}
	sc.open(t, github.New(github.Options{App: api}))
	return sc
}

// open wires an exchange as the service does, over loopback.
func (sc *scene) open(t testing.TB, b backend.Backend) {
	t.Helper()
	log := slog.New(slog.NewTextHandler(sc.log, nil))
	issuers := []identity.Issuer{{Name: "github", Kind: "github", URL: sc.gh.IssuerURL(), Private: true}}
	verifier, err := identity.New(audience, issuers, identity.Options{Log: log})
	if err != nil {
		t.Fatal(err)
	}
	tasks, err := policy.Load(fstest.MapFS{"publish-release.yaml": {Data: []byte(taskFile)}}, policy.Check{Issuers: issuers, Backends: map[string]policy.Scoper{"github": b}})
	if err != nil {
		t.Fatal(err)
	}
	keyFile := filepath.Join(t.TempDir(), "keys")
	if err := lease.CreateKeys(keyFile); err != nil {
		t.Fatal(err)
	}
	keys, err := lease.ReadKeys(keyFile)
	if err != nil {
		t.Fatal(err)
	}
	if sc.store, err = lease.Open(context.Background(), filepath.Join(t.TempDir(), "stepkey.db"), keys, lease.Options{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { sc.store.Close() })
	sc.x = &exchange.Exchange{
		Verifier: verifier, Policy: func() *policy.Set { return tasks }, Leases: sc.store,
		Backends: map[string]backend.Backend{"github": b}, Owners: []string{"123456"}, Now: time.Now, Log: log,
	}
	s := &server.Server{Exchange: sc.x, URL: audience, Ready: sc.store.Ready, Log: log}
	web := httptest.NewServer(s.Public())
	t.Cleanup(web.Close)
	sc.url = web.URL
}

func (sc *scene) job(t testing.TB, spec githubsim.JobSpec) *githubsim.Job {
	t.Helper()
	spec.Repository, spec.IDToken = "acme/widget", true
	if spec.Environment == "" {
		spec.Environment = "release"
	}
	return sc.gh.StartJob(spec)
}

func subjectToken(t testing.TB, j *githubsim.Job) string {
	t.Helper()
	token, err := j.IDToken(audience)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func tokenForm(subject string) url.Values {
	return url.Values{
		"grant_type": {client.GrantTypeTokenExchange}, "subject_token": {subject},
		"subject_token_type": {client.TokenTypeIDToken}, "scope": {"publish-release"},
	}
}

// post sends a form and reads the answer into v; it returns the status.
func (sc *scene) post(t testing.TB, path string, form url.Values, v any) (int, http.Header) {
	t.Helper()
	r, err := http.PostForm(sc.url+path, form)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(body, v); err != nil {
		t.Fatalf("%s: %v in %q", path, err, body)
	}
	return r.StatusCode, r.Header
}

// use does with a GitHub token what the task is for, and reports the status.
func (sc *scene) use(t testing.TB, token, repository string) int {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, sc.gh.URL()+"/repos/"+repository, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	return answer.StatusCode
}

func TestAJobGetsACredentialUsesItAndLosesIt(t *testing.T) {
	sc := stage(t)
	j := sc.job(t, githubsim.JobSpec{Ref: "refs/tags/v1.2.3"})

	var given client.TokenResponse
	status, header := sc.post(t, "/token", tokenForm(subjectToken(t, j)), &given)
	if status != http.StatusOK || header.Get("Cache-Control") != "no-store" {
		t.Fatalf("%d %v %+v", status, header, given)
	}
	token := given.AccessToken
	if given.TokenType != "Bearer" || given.Scope != "publish-release" || given.ExpiresIn < 590 || given.ExpiresIn > 600 ||
		given.Credential.Values["token"] != token || given.Credential.Env["GH_TOKEN"] != token || !given.Lease.Revocable {
		t.Errorf("answered %+v", given)
	}
	if status := sc.use(t, token, "acme/widget"); status != http.StatusOK {
		t.Errorf("the granted repository: %d", status)
	}
	if status := sc.use(t, token, "acme/gadget"); status != http.StatusNotFound {
		t.Errorf("another repository: %d", status)
	}

	var seen client.Introspection
	sc.post(t, "/introspect", url.Values{"token": {given.Lease.Token}}, &seen)
	if !seen.Active || seen.LeaseID != given.Lease.ID || seen.Scope != "publish-release" || seen.Iss != audience || seen.Exp == 0 {
		t.Errorf("introspected as %+v", seen)
	}
	for range 2 {
		var ended client.Revocation
		if status, _ := sc.post(t, "/revoke", url.Values{"token": {given.Lease.Token}}, &ended); status != http.StatusOK || len(ended.Leases) != 1 || ended.Leases[0].State != "revoked" {
			t.Errorf("revoked: %d %+v", status, ended)
		}
	}
	if status := sc.use(t, token, "acme/widget"); status != http.StatusUnauthorized {
		t.Errorf("the revoked token: %d", status)
	}
	seen = client.Introspection{}
	sc.post(t, "/introspect", url.Values{"token": {given.Lease.Token}}, &seen)
	if seen.Active || seen.State != "revoked" || seen.Scope != "" {
		t.Errorf("introspected as %+v after its end", seen)
	}
	for _, hidden := range []string{token, given.Lease.Token} {
		if strings.Contains(sc.log.String(), hidden) {
			t.Error("a secret is in the log")
		}
	}
}

func TestEachRefusalHasItsStatusAndWords(t *testing.T) {
	sc := stage(t)
	holder := sc.job(t, githubsim.JobSpec{})
	used := subjectToken(t, holder)
	var given client.TokenResponse
	sc.post(t, "/token", tokenForm(used), &given)

	stranger := githubsim.JobSpec{Claims: map[string]any{"repository_owner_id": "666", "repository_id": "667"}}
	for _, c := range []struct {
		name   string
		form   url.Values
		status int
		code   string
		says   string
		silent string
	}{
		{"the same subject token", tokenForm(used), 400, "invalid_grant", "exchanged before", ""},
		{"one more for the job", tokenForm(subjectToken(t, holder)), 403, "access_denied", "already holds 1", ""},
		{"an owner's workload that is not allowed", tokenForm(subjectToken(t, sc.job(t, githubsim.JobSpec{Environment: "staging"}))), 403, "access_denied", `environment is "staging"`, ""},
		{"a stranger's workload", tokenForm(subjectToken(t, sc.job(t, stranger))), 403, "access_denied", "by the audit id", "repository_owner_id"},
		{"a task that is misspelled", with(tokenForm(subjectToken(t, holder)), "scope", "publish-releas"), 400, "invalid_scope", "no such task. Did you mean publish-release? Check its name", ""},
		{"a task that is misspelled, by a stranger", with(tokenForm(subjectToken(t, sc.job(t, stranger))), "scope", "publish-releas"), 400, "invalid_scope", "no such task. Check its name", "publish"},
		{"another task", with(tokenForm(subjectToken(t, holder)), "scope", "deploy"), 400, "invalid_scope", "no such task", "publish"},
		{"a longer ttl", with(tokenForm(subjectToken(t, sc.job(t, githubsim.JobSpec{}))), "authorization_details", `[{"type":"stepkey_task","ttl":"11m"}]`), 403, "access_denied", "11m", ""},
		{"a token for somebody else", tokenForm(other(t, holder)), 400, "invalid_grant", "audience", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			var refused client.ErrorResponse
			status, _ := sc.post(t, "/token", c.form, &refused)
			if status != c.status || refused.Code != c.code || !strings.Contains(refused.Description, c.says) || refused.AuditID == "" {
				t.Errorf("%d %+v", status, refused)
			}
			if (c.code == "invalid_grant" && c.says == "audience") != (refused.Rule == client.RuleAudience) {
				t.Errorf("the rule is told as %q", refused.Rule)
			}
			if c.silent != "" && strings.Contains(refused.Description, c.silent) {
				t.Errorf("tells a stranger about the policy: %s", refused.Description)
			}
			entries, err := sc.store.Audit(t.Context(), lease.AuditQuery{ID: refused.AuditID, Limit: 1})
			if err != nil || len(entries) != 1 || entries[0].Reason == "" {
				t.Errorf("the audit id finds %+v, %v", entries, err)
			}
		})
	}
	if n := len(sc.gh.Issued()); n != 1 {
		t.Errorf("%d tokens were made", n)
	}
}

func with(form url.Values, name, value string) url.Values {
	form.Set(name, value)
	return form
}

func other(t testing.TB, j *githubsim.Job) string {
	t.Helper()
	token, err := j.IDToken("https://sts.example.org")
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func TestANarrowerTTLIsTaken(t *testing.T) {
	sc := stage(t)
	var given client.TokenResponse
	sc.post(t, "/token", with(tokenForm(subjectToken(t, sc.job(t, githubsim.JobSpec{}))), "authorization_details", `[{"type":"stepkey_task","ttl":"90s"}]`), &given)
	if given.ExpiresIn > 90 || given.ExpiresIn < 80 {
		t.Errorf("expires in %d s", given.ExpiresIn)
	}
}

// RFC 9396 section 7: the answer says what was granted of what was asked for.
func TestLessOfTheCredentialIsGivenAndSaid(t *testing.T) {
	sc := stage(t)
	var given client.TokenResponse
	sc.post(t, "/token", with(tokenForm(subjectToken(t, sc.job(t, githubsim.JobSpec{}))), "authorization_details", `[{"type":"stepkey_task","ttl":"90s","credential":{"github":{"permissions":{"contents":"read"}}}}]`), &given)
	if len(given.AuthorizationDetails) != 1 {
		t.Fatalf("details %v", given.AuthorizationDetails)
	}
	d := given.AuthorizationDetails[0]
	if d.Type != "stepkey_task" || d.TTL != "1m30s" || !strings.HasPrefix(d.Granted, "contents: read on ") || d.Granted != given.Lease.Granted {
		t.Errorf("details %+v, lease %+v", d, given.Lease)
	}
}

func TestTheJobsSubjectTokenEndsWhatItHolds(t *testing.T) {
	sc := stage(t)
	j := sc.job(t, githubsim.JobSpec{})
	var given client.TokenResponse
	sc.post(t, "/token", tokenForm(subjectToken(t, j)), &given)
	var ended client.Revocation
	status, _ := sc.post(t, "/revoke", url.Values{"token": {subjectToken(t, j)}, "token_type_hint": {client.TokenTypeJob}}, &ended)
	if status != http.StatusOK || len(ended.Leases) != 1 || ended.Leases[0].ID != given.Lease.ID || len(sc.gh.LiveTokens()) != 0 {
		t.Errorf("%d %+v, %d tokens live", status, ended, len(sc.gh.LiveTokens()))
	}
}

// One lease of the job, by its id; who comes later is told since when it is over.
func TestTheJobsSubjectTokenEndsOneLease(t *testing.T) {
	sc := stage(t)
	j := sc.job(t, githubsim.JobSpec{})
	var given client.TokenResponse
	sc.post(t, "/token", tokenForm(subjectToken(t, j)), &given)
	end := func(j *githubsim.Job, id string) (int, client.Revocation) {
		var ended client.Revocation
		status, _ := sc.post(t, "/revoke", url.Values{"token": {subjectToken(t, j)}, "token_type_hint": {client.TokenTypeJob}, "lease": {id}}, &ended)
		return status, ended
	}
	if status, ended := end(sc.job(t, githubsim.JobSpec{}), given.Lease.ID); status != http.StatusOK || len(ended.Leases) != 0 || len(sc.gh.LiveTokens()) != 1 {
		t.Errorf("by another job: %d %+v", status, ended)
	}
	status, ended := end(j, given.Lease.ID)
	if want := []client.Ended{{ID: given.Lease.ID, State: "revoked"}}; status != http.StatusOK || !slices.Equal(ended.Leases, want) || len(sc.gh.LiveTokens()) != 0 {
		t.Errorf("%d %+v, %d tokens live", status, ended, len(sc.gh.LiveTokens()))
	}
	var seen client.Introspection
	sc.post(t, "/introspect", url.Values{"token": {given.Lease.Token}}, &seen)
	want := []client.Ended{{ID: given.Lease.ID, State: "revoked", EndedAt: seen.EndedAt}}
	if _, ended := end(j, given.Lease.ID); !slices.Equal(ended.Leases, want) || seen.EndedAt == "" {
		t.Errorf("a second time: %+v, want %+v", ended.Leases, want)
	}
	sc.post(t, "/revoke", url.Values{"token": {given.Lease.Token}}, &ended)
	if !slices.Equal(ended.Leases, want) {
		t.Errorf("by its lease token: %+v, want %+v", ended.Leases, want)
	}
	var refused client.ErrorResponse
	if status, _ := sc.post(t, "/revoke", url.Values{"token": {given.Lease.Token}, "lease": {given.Lease.ID}}, &refused); status != http.StatusBadRequest || !strings.Contains(refused.Description, "a lease token alone names its lease") {
		t.Errorf("%d %+v", status, refused)
	}
}

func TestAnEndThatGitHubDoesNotConfirmIsA503AndStaysWork(t *testing.T) {
	sc := stage(t)
	var given client.TokenResponse
	sc.post(t, "/token", tokenForm(subjectToken(t, sc.job(t, githubsim.JobSpec{}))), &given)
	sc.gh.Fault(func(r *http.Request) *githubsim.Fault {
		if r.Method == http.MethodDelete {
			return &githubsim.Fault{Before: http.StatusForbidden, Body: `{"message":"no"}`}
		}
		return nil
	})
	var refused client.ErrorResponse
	status, header := sc.post(t, "/revoke", url.Values{"token": {given.Lease.Token}}, &refused)
	if status != http.StatusServiceUnavailable || header.Get("Retry-After") == "" || !strings.Contains(refused.Description, "keeps trying") {
		t.Errorf("%d %+v", status, refused)
	}
	lives, err := sc.store.Lives(t.Context())
	if err != nil || lives[lease.Revoking] != 1 {
		t.Errorf("%v, %v", lives, err)
	}
}

// A client that has never heard of Stepkey: golang.org/x/oauth2, with Basic
// credentials or without.
func TestPlainOAuthClientsWork(t *testing.T) {
	sc := stage(t)
	for name, style := range map[string]oauth2.AuthStyle{"in params": oauth2.AuthStyleInParams, "basic": oauth2.AuthStyleInHeader} {
		t.Run(name, func(t *testing.T) {
			config := clientcredentials.Config{
				ClientID: "my-client:gw+s", ClientSecret: "public", TokenURL: sc.url + "/token", AuthStyle: style, Scopes: []string{"publish-release"},
				EndpointParams: url.Values{
					"grant_type": {client.GrantTypeTokenExchange}, "subject_token": {subjectToken(t, sc.job(t, githubsim.JobSpec{}))},
					"subject_token_type": {client.TokenTypeJWT}, "actor_token": {""}, "requested_token_type": {""}, "audience": {"a", "b"},
				},
			}
			token, err := config.Token(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if token.TokenType != "Bearer" || sc.use(t, token.AccessToken, "acme/widget") != http.StatusOK {
				t.Errorf("got %s", token.TokenType)
			}
			var ended client.Revocation
			if status, _ := sc.post(t, "/revoke", url.Values{"token": {token.AccessToken}}, &ended); status != http.StatusOK || len(ended.Leases) != 1 {
				t.Errorf("revoking by the credential's own token: %d %+v", status, ended)
			}
		})
	}
}

func TestTheMetadataNamesWhatThereIs(t *testing.T) {
	sc := stage(t)
	for _, path := range []string{"/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"} {
		r, err := http.Get(sc.url + path)
		if err != nil {
			t.Fatal(err)
		}
		var m client.Metadata
		if err := json.NewDecoder(r.Body).Decode(&m); err != nil {
			t.Fatal(err)
		}
		r.Body.Close()
		if m.Issuer != audience || m.TokenEndpoint != audience+"/token" || m.GrantTypesSupported[0] != client.GrantTypeTokenExchange || m.ResponseTypesSupported == nil ||
			!slices.Equal(m.DPoPSigningAlgs, []string{"ES256", "EdDSA"}) {
			t.Errorf("%s: %+v", path, m)
		}
		for _, endpoint := range []string{m.TokenEndpoint, m.RevocationEndpoint, m.IntrospectionEndpoint} {
			answer, err := http.Post(sc.url+strings.TrimPrefix(endpoint, audience), "application/x-www-form-urlencoded", nil)
			if err != nil {
				t.Fatal(err)
			}
			answer.Body.Close()
			if answer.StatusCode != http.StatusBadRequest {
				t.Errorf("%s answers %d", endpoint, answer.StatusCode)
			}
		}
		keys, err := http.Get(sc.url + strings.TrimPrefix(m.JWKSURI, audience))
		if err != nil {
			t.Fatal(err)
		}
		keys.Body.Close()
		if keys.StatusCode != http.StatusOK {
			t.Errorf("%s answers %d", m.JWKSURI, keys.StatusCode)
		}
	}
}

func TestHealthSaysWhetherALeaseCouldBeTaken(t *testing.T) {
	sc := stage(t)
	s := &server.Server{Exchange: sc.x, URL: audience, Ready: sc.store.Ready, Log: slog.New(slog.DiscardHandler)}
	ask := func(path string) int {
		w := httptest.NewRecorder()
		s.Admin().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil))
		return w.Code
	}
	if ask("/livez") != http.StatusOK || ask("/readyz") != http.StatusOK {
		t.Error("a healthy exchange says that it is not")
	}
	sc.store.Close()
	if ask("/livez") != http.StatusOK || ask("/readyz") != http.StatusServiceUnavailable {
		t.Error("an exchange whose store is gone says that it is ready")
	}
}

func TestShutdownLetsWhatIsInFlightFinish(t *testing.T) {
	sc := stage(t)
	s := &server.Server{Exchange: sc.x, URL: audience, Ready: sc.store.Ready, Log: slog.New(slog.DiscardHandler)}
	public, admin := listener(t), listener(t)
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, public, admin) }()

	reached, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	sc.gh.Fault(func(r *http.Request) *githubsim.Fault {
		if strings.HasSuffix(r.URL.Path, "/access_tokens") {
			once.Do(func() { close(reached) })
			return &githubsim.Fault{Delay: release}
		}
		return nil
	})
	answered := make(chan int, 1)
	subject := subjectToken(t, sc.job(t, githubsim.JobSpec{}))
	go func() {
		r, err := http.PostForm("http://"+public.Addr().String()+"/token", tokenForm(subject))
		if err != nil {
			answered <- 0
			return
		}
		r.Body.Close()
		answered <- r.StatusCode
	}()
	<-reached
	stop()
	close(release)
	if status := <-answered; status != http.StatusOK {
		t.Errorf("what was in flight got %d", status)
	}
	if err := <-served; err != nil {
		t.Errorf("Serve: %v", err)
	}
	if after, err := http.Get("http://" + public.Addr().String() + "/jwks"); err == nil {
		after.Body.Close()
		t.Error("still serving after the end")
	}
}

func TestHeadersAreBounded(t *testing.T) {
	sc := stage(t)
	s := &server.Server{Exchange: sc.x, URL: audience, Ready: sc.store.Ready, Log: slog.New(slog.DiscardHandler)}
	public, admin := listener(t), listener(t)
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, public, admin) }()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+public.Addr().String()+"/jwks", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X-Padding", strings.Repeat("a", 32<<10))
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if answer.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("32 KiB of headers get %d", answer.StatusCode)
	}
	stop()
	if err := <-served; err != nil {
		t.Error(err)
	}
}

// lockedBuffer is a log that the test reads while the server writes.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

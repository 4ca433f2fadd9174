package githubsim_test

import (
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"

	"github.com/stepkey/stepkey/internal/githubsim"
)

// askForIDToken does what a step does: the variables are all it knows.
func (s *scene) askForIDToken(env map[string]string, audience string) reply {
	s.t.Helper()
	address := parsed(s.t, env["ACTIONS_ID_TOKEN_REQUEST_URL"])
	query := address.Query()
	if audience != "" {
		query.Set("audience", audience)
	}
	address.RawQuery = query.Encode()
	return s.call("GET", address.String(), env["ACTIONS_ID_TOKEN_REQUEST_TOKEN"], "")
}

func (s *scene) verify(token, audience string) (map[string]any, error) {
	s.t.Helper()
	provider, err := oidc.NewProvider(s.t.Context(), s.hub.IssuerURL())
	if err != nil {
		s.t.Fatal(err)
	}
	verified, err := provider.Verifier(&oidc.Config{ClientID: audience, Now: s.clock.Now}).Verify(s.t.Context(), token)
	if err != nil {
		return nil, err
	}
	var claims map[string]any
	return claims, verified.Claims(&claims)
}

func TestAStepsIDTokenHasTheClaimsOfItsJob(t *testing.T) {
	s := newScene(t, githubsim.Options{})
	job := s.hub.StartJob(githubsim.JobSpec{
		Repository: "acme/widget", Environment: "release:eu", Event: "workflow_dispatch",
		Ref: "refs/tags/v1.0.0", RunAttempt: 2, IDToken: true,
	})
	r := s.askForIDToken(job.Env(), "https://exchange.example")
	if r.status != http.StatusOK {
		t.Fatalf("%d %s", r.status, r.body)
	}
	token := r.field(t, "value").(string)
	claims, err := s.verify(token, "https://exchange.example")
	if err != nil {
		t.Fatal(err)
	}
	env, id, owner := job.Env(), strconv.FormatInt(s.widget.ID, 10), strconv.FormatInt(s.widget.OwnerID, 10)
	now := float64(s.clock.Now().Unix())
	want := map[string]any{
		"iss": s.hub.IssuerURL(), "aud": "https://exchange.example",
		"sub": "repo:acme@" + owner + "/widget@" + id + ":environment:release%3Aeu",
		"nbf": now - 600, "iat": now, "exp": now + 300,
		"repository": "acme/widget", "repository_id": id, "repository_visibility": "private",
		"repository_owner": "acme", "repository_owner_id": owner,
		"ref": "refs/tags/v1.0.0", "ref_type": "tag", "ref_protected": "false", "sha": env["GITHUB_SHA"],
		"head_ref": "", "base_ref": "", "event_name": "workflow_dispatch",
		"actor": "octocat", "actor_id": env["GITHUB_ACTOR_ID"], "environment": "release:eu",
		"workflow": "release", "workflow_sha": env["GITHUB_SHA"],
		"workflow_ref":     "acme/widget/.github/workflows/release.yml@refs/tags/v1.0.0",
		"job_workflow_ref": "acme/widget/.github/workflows/release.yml@refs/tags/v1.0.0",
		"job_workflow_sha": env["GITHUB_SHA"],
		"run_id":           env["GITHUB_RUN_ID"], "run_number": "1", "run_attempt": "2",
		"check_run_id": strconv.FormatInt(job.ID(), 10), "runner_environment": "github-hosted",
	}
	for _, opaque := range []string{"jti", "environment_node_id"} {
		if claims[opaque] == "" || claims[opaque] == nil {
			t.Errorf("no %s", opaque)
		}
		delete(claims, opaque)
	}
	if diff := cmp.Diff(want, claims); diff != "" {
		t.Errorf("claims (-want +got):\n%s", diff)
	}
	checkHeader(t, token)
}

func checkHeader(t *testing.T, token string) {
	t.Helper()
	jws, err := jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{jose.RS256})
	if err != nil {
		t.Fatal(err)
	}
	header := jws.Signatures[0].Header
	if header.KeyID == "" || header.ExtraHeaders["typ"] != "JWT" || header.ExtraHeaders["x5t"] == nil {
		t.Errorf("header %+v", header)
	}
}

func TestSubjectsFollowEnvironmentThenPullRequestThenRef(t *testing.T) {
	s := newScene(t, githubsim.Options{})
	s.hub.AddRepository(githubsim.Repository{Owner: "acme", Name: "old", LegacySubject: true})
	for name, test := range map[string]struct {
		spec githubsim.JobSpec
		want string
	}{
		"branch":              {githubsim.JobSpec{}, "repo:acme/old:ref:refs/heads/main"},
		"tag":                 {githubsim.JobSpec{Ref: "refs/tags/v1"}, "repo:acme/old:ref:refs/tags/v1"},
		"environment":         {githubsim.JobSpec{Environment: "prod"}, "repo:acme/old:environment:prod"},
		"pull request":        {githubsim.JobSpec{Event: "pull_request"}, "repo:acme/old:pull_request"},
		"pull request target": {githubsim.JobSpec{Event: "pull_request_target"}, "repo:acme/old:ref:refs/heads/main"},
	} {
		t.Run(name, func(t *testing.T) {
			test.spec.Repository = "acme/old"
			if got := s.hub.StartJob(test.spec).Claims("")["sub"]; got != test.want {
				t.Errorf("sub %v, want %s", got, test.want)
			}
		})
	}
}

func TestClaimsCanBeOverriddenAndRemovedAndAreUniquePerToken(t *testing.T) {
	s := newScene(t, githubsim.Options{})
	job := s.hub.StartJob(githubsim.JobSpec{Repository: "acme/widget", Claims: map[string]any{
		"enterprise": "avocado", "check_run_id": nil,
	}})
	first, second := job.Claims(""), job.Claims("")
	if first["enterprise"] != "avocado" || first["aud"] != "https://github.com/acme" {
		t.Errorf("enterprise %v, default audience %v", first["enterprise"], first["aud"])
	}
	for _, absent := range []string{"check_run_id", "environment", "environment_node_id", "enterprise_id"} {
		if _, there := first[absent]; there {
			t.Errorf("%s is there", absent)
		}
	}
	if first["jti"] == second["jti"] {
		t.Error("two tokens have the same jti")
	}
	claims, err := s.verify(job.Sign(maps.Collect(maps.All(first))), "https://github.com/acme")
	if err != nil || claims["jti"] != first["jti"] {
		t.Errorf("signed by hand: %v, %v", claims["jti"], err)
	}
}

func TestTheIDTokenEndpointRefusesWhoeverIsNotARunningJobWithThePermission(t *testing.T) {
	s := newScene(t, githubsim.Options{})
	start := func(spec githubsim.JobSpec) *githubsim.Job {
		spec.Repository = "acme/widget"
		return s.hub.StartJob(spec)
	}
	job, neighbour := start(githubsim.JobSpec{IDToken: true}), start(githubsim.JobSpec{IDToken: true})
	good := job.Env()
	with := func(name, value string) map[string]string {
		env := maps.Clone(good)
		env[name] = value
		return env
	}
	address := good["ACTIONS_ID_TOKEN_REQUEST_URL"]
	wantReply(t, s.askForIDToken(good, "x"), 200, "")
	wantReply(t, s.askForIDToken(with("ACTIONS_ID_TOKEN_REQUEST_TOKEN", neighbour.Env()["ACTIONS_RUNTIME_TOKEN"]), "x"),
		401, "Bad credentials")
	wantReply(t, s.askForIDToken(with("ACTIONS_ID_TOKEN_REQUEST_TOKEN", ""), "x"), 401, "Requires authentication")
	wantReply(t, s.askForIDToken(with("ACTIONS_ID_TOKEN_REQUEST_URL", strings.TrimSuffix(address, "?api-version=2.0")), "x"),
		400, "The query must keep api-version=2.0")

	for name, spec := range map[string]githubsim.JobSpec{
		"without the permission": {},
		"of a fork":              {IDToken: true, ForkPullRequest: true},
	} {
		refused := start(spec)
		for _, variable := range slices.Sorted(maps.Keys(refused.Env())) {
			if strings.HasPrefix(variable, "ACTIONS_") {
				t.Errorf("a job %s has %s", name, variable)
			}
		}
		if _, err := refused.IDToken("x"); err == nil {
			t.Errorf("a job %s got an ID token", name)
		}
	}

	job.Complete("success")
	wantReply(t, s.askForIDToken(good, "x"), 403, "The job is not in progress")
	if _, err := job.IDToken("x"); err == nil {
		t.Error("a job that is over got an ID token")
	}
}

func TestRotatedKeysLeaveTheJWKSAndAnUnseenOneComes(t *testing.T) {
	s := newScene(t, githubsim.Options{})
	job := s.hub.StartJob(githubsim.JobSpec{Repository: "acme/widget", IDToken: true})
	token := func() string {
		value, err := job.IDToken("x")
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
	old, before := token(), s.keyIDs()
	s.hub.RotateKeys()
	after := s.keyIDs()
	if len(before) < 2 || len(after) != len(before) {
		t.Errorf("published before %v, after %v", before, after)
	}
	if fresh := slices.DeleteFunc(after, func(id string) bool { return slices.Contains(before, id) }); len(fresh) != 1 {
		t.Errorf("new in the JWKS: %v", fresh)
	}
	if _, err := s.verify(old, "x"); err == nil {
		t.Error("a token of the old key is still good")
	}
	if _, err := s.verify(token(), "x"); err != nil {
		t.Errorf("a token of the new key: %v", err)
	}
}

func (s *scene) keyIDs() []string {
	s.t.Helper()
	r := s.call("GET", s.hub.IssuerURL()+"/.well-known/jwks", "", "")
	var set jose.JSONWebKeySet
	if err := json.Unmarshal([]byte(r.body), &set); err != nil {
		s.t.Fatal(err)
	}
	var ids []string
	for _, key := range set.Keys {
		if !key.IsPublic() || !key.Valid() {
			s.t.Errorf("key %s is not a good public key", key.KeyID)
		}
		ids = append(ids, key.KeyID)
	}
	return ids
}

func TestTheJobsAPITellsOfJobStepsAndAttempts(t *testing.T) {
	s := newScene(t, githubsim.Options{})
	token := s.token(`{"permissions":{"actions":"read"}}`)
	job := s.hub.StartJob(githubsim.JobSpec{Repository: "acme/widget", JobName: "publish"})
	again := s.hub.StartJob(githubsim.JobSpec{Repository: "acme/widget", RunID: job.RunID(), RunAttempt: 2})
	client := s.client(token).Actions

	build := job.BeginStep("build")
	job.EndStep(build, "success")
	upload := job.BeginStep("upload")
	got, _, err := client.GetWorkflowJobByID(t.Context(), "acme", "widget", job.ID())
	if err != nil {
		t.Fatal(err)
	}
	if got.GetRunID() != job.RunID() || got.GetRunAttempt() != 1 || got.GetStatus() != "in_progress" || got.GetName() != "publish" {
		t.Errorf("job %+v", got)
	}
	if s := got.Steps[upload-1]; s.GetName() != "upload" || s.GetStatus() != "in_progress" || s.CompletedAt != nil {
		t.Errorf("step %+v", s)
	}

	path := "/repos/acme/widget/actions/jobs/" + strconv.FormatInt(job.ID(), 10)
	tag := s.call("GET", path, token, "").header.Get("ETag")
	unchanged := s.call("GET", path, token, "", "If-None-Match", tag)
	if unchanged.status != http.StatusNotModified || unchanged.body != "" {
		t.Errorf("nothing changed: %d %s", unchanged.status, unchanged.body)
	}
	s.clock.advance(time.Minute)
	job.Complete("cancelled")
	changed := s.call("GET", path, token, "", "If-None-Match", tag)
	if changed.status != http.StatusOK || changed.field(t, "conclusion") != "cancelled" || changed.field(t, "completed_at") == nil {
		t.Errorf("after the end: %d %s", changed.status, changed.body)
	}
	second := s.call("GET", "/repos/acme/widget/actions/runs/"+strconv.FormatInt(job.RunID(), 10)+"/attempts/2/jobs", token, "")
	if second.field(t, "total_count") != 1.0 || !strings.Contains(second.body, strconv.FormatInt(again.ID(), 10)) {
		t.Errorf("the second attempt: %s", second.body)
	}
	wantReply(t, s.call("GET", "/repos/acme/docs/actions/jobs/"+strconv.FormatInt(job.ID(), 10), token, ""), 404, "Not Found")
}

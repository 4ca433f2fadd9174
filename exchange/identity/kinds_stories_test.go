package identity_test

import (
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/stepkey/stepkey/exchange/identity"
)

// kindIssuers are issuers of every kind but github, as in testdata/claims.
func kindIssuers() []identity.Issuer {
	return []identity.Issuer{
		{Name: "gitlab", Kind: "gitlab", URL: "https://gitlab.com"},
		{Name: "buildkite", Kind: "buildkite", URL: "https://agent.buildkite.com"},
		{Name: "circleci", Kind: "circleci", URL: "https://oidc.circleci.com/org/c9035eb6-6eb2-4c85-8a81-d9ed6a1d1d1e"},
		{Name: "forgejo", Kind: "forgejo", URL: "https://forgejo.example.com/api/actions"},
		{Name: "kubernetes", Kind: "kubernetes", URL: "https://kubernetes.default.svc.cluster.local", Private: true},
		{Name: "spiffe", Kind: "spiffe", URL: "https://spire.example.org", TrustDomain: "example.org"},
		{Name: "semaphore", Kind: "oidc", URL: "https://acme.semaphoreci.com",
			Job: &identity.JobClaims{Key: []string{"prj_id", "job_id"}, Pin: []string{"prj_id"}, Project: "prj_id", Run: "wf_id"}},
	}
}

func kindVerifier(t testing.TB, issuers []identity.Issuer) (*identity.Verifier, *network) {
	t.Helper()
	v, err := identity.New(audience, issuers, identity.Options{Now: atPresent})
	if err != nil {
		t.Fatal(err)
	}
	n := &network{documents: map[string]string{}}
	for _, i := range issuers {
		n.publish(t, i.URL, forgeFor(t).keySet(t))
	}
	v.ReachThrough(n)
	return v, n
}

// claimsOf are the claims of a file of testdata/claims, as of now.
func claimsOf(t testing.TB, kind, name string) map[string]any {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("..", "..", "testdata", "claims", kind, name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	var claims map[string]any
	if err := json.Unmarshal(data, &claims); err != nil {
		t.Fatal(err)
	}
	for _, time := range []string{"iat", "nbf", "exp"} {
		if at, ok := claims[time].(float64); ok {
			claims[time] = present.Unix() + int64(at) - int64(1795446000)
		}
	}
	return claims
}

func signed(t testing.TB, claims map[string]any) string {
	t.Helper()
	return forgeFor(t).sign(t, "rsa-1", encode(t, honestHeader()), encode(t, claims))
}

const (
	circleProject = "3a2f5b1c-7d4e-4f6a-9b8c-0d1e2f3a4b5c"
	circlePipe    = "9f8e7d6c-5b4a-4c3d-8e2f-1a0b9c8d7e6f"
	circleJob     = "1f2e3d4c-5b6a-4978-8695-a4b3c2d1e0f9"
	podUID        = "0d8b260e-ef0e-45fb-be8e-ff44f97722e8"
	accountUID    = "e6a8680e-d103-4cce-80ea-03acbbeacf7d"
	buildkiteJob  = "01945ecf-80f0-41e8-9b83-a2970a9305a1"
)

// kindJobs says which job each file of testdata/claims names.
var kindJobs = map[string]identity.Job{
	"gitlab/push":        {Key: `["gitlab","456789","574","302"]`, Name: "acme/widget pipeline 574 job 302", Repository: "456789", Run: "574", ID: "302"},
	"gitlab/environment": {Key: `["gitlab","456789","574","303"]`, Name: "acme/widget pipeline 574 job 303", Repository: "456789", Run: "574", ID: "303"},
	"gitlab/before-16":   {Key: `["gitlab","456789","574","302"]`, Name: "acme/widget pipeline 574 job 302", Repository: "456789", Run: "574", ID: "302"},
	"gitlab/merge-request-from-fork": {Key: `["gitlab","998877","575","304"]`, Name: "stranger/widget pipeline 575 job 304",
		Repository: "998877", Run: "575", ID: "304"},
	"buildkite/default": {Key: `["buildkite","` + buildkiteJob + `"]`, Name: "acme/widget build 5 job " + buildkiteJob, ID: buildkiteJob},
	"buildkite/with-ids": {Key: `["buildkite","` + buildkiteJob + `"]`, Name: "acme/widget build 5 job " + buildkiteJob, ID: buildkiteJob,
		Repository: "0184990a-4782-42b5-afc1-16715b10b8ff", Run: "01945ecf-7000-4000-8000-a2970a9305a1"},
	"circleci/push": {Key: `["circleci","` + circleProject + `","` + circleJob + `"]`, Name: "github.com/acme/widget pipeline " + circlePipe + " job " + circleJob,
		Repository: circleProject, Run: circlePipe, ID: circleJob},
	"circleci/custom-webhook": {Key: `["circleci","` + circleProject + `","` + circleJob + `"]`, Name: "project " + circleProject + " pipeline " + circlePipe + " job " + circleJob,
		Repository: circleProject, Run: circlePipe, ID: circleJob},
	"circleci/ssh-rerun-of-a-fork": {Key: `["circleci","` + circleProject + `","` + circleJob + `"]`, Name: "github.com/stranger/widget pipeline " + circlePipe + " job " + circleJob,
		Repository: circleProject, Run: circlePipe, ID: circleJob},
	"circleci/without-job-id": {Key: `["circleci","` + circleProject + `","` + circlePipe + `"]`, Name: "github.com/acme/widget pipeline " + circlePipe,
		Repository: circleProject, Run: circlePipe, Weak: true},
	"forgejo/push": {Key: `["forgejo","42","18","1","acme/widget/.forgejo/workflows/release.yaml@refs/heads/main"]`, Name: "acme/widget run 18.1",
		Repository: "42", Run: "18", Attempt: "1", Weak: true},
	"forgejo/pull-request": {Key: `["forgejo","42","19","1","acme/widget/.forgejo/workflows/release.yaml@refs/heads/main"]`, Name: "acme/widget run 19.1",
		Repository: "42", Run: "19", Attempt: "1", Weak: true},
	"kubernetes/pod":            {Key: `["kubernetes","` + accountUID + `","` + podUID + `"]`, Name: "release/publisher pod publish-7d9f", ID: podUID},
	"kubernetes/pod-before-jti": {Key: `["kubernetes","` + accountUID + `","` + podUID + `"]`, Name: "release/publisher pod publish-7d9f", ID: podUID},
	"kubernetes/without-a-pod":  {Key: `["kubernetes","` + accountUID + `"]`, Name: "release/publisher", Weak: true, Shared: true},
	"spiffe/spire":              {Key: `["spiffe","spiffe://example.org/build/release"]`, Name: "spiffe://example.org/build/release", Weak: true, Shared: true},
	"spiffe/with-jti":           {Key: `["spiffe","spiffe://example.org/ns/release/sa/publisher"]`, Name: "spiffe://example.org/ns/release/sa/publisher", Weak: true, Shared: true},
	"oidc/semaphore": {Key: `["semaphore","936a5312-a3b8-4921-8b3f-2cec8baac574","a36a5312-a3b8-4921-8b3f-2cec8baac574"]`,
		Name:       "prj_id 936a5312-a3b8-4921-8b3f-2cec8baac574 job_id a36a5312-a3b8-4921-8b3f-2cec8baac574",
		Repository: "936a5312-a3b8-4921-8b3f-2cec8baac574", Run: "b36a5312-a3b8-4921-8b3f-2cec8baac574"},
}

// Each file, signed by its issuer, is believed, names its job, and is read alike without
// a signature.
func TestTokensOfEveryKindNameTheirJob(t *testing.T) {
	v, _ := kindVerifier(t, kindIssuers())
	files, err := filepath.Glob("../../testdata/claims/*/*.json")
	if err != nil || len(files) != len(kindJobs) {
		t.Fatalf("%d files for %d jobs, %v", len(files), len(kindJobs), err)
	}
	for name, want := range kindJobs {
		t.Run(name, func(t *testing.T) {
			kind, file, _ := strings.Cut(name, "/")
			claims := claimsOf(t, kind, file)
			w, err := v.Verify(t.Context(), signed(t, claims))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, w.Job); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			if jti, has := claims["jti"]; has && w.TokenID != jti || !has && !strings.HasPrefix(w.TokenID, "sha256:") {
				t.Errorf("the token's id is %q, its jti %v", w.TokenID, jti)
			}
			read, err := identity.ReadClaims(encode(t, claims))
			if err != nil {
				t.Fatal(err)
			}
			i := kindIssuers()[slices.IndexFunc(kindIssuers(), func(i identity.Issuer) bool { return i.Kind == kind })]
			for form, given := range map[string]identity.Claims{"as in a token": read, "flat": w.Claims} {
				unverified, err := identity.Unverified(i, given)
				if err != nil {
					t.Fatalf("%s: %v", form, err)
				}
				if diff := cmp.Diff(identity.Workload{Issuer: w.Issuer, Claims: w.Claims, Job: w.Job}, unverified); diff != "" {
					t.Errorf("%s (-verified +read):\n%s", form, diff)
				}
			}
		})
	}
}

func TestWhatAClusterNestsIsReadByName(t *testing.T) {
	v, _ := kindVerifier(t, kindIssuers())
	w, err := v.Verify(t.Context(), signed(t, claimsOf(t, "kubernetes", "pod")))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"kubernetes.io/namespace": "release", "kubernetes.io/serviceaccount/name": "publisher", "kubernetes.io/serviceaccount/uid": accountUID,
		"kubernetes.io/pod/name": "publish-7d9f", "kubernetes.io/pod/uid": podUID, "kubernetes.io/node/name": "worker-1",
	} {
		if got, _ := w.Claims.Text(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
}

// hostileKinds are changes to a good token of a kind, and what they are refused for.
var hostileKinds = map[string]struct {
	of         string
	change     map[string]any // nil takes a claim away
	rule, says string
}{
	"gitlab: a number in place of its text":      {"gitlab/push", map[string]any{"project_id": 456789}, identity.RuleClaims, "project_id"},
	"gitlab: an id with a zero before":           {"gitlab/push", map[string]any{"project_id": "0456789"}, identity.RuleClaims, "project_id"},
	"gitlab: a boolean in place of its text":     {"gitlab/push", map[string]any{"ref_protected": true}, identity.RuleClaims, "ref_protected"},
	"gitlab: a text in place of a number":        {"gitlab/push", map[string]any{"runner_id": "1"}, identity.RuleClaims, "runner_id"},
	"gitlab: no job":                             {"gitlab/push", map[string]any{"job_id": nil}, identity.RuleJob, "job_id"},
	"gitlab: no project":                         {"gitlab/push", map[string]any{"project_id": nil}, identity.RuleJob, "project_id"},
	"gitlab: no jti":                             {"gitlab/push", map[string]any{"jti": nil}, identity.RuleTokenID, "jti"},
	"gitlab: a list of audiences":                {"gitlab/push", map[string]any{"aud": []any{audience}}, identity.RuleAudience, "list"},
	"gitlab: a lifetime of a day":                {"gitlab/push", map[string]any{"exp": present.Add(24 * time.Hour).Unix()}, identity.RuleLifetime, "lives"},
	"buildkite: a job that is no UUID":           {"buildkite/with-ids", map[string]any{"job_id": "302"}, identity.RuleClaims, "job_id"},
	"buildkite: a UUID in capitals":              {"buildkite/with-ids", map[string]any{"pipeline_id": "0184990A-4782-42B5-AFC1-16715B10B8FF"}, identity.RuleClaims, "pipeline_id"},
	"buildkite: a build number as text":          {"buildkite/with-ids", map[string]any{"build_number": "5"}, identity.RuleClaims, "build_number"},
	"buildkite: no job":                          {"buildkite/with-ids", map[string]any{"job_id": nil}, identity.RuleJob, "job_id"},
	"buildkite: no jti":                          {"buildkite/with-ids", map[string]any{"jti": nil}, identity.RuleTokenID, "jti"},
	"buildkite: an hour old":                     {"buildkite/with-ids", map[string]any{"iat": present.Add(-time.Hour).Unix(), "nbf": present.Add(-time.Hour).Unix()}, identity.RuleAge, "issued"},
	"circleci: no project":                       {"circleci/push", map[string]any{"oidc.circleci.com/project-id": nil}, identity.RuleJob, "project-id"},
	"circleci: neither a job nor a pipeline":     {"circleci/without-job-id", map[string]any{"oidc.circleci.com/pipeline-id": nil}, identity.RuleJob, "neither"},
	"circleci: a rerun as text":                  {"circleci/push", map[string]any{"oidc.circleci.com/ssh-rerun": "false"}, identity.RuleClaims, "ssh-rerun"},
	"circleci: a context as text":                {"circleci/push", map[string]any{"oidc.circleci.com/context-ids": circleJob}, identity.RuleClaims, "context-ids"},
	"circleci: a context with a comma":           {"circleci/push", map[string]any{"oidc.circleci.com/context-ids": []any{"a,b"}}, identity.RuleClaims, "context-ids"},
	"circleci: its default audience":             {"circleci/push", map[string]any{"aud": "c9035eb6-6eb2-4c85-8a81-d9ed6a1d1d1e"}, identity.RuleAudience, "not for this exchange"},
	"circleci: a jti that is a number":           {"circleci/push", map[string]any{"jti": 7}, identity.RuleTokenID, "jti"},
	"circleci: an empty jti":                     {"circleci/push", map[string]any{"jti": ""}, identity.RuleTokenID, "jti"},
	"forgejo: before ids were given":             {"forgejo/push", map[string]any{"repository_id": nil}, identity.RuleJob, "repository_id"},
	"forgejo: no workflow":                       {"forgejo/push", map[string]any{"workflow_ref": nil}, identity.RuleJob, "workflow_ref"},
	"forgejo: an attempt as a number":            {"forgejo/push", map[string]any{"run_attempt": 1}, identity.RuleClaims, "run_attempt"},
	"kubernetes: two audiences":                  {"kubernetes/pod", map[string]any{"aud": []any{audience, "https://other.example"}}, identity.RuleAudience, "list"},
	"kubernetes: another audience":               {"kubernetes/pod", map[string]any{"aud": []any{"https://kubernetes.default.svc"}}, identity.RuleAudience, "not for this exchange"},
	"kubernetes: no audience in the list":        {"kubernetes/pod", map[string]any{"aud": []any{}}, identity.RuleAudience, "list"},
	"kubernetes: a number in the list":           {"kubernetes/pod", map[string]any{"aud": []any{7}}, identity.RuleAudience, "not a string"},
	"kubernetes: nothing nested":                 {"kubernetes/pod", map[string]any{"kubernetes.io": nil}, identity.RuleJob, "serviceaccount/uid"},
	"kubernetes: a text where it nests":          {"kubernetes/pod", map[string]any{"kubernetes.io": "release"}, identity.RuleClaims, "not an object"},
	"kubernetes: a flat claim beside":            {"kubernetes/pod", map[string]any{"kubernetes.io/pod/uid": podUID}, identity.RuleClaims, "outside"},
	"kubernetes: a flat claim alone":             {"kubernetes/without-a-pod", map[string]any{"kubernetes.io/pod/uid": podUID}, identity.RuleClaims, "outside"},
	"kubernetes: a member with a slash":          {"kubernetes/pod", map[string]any{"kubernetes.io": map[string]any{"serviceaccount/uid": accountUID}}, identity.RuleClaims, "taken for another"},
	"kubernetes: nested too deep":                {"kubernetes/pod", map[string]any{"kubernetes.io": map[string]any{"serviceaccount": map[string]any{"uid": map[string]any{"a": "b"}}}}, identity.RuleClaims, "inside an object"},
	"kubernetes: a uid that is a number":         {"kubernetes/pod", map[string]any{"kubernetes.io": map[string]any{"serviceaccount": map[string]any{"uid": 7}}}, identity.RuleClaims, "serviceaccount/uid"},
	"kubernetes: an empty uid":                   {"kubernetes/pod", map[string]any{"kubernetes.io": map[string]any{"serviceaccount": map[string]any{"uid": ""}}}, identity.RuleJob, "serviceaccount/uid"},
	"kubernetes: a token that never ends":        {"kubernetes/pod", map[string]any{"exp": nil}, identity.RuleClaims, "exp"},
	"spiffe: another trust domain":               {"spiffe/spire", map[string]any{"sub": "spiffe://other.example/build/release"}, identity.RuleClaims, "another trust domain"},
	"spiffe: a domain that begins alike":         {"spiffe/spire", map[string]any{"sub": "spiffe://example.org.evil.example/build"}, identity.RuleClaims, "another trust domain"},
	"spiffe: the domain in capitals":             {"spiffe/spire", map[string]any{"sub": "spiffe://EXAMPLE.org/build"}, identity.RuleClaims, "another trust domain"},
	"spiffe: no path":                            {"spiffe/spire", map[string]any{"sub": "spiffe://example.org"}, identity.RuleClaims, "names no workload"},
	"spiffe: a path up":                          {"spiffe/spire", map[string]any{"sub": "spiffe://example.org/a/../b"}, identity.RuleClaims, "names no workload"},
	"spiffe: a slash at the end":                 {"spiffe/spire", map[string]any{"sub": "spiffe://example.org/a/"}, identity.RuleClaims, "names no workload"},
	"spiffe: a percent escape":                   {"spiffe/spire", map[string]any{"sub": "spiffe://example.org/%61"}, identity.RuleClaims, "names no workload"},
	"spiffe: a query":                            {"spiffe/spire", map[string]any{"sub": "spiffe://example.org/a?b"}, identity.RuleClaims, "names no workload"},
	"spiffe: a port":                             {"spiffe/spire", map[string]any{"sub": "spiffe://example.org:443/a"}, identity.RuleClaims, "another trust domain"},
	"spiffe: no subject":                         {"spiffe/spire", map[string]any{"sub": nil}, identity.RuleClaims, "no SPIFFE ID"},
	"spiffe: not a SPIFFE ID":                    {"spiffe/spire", map[string]any{"sub": "https://example.org/a"}, identity.RuleClaims, "no SPIFFE ID"},
	"spiffe: no time of issue":                   {"spiffe/spire", map[string]any{"iat": nil}, identity.RuleClaims, "iat"},
	"oidc: a claim of the job is missing":        {"oidc/semaphore", map[string]any{"job_id": nil}, identity.RuleJob, "job_id"},
	"oidc: a claim of the job is empty":          {"oidc/semaphore", map[string]any{"job_id": ""}, identity.RuleJob, "job_id"},
	"oidc: a claim of the job is a boolean":      {"oidc/semaphore", map[string]any{"job_id": true}, identity.RuleClaims, "job_id"},
	"oidc: a claim of the job is an object":      {"oidc/semaphore", map[string]any{"prj_id": map[string]any{"id": "1"}}, identity.RuleClaims, "prj_id"},
	"oidc: the run is a list":                    {"oidc/semaphore", map[string]any{"wf_id": []any{"1"}}, identity.RuleClaims, "wf_id"},
	"oidc: a claim of the job is null":           {"oidc/semaphore", map[string]any{"job_id": json.RawMessage("null")}, identity.RuleClaims, "job_id"},
	"oidc: a claim of the job is not whole":      {"oidc/semaphore", map[string]any{"job_id": 1.5}, identity.RuleClaims, "job_id"},
	"one kind's claims from another kind's host": {"gitlab/push", map[string]any{"iss": "https://agent.buildkite.com"}, identity.RuleClaims, "job_id"},
}

func TestTokensOfOtherKindsThatMustNotBeBelieved(t *testing.T) {
	v, _ := kindVerifier(t, kindIssuers())
	for name, c := range hostileKinds {
		t.Run(name, func(t *testing.T) {
			kind, file, _ := strings.Cut(c.of, "/")
			claims := claimsOf(t, kind, file)
			maps.Copy(claims, c.change)
			maps.DeleteFunc(claims, func(_ string, value any) bool { return value == nil })
			w, err := v.Verify(t.Context(), signed(t, claims))
			refusal, ok := errors.AsType[*identity.Refusal](err)
			if !ok || refusal.Rule != c.rule || !strings.Contains(refusal.Reason, c.says) {
				t.Errorf("want %s for %q, got %v (%+v)", c.rule, c.says, err, w.Job)
			}
		})
	}
}

// Where there is no jti, the hash of what is signed is the token's id: another signature
// of the same is the same token, anything else another.
func TestATokenWithoutJTIIsKnownByWhatIsSigned(t *testing.T) {
	v, _ := kindVerifier(t, kindIssuers())
	header := honestHeader()
	header["alg"], header["kid"] = "ES256", "ec-1"
	idOf := func(claims map[string]any) string {
		w, err := v.Verify(t.Context(), forgeFor(t).sign(t, "ec-1", encode(t, header), encode(t, claims)))
		if err != nil {
			t.Fatal(err)
		}
		return w.TokenID
	}
	claims := claimsOf(t, "spiffe", "spire")
	first, again := idOf(claims), idOf(claims) // ECDSA signs the same each time anew
	if first != again || len(first) != len("sha256:")+43 {
		t.Errorf("one token has the ids %q and %q", first, again)
	}
	claims["exp"] = present.Add(301 * time.Second).Unix()
	if other := idOf(claims); other == first {
		t.Errorf("two tokens have the id %q", other)
	}
}

// Tokens that wait in a variable or a file are taken while they are good; those that are
// made when they are asked for must be fresh.
func TestHowOldATokenMayBeDependsOnItsKind(t *testing.T) {
	v, _ := kindVerifier(t, kindIssuers())
	for of, old := range map[string]bool{
		"gitlab/push": true, "kubernetes/pod": true, "spiffe/spire": true,
		"buildkite/with-ids": false, "circleci/push": false, "forgejo/push": false, "oidc/semaphore": false,
	} {
		kind, file, _ := strings.Cut(of, "/")
		claims := claimsOf(t, kind, file)
		claims["iat"], claims["exp"] = present.Add(-50*time.Minute).Unix(), present.Add(10*time.Minute).Unix()
		_, err := v.Verify(t.Context(), signed(t, claims))
		if (err == nil) != old || err != nil && ruleOf(t, err) != identity.RuleAge {
			t.Errorf("%s, 50 minutes old: %v", of, err)
		}
	}
}

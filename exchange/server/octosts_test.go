package server_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stepkey/stepkey/exchange/identity"
	"github.com/stepkey/stepkey/exchange/lease"
	"github.com/stepkey/stepkey/exchange/server"
	"github.com/stepkey/stepkey/internal/githubsim"
	"github.com/stepkey/stepkey/internal/secret"
)

const octoHost = "sts.example.com"

// octoStage is the scene with a second door, for clients of octo-sts.
func octoStage(t testing.TB) *scene {
	t.Helper()
	sc := stage(t)
	other, err := sc.x.Verifier.(*identity.Verifier).For(octoHost)
	if err != nil {
		t.Fatal(err)
	}
	s := &server.Server{Exchange: sc.x, URL: audience, Ready: sc.store.Ready, Log: sc.x.Log, OctoSTS: &server.OctoSTS{
		Exchange: sc.x.For(other),
		Tasks: map[server.OctoIdentity]string{
			{Scope: "acme/widget", Identity: "release"}: "publish-release",
			{Scope: "acme", Identity: "gone"}:           "no-longer-there",
		},
	}}
	web := httptest.NewServer(s.Public())
	t.Cleanup(web.Close)
	sc.url = web.URL
	return sc
}

// octoToken is the job's ID token, made for whom octo-sts's client names.
func octoToken(t testing.TB, j *githubsim.Job) string {
	t.Helper()
	token, err := j.IDToken(octoHost)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// octo sends a request as it stands, and returns status and body.
func (sc *scene) octo(t testing.TB, method, query, body string, header http.Header) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, sc.url+"/sts/exchange?"+query, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for name, values := range header {
		r.Header[name] = values
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, string(text)
}

const octoRelease = "scope=acme/widget&scopes=acme/widget&identity=release"

func bearing(token string) http.Header { return http.Header{"Authorization": {"Bearer " + token}} }

func posting(token string) http.Header {
	return http.Header{"Authorization": {"bearer " + token}, "Content-Type": {"application/x-www-form-urlencoded"}}
}

// tokenIn is what a client of octo-sts reads: the one answer there is.
func tokenIn(t testing.TB, status int, body string) string {
	t.Helper()
	before, after := `{"token":"`, `","refreshToken":"","expiry":null}`+"\n"
	token, good := strings.CutPrefix(body, before)
	token, ended := strings.CutSuffix(token, after)
	if status != http.StatusOK || !good || !ended || !strings.HasPrefix(token, "ghs_") {
		t.Fatalf("answered %d %s", status, body)
	}
	return token
}

func TestAClientOfOctoSTSGetsALeaseLikeAnyOther(t *testing.T) {
	for name, ask := range map[string]func(*scene, string) (int, string){
		"by GET":  func(sc *scene, jwt string) (int, string) { return sc.octo(t, "GET", octoRelease, "", bearing(jwt)) },
		"by POST": func(sc *scene, jwt string) (int, string) { return sc.octo(t, "POST", "", octoRelease, posting(jwt)) },
		"with scope alone": func(sc *scene, jwt string) (int, string) {
			return sc.octo(t, "GET", "scope=acme/widget&identity=release", "", bearing(jwt))
		},
		"with scopes alone": func(sc *scene, jwt string) (int, string) {
			return sc.octo(t, "GET", "scopes=acme/widget&identity=release", "", bearing(jwt))
		},
		"with escapes and more": func(sc *scene, jwt string) (int, string) {
			return sc.octo(t, "GET", "scope=Acme%2FWidget&identity=release&more=1&more=2", "", bearing(jwt))
		},
		"in both places of one POST": func(sc *scene, jwt string) (int, string) {
			return sc.octo(t, "POST", "identity=release", "scope=acme/widget", posting(jwt))
		},
	} {
		t.Run(name, func(t *testing.T) {
			sc := octoStage(t)
			jwt := octoToken(t, sc.job(t, githubsim.JobSpec{}))
			status, body := ask(sc, jwt)
			token := tokenIn(t, status, body)
			if status := sc.use(t, token, "acme/widget"); status != http.StatusOK {
				t.Errorf("the granted repository: %d", status)
			}
			if status := sc.use(t, token, "acme/gadget"); status != http.StatusNotFound {
				t.Errorf("another repository: %d", status)
			}
			l, err := sc.store.ByCredential(t.Context(), secret.New(token))
			if err != nil || l.State != lease.Active || l.Task != "publish-release" || l.Holder != "" {
				t.Errorf("the lease is %+v, %v", l, err)
			}
			if log := sc.log.String(); strings.Contains(log, jwt) || strings.Contains(log, token) {
				t.Error("a secret is in the log")
			}
		})
	}
}

// The client sends the same token three times, after whatever failure.
func TestTheSameTokenOnceMoreIsRefusedUnlessNothingWasMade(t *testing.T) {
	sc := octoStage(t)
	jwt := octoToken(t, sc.job(t, githubsim.JobSpec{}))
	sc.gh.Fault(func(r *http.Request) *githubsim.Fault {
		if strings.HasSuffix(r.URL.Path, "/access_tokens") {
			return &githubsim.Fault{Before: http.StatusForbidden, Header: http.Header{"Retry-After": {"60"}}, Body: `{"message":"You have exceeded a secondary rate limit."}`}
		}
		return nil
	})
	status, body := sc.octo(t, "GET", octoRelease, "", bearing(jwt))
	if status != http.StatusTooManyRequests || !strings.HasPrefix(body, `{"code":8,"message":"`) {
		t.Errorf("GitHub's limit: %d %s", status, body)
	}
	sc.gh.Fault(nil)
	status, body = sc.octo(t, "GET", octoRelease, "", bearing(jwt))
	if token := tokenIn(t, status, body); sc.use(t, token, "acme/widget") != http.StatusOK {
		t.Error("after a failure that made nothing, the same token gives nothing that works")
	}
	for range 2 {
		status, body = sc.octo(t, "GET", octoRelease, "", bearing(jwt))
		if status != http.StatusUnauthorized || !strings.HasPrefix(body, `{"code":16,"message":"The subject token was exchanged before.`) {
			t.Errorf("the same token once more: %d %s", status, body)
		}
	}
	if n := len(sc.gh.LiveTokens()); n != 1 {
		t.Errorf("%d tokens live", n)
	}
}

func TestATokenIsGoodAtOneDoorAlone(t *testing.T) {
	sc := octoStage(t)
	for door, try := range map[string]func() int{
		"ours with theirs": func() int {
			var refused map[string]any
			status, _ := sc.post(t, "/token", tokenForm(octoToken(t, sc.job(t, githubsim.JobSpec{}))), &refused)
			return status
		},
		"theirs with ours": func() int {
			status, _ := sc.octo(t, "GET", octoRelease, "", bearing(subjectToken(t, sc.job(t, githubsim.JobSpec{}))))
			return status
		},
	} {
		if status := try(); status != http.StatusBadRequest && status != http.StatusUnauthorized {
			t.Errorf("%s: %d", door, status)
		}
	}
	if n := len(sc.gh.Issued()); n != 0 {
		t.Errorf("%d tokens were made", n)
	}
}

func TestBothDoorsAskForTheIssuersKeysOnce(t *testing.T) {
	sc := octoStage(t)
	sc.octo(t, "GET", octoRelease, "", bearing(octoToken(t, sc.job(t, githubsim.JobSpec{}))))
	var given map[string]any
	sc.post(t, "/token", tokenForm(subjectToken(t, sc.job(t, githubsim.JobSpec{}))), &given)
	asked := 0
	for _, r := range sc.gh.Requests() {
		if strings.HasSuffix(r.Path, "/jwks") {
			asked++
		}
	}
	if n := len(sc.gh.Issued()); n != 2 || asked != 1 {
		t.Errorf("%d tokens made, and the keys asked for %d times", n, asked)
	}
	for _, audience := range []string{"", "sigstore", "sts example", "https://github.com/acme"} {
		if v, err := sc.x.Verifier.(*identity.Verifier).For(audience); err == nil || v != nil {
			t.Errorf("a door for the audience %q", audience)
		}
	}
}

func TestWithoutAListThereIsNoSuchDoor(t *testing.T) {
	sc := stage(t)
	if status, _ := sc.octo(t, "GET", octoRelease, "", nil); status != http.StatusNotFound {
		t.Errorf("answered %d", status)
	}
}

func TestEachRefusalOfAnOctoSTSClientHasItsStatusAndCode(t *testing.T) {
	sc := octoStage(t)
	holder := sc.job(t, githubsim.JobSpec{})
	sc.octo(t, "GET", octoRelease, "", bearing(octoToken(t, holder)))
	fresh := octoToken(t, holder)
	parts := strings.Split(fresh, ".")
	staging := octoToken(t, sc.job(t, githubsim.JobSpec{Environment: "staging"}))
	many := strings.Repeat("a=b&", 70) + octoRelease
	form := "application/x-www-form-urlencoded"
	for _, c := range []struct {
		name, method, query, body string
		header                    http.Header
		status                    int
		code, says                string
	}{
		{"no token", "GET", octoRelease, "", nil, 401, "16", "missing"},
		{"Basic", "GET", octoRelease, "", http.Header{"Authorization": {"Basic " + marker}}, 401, "16", "missing"},
		{"an empty bearer", "GET", octoRelease, "", bearing(""), 401, "16", "missing"},
		{"two tokens", "GET", octoRelease, "", http.Header{"Authorization": {"Bearer " + fresh, "Bearer " + fresh}}, 400, "3", "more than one"},
		{"a token that is none", "GET", octoRelease, "", bearing(marker), 400, "3", "no JWT"},
		{"two tokens in one", "GET", octoRelease, "", bearing(fresh + "," + fresh), 400, "3", "no JWT"},
		{"a forged token", "GET", octoRelease, "", bearing(parts[0] + "." + parts[1] + ".AAAA"), 401, "16", "signature"},
		{"a token for somebody else", "GET", octoRelease, "", bearing(other(t, holder)), 401, "16", "sts.example.com"},
		{"no scope", "GET", "identity=release", "", bearing(fresh), 400, "3", "scope"},
		{"no identity", "GET", "scope=acme/widget", "", bearing(fresh), 400, "3", "identity"},
		{"two scopes", "GET", "scopes=acme/widget&scopes=acme/gadget&identity=release", "", bearing(fresh), 400, "3", "scopes stands more than once"},
		{"two scopes of which one is empty", "GET", "scopes=&scopes=acme/gadget&identity=release", "", bearing(fresh), 400, "3", "more than once"},
		{"scopes in two places", "POST", "scopes=acme/widget", "scopes=acme/widget&identity=release", posting(fresh), 400, "3", "more than once"},
		{"another scope as scopes", "GET", "scope=acme/widget&scopes=acme/gadget&identity=release", "", bearing(fresh), 400, "3", "differ"},
		{"a scope that climbs", "GET", "scope=acme/../x/" + marker + "&identity=release", "", bearing(fresh), 400, "3", "scope must be"},
		{"an identity that climbs", "GET", "scope=acme/widget&identity=../" + marker, "", bearing(fresh), 400, "3", "identity must be"},
		{"an identity with a line break", "GET", "scope=acme/widget&identity=a%0a" + marker, "", bearing(fresh), 400, "3", "identity must be"},
		{"a broken escape", "GET", octoRelease + "&x=%zz", "", bearing(fresh), 400, "3", "well formed"},
		{"too many parameters", "GET", many, "", bearing(fresh), 400, "3", "more than 64"},
		{"JSON", "POST", "", `{"scope":"acme/widget"}`, http.Header{"Authorization": {"Bearer " + fresh}, "Content-Type": {"application/json"}}, 400, "3", form},
		{"a body without end", "POST", "", strings.Repeat("a", 70<<10), posting(fresh), 400, "3", "larger than"},
		{"what is not listed", "GET", "scope=acme/widget&identity=deploy", "", bearing(fresh), 404, "5", "No task is listed"},
		{"a listed task that is gone", "GET", "scope=acme&identity=gone", "", bearing(fresh), 404, "5", "No task is listed"},
		{"what is not listed, by a stranger", "GET", "scope=acme/widget&identity=deploy", "", bearing(parts[0] + "." + parts[1] + ".AAAA"), 401, "16", "signature"},
		{"a workload that is not allowed", "GET", octoRelease, "", bearing(staging), 403, "7", "does not allow"},
		{"one more for the job", "GET", octoRelease, "", bearing(fresh), 403, "7", "already holds 1"},
		{"PUT", "PUT", octoRelease, "", bearing(fresh), 501, "12", "GET"},
		{"DELETE", "DELETE", octoRelease, "", bearing(fresh), 501, "12", "GET"},
	} {
		t.Run(c.name, func(t *testing.T) {
			status, body := sc.octo(t, c.method, c.query, c.body, c.header)
			if status != c.status || !strings.HasPrefix(body, `{"code":`+c.code+`,"message":"`) || !strings.HasSuffix(body, `","details":[]}`+"\n") || !strings.Contains(body, c.says) {
				t.Errorf("answered %d %s", status, body)
			}
			if strings.Contains(body, marker) || strings.Contains(body, fresh) {
				t.Errorf("repeats what was sent: %s", body)
			}
		})
	}
	if n := len(sc.gh.Issued()); n != 1 {
		t.Errorf("%d tokens were made", n)
	}
	if log := sc.log.String(); strings.Contains(log, marker) || strings.Contains(log, parts[2]) || strings.Contains(log, "ghs_") {
		t.Error("a secret, or what strangers sent, is in the log")
	}
}

// A HEAD has no answer to put a token in.
func TestAHeadMakesNothing(t *testing.T) {
	sc := octoStage(t)
	if status, _ := sc.octo(t, "HEAD", octoRelease, "", bearing(octoToken(t, sc.job(t, githubsim.JobSpec{})))); status != http.StatusNotImplemented || len(sc.gh.Issued()) != 0 {
		t.Errorf("answered %d, %d tokens made", status, len(sc.gh.Issued()))
	}
}

func TestADenialIsWrittenDownWithWhatWasAskedFor(t *testing.T) {
	sc := octoStage(t)
	_, body := sc.octo(t, "GET", "scope=Acme/widget&identity=deploy", "", bearing(octoToken(t, sc.job(t, githubsim.JobSpec{}))))
	_, id, _ := strings.Cut(body, "Audit id: ")
	id, _, _ = strings.Cut(id, `"`)
	entries, err := sc.store.Audit(t.Context(), lease.AuditQuery{ID: id, Limit: 1})
	if err != nil || len(entries) != 1 || entries[0].Job == "" {
		t.Errorf("%q finds %+v, %v", id, entries, err)
	}
	if log := sc.log.String(); !strings.Contains(log, "identity=deploy") || !strings.Contains(log, "scope=acme/widget") {
		t.Errorf("the log does not say what was asked for:\n%s", log)
	}
}

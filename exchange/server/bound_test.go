package server_test

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"pgregory.net/rapid"

	"github.com/stepkey/stepkey/exchange/audit"
	"github.com/stepkey/stepkey/exchange/client"
	"github.com/stepkey/stepkey/exchange/identity"
	"github.com/stepkey/stepkey/exchange/lease"
	"github.com/stepkey/stepkey/exchange/policy"
	"github.com/stepkey/stepkey/internal/githubsim"
	"github.com/stepkey/stepkey/internal/secret"
)

// boundTask is the scene's task, taken by bound tokens alone, and with an input.
const boundTask = `inputs: {channel: {enum: [stable, beta], default: stable}}
bind: request
`

// boundStage is a scene with publish-release as ever, and three more of the same: bound
// and bound-too take bound tokens alone, plain takes any.
func boundStage(t testing.TB, begin func(testing.TB) *scene) *scene {
	t.Helper()
	sc := begin(t)
	named := func(name string) *fstest.MapFile {
		return &fstest.MapFile{Data: []byte(strings.Replace(taskFile, "task: publish-release", "task: "+name, 1))}
	}
	folder := fstest.MapFS{"publish-release.yaml": named("publish-release"), "bound.yaml": named("bound"), "bound-too.yaml": named("bound-too"), "plain.yaml": named("plain")}
	for _, name := range []string{"bound.yaml", "bound-too.yaml"} {
		folder[name].Data = append(folder[name].Data, boundTask...)
	}
	folder["plain.yaml"].Data = append(folder["plain.yaml"].Data, strings.TrimSuffix(boundTask, "bind: request\n")...)
	tasks, err := policy.Load(folder, policy.Check{
		Issuers:  []identity.Issuer{{Name: "github", Kind: "github"}},
		Backends: map[string]policy.Scoper{"github": sc.x.Backends["github"]},
	})
	if err != nil {
		t.Fatal(err)
	}
	sc.x.Policy = func() *policy.Set { return tasks }
	return sc
}

// An asking is one request of /token as it is sent.
type asking struct {
	subject string
	key     *aKey // that proves; nil: nobody does
	form    url.Values
}

// bound asks for a task with a token that is bound to just that.
func (sc *scene) bound(t testing.TB, task, details string) asking {
	t.Helper()
	k := edKey(t)
	aud := audience + "/bound/" + client.Binding(k.thumbprint(), task, details)
	token, err := sc.job(t, githubsim.JobSpec{}).IDToken(aud)
	if err != nil {
		t.Fatal(err)
	}
	a := asking{token, &k, tokenForm(token)}
	a.set("scope", task)
	a.set("authorization_details", details)
	return a
}

func (a *asking) set(name, value string) {
	a.form = maps.Clone(a.form)
	if a.form.Set(name, value); value == "" {
		a.form.Del(name)
	}
}

// thumbprint is as RFC 7638 has it for Ed25519.
func (k aKey) thumbprint() string {
	hash := sha256.Sum256([]byte(`{"crv":"Ed25519","kty":"OKP","x":"` + k.jwk["x"].(string) + `"}`))
	return b64(hash[:])
}

func (sc *scene) ask(t testing.TB, a asking) (int, client.TokenResponse, client.ErrorResponse) {
	t.Helper()
	header := map[string][]string{}
	if a.key != nil {
		header["Dpop"] = []string{aDraft(*a.key, a.subject).signed(t)}
	}
	status, body := sc.send(t, hostile{method: http.MethodPost, path: "/token", kind: formType, body: a.form.Encode(), header: header})
	var given client.TokenResponse
	var no client.ErrorResponse
	if err := json.Unmarshal([]byte(body), &given); err != nil {
		t.Fatalf("%v in %s", err, body)
	}
	if err := json.Unmarshal([]byte(body), &no); err != nil {
		t.Fatal(err)
	}
	return status, given, no
}

// misbound demands the refusal of a token that is not for what it is shown with.
func misbound(t testing.TB, what string, status int, no client.ErrorResponse) {
	t.Helper()
	if status != http.StatusBadRequest || no.Code != client.CodeInvalidGrant || no.AuditID == "" || no.Rule != client.RuleBinding || !strings.HasPrefix(no.Description, "Subject token refused (binding): ") {
		t.Errorf("%s: %d %+v", what, status, no)
	}
}

const (
	someDetails = `[{"type":"stepkey_task","ttl":"5m","inputs":{"channel":"beta"},"credential":{"github":{"permissions":{"contents":"read"}}}}]`
	noDetails   = `[{"type":"stepkey_task"}]`
)

func TestABoundTokenIsGoodForItsRequestAndForNothingElse(t *testing.T) {
	for _, task := range []string{"bound", "plain"} { // what is bound is held to it, whoever asked for that
		t.Run(task, func(t *testing.T) {
			sc := boundStage(t, stage)
			honest := sc.bound(t, task, someDetails)
			thief := edKey(t)
			for name, c := range map[string]struct {
				steal func(*asking)
				says  string
			}{
				"by another key":            {func(a *asking) { a.key = &thief }, "another request or to another key"},
				"by nobody":                 {func(a *asking) { a.key = nil }, "a DPoP proof by that key"},
				"another task":              {func(a *asking) { a.set("scope", "bound-too") }, "another request"},
				"another task, without one": {func(a *asking) { a.set("scope", "publish-release") }, "another request"},
				"a task that is not there":  {func(a *asking) { a.set("scope", "nowhere") }, "another request"},
				"a longer life":             {func(a *asking) { a.set("authorization_details", strings.Replace(someDetails, "5m", "6m", 1)) }, "another request"},
				"a shorter life":            {func(a *asking) { a.set("authorization_details", strings.Replace(someDetails, "5m", "4m", 1)) }, "another request"},
				"the same life, spelled":    {func(a *asking) { a.set("authorization_details", strings.Replace(someDetails, "5m", "300s", 1)) }, "another request"},
				"no life":                   {func(a *asking) { a.set("authorization_details", strings.Replace(someDetails, `"ttl":"5m",`, "", 1)) }, "another request"},
				"another input":             {func(a *asking) { a.set("authorization_details", strings.Replace(someDetails, "beta", "stable", 1)) }, "another request"},
				"wider":                     {func(a *asking) { a.set("authorization_details", strings.Replace(someDetails, `"read"`, `"write"`, 1)) }, "another request"},
				"narrower": {func(a *asking) {
					a.set("authorization_details", strings.Replace(someDetails, `"permissions"`, `"repositories":["widget"],"permissions"`, 1))
				}, "another request"},
				"white space":         {func(a *asking) { a.set("authorization_details", someDetails+" ") }, "another request"},
				"details without any": {func(a *asking) { a.set("authorization_details", noDetails) }, "another request"},
				"no details":          {func(a *asking) { a.set("authorization_details", "") }, "another request"},
			} {
				stolen := honest
				c.steal(&stolen)
				status, _, no := sc.ask(t, stolen)
				misbound(t, name, status, no)
				if !strings.Contains(no.Description, c.says) || strings.Contains(no.Description, "/bound/") {
					t.Errorf("%s: %s", name, no.Description)
				}
			}
			sc.nothingWasLeased(t)
			// None of that cost its owner anything.
			status, given, no := sc.ask(t, honest)
			if status != http.StatusOK || given.Lease.Granted != "contents: read on acme/widget (id 456789)" || given.ExpiresIn > 300 {
				t.Fatalf("its own request: %d %+v %+v", status, given, no)
			}
			status, _, no = sc.ask(t, honest)
			if status != http.StatusBadRequest || !strings.Contains(no.Description, "exchanged before") || len(sc.gh.LiveTokens()) != 1 {
				t.Errorf("once more: %d %+v", status, no)
			}
		})
	}
}

func (sc *scene) nothingWasLeased(t testing.TB) {
	t.Helper()
	if lives, err := sc.store.Lives(t.Context()); err != nil || len(lives) != 0 || len(sc.gh.Issued()) != 0 {
		t.Errorf("leases: %v, %v; %d tokens", lives, err, len(sc.gh.Issued()))
	}
}

// Whatever else is on the wire changes nothing, so it need not be bound.
func TestWhatABindingLeavesOutChangesNothing(t *testing.T) {
	sc := boundStage(t, stage)
	for name, change := range map[string]func(*asking){
		"nothing":                 func(*asking) {},
		"the type of the token":   func(a *asking) { a.set("subject_token_type", client.TokenTypeJWT) },
		"the type that is wanted": func(a *asking) { a.set("requested_token_type", client.TokenTypeAccessToken) },
		"where it will be used": func(a *asking) {
			a.form["resource"], a.form["audience"] = []string{"https://a.example", "https://b.example"}, []string{"x"}
		},
		"who the client says": func(a *asking) { a.set("client_id", "someone") },
		"what means nothing":  func(a *asking) { a.set("lease", "lease_01"); a.set("ttl", "24h"); a.set("inputs", "channel: stable") },
	} {
		a := sc.bound(t, "bound", someDetails)
		a.form = maps.Clone(a.form)
		change(&a)
		status, given, no := sc.ask(t, a)
		if status != http.StatusOK || given.Scope != "bound" || given.Lease.Granted != "contents: read on acme/widget (id 456789)" ||
			given.AuthorizationDetails[0].TTL != "5m0s" || given.AuthorizationDetails[0].Inputs["channel"] != "beta" {
			t.Errorf("%s: %d %+v %+v", name, status, given, no)
		}
	}
}

// Any single change of the request or of the key is refused, also one that would ask for
// the very same.
func TestAnySingleChangeOfABoundRequestIsRefused(t *testing.T) {
	sc := boundStage(t, stage)
	keys := []aKey{edKey(t), edKey(t)}
	rapid.Check(t, func(rt *rapid.T) {
		task := rapid.SampledFrom([]string{"bound", "bound-too", "plain", "publish-release"})
		details := rapid.SampledFrom([]string{"", noDetails, someDetails, `[{"type":"stepkey_task","ttl":"300s"}]`, `[{"type":"stepkey_task","ttl":"5m"}]`,
			`[{"type":"stepkey_task","ttl":""}]`, `[{"ttl":"5m","type":"stepkey_task"}]`, ` [{"type":"stepkey_task","ttl":"5m"}]`, `[{"type":"stepkey_task","inputs":{"channel":"beta"}}]`})
		honest := sc.bound(t, task.Draw(rt, "task"), details.Draw(rt, "details"))
		stolen := honest
		switch rapid.SampledFrom([]string{"key", "proof", "task", "details"}).Draw(rt, "what changes") {
		case "key":
			stolen.key = &keys[rapid.IntRange(0, 1).Draw(rt, "thief")]
		case "proof":
			stolen.key = nil
		case "task":
			stolen.set("scope", task.Filter(func(s string) bool { return s != honest.form.Get("scope") }).Draw(rt, "other task"))
		case "details":
			stolen.set("authorization_details", details.Filter(func(s string) bool { return s != honest.form.Get("authorization_details") }).Draw(rt, "other details"))
		}
		if status, _, no := sc.ask(t, stolen); status != http.StatusBadRequest || no.Code != client.CodeInvalidGrant || !strings.Contains(no.Description, "(binding)") {
			rt.Fatalf("%v instead of %v: %d %+v", stolen.form, honest.form, status, no)
		}
	})
	sc.nothingWasLeased(t)
}

func TestABoundTokenOpensNoOtherDoor(t *testing.T) {
	sc := boundStage(t, octoStage)
	lent := sc.bound(t, "bound", "")
	if status, _, no := sc.ask(t, lent); status != http.StatusOK {
		t.Fatal(status, no)
	}

	// Ending what the job holds takes a token of the same job for the plain audience.
	j := sc.job(t, githubsim.JobSpec{})
	if status, _, no := sc.ask(t, asking{form: tokenForm(subjectToken(t, j))}); status != http.StatusOK {
		t.Fatal(status, no)
	}
	k := edKey(t)
	ofJob, err := j.IDToken(audience + "/bound/" + client.Binding(k.thumbprint(), "publish-release", ""))
	if err != nil {
		t.Fatal(err)
	}
	var no client.ErrorResponse
	for name, more := range map[string]url.Values{"all": {}, "of one task": {"scope": {"publish-release"}}} {
		form := url.Values{"token": {ofJob}, "token_type_hint": {client.TokenTypeJob}}
		maps.Copy(form, more)
		status, _ := sc.post(t, "/revoke", form, &no)
		misbound(t, "/revoke of "+name, status, no)
	}
	if len(sc.gh.LiveTokens()) != 2 {
		t.Errorf("%d tokens live", len(sc.gh.LiveTokens()))
	}

	// The door of octo-sts takes no proof, so it takes nothing bound, to whatever.
	for _, aud := range []string{
		octoHost + "/bound/" + client.Binding(k.thumbprint(), "publish-release", ""), octoHost + "/bound/" + client.Binding("", "publish-release", ""),
		audience + "/bound/" + client.Binding("", "publish-release", ""),
	} {
		token, err := j.IDToken(aud)
		if err != nil {
			t.Fatal(err)
		}
		status, body := sc.octo(t, "GET", octoRelease, "", bearing(token))
		if status != http.StatusUnauthorized || !strings.Contains(body, "Subject token refused (") {
			t.Errorf("/sts/exchange with %s: %d %s", aud, status, body)
		}
	}
}

// The tricks are those of the verifier's own tests, here on the way through.
func TestAnAudienceThatOnlyLooksBoundIsRefused(t *testing.T) {
	sc := boundStage(t, stage)
	a := sc.bound(t, "bound", "")
	binding := client.Binding(a.key.thumbprint(), "bound", "")
	j := sc.job(t, githubsim.JobSpec{})
	for name, aud := range map[string]any{
		"another exchange":        "https://other.example.com/bound/" + binding,
		"one that begins alike":   audience + ".evil.example/bound/" + binding,
		"bound twice":             audience + "/bound/" + binding + "/bound/" + binding,
		"bound to bound":          audience + "/bound/bound/" + binding,
		"a slash at the end":      audience + "/bound/" + binding + "/",
		"two slashes":             audience + "//bound/" + binding,
		"capitals":                audience + "/BOUND/" + binding,
		"the host in capitals":    "https://LEASE.example.com/bound/" + binding,
		"padding":                 audience + "/bound/" + binding + "=",
		"a list":                  []string{audience + "/bound/" + binding},
		"a list with ours, plain": []string{audience, audience + "/bound/" + binding},
		"the binding alone":       binding,
	} {
		claims := j.Claims(audience)
		claims["aud"] = aud
		a.subject = j.Sign(claims)
		a.set("subject_token", a.subject)
		status, _, no := sc.ask(t, a)
		if status != http.StatusBadRequest || no.Code != client.CodeInvalidGrant || !strings.HasPrefix(no.Description, "Subject token refused (audience): ") {
			t.Errorf("%s: %d %+v", name, status, no)
		}
	}
	sc.nothingWasLeased(t)
}

// A plain RFC 8693 client goes on as before, where the task lets it.
func TestAPlainTokenIsTakenWhereTheTaskDoesNotWantABoundOne(t *testing.T) {
	sc := boundStage(t, stage)
	key := edKey(t)
	for _, asks := range []*aKey{nil, &key} {
		subject := subjectToken(t, sc.job(t, githubsim.JobSpec{}))
		a := asking{subject, asks, tokenForm(subject)}
		a.set("scope", "bound")
		status, _, no := sc.ask(t, a)
		misbound(t, "a plain token", status, no)
		if !strings.Contains(no.Description, "bind: request") || !strings.Contains(no.Description, "update the client") || !strings.Contains(no.Description, "any audience") {
			t.Errorf("it says %s", no.Description)
		}
		a.set("scope", "plain")
		if status, _, no := sc.ask(t, a); status != http.StatusOK {
			t.Errorf("elsewhere: %d %+v", status, no)
		}
	}
	// Whom the policy does not let in learns of the policy's denial alone.
	subject := subjectToken(t, sc.job(t, githubsim.JobSpec{Environment: "elsewhere"}))
	a := asking{subject: subject, form: tokenForm(subject)}
	a.set("scope", "bound")
	if status, _, no := sc.ask(t, a); status != http.StatusForbidden || no.Code != client.CodeAccessDenied || strings.Contains(no.Description, "bind") {
		t.Errorf("somebody else: %d %+v", status, no)
	}
}

func TestTheAuditLogTellsWhatWasBound(t *testing.T) {
	sc := boundStage(t, stage)
	honest := sc.bound(t, "bound", "")
	stolen := honest
	stolen.key = nil
	_, _, no := sc.ask(t, stolen)
	_, given, _ := sc.ask(t, honest)
	entries, err := sc.store.Audit(t.Context(), lease.AuditQuery{Limit: 100})
	if err != nil {
		t.Fatal(err)
	}
	find := func(match func(audit.Entry) bool) audit.Entry {
		at := slices.IndexFunc(entries, match)
		if at < 0 {
			t.Fatalf("not in %+v", entries)
		}
		return entries[at]
	}
	theft := find(func(e audit.Entry) bool { return e.ID == no.AuditID })
	if theft.Event != audit.Denied || theft.Rule != "binding" || theft.Job == "" || theft.Task != "bound" || !strings.Contains(theft.Reason, "bound to one request") {
		t.Errorf("of the theft: %+v", theft)
	}
	begun := find(func(e audit.Entry) bool { return e.Lease == given.Lease.ID && e.Event == audit.Pending })
	if begun.Reason != "the subject token was bound to this request and to the key that made it" {
		t.Errorf("of the lease: %+v", begun)
	}
}

// The step side's own client, and a retry of it whose answer was lost.
func TestTheClientBindsAndMayAskAgain(t *testing.T) {
	sc := boundStage(t, stage)
	c, err := client.New(audience, client.Options{HTTP: &http.Client{Transport: proxy(sc.url)}})
	if err != nil {
		t.Fatal(err)
	}
	j := sc.job(t, githubsim.JobSpec{})
	r := client.TokenRequest{Task: "bound", TTL: 90e9, Inputs: map[string]string{"channel": "beta"}, Narrow: json.RawMessage(`{"github":{"permissions":{"contents":"read"}}}`), Key: aHolder(t)}
	aud, err := client.BoundAudience(audience, r)
	if err != nil {
		t.Fatal(err)
	}
	for try := range 2 {
		token, err := j.IDToken(aud)
		if err != nil {
			t.Fatal(err)
		}
		r.SubjectToken = secret.New(token)
		given, err := c.Token(t.Context(), r)
		if err != nil || given.Granted != "contents: read on acme/widget (id 456789)" || len(sc.gh.LiveTokens()) != 1 {
			t.Fatalf("try %d: %+v, %v; %d tokens live", try, given, err, len(sc.gh.LiveTokens()))
		}
	}
}

func TestTheMetadataTellsThatBoundTokensAreUnderstood(t *testing.T) {
	sc := stage(t)
	var m client.Metadata
	for _, at := range []string{"oauth-authorization-server", "openid-configuration"} {
		answer, err := http.Get(sc.url + "/.well-known/" + at)
		if err != nil {
			t.Fatal(err)
		}
		err = json.NewDecoder(answer.Body).Decode(&m)
		answer.Body.Close()
		if err != nil || fmt.Sprint(m.SubjectTokenBindings) != "[stepkey-bound-request-v1]" {
			t.Errorf("%s: %v, %v", at, m.SubjectTokenBindings, err)
		}
	}
}

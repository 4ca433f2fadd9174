package server_test

import (
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/stepkey/stepkey/exchange/client"
	"github.com/stepkey/stepkey/exchange/lease"
	"github.com/stepkey/stepkey/internal/githubsim"
)

// marker stands in every hostile value; it must appear in no answer and no log.
const marker = "canary-5e1d"

const formType = "application/x-www-form-urlencoded"

// hostile is a request that must be refused, with a word of why.
type hostile struct {
	name   string
	method string
	path   string
	kind   string // Content-Type
	body   string
	header map[string][]string
	status int
	says   string
}

func hostileRequests(subject string) []hostile {
	good := tokenForm(subject)
	change := func(name string, values ...string) string {
		form := url.Values{}
		for k, v := range good {
			form[k] = v
		}
		form[name] = values
		return form.Encode()
	}
	exchange, id := client.GrantTypeTokenExchange, client.TokenTypeIDToken
	all := []hostile{
		{name: "no body", status: 400, says: "grant_type is missing"},
		{name: "no grant type", body: change("grant_type", ""), status: 400, says: "grant_type is missing"},
		{name: "another grant type", body: change("grant_type", "client_credentials"), status: 400, says: exchange},
		{name: "a grant type with a tail", body: change("grant_type", exchange+marker), status: 400, says: "grant_type must be"},
		{name: "two grant types", body: change("grant_type", exchange, exchange), status: 400, says: "grant_type stands more than once"},
		{name: "no subject token", body: change("subject_token", ""), status: 400, says: "subject_token is missing"},
		{name: "two subject tokens", body: change("subject_token", subject, marker), status: 400, says: "subject_token stands more than once"},
		{name: "a subject token that is none", body: change("subject_token", marker), status: 400, says: "token"},
		{name: "a huge subject token", body: change("subject_token", strings.Repeat("a", 20<<10)), status: 400, says: "16384"},
		{name: "no subject token type", body: change("subject_token_type", ""), status: 400, says: id},
		{name: "a SAML assertion", body: change("subject_token_type", "urn:ietf:params:oauth:token-type:saml2"), status: 400, says: "subject_token_type"},
		{name: "a refresh token wanted", body: change("requested_token_type", "urn:ietf:params:oauth:token-type:refresh_token"), status: 400, says: "requested_token_type"},
		{name: "an actor", body: change("actor_token", marker), status: 400, says: "actor_token"},
		{name: "an actor's type", body: change("actor_token_type", id), status: 400, says: "actor_token"},
		{name: "no task", body: change("scope", ""), status: 400, says: "scope is missing"},
		{name: "two tasks", body: change("scope", "publish-release deploy"), status: 400, says: "one task"},
		{name: "two scopes", body: change("scope", "publish-release", "deploy"), status: 400, says: "scope stands more than once"},
		{name: "a task with a path", body: change("scope", "../../etc/"+marker), status: 400, says: "no task's name"},
		{name: "a task with a line break", body: change("scope", "publish-release\n"+marker), status: 400, says: "one task"},
		{name: "a task with a null byte", body: change("scope", "publish-release\x00"), status: 400, says: "no task's name"},
		{name: "a task with an endless name", body: change("scope", strings.Repeat("a", 9000)), status: 400, says: "no task's name"},
		{name: "a task that is not there", body: change("scope", "deploy"), status: 400, says: "no such task"},
		{name: "a task in capitals", body: change("scope", "Publish-Release"), status: 400, says: "no task's name"},
		{name: "details that are no JSON", body: change("authorization_details", "{"+marker), status: 400, says: "JSON list"},
		{name: "details that are no list", body: change("authorization_details", `{"type":"stepkey_task"}`), status: 400, says: "JSON list"},
		{name: "details of another type", body: change("authorization_details", `[{"type":"`+marker+`"}]`), status: 400, says: "of type stepkey_task"},
		{name: "two details", body: change("authorization_details", `[{"type":"stepkey_task"},{"type":"stepkey_task"}]`), status: 400, says: "one entry"},
		{name: "details with more than we know", body: change("authorization_details", `[{"type":"stepkey_task","repositories":["x"]}]`), status: 400, says: "no other members"},
		{name: "details with a tail", body: change("authorization_details", `[{"type":"stepkey_task"}] x`), status: 400, says: "JSON list"},
		{name: "details with a name twice", body: change("authorization_details", `[{"type":"stepkey_task","ttl":"1m","ttl":"2m"}]`), status: 400, says: "one name twice"},
		{name: "details with a name in capitals", body: change("authorization_details", `[{"type":"stepkey_task","TTL":"1m"}]`), status: 400, says: "no other members"},
		{name: "inputs that are no text", body: change("authorization_details", `[{"type":"stepkey_task","inputs":{"`+marker+`":5}}]`), status: 400, says: "an object of texts"},
		{name: "an input that the task has not", body: change("authorization_details", `[{"type":"stepkey_task","inputs":{"version":"`+marker+`"}}]`), status: 403, says: "the task has no input"},
		{name: "a credential that is no object", body: change("authorization_details", `[{"type":"stepkey_task","credential":"`+marker+`"}]`), status: 400, says: "must be an object of what is wanted"},
		{name: "a credential of another kind", body: change("authorization_details", `[{"type":"stepkey_task","credential":{"postgres":{}}}]`), status: 403, says: "the task's one kind, github"},
		{name: "uses", body: change("authorization_details", `[{"type":"stepkey_task","uses":5}]`), status: 400, says: "only a gateway can count uses"},
		{name: "a negative ttl", body: change("authorization_details", `[{"type":"stepkey_task","ttl":"-5m"}]`), status: 400, says: "positive duration"},
		{name: "a ttl that is none", body: change("authorization_details", `[{"type":"stepkey_task","ttl":"`+marker+`"}]`), status: 400, says: "positive duration"},
		{name: "an endless ttl", body: change("authorization_details", `[{"type":"stepkey_task","ttl":"2562047h"}]`), status: 403, says: "may only narrow"},
		{name: "JSON instead of a form", kind: "application/json", body: `{"grant_type":"` + exchange + `"}`, status: 415, says: formType},
		{name: "a multipart form", kind: "multipart/form-data; boundary=x", body: "--x--", status: 415, says: formType},
		{name: "no content type", kind: "-", body: good.Encode(), status: 415, says: formType},
		{name: "a broken escape", body: "grant_type=%zz" + marker, status: 400, says: "well-formed"},
		{name: "a semicolon between parameters", body: "grant_type=a;scope=" + marker, status: 400, says: "well-formed"},
		{name: "hundreds of parameters", body: strings.Repeat("a=1&", 500), status: 400, says: "parameters"},
		{name: "a body over the limit", body: "a=" + strings.Repeat("b", 70<<10), status: 413, says: "larger"},
		{name: "parameters in the URL", path: "/token?subject_token=" + marker, body: good.Encode(), status: 400, says: "not in the URL"},
		{name: "two Authorization headers", body: good.Encode(), header: map[string][]string{"Authorization": {"Basic eDp5", "Basic eDp5"}}, status: 400, says: "more than one Authorization"},
		{name: "a GET", method: http.MethodGet, path: "/token", status: 405},
		{name: "a PUT", method: http.MethodPut, path: "/token", status: 405},
		{name: "a path that is not there", path: "/" + marker, status: 404},
		{name: "revoking nothing", path: "/revoke", status: 400, says: "token is missing"},
		{name: "revoking two tokens", path: "/revoke", body: "token=a&token=b", status: 400, says: "token stands more than once"},
		{name: "revoking a job with a forged token", path: "/revoke", body: "token=" + marker + "&token_type_hint=" + url.QueryEscape(client.TokenTypeJob), status: 400, says: "token"},
		{name: "introspecting nothing", path: "/introspect", status: 400, says: "token is missing"},
		{name: "introspecting in the URL", path: "/introspect?token=" + marker, status: 400, says: "not in the URL"},
	}
	for i := range all {
		h := &all[i]
		h.method, h.path, h.kind = or(h.method, http.MethodPost), or(h.path, "/token"), or(h.kind, formType)
	}
	return all
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

func TestHostileRequestsAreRefusedClearlyAndLeaseNothing(t *testing.T) {
	sc := stage(t)
	j := sc.job(t, githubsim.JobSpec{})
	if n := len(hostileRequests("x")); n < 30 {
		t.Fatalf("only %d hostile requests", n)
	}
	for _, h := range hostileRequests(subjectToken(t, j)) {
		t.Run(h.name, func(t *testing.T) {
			status, body := sc.send(t, h)
			if status != h.status || !strings.Contains(body, h.says) {
				t.Errorf("answered %d %s", status, body)
			}
			if strings.Contains(body, marker) {
				t.Errorf("the answer repeats what was sent: %s", body)
			}
		})
	}
	if n := len(sc.gh.Issued()); n != 0 {
		t.Errorf("%d tokens were made", n)
	}
	if lives, err := sc.store.Lives(t.Context()); err != nil || len(lives) != 0 {
		t.Errorf("leases: %v, %v", lives, err)
	}
	entries, err := sc.store.Audit(t.Context(), lease.AuditQuery{Limit: 1000})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if strings.Contains(e.Reason+e.Rule, marker) {
			t.Errorf("the audit log repeats what was sent: %+v", e)
		}
	}
	for _, part := range strings.Split(subjectToken(t, j), ".")[1:] {
		if strings.Contains(sc.log.String(), part) {
			t.Error("a subject token is in the log")
		}
	}
}

func (sc *scene) send(t testing.TB, h hostile) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), h.method, sc.url+h.path, strings.NewReader(h.body))
	if err != nil {
		t.Fatal(err)
	}
	if h.kind != "-" {
		r.Header.Set("Content-Type", h.kind)
	}
	for name, values := range h.header {
		r.Header[name] = values
	}
	answer, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	if got := answer.Header.Get("Cache-Control"); got != "no-store" && answer.StatusCode < 404 {
		t.Errorf("Cache-Control: %q", got)
	}
	return answer.StatusCode, string(body)
}

func listener(t *testing.T) net.Listener {
	t.Helper()
	var config net.ListenConfig
	l, err := config.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

package client_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stepkey/stepkey/exchange/client"
	"github.com/stepkey/stepkey/internal/secret"
)

const (
	idToken    = "eyJh.canary-subject.c2ln"
	leaseToken = "skl_canary-lease"
	good       = `{"access_token":"ghs_canary","issued_token_type":"urn:ietf:params:oauth:token-type:access_token","token_type":"Bearer",
"expires_in":300,"scope":"publish-release",
"lease":{"id":"lease_01","token":"skl_canary-lease","ends_at":"2026-11-23T15:05:00Z","dies_at":"2026-11-23T16:00:30Z","revocable":true,"granted":"contents: write on acme/widget"},
"credential":{"kind":"github","values":{"token":"ghs_canary"},"env":{"GH_TOKEN":"ghs_canary"}}}`
)

// ask is the token request of all stories.
var ask = client.TokenRequest{SubjectToken: secret.New(idToken), Task: "publish-release"}

// against returns a client of an exchange that answers with answer.
func against(t *testing.T, answer http.HandlerFunc) *client.Client {
	t.Helper()
	server := httptest.NewServer(answer)
	t.Cleanup(server.Close)
	c, err := client.New(server.URL, client.Options{UserAgent: "stepkey/v0"})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func saying(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

func TestATokenRequestIsAFormOfRFC8693(t *testing.T) {
	var seen url.Values
	var header http.Header
	c := against(t, func(w http.ResponseWriter, r *http.Request) {
		_ = r.ParseForm()
		seen, header = r.PostForm, r.Header
		if r.Method != http.MethodPost || r.URL.Path != "/token" || r.URL.RawQuery != "" {
			t.Errorf("%s %s", r.Method, r.URL)
		}
		saying(http.StatusOK, good)(w, r)
	})

	grant, err := c.Token(t.Context(), ask)
	if err != nil {
		t.Fatal(err)
	}
	want := url.Values{
		"grant_type":         {"urn:ietf:params:oauth:grant-type:token-exchange"},
		"subject_token":      {idToken},
		"subject_token_type": {"urn:ietf:params:oauth:token-type:id_token"},
		"scope":              {"publish-release"},
	}
	if diff := cmp.Diff(want, seen); diff != "" {
		t.Errorf("form (-want +got):\n%s", diff)
	}
	if header.Get("Content-Type") != "application/x-www-form-urlencoded" || header.Get("User-Agent") != "stepkey/v0" {
		t.Errorf("header: %v", header)
	}
	if grant.LeaseToken.Reveal() != leaseToken || grant.Values["token"].Reveal() != "ghs_canary" || grant.Env["GH_TOKEN"].Reveal() != "ghs_canary" {
		t.Error("a secret of the answer was lost")
	}
	if !grant.EndsAt.Equal(time.Date(2026, 11, 23, 15, 5, 0, 0, time.UTC)) || !grant.DiesAt.Equal(time.Date(2026, 11, 23, 16, 0, 30, 0, time.UTC)) {
		t.Errorf("ends %v, dies %v", grant.EndsAt, grant.DiesAt)
	}
	if grant.Task != "publish-release" || grant.LeaseID != "lease_01" || !grant.Revocable || grant.Granted != "contents: write on acme/widget" || grant.Kind != "github" {
		t.Errorf("grant: %+v", grant)
	}
	if text := fmt.Sprintf("%+v %#v", grant, *grant); strings.Contains(text, "canary") {
		t.Errorf("a printed grant shows a secret: %s", text)
	}
}

// TestWhatIsNoSecretIsWhatTheExchangeSaysAndShowsNoSecret: whatever is not named, is not
// there, or shows a secret, is masked.
func TestWhatIsNoSecretIsWhatTheExchangeSaysAndShowsNoSecret(t *testing.T) {
	const values = `"values":{"host":"db.internal","password":"hunter2","url":"db://hunter2@db.internal","copy":"hunter2"}`
	for says, want := range map[string][]string{
		``:                                       nil,
		`,"public":[]`:                           nil,
		`,"public":["host"]`:                     {"host"},
		`,"public":["host","host","port"]`:       {"host"},
		`,"public":["host","url"]`:               {"host"},
		`,"public":["host","copy"]`:              {"host"},
		`,"public":["password","url","copy"]`:    {"password", "copy"}, // the url shows the host
		`,"public":["host","Host","","hunter2"]`: {"host"},
	} {
		answer := strings.Replace(good, `"values":{"token":"ghs_canary"}`, values+says, 1)
		grant, err := against(t, saying(http.StatusOK, answer)).Token(t.Context(), ask)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, grant.Public); diff != "" {
			t.Errorf("%s (-want +got):\n%s", says, diff)
		}
	}
}

func TestATimeToLiveTravelsAsAuthorizationDetails(t *testing.T) {
	var details string
	c := against(t, func(w http.ResponseWriter, r *http.Request) {
		details = r.PostFormValue("authorization_details")
		saying(http.StatusOK, good)(w, r)
	})
	r := ask
	r.TTL = 90 * time.Second
	if _, err := c.Token(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if want := `[{"type":"stepkey_task","ttl":"1m30s"}]`; details != want {
		t.Errorf("authorization_details = %s, want %s", details, want)
	}
}

func TestInputsAndWhatIsWantedTravelAsAuthorizationDetails(t *testing.T) {
	var details string
	c := against(t, func(w http.ResponseWriter, r *http.Request) {
		details = r.PostFormValue("authorization_details")
		saying(http.StatusOK, good)(w, r)
	})
	r := ask
	r.Inputs = map[string]string{"version": "v1.2.3"}
	r.Narrow = json.RawMessage(`{"github":{"permissions":{"contents":"read"}}}`)
	if _, err := c.Token(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if want := `[{"type":"stepkey_task","inputs":{"version":"v1.2.3"},"credential":{"github":{"permissions":{"contents":"read"}}}}]`; details != want {
		t.Errorf("authorization_details = %s, want %s", details, want)
	}
	details, r.Narrow = "", json.RawMessage(`{"github":`)
	if _, err := c.Token(t.Context(), r); err == nil || details != "" {
		t.Errorf("what is no JSON was sent: %s, %v", details, err)
	}
}

func TestAnIncompleteRequestIsNotSent(t *testing.T) {
	c := against(t, func(http.ResponseWriter, *http.Request) { t.Error("it was sent") })
	for name, r := range map[string]client.TokenRequest{
		"no subject token": {Task: "t"},
		"no task":          {SubjectToken: secret.New(idToken)},
		"negative ttl":     {SubjectToken: secret.New(idToken), Task: "t", TTL: -1},
	} {
		if _, err := c.Token(t.Context(), r); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	_, revokeErr := c.Revoke(t.Context(), secret.String{})
	_, jobErr := c.RevokeJob(t.Context(), secret.New(""), "")
	_, introspectErr := c.Introspect(t.Context(), secret.String{})
	if revokeErr == nil || jobErr == nil || introspectErr == nil {
		t.Errorf("without a token: %v, %v, %v", revokeErr, jobErr, introspectErr)
	}
}

func TestOnlyOneExactAndPrivateURLIsAnExchange(t *testing.T) {
	for given, want := range map[string]string{
		"https://Exchange.Example.com":       "https://exchange.example.com",
		"HTTPS://exchange.example.com/":      "https://exchange.example.com",
		"https://exchange.example.com/sk/":   "https://exchange.example.com/sk",
		"http://localhost:8080":              "http://localhost:8080",
		"http://127.0.0.1:8080/":             "http://127.0.0.1:8080",
		"http://[::1]:8080":                  "http://[::1]:8080",
		"http://exchange.example.com":        "",
		"http://localhost.example.com":       "",
		"ftp://exchange.example.com":         "",
		"exchange.example.com":               "",
		"https://":                           "",
		"https://:443":                       "",
		"https://user:canary@example.com":    "",
		"https://exchange.example.com?a=b":   "",
		"https://exchange.example.com?":      "",
		"https://exchange.example.com/#frag": "",
		"https://exa mple.com":               "",
		"":                                   "",
	} {
		c, err := client.New(given, client.Options{})
		switch {
		case want == "" && err == nil:
			t.Errorf("%q was accepted as %q", given, c.URL())
		case want != "" && err != nil:
			t.Errorf("%q: %v", given, err)
		case want != "" && c.URL() != want:
			t.Errorf("%q became %q, want %q", given, c.URL(), want)
		case err != nil && strings.Contains(err.Error(), "canary"):
			t.Errorf("the error shows a password: %v", err)
		}
	}
	if _, err := client.New("http://exchange.example.com", client.Options{AllowHTTP: true}); err != nil {
		t.Errorf("explicitly allowed: %v", err)
	}
}

func TestARefusalKeepsItsWordsAndItsAuditID(t *testing.T) {
	c := against(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "7")
		w.WriteHeader(http.StatusForbidden)
		_, _ = io.WriteString(w, `{"error":"access_denied","error_description":"ref refs/heads/main does not start with refs/tags/v","audit_id":"aud_01","rule":"ref"}`)
	})
	_, err := c.Token(t.Context(), ask)
	got, ok := errors.AsType[*client.Error](err)
	if !ok {
		t.Fatalf("%T: %v", err, err)
	}
	want := &client.Error{Status: 403, Code: "access_denied", Description: "ref refs/heads/main does not start with refs/tags/v", AuditID: "aud_01", Rule: "ref", RetryAfter: 7 * time.Second}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestRetryAfterIsReadInBothForms(t *testing.T) {
	const date = "Mon, 23 Nov 2026 15:00:00 GMT"
	for said, want := range map[string]time.Duration{
		"":                              0,
		"12":                            12 * time.Second,
		"-1":                            0,
		"soon":                          0,
		"999999":                        time.Hour,
		"99999999999999999999":          0,
		"Mon, 23 Nov 2026 15:00:30 GMT": 30 * time.Second,
		"Mon, 23 Nov 2026 14:00:00 GMT": 0,
	} {
		c := against(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Date", date)
			w.Header().Set("Retry-After", said)
			w.WriteHeader(http.StatusServiceUnavailable)
		})
		_, err := c.Token(t.Context(), ask)
		if got, ok := errors.AsType[*client.Error](err); !ok || got.RetryAfter != want {
			t.Errorf("Retry-After %q: %v, want %v", said, err, want)
		}
	}
}

func TestAHostileAnswerIsRefusedAndNotRepeated(t *testing.T) {
	part := func(old, changed string) string {
		if !strings.Contains(good, old) {
			t.Fatalf("%q is not in the good answer", old)
		}
		return strings.Replace(good, old, changed, 1)
	}
	for name, body := range map[string]string{
		"empty":               "",
		"a web page":          "<html>welcome to the hotel's network</html>",
		"null":                "null",
		"a list":              "[" + good + "]",
		"two objects":         good + good,
		"cut":                 good[:len(good)-2],
		"wrong type":          part(`"token":"skl_canary-lease"`, `"token":31337`),
		"no access token":     part(`"access_token":"ghs_canary",`, ""),
		"another token type":  part("Bearer", "mac"),
		"no lease":            part(`"lease":`, `"loan":`),
		"no lease id":         part("lease_01", ""),
		"lease id with lines": part("lease_01", `a\n::add-path::b`),
		"no lease token":      part("skl_canary-lease", ""),
		"no end":              part(`"ends_at"`, `"end"`),
		"no death":            part(`"dies_at"`, `"death"`),
		"dead before its end": part("T16:00:30Z", "T15:04:59Z"),
		"another task":        part(`"scope":"publish-release"`, `"scope":"delete-everything"`),
		"no credential":       part(`"credential":`, `"cred":`),
		"no values":           part(`"values":{"token":"ghs_canary"}`, `"values":{}`),
		"longer than allowed": part("contents: write", strings.Repeat("x", 256<<10)),
	} {
		_, err := against(t, saying(http.StatusOK, body)).Token(t.Context(), ask)
		if _, ok := errors.AsType[*client.BadAnswer](err); !ok {
			t.Errorf("%s: want a BadAnswer, have %T: %v", name, err, err)
		} else if strings.Contains(err.Error(), "canary") || len(err.Error()) > 300 {
			t.Errorf("%s: the error repeats the answer: %v", name, err)
		}
	}
}

func TestAWordyRefusalIsTamed(t *testing.T) {
	for name, body := range map[string]string{
		"no code":            `{"error_description":"canary"}`,
		"a code with spaces": `{"error":"a canary \n","error_description":"x"}`,
		"a web page":         "<html>502 canary</html>",
		"empty":              "",
	} {
		_, err := against(t, saying(http.StatusBadGateway, body)).Token(t.Context(), ask)
		got, ok := errors.AsType[*client.Error](err)
		if !ok || got.Code != "" || got.Status != 502 || strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: %v", name, err)
		}
	}
	hostile := fmt.Sprintf(`{"error":"invalid_grant","error_description":"%s\r\n::set-env name=PATH::/evil\u001b[2J %s","audit_id":"%s","rule":"%s"}`,
		idToken, strings.Repeat("x", 9000), idToken, idToken)
	_, err := against(t, saying(http.StatusBadRequest, hostile)).Token(t.Context(), ask)
	refused, ok := errors.AsType[*client.Error](err)
	if !ok {
		t.Fatalf("%T: %v", err, err)
	}
	text := err.Error()
	if strings.Contains(text, "canary") || strings.Contains(fmt.Sprintf("%+v", *refused), "canary") || strings.ContainsAny(text, "\r\n\x1b") || len(text) > 2400 || !strings.Contains(text, "[redacted]") {
		t.Errorf("%d bytes: %s", len(text), text)
	}
}

func TestARedirectIsNotFollowed(t *testing.T) {
	followed := false
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { followed = true }))
	t.Cleanup(other.Close)
	for _, status := range []int{301, 302, 303, 307, 308} {
		_, err := against(t, func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, other.URL+"/?"+idToken, status)
		}).Token(t.Context(), ask)
		got, ok := errors.AsType[*client.Error](err)
		if !ok || got.Status != status || !strings.Contains(err.Error(), strings.TrimPrefix(other.URL, "http://")) || strings.Contains(err.Error(), "canary") {
			t.Errorf("%d: %v", status, err)
		}
	}
	if followed {
		t.Error("the token was carried elsewhere")
	}
}

func TestAMalformedHTTPAnswerDoesNotRepeatTheToken(t *testing.T) {
	for name, raw := range map[string]string{
		"status line": idToken + "\r\n\r\n",
		"header":      "HTTP/1.1 200 OK\r\n" + idToken + "\r\n\r\n",
		"location":    "HTTP/1.1 302 Found\r\nLocation: http://[" + idToken + "\r\nContent-Length: 0\r\n\r\n",
	} {
		_, err := against(t, hijacked(raw)).Token(t.Context(), ask)
		got, ok := errors.AsType[*client.Unreachable](err)
		if !ok || !got.Arrived || strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// hijacked answers with raw bytes and hangs up.
func hijacked(raw string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			panic(err)
		}
		_, _ = io.WriteString(conn, raw)
		_ = conn.Close()
	}
}

func TestUnreachableSaysWhetherTheRequestMayHaveArrived(t *testing.T) {
	down, err := client.New("http://127.0.0.1:1", client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	cancelled, cancel := context.WithCancel(t.Context())
	untrusted := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(untrusted.Close)
	untrusted.Config.ErrorLog = nil
	private, err := client.New(untrusted.URL, client.Options{HTTP: &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{}}}})
	if err != nil {
		t.Fatal(err)
	}
	opaque, err := client.New("https://exchange.example.com", client.Options{HTTP: &http.Client{Transport: silent{}}})
	if err != nil {
		t.Fatal(err)
	}
	for name, story := range map[string]struct {
		ctx     context.Context
		c       *client.Client
		arrived bool
		is      error
	}{
		"nobody listens":            {ctx: t.Context(), c: down},
		"its certificate is not ok": {ctx: t.Context(), c: private},
		"it hangs up":               {ctx: t.Context(), c: against(t, hijacked("")), arrived: true},
		"the answer breaks off":     {ctx: t.Context(), c: against(t, hijacked("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")), arrived: true, is: io.ErrUnexpectedEOF},
		"we hang up":                {ctx: cancelled, c: against(t, func(_ http.ResponseWriter, r *http.Request) { _ = r.ParseForm(); cancel(); <-r.Context().Done() }), arrived: true, is: context.Canceled},
		"the transport is silent":   {ctx: t.Context(), c: opaque, arrived: true, is: net.ErrClosed},
	} {
		_, err := story.c.Token(story.ctx, ask)
		got, ok := errors.AsType[*client.Unreachable](err)
		if !ok || got.Arrived != story.arrived || (story.is != nil && !errors.Is(err, story.is)) {
			t.Errorf("%s: %#v", name, err)
		}
	}
}

// silent is a transport without traces.
type silent struct{}

func (silent) RoundTrip(*http.Request) (*http.Response, error) { return nil, net.ErrClosed }

func TestARevocationNamesALeaseTokenOrAJob(t *testing.T) {
	var seen []url.Values
	c := against(t, func(w http.ResponseWriter, r *http.Request) {
		_ = r.ParseForm()
		seen = append(seen, r.PostForm)
		saying(http.StatusOK, `{"leases":[{"id":"lease_01","state":"revoked"},{"id":"lease_02","state":"revoking"}]}`)(w, r)
	})
	ended, err := c.Revoke(t.Context(), secret.New(leaseToken))
	if err != nil {
		t.Fatal(err)
	}
	if _, err = c.RevokeJob(t.Context(), secret.New(idToken), "publish-release"); err != nil {
		t.Fatal(err)
	}
	if _, err = c.RevokeJobLease(t.Context(), secret.New(idToken), "lease_01"); err != nil {
		t.Fatal(err)
	}
	const job = "urn:stepkey:token-type:job"
	want := []url.Values{
		{"token": {leaseToken}}, {"token": {idToken}, "token_type_hint": {job}, "scope": {"publish-release"}},
		{"token": {idToken}, "token_type_hint": {job}, "lease": {"lease_01"}},
	}
	if diff := cmp.Diff(want, seen); diff != "" {
		t.Errorf("forms (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]client.Ended{{ID: "lease_01", State: "revoked"}, {ID: "lease_02", State: "revoking"}}, ended.Leases); diff != "" {
		t.Errorf("ended (-want +got):\n%s", diff)
	}
}

func TestOnlyAnExchangesAnswerIsARevocation(t *testing.T) {
	for body, ok := range map[string]bool{
		`{"leases":[]}`:                         true,
		`{"leases":null}`:                       true,
		`{"leases":[{"id":"a","state":"b"}]}`:   true,
		``:                                      false,
		`{}`:                                    false,
		`<html>logged in</html>`:                false,
		`{"leases":{}}`:                         false,
		`{"leases":[{"id":"a"}]}`:               false,
		`{"leases":[{"state":"revoked"}]}`:      false,
		`{"leases":[{"id":"a","state":"b\n"}]}`: false,
	} {
		_, err := against(t, saying(http.StatusOK, body)).Revoke(t.Context(), secret.New(leaseToken))
		if (err == nil) != ok {
			t.Errorf("%s: %v", body, err)
		}
	}
}

func TestAnIntrospectionSaysWhetherALeaseLives(t *testing.T) {
	c := against(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/introspect" || r.PostFormValue("token") != leaseToken {
			t.Errorf("%s %v", r.URL.Path, r.PostForm)
		}
		saying(http.StatusOK, `{"active":false,"lease_state":"revoked","lease_end_reason":"post"}`)(w, r)
	})
	got, err := c.Introspect(t.Context(), secret.New(leaseToken))
	if err != nil || got.Active || got.State != "revoked" || got.Reason != "post" {
		t.Errorf("%+v, %v", got, err)
	}
	for _, body := range []string{``, `{}`, `{"active":null}`, `{"active":"true"}`, `{"active":true,"exp":"soon"}`} {
		_, err := against(t, saying(http.StatusOK, body)).Introspect(t.Context(), secret.New(leaseToken))
		if _, ok := errors.AsType[*client.BadAnswer](err); !ok {
			t.Errorf("%s: %v", body, err)
		}
	}
}

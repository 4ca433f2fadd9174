package vault_test

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/exchange/backend/backendtest"
	"github.com/stepkey/stepkey/exchange/backend/vault"
	"github.com/stepkey/stepkey/internal/secret"
)

// limited is a backend that reads blocks as the configuration has it.
func limited() *vault.Backend {
	return vault.New(vault.Options{Limits: vault.Limits{Policies: []string{"deploy-web", "read-artifacts", "a", "b", "c", "d"}, Roles: []string{"stepkey", "other"}}})
}

func TestGoodBlocksAreSaidInWords(t *testing.T) {
	for block, want := range map[string]string{
		`{role: stepkey, policies: [read-artifacts, deploy-web]}`:           "token with the policies deploy-web, read-artifacts by the role stepkey",
		`{role: other, policies: [deploy-web], uses: 1}`:                    "token with the policy deploy-web by the role other, for 1 request",
		`{role: other, policies: [a, b, c, d, deploy-web], uses: 9}`:        "token with the policies a, b, c, d, deploy-web by the role other, for 9 requests",
		`{role: other, policies: [a, b, c, d, deploy-web, read-artifacts]}`: "token with the policies a, b, c, d, deploy-web and 1 more by the role other",
	} {
		scope, err := limited().Scope(node(t, block))
		if err != nil {
			t.Errorf("%s: %v", block, err)
		} else if scope.String() != want {
			t.Errorf("%s is said as\n%s, want\n%s", block, scope, want)
		}
	}
}

func TestBadBlocksAreRefusedWithPlaceAndAdvice(t *testing.T) {
	backendtest.RefusesBlocks(t, func(block string) (backend.Scope, error) { return limited().Scope(node(t, block)) }, []backendtest.Bad{
		{`[deploy-web]`, "2:10", "want which policies"},
		{`{role: stepkey}`, "2:10", `missing: "policies"`},
		{`{role: stepkey, policies: []}`, "2:36", "all that the exchange's own token has"},
		{`{role: stepkey, policies: [deploy-wep]}`, "2:37", `did you mean "deploy-web"?`},
		{`{role: stepkey, policies: [zzzzzzzz]}`, "2:37", "which are: deploy-web"},
		{`{role: stepkey, policies: [root]}`, "2:37", "can do everything"},
		{`{role: stepkey, policies: [default]}`, "2:37", "no_default_policy"},
		{`{role: stepkey, policies: [control-group]}`, "2:37", "keeps it for itself"},
		{`{role: stepkey, policies: [Deploy-Web]}`, "2:37", "want a policy's name"},
		{`{role: stepkey, policies: [a, a]}`, "2:40", "named twice"},
		{`{role: stepkey, policies: [7]}`, "2:37", "want text"},
		{`{policies: [a]}`, "2:10", "add role: stepkey"},
		{`{role: stepky, policies: [a]}`, "2:17", `did you mean "stepkey"?`},
		{`{role: "a/b", policies: [a]}`, "2:17", "want a token role's name"},
		{`{role: "..", policies: [a]}`, "2:17", "want a token role's name"},
		{`{role: stepkey, policies: [a], uses: 0}`, "2:47", "want 1 to 10000"},
		{`{role: stepkey, policies: [a], uses: many}`, "2:47", "want a whole number"},
		{`{role: stepkey, policies: [a], ttl: 5m}`, "2:41", "unknown key"},
		{`{role: stepkey, policies: [` + strings.Repeat("a, ", 32) + `a]}`, "2:133", "33 policies are named"},
	})
}

func TestWithoutAConfigurationAnyNameIsTakenThatSomeOneCouldHave(t *testing.T) {
	b := vault.New(vault.Options{})
	for block, taken := range map[string]bool{
		`{policies: [anything]}`: true, `{role: any, policies: [team/a.b_c]}`: true,
		`{policies: [root]}`: false, `{role: "a b", policies: [x]}`: false,
	} {
		if _, err := b.Scope(node(t, block)); (err == nil) != taken {
			t.Errorf("%s: %v", block, err)
		}
	}
	none := vault.New(vault.Options{Limits: vault.Limits{Policies: []string{"a"}, Roles: []string{}}})
	if _, err := none.Scope(node(t, `{role: any, policies: [a]}`)); err == nil || !strings.Contains(err.Error(), "names no roles") {
		t.Errorf("a role where the configuration has none: %v", err)
	}
}

func TestCoversIsAnOrder(t *testing.T) {
	b := limited()
	scope := func(r *rapid.T, label string) backend.Scope {
		policies := rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a", "b", "c"}), 1, 3, rapid.ID[string]).Draw(r, label)
		block := "{role: " + rapid.SampledFrom([]string{"stepkey", "stepkey", "other"}).Draw(r, label+" role") + ", policies: [" + strings.Join(policies, ", ") + "]"
		if uses := rapid.IntRange(0, 3).Draw(r, label+" uses"); uses > 0 {
			block += fmt.Sprintf(", uses: %d", uses)
		}
		read, err := b.Scope(node(t, block+"}"))
		if err != nil {
			r.Fatal(err)
		}
		return read
	}
	backendtest.CoversIsAnOrder(t, scope, backend.Scope.String)
}

func TestTheSchemaHasWordsForEveryKeyOfTheBlock(t *testing.T) {
	backendtest.SchemaHasWords(t, limited(), 3)
}

func FuzzBlocks(f *testing.F) {
	backendtest.FuzzBlocks(f, limited(), vault.New(vault.Options{}), "", append(slices.Collect(maps.Values(hostile)),
		"role: stepkey\npolicies: [deploy-web, read-artifacts]\nuses: 5")...)
}

// transport answers by itself.
type transport func(*http.Request) (*http.Response, error)

func (t transport) RoundTrip(r *http.Request) (*http.Response, error) { return t(r) }

// Whatever a server answers: a token is handed out only with what was ordered, and what is
// not handed out is revoked if it can be named.
func FuzzAnswers(f *testing.F) {
	const good = `{"request_id":"r","auth":{"client_token":"hvs.x","accessor":"acc","policies":["deploy-web"],"token_policies":["deploy-web"],"lease_duration":600,"renewable":false,"token_type":"service","num_uses":0}}`
	for _, body := range []string{good, strings.Replace(good, `["deploy-web"]`, `["root"]`, 1), `{"request_id":"r","auth":{}}`, `{"errors":["x"]}`, ``} {
		f.Add(200, []byte(body))
	}
	f.Add(503, []byte(`{"errors":["Vault is sealed"]}`))
	at := time.Date(2026, 11, 23, 15, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		if status < 200 || status > 599 {
			return
		}
		revoked := 0
		b := vault.New(vault.Options{
			Limits: vault.Limits{Policies: []string{"deploy-web"}}, Address: "https://vault.example.com", Now: func() time.Time { return at },
			Token: func() (secret.String, error) { return secret.New(own), nil },
			Transport: transport(func(r *http.Request) (*http.Response, error) {
				if strings.HasSuffix(r.URL.Path, "/revoke-accessor") {
					revoked++
					return &http.Response{StatusCode: 204, Body: http.NoBody, Request: r}, nil
				}
				return &http.Response{StatusCode: status, Body: io.NopCloser(bytes.NewReader(body)), Request: r}, nil
			}),
		})
		o := order(t, b, at, "{policies: [deploy-web]}")
		issued, err := b.Issue(t.Context(), o)
		switch {
		case err == nil && (status >= 300 || !o.Scope.Covers(issued.Granted) || issued.DiesAt.After(b.Terms(o).DiesAt) || issued.Handle.Empty()):
			t.Fatalf("%d was handed out as %v", status, issued)
		case err != nil && (len(issued.Values) > 0 || strings.ContainsAny(err.Error(), "\n\x00\x1b")):
			t.Fatalf("it ended with %v and %q", issued, err)
		case err != nil && status < 300 && strings.Contains(err.Error(), "revoked at once") != (revoked == 1):
			t.Fatalf("%d were revoked: %v", revoked, err)
		}
	})
}

func TestWhatTheExchangeSendsNamesEveryLimit(t *testing.T) {
	var sent []byte
	at := time.Date(2026, 11, 23, 15, 0, 0, 0, time.UTC)
	b := vault.New(vault.Options{
		Address: "https://vault.example.com", Now: func() time.Time { return at },
		Token: func() (secret.String, error) { return secret.New(own), nil },
		Transport: transport(func(r *http.Request) (*http.Response, error) {
			sent, _ = io.ReadAll(r.Body)
			if r.URL.String() != "https://vault.example.com/v1/auth/token/create/stepkey" || slices.Contains(r.Header["X-Vault-Namespace"], "") {
				t.Errorf("it is sent to %s with %v", r.URL, r.Header)
			}
			return &http.Response{StatusCode: 400, Body: http.NoBody, Request: r}, nil
		}),
	})
	_, _ = b.Issue(t.Context(), order(t, b, at, "{role: stepkey, policies: [b, a]}"))
	want := `{"policies":["a","b"],"no_default_policy":true,"ttl":"600s","explicit_max_ttl":"600s","renewable":false,"type":"service",` +
		`"display_name":"lease_1","meta":{"stepkey_for":"acme/widget, workflow release","stepkey_lease":"lease_1"}}`
	if string(sent) != want {
		t.Errorf("sent is\n%s, want\n%s", sent, want)
	}
}

package identity_test

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stepkey/stepkey/exchange/identity"
)

const (
	audience    = "https://exchange.example"
	githubURL   = "https://token.actions.githubusercontent.com"
	acmeURL     = "https://token.actions.githubusercontent.com/acme"
	gheURL      = "https://token.actions.acme.ghe.com"
	ghesURL     = "https://github.acme.example/_services/token"
	fetchLength = 2 // requests of one fetch: discovery and key set
)

// present is the moment at which stories happen.
var present = time.Date(2026, 11, 23, 15, 0, 0, 0, time.UTC)

func issuers() []identity.Issuer {
	return []identity.Issuer{
		{Name: "github", Kind: "github", URL: githubURL},
		{Name: "github-acme", Kind: "github", URL: acmeURL},
		{Name: "ghe", Kind: "github", URL: gheURL},
		{Name: "ghes", Kind: "github", URL: ghesURL, Private: true},
	}
}

// network stands for everything outside: it serves documents by URL and remembers
// every request, also those it has no answer for.
type network struct {
	mu        sync.Mutex
	documents map[string]string
	asked     []string
	down      error                             // the answer to everything, if set
	before    func(request *http.Request) error // runs before each answer, without the lock
}

// newNetwork serves the issuers of the stories.
func newNetwork(t testing.TB) *network {
	t.Helper()
	f := forgeFor(t)
	n := &network{documents: map[string]string{}}
	for _, i := range issuers() {
		n.publish(t, i.URL, f.keySet(t))
	}
	n.publish(t, gheURL, map[string]any{"keys": []any{jwk(t, "rsa-1", &f.ghe.PublicKey, nil)}})
	return n
}

// publish sets the discovery document and the key set of an issuer.
func (n *network) publish(t testing.TB, issuer string, keys map[string]any) {
	t.Helper()
	location := issuer + "/.well-known/jwks"
	discovery := encode(t, map[string]any{"issuer": issuer, "jwks_uri": location, "subject_types_supported": []any{"public"}})
	n.mu.Lock()
	defer n.mu.Unlock()
	n.documents[issuer+"/.well-known/openid-configuration"] = discovery
	n.documents[location] = encode(t, keys)
}

func (n *network) RoundTrip(request *http.Request) (*http.Response, error) {
	n.mu.Lock()
	n.asked = append(n.asked, request.URL.String())
	before := n.before
	n.mu.Unlock()
	if before != nil {
		if err := before(request); err != nil {
			return nil, err
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.down != nil {
		return nil, n.down
	}
	document, ok := n.documents[request.URL.String()]
	status := http.StatusOK
	if !ok {
		status = http.StatusNotFound
	}
	return &http.Response{
		StatusCode: status, Header: http.Header{}, Request: request,
		Body: io.NopCloser(bytes.NewReader([]byte(document))),
	}, nil
}

func (n *network) requests() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.asked)
}

// fails makes the issuers unreachable, or reachable again with an empty reason.
func (n *network) fails(reason string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.down = nil
	if reason != "" {
		n.down = errors.New(reason)
	}
}

// holds runs before on every request from now on.
func (n *network) holds(before func(*http.Request) error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.before = before
}

// verifierAt makes a verifier of the stories' issuers on the network n.
func verifierAt(t testing.TB, n *network, now func() time.Time) *identity.Verifier {
	t.Helper()
	v, err := identity.New(audience, issuers(), identity.Options{Now: now})
	if err != nil {
		t.Fatal(err)
	}
	v.ReachThrough(n)
	return v
}

func atPresent() time.Time { return present }

// honestHeader and honestClaims are the token every story starts from.
func honestHeader() map[string]any {
	return map[string]any{"alg": "RS256", "typ": "JWT", "kid": "rsa-1", "x5t": "c3Rvcmllcw"}
}

func honestClaims(now time.Time) map[string]any {
	return map[string]any{
		"jti": "0f6c1c2e-canary-of-the-jti", "iss": githubURL, "aud": audience,
		"sub": "repo:acme/widget:environment:canary-of-the-subject",
		"ref": "refs/tags/v1.2.3", "ref_type": "tag", "ref_protected": "true", "sha": "8b42c0de",
		"repository": "acme/widget", "repository_id": "456789", "repository_visibility": "private",
		"repository_owner": "acme", "repository_owner_id": "123456",
		"actor": "octocat", "actor_id": "12", "event_name": "push", "head_ref": "", "base_ref": "",
		"environment": "release", "environment_node_id": "EN_kwDO", "enterprise": "acme", "enterprise_id": "2",
		"workflow": "release", "workflow_sha": "8b42c0de",
		"workflow_ref":     "acme/widget/.github/workflows/release.yml@refs/tags/v1.2.3",
		"job_workflow_ref": "acme/automation/.github/workflows/publish.yml@refs/heads/main", "job_workflow_sha": "d06e",
		"run_id": "18170960955", "run_number": "10", "run_attempt": "1", "check_run_id": "51725241954",
		"runner_environment": "github-hosted", "repo_property_team": "platform",
		"nbf": now.Add(-605 * time.Second).Unix(), "iat": now.Add(-5 * time.Second).Unix(), "exp": now.Add(295 * time.Second).Unix(),
	}
}

// honest signs the unchanged token, fresh at now.
func honest(t testing.TB, now time.Time) string {
	t.Helper()
	return forgeFor(t).sign(t, "rsa-1", encode(t, honestHeader()), encode(t, honestClaims(now)))
}

// withKid signs an honest token under another kid, with the key the forge has for signer.
func withKid(t testing.TB, now time.Time, kid, signer string) string {
	t.Helper()
	header := honestHeader()
	header["kid"] = kid
	return forgeFor(t).sign(t, signer, encode(t, header), encode(t, honestClaims(now)))
}

// ruleOf names the rule of a refusal; other errors fail the test.
func ruleOf(t testing.TB, err error) string {
	t.Helper()
	refusal, ok := errors.AsType[*identity.Refusal](err)
	if !ok {
		t.Fatalf("want a refusal, got %v", err)
	}
	return refusal.Rule
}

// leaks reports a run of ten characters of the token's segments that text holds.
func leaks(token, text string) string {
	const window = 10
	for part := range strings.SplitSeq(token, ".") {
		for at := 0; at+window <= len(part); at++ {
			if strings.Contains(text, part[at:at+window]) {
				return part[at : at+window]
			}
		}
	}
	return ""
}

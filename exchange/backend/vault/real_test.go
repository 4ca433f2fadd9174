package vault_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/exchange/backend/backendtest"
	"github.com/stepkey/stepkey/exchange/backend/vault"
	"github.com/stepkey/stepkey/internal/secret"
)

// recording notes which paths are asked for.
func recording(next http.Handler, asked map[string]bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked[r.URL.Path] = true
		next.ServeHTTP(w, r)
	})
}

// server is a real one, with a token that may do everything.
type server struct {
	testing.TB
	address, token string
}

// TestARealServerPassesTheSuite is for a development server of one's own; see the page.
func TestARealServerPassesTheSuite(t *testing.T) {
	s := server{TB: t, address: cmp.Or(os.Getenv("BAO_ADDR"), os.Getenv("VAULT_ADDR")), token: cmp.Or(os.Getenv("BAO_TOKEN"), os.Getenv("VAULT_TOKEN"))}
	if s.address == "" || s.token == "" {
		t.Skip("there is no server of Vault or OpenBao to be had; name one as BAO_ADDR and BAO_TOKEN, or VAULT_ADDR and VAULT_TOKEN, and this runs on it")
	}
	for _, name := range []string{"a", "b"} {
		path := "sys/policies/acl/stepkey-test-" + name
		s.must(http.MethodPut, path, map[string]string{"policy": fmt.Sprintf("path %q { capabilities = [\"read\"] }", path)}, nil)
		t.Cleanup(func() { s.must(http.MethodDelete, path, nil, nil) })
	}
	s.must(http.MethodPost, "auth/token/roles/stepkey-test", map[string]any{"allowed_policies": "stepkey-test-a,stepkey-test-b", "orphan": true, "renewable": false}, nil)
	t.Cleanup(func() { s.must(http.MethodDelete, "auth/token/roles/stepkey-test", nil, nil) })
	for name, role := range map[string]string{"by a role": "role: stepkey-test\n", "a child of our own": ""} {
		t.Run(name, func(t *testing.T) {
			backendtest.Run(t, backendtest.Harness{
				Open:     func(t testing.TB) backendtest.World { return server{t, s.address, s.token}.world(role != "") },
				Good:     role + "policies: [stepkey-test-a]\nuses: 50",
				Narrower: role + "policies: [stepkey-test-a]\nuses: 5",
				Wider:    role + "policies: [stepkey-test-a, stepkey-test-b]",
				Says: backendtest.Phrases{
					Good: []string{"stepkey-test-a", "for 50 requests"}, Narrower: []string{"stepkey-test-a", "for 5 requests"}, Wider: []string{"stepkey-test-a", "stepkey-test-b"},
				},
				Hostile: hostile, Overtime: time.Minute, Nameless: nameless, NeverHeld: neverHeld,
			})
		})
	}
}

func (s server) world(byRole bool) backendtest.World {
	s.Helper()
	file := filepath.Join(s.TempDir(), "token")
	if err := os.WriteFile(file, []byte(s.token), 0o600); err != nil {
		s.Fatal(err)
	}
	c := vault.Config{Address: s.address, TokenFile: file, Policies: []string{"stepkey-test-a", "stepkey-test-b"}}
	if byRole {
		c.Roles = []string{"stepkey-test"}
	}
	limits, err := c.Limits()
	if err != nil {
		s.Fatal(err)
	}
	var lose, loseEnd, down atomic.Bool
	b := vault.New(vault.Options{
		Limits: limits, Address: s.address, Token: func() (secret.String, error) { return secret.New(s.token), nil },
		Transport: transport(func(r *http.Request) (*http.Response, error) {
			if down.Load() {
				return nil, errors.New("the test is down")
			}
			resp, err := http.DefaultTransport.RoundTrip(r)
			if err == nil && (strings.Contains(r.URL.Path, "/create") && lose.CompareAndSwap(true, false) ||
				strings.Contains(r.URL.Path, "/revoke-accessor") && loseEnd.CompareAndSwap(true, false)) {
				_ = resp.Body.Close()
				return nil, errors.New("the test lost the answer")
			}
			return resp, err
		}),
	})
	try := func(name string) func(context.Context, map[string]secret.String) error {
		return func(ctx context.Context, values map[string]secret.String) error {
			return reads(ctx, values, "sys/policies/acl/stepkey-test-"+name)
		}
	}
	return backendtest.World{
		Backend: b, Now: time.Now, Use: try("a"), UseLess: try("a"), Overstep: try("b"), Live: s.live, Dies: s.dies, Secrets: []string{s.token},
		Exceed: func(ctx context.Context, values map[string]secret.String) error {
			for range 6 { // one more than the narrower one has
				if err := try("a")(ctx, values); err != nil {
					return err
				}
			}
			return nil
		},
		LoseReply: func() { lose.Store(true) }, Down: func() { down.Store(true) }, Up: func() { down.Store(false) },
		LoseEnd: func() func() bool {
			loseEnd.Store(true)
			return func() bool { return !loseEnd.Load() }
		},
	}
}

// dies asks the server about a token.
func (s server) dies(values map[string]secret.String) (time.Time, error) {
	var one struct {
		Data struct {
			ExpireTime time.Time `json:"expire_time"`
		} `json:"data"`
	}
	err := s.ask(http.MethodPost, "auth/token/lookup", map[string]string{"token": values["token"].Reveal()}, &one)
	return one.Data.ExpireTime, err
}

// live counts the tokens that have a lease's name.
func (s server) live() (count int) {
	var list struct {
		Data struct {
			Keys []string `json:"keys"`
		} `json:"data"`
	}
	s.must("LIST", "auth/token/accessors", nil, &list)
	for _, accessor := range list.Data.Keys {
		var one struct {
			Data struct {
				Meta map[string]string `json:"meta"`
			} `json:"data"`
		}
		// One that ended meanwhile is not there; it does not count.
		if s.ask(http.MethodPost, "auth/token/lookup-accessor", map[string]string{"accessor": accessor}, &one) == nil && one.Data.Meta["stepkey_lease"] != "" {
			count++
		}
	}
	return count
}

func (s server) must(method, path string, in, out any) {
	s.Helper()
	if err := s.ask(method, path, in, out); err != nil {
		s.Fatalf("%s %s: %v", method, path, err)
	}
}

func (s server) ask(method, path string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(context.WithoutCancel(s.Context()), method, s.address+"/v1/"+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("X-Vault-Token", s.token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode >= 300 {
		return fmt.Errorf("%d: %s", resp.StatusCode, text)
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(text, out)
}

// One token's life, and the floor beside it: the same two requests to the same server
// without any of this. The server is the imitation, so that only the difference means
// something.
func BenchmarkIssueAndRevoke(b *testing.B) {
	f := start(b)
	v := f.open(b, f.config(b))
	for i := 0; b.Loop(); i++ {
		o := order(b, v, f.now(), "{policies: [deploy-web]}")
		o.Lease = backend.LeaseID(fmt.Sprint("lease_", i))
		issued, err := v.Issue(b.Context(), o)
		if err != nil {
			b.Fatal(err)
		}
		if err := v.Revoke(b.Context(), o.Lease, issued.Handle); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkFloorOfTheRequestsAlone(b *testing.B) {
	f := start(b)
	client := &http.Client{Transport: &http.Transport{}}
	ask := func(path, body string, out any) {
		req, err := http.NewRequestWithContext(b.Context(), http.MethodPost, f.URL+"/v1/auth/token/"+path, strings.NewReader(body))
		if err != nil {
			b.Fatal(err)
		}
		req.Header = http.Header{"Content-Type": {"application/json"}, "X-Vault-Token": {own}, "X-Vault-Request": {"true"}}
		resp, err := client.Do(req)
		if err != nil {
			b.Fatal(err)
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode >= 300 {
			b.Fatalf("%d: %s, %v", resp.StatusCode, text, err)
		}
		if out != nil && json.Unmarshal(text, out) != nil {
			b.Fatal("no JSON")
		}
	}
	for b.Loop() {
		var made struct {
			Auth struct {
				Accessor string `json:"accessor"`
			} `json:"auth"`
		}
		ask("create", `{"policies":["deploy-web"],"no_default_policy":true,"ttl":"600s","explicit_max_ttl":"600s","renewable":false,"type":"service"}`, &made)
		ask("revoke-accessor", `{"accessor":"`+made.Auth.Accessor+`"}`, nil)
	}
}

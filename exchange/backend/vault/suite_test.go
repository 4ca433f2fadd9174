package vault_test

import (
	"context"
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
	"github.com/stepkey/stepkey/internal/yamlfile"
)

// config is of a backend on the server, with its own token in a file.
func (f *fake) config(t testing.TB) vault.Config {
	t.Helper()
	file := filepath.Join(t.TempDir(), "vault.token")
	if err := os.WriteFile(file, []byte(own+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return vault.Config{
		Address: f.URL, Namespace: f.namespace, TokenFile: file, Policies: []string{"deploy-web", "read-artifacts", "admin-db"},
	}
}

func (f *fake) open(t testing.TB, c vault.Config) *vault.Backend {
	t.Helper()
	b, err := c.Open(f.now)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// reads a secret as a step would.
func reads(ctx context.Context, values map[string]secret.String, path string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, values["address"].Reveal()+"/v1/"+path, nil)
	if err != nil {
		return err
	}
	req.Header.Set("X-Vault-Token", values["token"].Reveal())
	if namespace, ok := values["namespace"]; ok {
		req.Header.Set("X-Vault-Namespace", namespace.Reveal())
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	said, _ := io.ReadAll(resp.Body)
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("the server answered %d: %s", resp.StatusCode, said)
	}
	return nil
}

func (f *fake) world(t testing.TB, c vault.Config) backendtest.World {
	return backendtest.World{
		Backend: f.open(t, c), Now: f.now, Advance: f.advance, Live: f.live, Secrets: []string{own},
		UseLess: func(ctx context.Context, values map[string]secret.String) error {
			return reads(ctx, values, "secret/data/deploy-web")
		},
		Exceed: func(ctx context.Context, values map[string]secret.String) error {
			return reads(ctx, values, "secret/data/read-artifacts")
		},
		Use: func(ctx context.Context, values map[string]secret.String) error {
			return reads(ctx, values, "secret/data/deploy-web")
		},
		Overstep: func(ctx context.Context, values map[string]secret.String) error {
			return reads(ctx, values, "secret/data/admin-db")
		},
		LoseReply: func() { f.set(func() { f.lose = true }) },
		LoseEnd:   f.loseEnd,
		Down:      func() { f.set(func() { f.down = true }) },
		Up:        func() { f.set(func() { f.down = false }) },
	}
}

// loseEnd carries out the next request, and closes its connection without a word.
func (f *fake) loseEnd() func() bool {
	var lost atomic.Bool
	f.set(func() {
		f.broken = func(_ http.ResponseWriter, r *http.Request) {
			f.broken = nil
			_, err := f.serve(r)
			lost.Store(err == nil)
			panic(http.ErrAbortHandler)
		}
	})
	return lost.Load
}

// What tokens of these servers have in common.
const (
	nameless  = "the server finds a token by its accessor alone, which it makes up itself"
	neverHeld = "each request shows the token"
)

func node(t testing.TB, block string) backend.Block {
	t.Helper()
	root, err := yamlfile.Parse("task.yaml", []byte("credential:\n  vault: "+block+"\n"))
	if err != nil {
		t.Fatal(err)
	}
	return root.Get("credential", "vault")
}

func order(t testing.TB, b *vault.Backend, now time.Time, block string) backend.Order {
	t.Helper()
	scope, err := b.Scope(node(t, block))
	if err != nil {
		t.Fatal(err)
	}
	return backend.Order{Lease: "lease_1", Scope: scope, At: now, Until: now.Add(10 * time.Minute), For: "acme/widget, workflow release"}
}

var hostile = map[string]string{
	"no policy":              "policies: []",
	"policies absent":        "uses: 3",
	"root":                   "policies: [root]",
	"the server's own":       "policies: [deploy-web, response-wrapping]",
	"default":                "policies: [default]",
	"one that is not listed": "policies: [deploy-db]",
	"every policy":           "policies: [\"*\"]",
	"capitals, read as root": "policies: [ROOT]",
	"spaces around root":     "policies: [\" root \"]",
	"a comma":                "policies: [\"deploy-web,root\"]",
	"a way out of the path":  "policies: [deploy-web]\nrole: ../../../sys/seal",
	"a role not listed":      "policies: [deploy-web]\nrole: root",
	"an unknown key":         "policies: [deploy-web]\nperiod: 1h",
	"a policy twice":         "policies: [deploy-web, deploy-web]",
	"uses below none":        "policies: [deploy-web]\nuses: -1",
	"uses that are 0":        "policies: [deploy-web]\nuses: 0",
	"uses as text":           "policies: [deploy-web]\nuses: \"5\"",
	"a very long name":       "policies: [" + strings.Repeat("a", 5000) + "]",
	"a line's end":           "policies: [\"deploy-web\\n\"]",
}

// Against the imitation, in both its manners. See fake_test.go on what that proves.
func TestTokensPassTheSuite(t *testing.T) {
	for name, c := range map[string]struct {
		role, namespace string
		vault           bool
	}{
		"OpenBao, by a role":         {role: "role: stepkey\n"},
		"Vault, by a role":           {role: "role: stepkey\n", vault: true},
		"OpenBao, in a namespace":    {namespace: "team/ci"},
		"Vault, a child of our own":  {vault: true},
		"OpenBao, and a limited use": {role: "uses: 100\n"},
	} {
		t.Run(name, func(t *testing.T) {
			backendtest.Run(t, backendtest.Harness{
				Open: func(t testing.TB) backendtest.World {
					f := start(t)
					f.namespace, f.vault = c.namespace, c.vault
					config := f.config(t)
					if strings.HasPrefix(c.role, "role") {
						config.Roles = []string{"stepkey", "other"}
					}
					return f.world(t, config)
				},
				Good:     c.role + "policies: [deploy-web, read-artifacts]",
				Narrower: c.role + "policies: [deploy-web]",
				Wider:    c.role + "policies: [admin-db, deploy-web, read-artifacts]",
				Says: backendtest.Phrases{
					Good: []string{"deploy-web", "read-artifacts"}, Narrower: []string{"deploy-web"}, Wider: []string{"deploy-web", "read-artifacts", "admin-db"},
				},
				Hostile: hostile, Overtime: time.Minute, Nameless: nameless, NeverHeld: neverHeld,
			})
		})
	}
}

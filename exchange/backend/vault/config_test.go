package vault_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stepkey/stepkey/exchange/backend/backendtest"
	"github.com/stepkey/stepkey/exchange/backend/vault"
	"github.com/stepkey/stepkey/internal/yamlfile"
)

func TestAConfigurationThatCannotBeMeantIsRefused(t *testing.T) {
	f := start(t)
	none := filepath.Join(t.TempDir(), "none")
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, []byte("a b\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for says, spoil := range map[string]func(*vault.Config){
		"want https, since":           func(c *vault.Config) { c.Address = "http://vault.example.com:8200" },
		"nothing after it":            func(c *vault.Config) { c.Address = "https://vault.example.com:8200/v1" },
		"and a host":                  func(c *vault.Config) { c.Address = "vault.example.com:8200" },
		"want its path":               func(c *vault.Config) { c.Namespace = "team\nci" },
		"ca_file: reading":            func(c *vault.Config) { c.CAFile = none },
		"no certificate":              func(c *vault.Config) { c.CAFile = empty },
		"token_file: reading":         func(c *vault.Config) { c.TokenFile = none },
		"holds no token":              func(c *vault.Config) { c.TokenFile = empty },
		"policies: name those":        func(c *vault.Config) { c.Policies = nil },
		"can do everything":           func(c *vault.Config) { c.Policies = []string{"root"} },
		"want a policy's name":        func(c *vault.Config) { c.Policies = []string{"*"} },
		"want a token role's name":    func(c *vault.Config) { c.Roles = []string{"a/b"} },
		"max_ttl is 25h0m0s":          func(c *vault.Config) { c.MaxTTL = 25 * time.Hour },
		"max_ttl is 1s; want 1m0s to": func(c *vault.Config) { c.MaxTTL = time.Second },
	} {
		c := f.config(t)
		spoil(&c)
		if _, err := c.Open(f.now); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("want …%s…: %v", says, err)
		}
	}
	if _, err := f.config(t).Open(nil); err != nil {
		t.Errorf("a good one: %v", err)
	}
}

const page = backendtest.Page("../../../docs/backends/vault.md")

// What the page shows is read by what reads it in earnest.
func TestThePagesConfigurationAndTaskAreTaken(t *testing.T) {
	var c struct {
		Backends struct {
			Vault vault.Config `yaml:"vault"`
		} `yaml:"backends"`
	}
	root, err := yamlfile.Parse("stepkey.yaml", []byte(page.Blocks(t, "yaml")[0]))
	if err != nil {
		t.Fatal(err)
	}
	if err := root.Decode(&c); err != nil {
		t.Fatal(err)
	}
	limits, err := c.Backends.Vault.Limits()
	if err != nil {
		t.Fatal(err)
	}
	task, err := yamlfile.Parse("task.yaml", []byte(page.Blocks(t, "yaml")[1]))
	if err != nil {
		t.Fatal(err)
	}
	scope, err := vault.New(vault.Options{Limits: limits}).Scope(task.Get("credential", "vault"))
	if err != nil {
		t.Fatal(err)
	}
	if want := "token with the policy deploy-web by the role stepkey, for 5 requests"; scope.String() != want {
		t.Errorf("it is said as %s", scope)
	}
}

// The page's policy is what the code asks for, all of it and nothing else.
func TestThePagesPolicyIsWhatIsAsked(t *testing.T) {
	f := start(t)
	c := f.config(t)
	c.Roles = []string{"stepkey"}
	asked := map[string]bool{}
	f.Config.Handler = recording(f, asked)
	b := f.open(t, c)
	o := order(t, b, f.now(), "{role: stepkey, policies: [deploy-web]}")
	issued, err := b.Issue(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Revoke(t.Context(), o.Lease, issued.Handle); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Gone(t.Context(), o.Lease, issued.Handle); err != nil {
		t.Fatal(err)
	}
	policy := page.Blocks(t, "hcl")[0]
	granted := regexp.MustCompile(`path "([^"]+)" \{\n  capabilities = \["update"\]\n\}`).FindAllStringSubmatch(policy, -1)
	if len(granted) != len(asked) || strings.Count(policy, "path ") != len(granted) {
		t.Errorf("the page grants %d paths, and %v are asked", len(granted), asked)
	}
	for _, path := range granted {
		if !asked["/v1/"+path[1]] {
			t.Errorf("the page grants %s, which is not asked", path[1])
		}
	}
}

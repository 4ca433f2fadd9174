package postgres_test

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stepkey/stepkey/exchange/backend/backendtest"
	"github.com/stepkey/stepkey/exchange/backend/postgres"
	"github.com/stepkey/stepkey/exchange/identity"
	"github.com/stepkey/stepkey/exchange/policy"
	"github.com/stepkey/stepkey/internal/needs"
	"github.com/stepkey/stepkey/internal/yamlfile"
)

const page = backendtest.Page("../../../docs/backends/postgres.md")

// configured is the page's configuration, opened on the test's server.
func configured(t *testing.T) (*postgres.Backend, *scene) {
	t.Helper()
	s := stage(t, choice{})
	root, err := yamlfile.Parse("stepkey.yaml", []byte(page.Blocks(t, "yaml")[0]))
	if err != nil {
		t.Fatal(err)
	}
	var c postgres.Config
	if err := root.Get("backends", "postgres").Decode(&c); err != nil {
		t.Fatal(err)
	}
	if c.Host != "db.example.com" || c.PasswordFile != "postgres.password" {
		t.Fatalf("the page configures %+v", c)
	}
	c.Host, c.Port, c.SSLMode = "127.0.0.1", s.port, "disable" // this one has no certificate
	c.PasswordFile = filepath.Join(t.TempDir(), c.PasswordFile)
	if err := os.WriteFile(c.PasswordFile, []byte(s.password.Reveal()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	b, err := c.Open(time.Now)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b, s
}

func TestTheTasksOfThePageAreTakenAndTheirCredentialsWork(t *testing.T) {
	b, s := configured(t)
	s.Backend = b
	folder := fstest.MapFS{}
	granted := map[string]string{}
	for _, text := range page.Blocks(t, "yaml")[1:] {
		name, _, _ := strings.Cut(strings.TrimPrefix(text, "# tasks/"), "\n")
		folder[name] = &fstest.MapFile{Data: []byte(text)}
		granted[name] = text
	}
	set, err := policy.Load(folder, policy.Check{
		Issuers:  []identity.Issuer{{Name: "github", Kind: "github"}},
		Backends: map[string]policy.Scoper{"postgres": b},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range set.Findings() {
		t.Errorf("%s:%d: %s: %s", f.File, f.Line, f.Rule.ID, f.Message)
	}
	if len(granted) != 2 {
		t.Fatalf("the page has %d tasks", len(granted))
	}
	for file, does := range map[string]string{
		"import-orders.yaml": "INSERT INTO orders (item) VALUES ('x')",
		"migrate.yaml":       "CREATE TABLE next (a int); DROP TABLE next",
	} {
		root, err := yamlfile.Parse(file, []byte(granted[file]))
		if err != nil {
			t.Fatal(err)
		}
		scope, err := b.Scope(root.Get("credential", "postgres"))
		if err != nil {
			t.Fatal(err)
		}
		o := s.order(asMigrator)
		o.Scope = scope
		made, err := b.Issue(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		if slices.Sort(made.Public); !slices.Equal(made.Public, []string{"database", "host", "port", "sslmode", "username"}) {
			t.Errorf("no secret are %q", made.Public)
		}
		if err := running(does)(t.Context(), made.Values); err != nil {
			t.Errorf("%s: %v", file, err)
		}
		if file == "import-orders.yaml" {
			s.usePage(t, made.Env, func(name string) string { return made.Values[name].Reveal() })
		}
		s.end(o.Lease)
		s.gone(o.Lease)
	}
}

// usePage runs the page's command with the variables of a credential, as stepkey exec
// runs what stands behind --.
func (s *scene) usePage(t *testing.T, env map[string]string, value func(string) string) {
	t.Helper()
	needs.Programs(t, "psql")
	all := page.Blocks(t, "sh")
	if len(all) != 1 {
		t.Fatalf("the page has %d commands", len(all))
	}
	const stepkey = `stepkey() { while [ "$1" != -- ]; do shift; done; shift; "$@"; }` + "\n"
	ctx, done := context.WithTimeout(t.Context(), time.Minute)
	defer done()
	c := exec.CommandContext(ctx, "bash", "-euc", stepkey+all[0])
	c.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C.UTF-8", "HOME=" + t.TempDir()}
	for variable, name := range env {
		c.Env = append(c.Env, variable+"="+value(name))
	}
	out, err := c.CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("widget")) || !bytes.Contains(out, []byte("INSERT 0 1")) {
		t.Errorf("%v: %s", err, out)
	}
}

func TestThePageNamesEveryKeyOfTheConfigurationAndOfABlock(t *testing.T) {
	page.TellsOf(t, yamlfile.KeysOf[postgres.Config](), "database", "role", "grants", "connections", "schema", "tables", "sequences", "privileges")
}

package s3_test

import (
	"os"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stepkey/stepkey/exchange/backend/backendtest"
	"github.com/stepkey/stepkey/exchange/backend/s3"
	"github.com/stepkey/stepkey/exchange/identity"
	"github.com/stepkey/stepkey/exchange/policy"
	"github.com/stepkey/stepkey/internal/yamlfile"
)

const page = backendtest.Page("../../../docs/backends/s3.md")

// opened is a configuration of the page, which is opened as it stands.
func opened(t *testing.T, text string) *s3.Backend {
	t.Helper()
	root, err := yamlfile.Parse("stepkey.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	var c s3.Config
	if err := root.Get("backends", "s3").Decode(&c); err != nil {
		t.Fatal(err)
	}
	c.SecretKeyFile = t.TempDir() + "/" + c.SecretKeyFile
	if err := os.WriteFile(c.SecretKeyFile, []byte("a-secret-key\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	b, err := c.Open(time.Now)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestTheConfigurationsAndTheTaskOfThePageAreTaken(t *testing.T) {
	yaml := page.Blocks(t, "yaml")
	if len(yaml) != 3 {
		t.Fatalf("the page has %d blocks of YAML", len(yaml))
	}
	for kind, b := range map[string]*s3.Backend{"MinIO": opened(t, yaml[0]), "AWS": opened(t, yaml[1])} {
		set, err := policy.Load(fstest.MapFS{"back-up-widget.yaml": {Data: []byte(yaml[2])}}, policy.Check{
			Issuers:  []identity.Issuer{{Name: "github", Kind: "github"}},
			Backends: map[string]policy.Scoper{"s3": b},
		})
		if err != nil {
			t.Fatalf("on %s: %v", kind, err)
		}
		for _, f := range set.Findings() {
			t.Errorf("on %s: %s:%d: %s: %s", kind, f.File, f.Line, f.Rule.ID, f.Message)
		}
	}
}

// The policy that the page shows is the one that is sent.
func TestThePageShowsThePolicy(t *testing.T) {
	server := newSTS(t)
	o := order(t, server.backend, "{bucket: backups, prefix: widget/nightly/, actions: [list, write]}")
	if _, err := server.backend.Issue(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	shown := strings.Join(strings.Fields(page.Blocks(t, "json")[1]), "")
	if sent := strings.Join(strings.Fields(server.last.Get("Policy")), ""); sent != shown {
		t.Errorf("sent is\n%s\nand the page shows\n%s", sent, shown)
	}
}

func TestThePageNamesEveryKeyOfTheConfigurationAndOfABlock(t *testing.T) {
	page.TellsOf(t, yamlfile.KeysOf[s3.Config](), "bucket", "prefix", "actions")
}

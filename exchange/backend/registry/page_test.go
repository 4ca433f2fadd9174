package registry_test

import (
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/exchange/backend/backendtest"
	"github.com/stepkey/stepkey/exchange/backend/registry"
	"github.com/stepkey/stepkey/internal/needs"
	"github.com/stepkey/stepkey/internal/realserver"
	"github.com/stepkey/stepkey/internal/yamlfile"
)

const page = backendtest.Page("../../../docs/backends/registry.md")

func shown(t testing.TB, name string) yamlfile.Node {
	t.Helper()
	root, err := yamlfile.Parse(name, []byte(page.Block(t, "yaml", "# "+name)))
	if err != nil {
		t.Fatal(err)
	}
	return root
}

func run(t *testing.T, dir, script string, args ...string) string {
	t.Helper()
	c := exec.CommandContext(t.Context(), "sh", append([]string{"-euc", script, "sh"}, args...)...)
	c.Dir = dir
	said, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, said)
	}
	return string(said)
}

// auth is what a registry's configuration has for tokens, and all that it has.
type auth struct {
	Realm             string   `yaml:"realm,required"`
	Service           string   `yaml:"service,required"`
	Issuer            string   `yaml:"issuer,required"`
	RootCertBundle    string   `yaml:"rootcertbundle"`
	JWKS              string   `yaml:"jwks"`
	SigningAlgorithms []string `yaml:"signingalgorithms"`
}

// trust is how the registry knows the key, with the files in dir.
func (a auth) trust(dir string) string {
	if a.JWKS == "" {
		return fmt.Sprintf("rootcertbundle: %q", filepath.Join(dir, filepath.Base(a.RootCertBundle)))
	}
	return fmt.Sprintf("jwks: %q, signingalgorithms: [%s]", filepath.Join(dir, filepath.Base(a.JWKS)), strings.Join(a.SigningAlgorithms, ", "))
}

// Key, certificate, configurations and task are the page's; the registries are real ones.
func TestTheSetUpOfThePageWorks(t *testing.T) {
	needs.Programs(t, "sh", "openssl")
	dir := t.TempDir()
	run(t, dir, page.Block(t, "sh", "openssl genpkey"))
	var c registry.Config
	if err := shown(t, "stepkey.yaml").Get("backends", "registry").Decode(&c); err != nil {
		t.Fatal(err)
	}
	for i, path := range c.Keys {
		c.Keys[i] = filepath.Join(dir, path)
	}
	for path, of := range map[string]struct {
		version int
		keyID   string
	}{
		"/etc/docker/registry/config.yml": {2, c.KeyID},
		"/etc/distribution/config.yml":    {3, "thumbprint"}, // as the page's text has it
	} {
		t.Run(fmt.Sprint("version ", of.version), func(t *testing.T) {
			var a auth
			if err := shown(t, path).Get("auth", "token").Decode(&a); err != nil {
				t.Fatal(err)
			}
			c := c
			c.KeyID = of.keyID
			w := settle(t)
			var err error
			if w.Backend, err = c.Open(time.Now, w.ledger.usable); err != nil {
				t.Fatal(err)
			}
			if a.JWKS != "" {
				write(t, filepath.Join(dir, filepath.Base(a.JWKS)), w.served())
			}
			if place, err := url.Parse(a.Realm); err != nil || w.Handlers()["GET "+place.Path] == nil {
				t.Errorf("the exchange serves nothing at the realm %s: %v", a.Realm, err)
			}
			w.server = startServer(t, realserver.RegistryConfig{Version: of.version, Service: a.Service, Issuer: a.Issuer, Trust: a.trust(dir)}, w.mux())
			w.doesThePagesTask()
		})
	}
}

func (w *world) doesThePagesTask() {
	w.Helper()
	scope, err := w.Scope(shown(w, "tasks/publish-image.yaml").Get("credential", "registry"))
	if err != nil {
		w.Fatal(err)
	}
	made, err := w.Issue(w.Context(), backend.Order{Lease: newLease(), Scope: scope, At: time.Now(), Until: time.Now().Add(time.Minute)})
	if err != nil {
		w.Fatal(err)
	}
	if err := w.pushes("acme/widget")(w.Context(), made.Values); err != nil {
		w.Error(err)
	}
	if err := w.pushes("acme/base")(w.Context(), made.Values); err == nil || !strings.Contains(err.Error(), " 401,") {
		w.Errorf("it may only pull from there, and pushes: %v", err)
	}
}

func TestTheClientsFindTheLoginWhereThePagePutsIt(t *testing.T) {
	needs.Programs(t, "sh")
	if _, err := os.Stat("/dev/shm"); err != nil {
		needs.Started(t, needs.Missing{What: "a memory to put files in, /dev/shm,"})
	}
	w := settle(t)
	_, values := w.issue(both)
	script := "DOCKER_AUTH_CONFIG='" + values["config"].Reveal() + "'\n" + page.Block(t, "sh", "umask")
	said := run(t, t.TempDir(), script, "sh", "-c", `cat "$DOCKER_CONFIG/config.json" && cmp "$DOCKER_CONFIG/config.json" "$REGISTRY_AUTH_FILE" && printf ' %s' "$DOCKER_CONFIG"`)
	text, folder, _ := strings.Cut(said, " ")
	if text != values["config"].Reveal() {
		t.Error("the file does not hold the login")
	}
	if _, err := os.Stat(folder); folder == "" || err == nil {
		t.Errorf("the file is left in %q", folder)
	}
}

package registry_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/exchange/backend/backendtest"
	"github.com/stepkey/stepkey/exchange/backend/registry"
	"github.com/stepkey/stepkey/internal/needs"
	"github.com/stepkey/stepkey/internal/yamlfile"
)

const page = backendtest.Page("../../../docs/backends/registry.md")

func shown(t *testing.T, name string) yamlfile.Node {
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

// Key, certificate, configuration and task are the page's; the registry is a real one.
func TestTheSetUpOfThePageWorks(t *testing.T) {
	needs.Programs(t, "sh", "openssl")
	dir := t.TempDir()
	run(t, dir, page.Block(t, "sh", "openssl genpkey"))
	var c registry.Config
	if err := shown(t, "stepkey.yaml").Get("backends", "registry").Decode(&c); err != nil {
		t.Fatal(err)
	}
	for i, path := range c.Keys {
		c.Keys[i] = dir + "/" + path
	}
	for _, path := range []string{"/etc/docker/registry/config.yml", "/etc/distribution/config.yml"} {
		at := shown(t, path).Get("auth", "token")
		var of struct{ issuer, service string }
		if err := at.Get("issuer").Decode(&of.issuer); err != nil || of.issuer != c.Issuer {
			t.Errorf("%s: the issuer is %q: %v", path, of.issuer, err)
		}
		if err := at.Get("service").Decode(&of.service); err != nil || of.service != c.Service {
			t.Errorf("%s: the service is %q: %v", path, of.service, err)
		}
	}
	c.Issuer, c.Service = issuer, service // of the registry that tests start
	w := settle(t)
	var err error
	if w.Backend, err = c.Open(time.Now, w.ledger.usable); err != nil {
		t.Fatal(err)
	}
	trusted, err := os.ReadFile(dir + "/registry.crt")
	if err != nil {
		t.Fatal(err)
	}
	w.server = startServer(t, trusted, w.mux())
	scope, err := w.Scope(shown(t, "tasks/publish-image.yaml").Get("credential", "registry"))
	if err != nil {
		t.Fatal(err)
	}
	made, err := w.Issue(t.Context(), backend.Order{Lease: newLease(), Scope: scope, At: time.Now(), Until: time.Now().Add(time.Minute)})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.pushes("acme/widget")(t.Context(), made.Values); err != nil {
		t.Error(err)
	}
	if err := w.pushes("acme/base")(t.Context(), made.Values); err == nil {
		t.Error("it pushes where it may only pull from")
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

package ssh_test

import (
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stepkey/stepkey/exchange/backend/backendtest"
	"github.com/stepkey/stepkey/exchange/backend/ssh"
	"github.com/stepkey/stepkey/internal/needs"
	"github.com/stepkey/stepkey/internal/yamlfile"
)

const page = backendtest.Page("../../../docs/backends/ssh.md")

func TestTheConfigurationAndTheTaskOfThePageAreTaken(t *testing.T) {
	read := func(name string) yamlfile.Node {
		root, err := yamlfile.Parse(name, []byte(page.Block(t, "yaml", "# "+name)))
		if err != nil {
			t.Fatal(err)
		}
		return root
	}
	var c ssh.Config
	if err := read("stepkey.yaml").Get("backends", "ssh").Decode(&c); err != nil {
		t.Fatal(err)
	}
	key, _ := newSigner(t)
	c.CA = signsWith(t, privatePEM(t, key)).CA
	b, err := c.Open(time.Now, nothingEnded)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Scope(read("tasks/deploy-web.yaml").Get("credential", "ssh")); err != nil {
		t.Error(err)
	}
}

// A host fetches the list by the page's script, from an exchange that has good days and
// bad ones.
func TestTheScriptOfThePageTakesAListWholeOrNotAtAll(t *testing.T) {
	needs.Programs(t, "sh", "curl", "ssh-keygen")
	d := sit(t)
	good := d.Handlers()["GET /ssh/krl"].ServeHTTP
	var answer atomic.Value
	answer.Store(http.HandlerFunc(good))
	exchange := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		now, _ := answer.Load().(http.HandlerFunc)
		now(w, r)
	}))
	t.Cleanup(exchange.Close)
	dir := t.TempDir()
	write(t, dir+"/ca.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: exchange.Certificate().Raw})))
	write(t, dir+"/fetch-krl", page.Block(t, "sh", "#!/bin/sh\n# fetch-krl"))
	fetch := func(url string) (string, error) {
		c := exec.CommandContext(t.Context(), "sh", dir+"/fetch-krl", url, dir+"/krl")
		c.Env = append(os.Environ(), "CURL_CA_BUNDLE="+dir+"/ca.pem")
		said, err := c.CombinedOutput()
		return string(said), err
	}
	url := exchange.URL + "/ssh/krl"
	lease := newLease()
	d.ledger.end(lease)
	if said, err := fetch(url); err != nil {
		t.Fatalf("%v: %s", err, said)
	}
	has := func() []uint64 { return d.listed(mustRead(t, dir+"/krl")) }
	if !slices.Equal(has(), serials(lease)) {
		t.Errorf("the host has %v", has())
	}
	if about, err := os.Stat(dir + "/krl"); err != nil || about.Mode().Perm() != 0o644 {
		t.Errorf("its mode: %v, %v", about.Mode(), err)
	}

	for name, bad := range map[string]http.HandlerFunc{
		"an error":     func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "not now", http.StatusServiceUnavailable) },
		"another page": func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>welcome</html>")) },
		"nothing":      func(http.ResponseWriter, *http.Request) {},
		"half of it": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write(ssh.WriteKRL(nil, nil, time.Now())[:20])
		},
		"a connection that breaks": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "5000")
			_, _ = w.Write(ssh.WriteKRL(nil, nil, time.Now()))
		},
	} {
		answer.Store(bad)
		if said, err := fetch(url); err == nil {
			t.Errorf("%s: it is content: %s", name, said)
		}
		if !slices.Equal(has(), serials(lease)) {
			t.Errorf("%s: the host has %v", name, has())
		}
	}
	answer.Store(http.HandlerFunc(good))
	if _, err := fetch(strings.Replace(url, "https:", "http:", 1)); err == nil {
		t.Error("it fetches without TLS")
	}
	next := newLease()
	d.ledger.end(next)
	d.wait(time.Minute)
	if said, err := fetch(url); err != nil || !slices.Equal(has(), serials(lease, next)) {
		t.Errorf("afterwards: %v: %s; the host has %v", err, said, has())
	}
	if left, _ := filepath.Glob(dir + "/krl*"); len(left) != 1 {
		t.Errorf("left: %v", left)
	}
}

// A signal at every moment of a deployment: what is live is one release, whole, and
// nothing that never was live is left.
func TestTheDeploymentOfThePageIsWholeWheneverItIsStopped(t *testing.T) {
	needs.Programs(t, "sh", "tar", "gzip")
	for name, c := range map[string]struct {
		program, does string // what goes wrong, where one of the script's programs runs
		live          string
		fails         bool
	}{
		"nothing":                            {"mv", `"$real" "$@"`, "new", false},
		"a TERM after the archive":           {"tar", `"$real" "$@"; kill -TERM $PPID`, "old", true},
		"half an archive":                    {"tar", `head -c 60 | "$real" "$@"`, "old", true},
		"a HUP before the switch":            {"mv", `kill -HUP $PPID; "$real" "$@"`, "new", false},
		"a HUP after the switch":             {"mv", `"$real" "$@"; kill -HUP $PPID`, "new", false},
		"a TERM after the switch":            {"mv", `"$real" "$@"; kill -TERM $PPID`, "new", false},
		"a HUP to all, before the switch":    {"mv", `kill -HUP $PPID $$; exec "$real" "$@"`, "new", false},
		"a switch that fails":                {"mv", `exit 1`, "old", true},
		"a switch that is killed before it":  {"mv", `kill -KILL $$`, "old", true},
		"a switch that is killed when it is": {"mv", `"$real" "$@"; kill -KILL $$`, "new", true},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			script := strings.Replace(page.Block(t, "sh", "#!/bin/sh\n# deploy-widget"), "/srv/widget", dir+"/top", 1)
			write(t, dir+"/deploy-widget", script)
			program, err := exec.LookPath(c.program)
			if err != nil {
				t.Fatal(err)
			}
			for _, folder := range []string{"/top/release.before", "/bin", "/src"} {
				if err := os.MkdirAll(dir+folder, 0o700); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.WriteFile(dir+"/bin/"+c.program, []byte("#!/bin/sh\nreal="+program+"\n"+c.does+"\n"), 0o700); err != nil {
				t.Fatal(err)
			}
			write(t, dir+"/top/release.before/widget", "old")
			if err := os.Symlink(dir+"/top/release.before", dir+"/top/current"); err != nil {
				t.Fatal(err)
			}
			write(t, dir+"/src/widget", "new")
			if said, err := exec.CommandContext(t.Context(), "tar", "-czf", dir+"/archive", "-C", dir+"/src", "widget").CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, said)
			}

			archive, err := os.Open(dir + "/archive")
			if err != nil {
				t.Fatal(err)
			}
			defer archive.Close()
			deploy := exec.CommandContext(t.Context(), "sh", dir+"/deploy-widget")
			deploy.Env = append(os.Environ(), "PATH="+dir+"/bin:"+os.Getenv("PATH"))
			deploy.Stdin = archive
			said, err := deploy.CombinedOutput()
			if (err != nil) != c.fails {
				t.Errorf("it ends with %v: %s", err, said)
			}
			if live, err := os.ReadFile(dir + "/top/current/widget"); err != nil || string(live) != c.live {
				t.Errorf("live is %q, %v; want %s. It said: %s", live, err, c.live, said)
			}
			want := map[string]int{"old": 2, "new": 3}[c.live] // with current, and the release before
			if left, err := filepath.Glob(dir + "/top/*"); err != nil || len(left) != want {
				t.Errorf("left: %v", left)
			}
		})
	}
}

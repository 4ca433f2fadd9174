package workflows_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stepkey/stepkey/internal/githubsim"
	"github.com/stepkey/stepkey/internal/needs"
	"github.com/stepkey/stepkey/internal/realserver"
	"github.com/stepkey/stepkey/internal/runnersim"
)

// world is what a story happens in: GitHub on an address that jobs reach, the real
// exchange, and a runner that has the real action.
type world struct {
	address  string // of this machine, which its jobs reach
	gh       *githubsim.GitHub
	exchange *exchange
	db       *database // of stories that have one, as the next four
	s3       *realserver.MinIO
	images   *images
	host     *host
	spy      *spy
	runner   runnersim.Options

	mu    sync.Mutex
	fault func(*http.Request) *githubsim.Fault
	used  string // the last credential that an asset was uploaded with
}

// setting is what differs between stories.
type setting struct {
	ttl string
	// backends are lines of the configuration beside github's, two spaces deep; tasks are
	// task files by name, and files what the configuration names. Servers that a job and
	// the exchange reach listen on the world's address.
	beside func(t *testing.T, w *world) (backends string, tasks, files map[string]string)
}

// everywhere tells one story twice: with processes on loopback, and with the images in
// containers on a network of their own.
func everywhere(t *testing.T, s setting, story func(t *testing.T, w *world)) {
	t.Helper()
	needs.Programs(t, "git", "jq", "curl")
	t.Run("in processes", func(t *testing.T) {
		t.Parallel()
		w, files := begin(t, s, "127.0.0.1")
		w.runner.Mode = runnersim.Process
		w.runner.Entrypoints = map[string]string{"/main": binary(t, "stepkey"), "/post": binary(t, "stepkey")}
		w.exchange = serve(t, "127.0.0.1", files)
		story(t, w)
	})
	t.Run("in containers", func(t *testing.T) {
		base := toolchain(t)
		t.Parallel()
		w, files, network := inContainers(t, s)
		w.runner.Actions = map[string]string{"stepkey/stepkey@v1": root}
		w.runner.BuildArgs = map[string]string{"GO_IMAGE": base, "SKIP_EXCHANGE": "true"}
		w.exchange = serveInContainer(t, network.Name, files)
		story(t, w)
	})
}

// inContainers begins a world whose actions run in a network of their own, from an image
// that is built once. The network's gateway is where they reach this machine.
func inContainers(t *testing.T, s setting) (*world, func(url, listen string) map[string][]byte, *runnersim.Network) {
	t.Helper()
	toolchain(t)
	network, err := runnersim.NewNetwork(t.Context(), fmt.Sprintf("stepkey-workflows-%x", random(t, 4)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := network.Close(); err != nil {
			t.Error(err)
		}
	})
	w, files := begin(t, s, network.Gateway)
	w.runner.Mode, w.runner.Network = runnersim.Docker, network.Name
	w.runner.Actions = map[string]string{"stepkey/stepkey@v1": builtAction(t)}
	return w, files, network
}

// begin starts GitHub with acme's repositories and its App, which may do more than any
// task, and returns what the exchange's files are.
func begin(t *testing.T, s setting, address string) (*world, func(url, listen string) map[string][]byte) {
	t.Helper()
	gh, err := githubsim.Start(githubsim.Options{Listen: address + ":0", FirstUseLag: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(gh.Close)
	for name, id := range map[string]int64{"widget": 456789, "gadget": 456790} {
		gh.AddRepository(githubsim.Repository{ID: id, Owner: "acme", OwnerID: 123456, Name: name, Private: true})
	}
	gh.AddRelease("acme", "widget", "v1.2.3")
	app := gh.AddApp(githubsim.App{ClientID: "Iv1.acme", Slug: "acme-stepkey", Permissions: map[string]string{"contents": "write", "issues": "write"}})
	gh.Install(app, "acme")

	w := &world{address: address, gh: gh}
	gh.Fault(w.onRequest)
	w.runner = runnersim.Options{
		Actions: map[string]string{"stepkey/stepkey@v1": root}, Dir: t.TempDir(),
		Workspace: repository(t), Host: map[string]string{"PATH": os.Getenv("PATH")},
	}
	api, certificate := behindTLS(t, gh.URL(), address)
	task := read(t, filepath.Join("testdata", "publish-release.yaml"))
	if s.ttl != "" {
		task = replace(t, task, "ttl: 10m", "ttl: "+s.ttl)
	}
	var backends string
	var tasks, besides map[string]string
	if s.beside != nil {
		backends, tasks, besides = s.beside(t, w)
	}
	return w, func(url, listen string) map[string][]byte {
		host, _, _ := strings.Cut(listen, ":")
		config := fmt.Sprintf("url: %s\nlisten: %s\nadmin: %s:0\ntasks: tasks\nowners: [\"123456\"]\n"+
			"issuers:\n  github: {kind: github, url: %q, private_network: true}\n"+
			"backends:\n  github: {api: %q, client_id: %s, private_key: app.pem, probe: true}\n",
			url, listen, host, gh.IssuerURL(), api, app.ClientID)
		files := map[string][]byte{"stepkey.yaml": []byte(config + backends), "app.pem": app.KeyPEM(), "ca.pem": certificate, "tasks/publish-release.yaml": []byte(task)}
		for name, text := range tasks {
			files["tasks/"+name] = []byte(text)
		}
		for name, text := range besides {
			files[name] = []byte(text)
		}
		return files
	}
}

// onRequest sees all that reaches GitHub.
func (w *world) onRequest(r *http.Request) *githubsim.Fault {
	w.mu.Lock()
	fault := w.fault
	if r.Method == http.MethodPost && strings.HasPrefix(r.URL.Path, "/api/uploads/") {
		w.used = strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	}
	w.mu.Unlock()
	if fault == nil {
		return nil
	}
	return fault(r)
}

// holdBack makes GitHub answer requests of a kind only once released is closed, however
// long that takes and whether or not somebody still waits. arrived is closed when the
// first of them is there.
func (w *world) holdBack(kind func(*http.Request) bool, released <-chan struct{}) (arrived <-chan struct{}) {
	there := make(chan struct{})
	tell := sync.OnceFunc(func() { close(there) })
	w.mu.Lock()
	defer w.mu.Unlock()
	w.fault = func(r *http.Request) *githubsim.Fault {
		if !kind(r) {
			return nil
		}
		tell()
		return &githubsim.Fault{Delay: released, Outlast: true}
	}
	return there
}

func creates(r *http.Request) bool {
	return r.Method == http.MethodPost && strings.HasSuffix(r.URL.Path, "/access_tokens")
}

func ends(r *http.Request) bool {
	return r.Method == http.MethodDelete && strings.HasSuffix(r.URL.Path, "/installation/token")
}

// release is a run of the release workflow for the tag.
func (w *world) release(change ...func(*githubsim.JobSpec)) githubsim.JobSpec {
	spec := githubsim.JobSpec{Repository: "acme/widget", Ref: "refs/tags/v1.2.3", Environment: "release", IDToken: true}
	for _, c := range change {
		c(&spec)
	}
	return spec
}

// job is what the runner gets for it.
func (w *world) job(spec githubsim.JobSpec, workflow string) runnersim.Job {
	env := w.gh.StartJob(spec).Env()
	env["STEPKEY_ALLOW_HTTP"] = "true" // nobody else is on these networks
	return runnersim.Job{Workflow: []byte(workflow), Env: env, Vars: map[string]string{"STEPKEY_EXCHANGE": w.exchange.url}}
}

func (w *world) run(t *testing.T, job runnersim.Job) *runnersim.Result {
	t.Helper()
	return runOn(t, w.runner, job)
}

func runOn(t *testing.T, o runnersim.Options, job runnersim.Job) *runnersim.Result {
	t.Helper()
	runner, err := runnersim.New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithTimeout(t.Context(), 6*time.Minute) // an image may have to be built
	defer stop()
	result, err := runner.Run(ctx, job)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the job's log:\n%s", result.Log)
		}
	})
	return result
}

// behindTLS puts a server with a certificate of its own in front of GitHub: the exchange
// sends no token over plain HTTP but to loopback.
func behindTLS(t *testing.T, api, address string) (front string, certificate []byte) {
	t.Helper()
	behind, err := url.Parse(api)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: address}, IPAddresses: []net.IP{net.ParseIP(address)}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(&httputil.ReverseProxy{Rewrite: func(p *httputil.ProxyRequest) {
		p.Out.URL.Scheme, p.Out.URL.Host, p.Out.Host = behind.Scheme, behind.Host, behind.Host
	}})
	_ = server.Listener.Close() // it listens on loopback
	server.Listener = listen(t, address)
	server.TLS = &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	server.StartTLS()
	t.Cleanup(server.Close)
	return server.URL + behind.Path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// repository makes a small one with one commit.
func repository(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "widget")
	write(t, filepath.Join(dir, "README.md"), []byte("widget"))
	write(t, filepath.Join(dir, "src", "main.c"), []byte("int main;"))
	command(t, "git", "-C", dir, "init", "--quiet")
	command(t, "git", "-C", dir, "add", ".")
	command(t, "git", "-C", dir, "-c", "user.name=a", "-c", "user.email=a@example.com", "commit", "--quiet", "-m", "first")
	return dir
}

func random(t *testing.T, n int) []byte {
	t.Helper()
	b := make([]byte, n)
	if _, err := rand.Read(b); err != nil {
		t.Fatal(err)
	}
	return b
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// replace changes a text that must hold what is replaced.
func replace(t *testing.T, text, from, to string) string {
	t.Helper()
	if !strings.Contains(text, from) {
		t.Fatalf("there is no %q in:\n%s", from, text)
	}
	return strings.ReplaceAll(text, from, to)
}

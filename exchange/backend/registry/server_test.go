package registry_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

const registryProgram = "docker-registry"

// needs leaves a test out where a program is missing, and fails where everything must
// run.
func needs(t testing.TB, programs ...string) {
	t.Helper()
	for _, program := range programs {
		_, err := exec.LookPath(program)
		switch {
		case err == nil:
		case os.Getenv("CI") != "":
			t.Fatalf("%s is missing: %v", program, err)
		default:
			t.Skipf("this needs a real registry and its clients, and %s is missing: %v", program, err)
		}
	}
}

// journal is what a process says, read while it says it.
type journal struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(p)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

// server is the real registry on loopback, with our realm beside it.
type server struct {
	testing.TB
	host  string // and port, as clients log in to it
	realm string // where it sends them
	log   *journal
}

const (
	issuer  = "exchange.test"
	service = "registry.test"
)

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// certificate is what the registry's rootcertbundle takes.
func certificate(t testing.TB, key crypto.Signer) []byte {
	t.Helper()
	about := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "stepkey"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, about, about, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func write(t testing.TB, path string, text []byte) {
	t.Helper()
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// startServer starts version 2. It trusts a certificate, and sends clients to realm.
func startServer(t testing.TB, trusted []byte, realm http.Handler) *server {
	t.Helper()
	needs(t, registryProgram)
	path := t.TempDir() + "/certs.pem"
	write(t, path, trusted)
	return startProgram(t, registryProgram, fmt.Sprintf("rootcertbundle: %q", path), realm)
}

// startProgram starts a registry of either version, which trusts what trust says.
func startProgram(t testing.TB, name, trust string, realm http.Handler) *server {
	t.Helper()
	dir := t.TempDir()
	tokens := httptest.NewServer(realm)
	t.Cleanup(tokens.Close)
	s := &server{TB: t, log: &journal{}}
	_, port, _ := net.SplitHostPort(freePort(t))
	s.host = "localhost:" + port // clients refuse a realm at an address that is private
	s.realm = strings.Replace(tokens.URL, "127.0.0.1", "localhost", 1) + "/registry/token"
	write(t, dir+"/config.yml", fmt.Appendf(nil, `version: 0.1
log: {accesslog: {disabled: true}, level: info}
storage: {filesystem: {rootdirectory: %q}, delete: {enabled: true}}
http: {addr: "127.0.0.1:%s", secret: x}
auth: {token: {realm: %q, service: %s, issuer: %s, %s}}
`, filepath.Join(dir, "data"), port, s.realm, service, issuer, trust))
	program := exec.CommandContext(context.Background(), name, "serve", dir+"/config.yml") //nolint:gosec // name is of the machine that runs the tests
	program.Env = append(os.Environ(), "OTEL_TRACES_EXPORTER=none")
	program.Stdout, program.Stderr = s.log, s.log
	if err := program.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = program.Process.Kill()
		_ = program.Wait()
	})
	s.await(func() bool {
		status, _, err := s.call(t.Context(), "", http.MethodGet, "/v2/", nil)
		return err == nil && status == http.StatusUnauthorized
	})
	return s
}

func freePort(t testing.TB) string {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func (s *server) await(holds func() bool) {
	s.Helper()
	ctx, done := context.WithTimeout(s.Context(), 20*time.Second)
	defer done()
	again := time.NewTicker(5 * time.Millisecond)
	defer again.Stop()
	for !holds() {
		select {
		case <-ctx.Done():
			s.Fatalf("the registry does not come up; it says:\n%s", s.log)
		case <-again.C:
		}
	}
}

// call asks the registry with a token. path may be a whole address that it gave.
func (s *server) call(ctx context.Context, token, method, path string, body []byte) (int, http.Header, error) {
	if strings.HasPrefix(path, "/") {
		path = "http://" + s.host + path
	}
	req, err := http.NewRequestWithContext(ctx, method, path, bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	if bytes.HasPrefix(body, []byte(`{"schemaVersion"`)) {
		req.Header.Set("Content-Type", manifestType)
	}
	req.Header.Set("Accept", manifestType)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, resp.Header, err
}

const manifestType = "application/vnd.oci.image.manifest.v1+json"

func digest(text []byte) string { return fmt.Sprintf("sha256:%x", sha256.Sum256(text)) }

// image is the smallest one: a configuration and no layer.
func image(content string) (config, manifest []byte) {
	config = fmt.Appendf(nil, `{"architecture":"amd64","os":"linux","author":%q,"rootfs":{"type":"layers","diff_ids":[]}}`, content)
	manifest = fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":"application/vnd.oci.image.config.v1+json","size":%d,"digest":%q},"layers":[]}`,
		manifestType, len(config), digest(config))
	return config, manifest
}

func wants(what string, status, want int) error {
	if status != want {
		return fmt.Errorf("%s: the registry answers %d, not %d", what, status, want)
	}
	return nil
}

// push puts an image where a token may.
func (s *server) push(ctx context.Context, token, repository string) error {
	return s.pushAs(ctx, token, repository, "v1", repository)
}

// pushAs takes a content, since the registry mixes up who pushes the same at one time.
func (s *server) pushAs(ctx context.Context, token, repository, tag, content string) error {
	config, manifest := image(content)
	status, header, err := s.call(ctx, token, http.MethodPost, "/v2/"+repository+"/blobs/uploads/", nil)
	if err == nil {
		err = wants("beginning to push", status, http.StatusAccepted)
	}
	if err != nil {
		return err
	}
	to, err := url.Parse(header.Get("Location"))
	if err != nil {
		return err
	}
	query := to.Query()
	query.Set("digest", digest(config))
	to.RawQuery = query.Encode()
	status, _, err = s.call(ctx, token, http.MethodPut, to.String(), config)
	if err == nil {
		err = wants("pushing", status, http.StatusCreated)
	}
	if err != nil {
		return err
	}
	status, _, err = s.call(ctx, token, http.MethodPut, "/v2/"+repository+"/manifests/"+tag, manifest)
	if err != nil {
		return err
	}
	return wants("pushing the manifest", status, http.StatusCreated)
}

func (s *server) pull(ctx context.Context, token, repository string) error {
	status, _, err := s.call(ctx, token, http.MethodGet, "/v2/"+repository+"/manifests/v1", nil)
	if err != nil {
		return err
	}
	return wants("pulling", status, http.StatusOK)
}

func (s *server) remove(ctx context.Context, token, repository string) error {
	_, manifest := image(repository)
	status, _, err := s.call(ctx, token, http.MethodDelete, "/v2/"+repository+"/manifests/"+digest(manifest), nil)
	if err != nil {
		return err
	}
	return wants("deleting", status, http.StatusAccepted)
}

func (s *server) catalog(ctx context.Context, token, _ string) error {
	status, _, err := s.call(ctx, token, http.MethodGet, "/v2/_catalog", nil)
	if err != nil {
		return err
	}
	return wants("listing all repositories", status, http.StatusOK)
}

// answered is what the realm says.
type answered struct {
	Status      int
	Token       string `json:"token"`
	AccessToken string `json:"access_token"`
	ExpiresIn   int    `json:"expires_in"`
	Scope       string `json:"scope"`
	Error       string `json:"error"`
	Description string `json:"error_description"`
	Errors      []struct{ Code, Message string }
}

func readAnswer(status int, body io.Reader) (answered, error) {
	a := answered{Status: status}
	return a, json.NewDecoder(body).Decode(&a)
}

func do(req *http.Request) (answered, error) {
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return answered{}, err
	}
	defer resp.Body.Close()
	return readAnswer(resp.StatusCode, resp.Body)
}

// login gets a token as docker does: by GET with Basic.
func (s *server) login(ctx context.Context, username, password string, scopes ...string) (answered, error) {
	query := url.Values{"service": {service}, "scope": scopes, "account": {username}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.realm+"?"+query.Encode(), nil)
	if err != nil {
		return answered{}, err
	}
	req.SetBasicAuth(username, password)
	return do(req)
}

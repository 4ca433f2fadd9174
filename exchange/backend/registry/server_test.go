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
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stepkey/stepkey/exchange/backend/registry"
	"github.com/stepkey/stepkey/internal/needs"
	"github.com/stepkey/stepkey/internal/realserver"
)

// server is the real registry on loopback, with our realm beside it.
type server struct {
	*realserver.Registry
	realm   string // where it sends its clients
	service string // what it says it is
}

const (
	issuer  = "exchange.test"
	service = "registry.test"
)

// kind is a registry, and how it knows our key.
type kind struct {
	version int
	style   string // of the key's name
	key     func(testing.TB) crypto.Signer
	trust   func(*world, crypto.Signer) string // a line of its configuration
}

// kinds are those of the page: each shows all that the others do.
var kinds = map[string]kind{
	"version 2":              {2, "libtrust", ecdsaKey, (*world).byCertificate},
	"version 3 with ECDSA":   {3, "thumbprint", ecdsaKey, (*world).byName},
	"version 3 with Ed25519": {3, "thumbprint", ed25519Key, (*world).byName},
}

func ecdsaKey(t testing.TB) crypto.Signer { return newKey(t) }

func ed25519Key(t testing.TB) crypto.Signer { return newEd25519(t) }

// found starts a registry and opens a backend for it.
func (k kind) found(t testing.TB) *world {
	t.Helper()
	private := k.key(t)
	key := opened(t, private, k.style)
	w := settle(t, key)
	w.private = private
	w.server = startServer(t, realserver.RegistryConfig{Version: k.version, Service: service, Issuer: issuer, Trust: k.trust(w, private)}, w.mux())
	w.Backend = registry.New(registry.Options{Limits: limits(w.Host), Keys: []*registry.Key{key}, Usable: w.ledger.usable, Now: w.now})
	return w
}

// onEach runs a test against every kind.
func onEach(t *testing.T, test func(*testing.T, *world)) {
	for name, k := range kinds {
		t.Run(name, func(t *testing.T) { test(t, k.found(t)) })
	}
}

func (w *world) byCertificate(key crypto.Signer) string {
	path := w.TempDir() + "/certs.pem"
	write(w, path, certificate(w, key))
	return fmt.Sprintf("rootcertbundle: %q", path)
}

func (w *world) byName(crypto.Signer) string {
	path := w.TempDir() + "/jwks.json"
	write(w, path, w.served())
	return fmt.Sprintf("jwks: %q, signingalgorithms: [ES256, EdDSA]", path)
}

// served are the public keys, as the exchange shows them to whoever asks.
func (w *world) served() []byte {
	answer := httptest.NewRecorder()
	w.mux().ServeHTTP(answer, httptest.NewRequestWithContext(w.Context(), http.MethodGet, "/registry/keys", nil))
	return answer.Body.Bytes()
}

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

// startServer starts a registry of either version, which takes tokens as c says and sends
// its clients to realm for them.
func startServer(t testing.TB, c realserver.RegistryConfig, realm http.Handler) *server {
	t.Helper()
	tokens := httptest.NewServer(realm)
	t.Cleanup(tokens.Close)
	c.Dir, c.Listen = t.TempDir(), "localhost:0" // clients refuse a realm at an address that is private
	c.Realm = strings.Replace(tokens.URL, "127.0.0.1", "localhost", 1) + "/registry/token"
	s := &server{realm: c.Realm, service: c.Service}
	var err error
	s.Registry, err = realserver.StartRegistry(t.Context(), c)
	needs.Started(t, err)
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// call asks the registry with a token. path may be a whole address that it gave.
func (s *server) call(ctx context.Context, token, method, path string, body []byte) (int, http.Header, error) {
	if strings.HasPrefix(path, "/") {
		path = "http://" + s.Host + path
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
	query := url.Values{"service": {s.service}, "scope": scopes, "account": {username}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.realm+"?"+query.Encode(), nil)
	if err != nil {
		return answered{}, err
	}
	req.SetBasicAuth(username, password)
	return do(req)
}

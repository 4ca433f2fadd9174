package registry_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/stepkey/stepkey/exchange/backend/registry"
)

func opened(t testing.TB, private crypto.Signer, style string) *registry.Key {
	t.Helper()
	key, err := registry.NewKey(private, style)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func privatePEM(t testing.TB, private any) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

func newEd25519(t testing.TB) ed25519.PrivateKey {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// claims are a token's, read by somebody who knows nothing of how it was written.
type claims struct {
	jwt.Claims
	Access []struct {
		Type    string   `json:"type"`
		Name    string   `json:"name"`
		Actions []string `json:"actions"`
	} `json:"access"`
}

// verified reads a token by the keys that the exchange serves, as docker-registry 3 does
// with its jwks: by the name of the key alone.
func verified(t testing.TB, w *world, token string) (claims, jose.Header) {
	t.Helper()
	answer := httptest.NewRecorder()
	w.mux().ServeHTTP(answer, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/registry/keys", nil))
	var set jose.JSONWebKeySet
	if err := json.Unmarshal(answer.Body.Bytes(), &set); err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(answer.Body.Bytes(), []byte(`"d"`)) {
		t.Fatal("a private key is served")
	}
	read, err := jwt.ParseSigned(token, []jose.SignatureAlgorithm{jose.ES256, jose.EdDSA})
	if err != nil {
		t.Fatal(err)
	}
	keys := set.Key(read.Headers[0].KeyID)
	if len(keys) != 1 || keys[0].Algorithm != read.Headers[0].Algorithm {
		t.Fatalf("the token names the key %q, and the exchange serves %s", read.Headers[0].KeyID, answer.Body)
	}
	var c claims
	if err := read.Claims(keys[0].Key, &c); err != nil {
		t.Fatal(err)
	}
	return c, read.Headers[0]
}

func TestTokensNameTheirKeyInBothStyles(t *testing.T) {
	ec, ed := newKey(t), newEd25519(t)
	thumbprint := func(key crypto.Signer) string {
		sum, err := (&jose.JSONWebKey{Key: key.Public()}).Thumbprint(crypto.SHA256)
		if err != nil {
			t.Fatal(err)
		}
		return registry.Encoding.EncodeToString(sum)
	}
	for name, c := range map[string]struct {
		key       crypto.Signer
		style     string
		algorithm string
		id        func(string) bool
	}{
		"ECDSA for version 2": {ec, "libtrust", "ES256", func(id string) bool { return len(id) == 59 && strings.Count(id, ":") == 11 }},
		"ECDSA by thumbprint": {ec, "thumbprint", "ES256", func(id string) bool { return id == thumbprint(ec) }},
		"Ed25519":             {ed, "thumbprint", "EdDSA", func(id string) bool { return id == thumbprint(ed) }},
	} {
		w := settle(t, opened(t, c.key, c.style), opened(t, newKey(t), c.style))
		_, values := w.issue("{repositories: [acme/widget], actions: [pull]}")
		a := w.ask(get(values, "repository:acme/widget:pull"))
		read, header := verified(t, w, a.Token)
		if header.Algorithm != c.algorithm || !c.id(header.KeyID) || header.ExtraHeaders["typ"] != "JWT" {
			t.Errorf("%s: the header is %+v", name, header)
		}
		if len(read.Access) != 1 {
			t.Errorf("%s: access is %v", name, read.Access)
		}
	}
}

// SHA-256 of "abc" is in its standard; its first 240 bits in base32 are these. That the
// real server finds keys so, the suite shows.
func TestTheLibtrustIDIsOfTheFirst240Bits(t *testing.T) {
	if got := registry.LibtrustID([]byte("abc")); got != "XJ4B:NP4P:AHH6:UQKB:IDPF:3LRC:EOYA:GYND:SYLX:VHFU:CD7W:D4QA" {
		t.Errorf("it is %q", got)
	}
}

func TestAKeyIsTakenFromAllThatOpensslWrites(t *testing.T) {
	ec := newKey(t)
	sec1, err := x509.MarshalECPrivateKey(ec)
	if err != nil {
		t.Fatal(err)
	}
	parameters := pem.EncodeToMemory(&pem.Block{Type: "EC PARAMETERS", Bytes: []byte{6, 8, 42, 134, 72, 206, 61, 3, 1, 7}})
	old := pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: sec1})
	for name, text := range map[string][]byte{
		"PKCS #8": privatePEM(t, ec), "SEC 1": old, "SEC 1 with parameters": append(parameters, old...), "Ed25519": privatePEM(t, newEd25519(t)),
	} {
		c := config(t, text)
		c.KeyID = "thumbprint"
		if _, err := c.Open(time.Now, newLedger().usable); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func config(t testing.TB, key []byte) registry.Config {
	t.Helper()
	path := t.TempDir() + "/registry.pem"
	write(t, path, key)
	return registry.Config{Keys: []string{path}, Issuer: issuer, Service: service, Registry: "registry.example.com:5000", Repositories: []string{"acme/", "tools"}}
}

func TestAConfigurationThatCannotBeMeantIsRefused(t *testing.T) {
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	keyed := func(text []byte) func(*registry.Config) {
		return func(c *registry.Config) { c.Keys = config(t, text).Keys }
	}
	for says, spoil := range map[string]func(*registry.Config){
		"openssl genpkey":               func(c *registry.Config) { c.Keys = nil },
		"opening the signing key":       func(c *registry.Config) { c.Keys[0] += ".none" },
		"chmod 600":                     func(c *registry.Config) { chmod(t, c.Keys[0], 0o640) },
		"ECDSA P-384; want":             keyed(privatePEM(t, p384)),
		"*rsa.PrivateKey does not sign": keyed(privatePEM(t, rsaKey)),
		"set key_id: thumbprint":        keyed(privatePEM(t, newEd25519(t))),
		"no private key in PEM form":    keyed([]byte("canary-key-text")),
		`of the kind "CERTIFICATE"`:     keyed(certificate(t, newKey(t))),
		"in it is broken":               keyed(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("canary-key-text")})),
		"registry: ":                    func(c *registry.Config) { c.Registry = "https://registry.example.com" },
		"in lower case, with":           func(c *registry.Config) { c.Registry = "Registry.example.com" },
		"issuer: ":                      func(c *registry.Config) { c.Issuer = "" },
		"service: ":                     func(c *registry.Config) { c.Service = "a\nb" },
		`key_id: "jwk"`:                 func(c *registry.Config) { c.KeyID = "jwk" },
		`repositories: "*"`:             func(c *registry.Config) { c.Repositories = []string{"*"} },
		`repositories: "/"`:             func(c *registry.Config) { c.Repositories = []string{"/"} },
		`repositories: "acme//"`:        func(c *registry.Config) { c.Repositories = []string{"acme//"} },
	} {
		c := config(t, privatePEM(t, newKey(t)))
		spoil(&c)
		switch _, err := c.Open(time.Now, newLedger().usable); {
		case err == nil || !strings.Contains(err.Error(), says):
			t.Errorf("want …%s…: %v", says, err)
		case strings.Contains(err.Error(), "canary"):
			t.Errorf("the error quotes the key: %v", err)
		}
	}
	if _, err := config(t, privatePEM(t, newKey(t))).Open(nil, newLedger().usable); err != nil {
		t.Errorf("a good one: %v", err)
	}
}

func chmod(t testing.TB, path string, mode os.FileMode) {
	t.Helper()
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

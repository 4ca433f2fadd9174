package identity_test

import (
	"compress/gzip"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stepkey/stepkey/exchange/identity"
)

// localIssuer is an issuer on loopback, over real HTTP. Its two documents can be
// replaced by handlers.
type localIssuer struct {
	*httptest.Server
	discovery, keys http.HandlerFunc
	asked           atomic.Int32
}

func newLocalIssuer(t *testing.T, start func(http.Handler) *httptest.Server) *localIssuer {
	t.Helper()
	i := &localIssuer{}
	i.discovery = func(w http.ResponseWriter, _ *http.Request) { i.describe(w, i.URL, i.URL+"/keys") }
	i.keys = func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, encode(t, onlyKey(t, "rsa-1"))) }
	i.Server = start(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		i.asked.Add(1)
		switch r.URL.Path {
		case "/.well-known/openid-configuration":
			i.discovery(w, r)
		case "/keys":
			i.keys(w, r)
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(i.Close)
	return i
}

func (i *localIssuer) describe(w io.Writer, issuer, keys string) {
	_, _ = fmt.Fprintf(w, `{"issuer":%q,"jwks_uri":%q}`, issuer, keys)
}

// verify verifies an honest token of this issuer.
func (i *localIssuer) verify(t *testing.T, configured identity.Issuer) error {
	t.Helper()
	configured.Name, configured.Kind, configured.URL = "local", "github", i.URL
	v, err := identity.New(audience, []identity.Issuer{configured}, identity.Options{Now: atPresent})
	if err != nil {
		t.Fatal(err)
	}
	claims := honestClaims(present)
	claims["iss"] = i.URL
	_, err = v.Verify(t.Context(), forgeFor(t).sign(t, "rsa-1", encode(t, honestHeader()), encode(t, claims)))
	return err
}

// wantUnavailable checks that keys could not be had, and why.
func wantUnavailable(t *testing.T, err error, why string) {
	t.Helper()
	if !errors.Is(err, identity.ErrUnavailable) || !strings.Contains(err.Error(), why) {
		t.Errorf("want unavailable because of %q, got %v", why, err)
	}
}

func TestAnIssuerOnLoopbackServesWhereItIsAllowed(t *testing.T) {
	if err := newLocalIssuer(t, httptest.NewServer).verify(t, identity.Issuer{Private: true}); err != nil {
		t.Error(err)
	}
}

func TestAnIssuerThatResolvesToLoopbackIsNotReached(t *testing.T) {
	i := newLocalIssuer(t, httptest.NewTLSServer)
	roots := x509.NewCertPool()
	roots.AddCert(i.Certificate())
	wantUnavailable(t, i.verify(t, identity.Issuer{Roots: roots}), "not public")
	if i.asked.Load() != 0 {
		t.Error("the issuer was reached")
	}
	if err := i.verify(t, identity.Issuer{Roots: roots, Private: true}); err != nil {
		t.Errorf("allowed and with its own certificate authority: %v", err)
	}
	wantUnavailable(t, i.verify(t, identity.Issuer{Private: true}), "certificate")
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	elsewhere := newLocalIssuer(t, httptest.NewServer)
	for name, redirect := range map[string]func(*localIssuer){
		"discovery": func(i *localIssuer) {
			i.discovery = http.RedirectHandler(elsewhere.URL+"/.well-known/openid-configuration", http.StatusFound).ServeHTTP
		},
		"key set": func(i *localIssuer) {
			i.keys = http.RedirectHandler(elsewhere.URL+"/keys", http.StatusTemporaryRedirect).ServeHTTP
		},
	} {
		t.Run(name, func(t *testing.T) {
			i := newLocalIssuer(t, httptest.NewServer)
			redirect(i)
			wantUnavailable(t, i.verify(t, identity.Issuer{Private: true}), "redirects are not followed")
		})
	}
	if elsewhere.asked.Load() != 0 {
		t.Error("the redirect was followed")
	}
}

func TestAnEndlessDocumentIsReadOnlyToItsLimit(t *testing.T) {
	for name, replace := range map[string]func(*localIssuer, http.HandlerFunc){
		"discovery": func(i *localIssuer, h http.HandlerFunc) { i.discovery = h },
		"key set":   func(i *localIssuer, h http.HandlerFunc) { i.keys = h },
	} {
		t.Run(name, func(t *testing.T) {
			var sent atomic.Int64
			i := newLocalIssuer(t, httptest.NewServer)
			replace(i, func(w http.ResponseWriter, _ *http.Request) {
				for {
					n, err := w.Write(make([]byte, 32<<10))
					if sent.Add(int64(n)); err != nil {
						return
					}
				}
			})
			wantUnavailable(t, i.verify(t, identity.Issuer{Private: true}), "larger than 262144 bytes")
			i.Close() // waits for the handler, which the closed connection ends
			if sent.Load() > 32<<20 {
				t.Errorf("%d bytes were sent before the connection was closed", sent.Load())
			}
		})
	}
}

func TestACompressedDocumentIsNotUnpacked(t *testing.T) {
	i := newLocalIssuer(t, httptest.NewServer)
	i.discovery = func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Accept-Encoding") != "" && r.Header.Get("Accept-Encoding") != "identity" {
			t.Errorf("asked for %q", r.Header.Get("Accept-Encoding"))
		}
		w.Header().Set("Content-Encoding", "gzip")
		packed := gzip.NewWriter(w)
		i.describe(packed, i.URL, i.URL+"/keys")
		_ = packed.Close()
	}
	wantUnavailable(t, i.verify(t, identity.Issuer{Private: true}), "discovery")
}

func TestADiscoveryDocumentMustBeTheIssuersOwn(t *testing.T) {
	i := newLocalIssuer(t, httptest.NewServer)
	host := strings.TrimPrefix(i.URL, "http://")
	for name, story := range map[string]struct{ issuer, keys, why string }{
		"another issuer":            {"https://evil.example", i.URL + "/keys", "of issuer 'https://evil.example'"},
		"a slash behind the issuer": {i.URL + "/", i.URL + "/keys", "of issuer"},
		"no issuer":                 {"", i.URL + "/keys", "of issuer ''"},
		"keys at another host":      {i.URL, "http://evil.example/keys", "scheme and host"},
		"keys at another port":      {i.URL, "http://127.0.0.1:1/keys", "scheme and host"},
		"keys by another scheme":    {i.URL, "https://" + host + "/keys", "scheme and host"},
		"keys in a file":            {i.URL, "file:///etc/passwd", "scheme and host"},
		"keys with a user":          {i.URL, "http://user:word@" + host + "/keys", "user information"},
		"the host as user":          {i.URL, "http://" + host + "@evil.example/keys", "scheme and host"},
		"no keys":                   {i.URL, "", "scheme and host"},
		"keys at a relative URL":    {i.URL, "/keys", "scheme and host"},
		"keys at no URL":            {i.URL, "http://%zz", "not a URL"},
	} {
		t.Run(name, func(t *testing.T) {
			i.discovery = func(w http.ResponseWriter, _ *http.Request) { i.describe(w, story.issuer, story.keys) }
			wantUnavailable(t, i.verify(t, identity.Issuer{Private: true}), story.why)
		})
	}
}

func TestAnswersOtherThan200AreNoDocuments(t *testing.T) {
	for _, status := range []int{201, 204, 401, 404, 429, 500, 503} {
		i := newLocalIssuer(t, httptest.NewServer)
		i.keys = func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			if status != http.StatusNoContent {
				_, _ = io.WriteString(w, encode(t, onlyKey(t, "rsa-1")))
			}
		}
		wantUnavailable(t, i.verify(t, identity.Issuer{Private: true}), fmt.Sprintf("answered %d", status))
	}
}

func TestMoreThanFiftyKeysAreNoKeySet(t *testing.T) {
	for count, allowed := range map[int]bool{50: true, 51: false} {
		i := newLocalIssuer(t, httptest.NewServer)
		list, _ := onlyKey(t, "rsa-1")["keys"].([]any)
		for n := len(list); n < count; n++ {
			list = append(list, map[string]any{"kty": "OKP", "kid": fmt.Sprint(n)})
		}
		i.keys = func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, encode(t, map[string]any{"keys": list}))
		}
		err := i.verify(t, identity.Issuer{Private: true})
		if allowed && err != nil {
			t.Errorf("%d keys: %v", count, err)
		}
		if !allowed {
			wantUnavailable(t, err, "51 keys")
		}
	}
}

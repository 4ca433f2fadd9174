package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stepkey/stepkey/exchange/client"
)

// These run the action's halves where the exchange has a certificate of a private
// authority and is reached through a proxy alone: no other way leads to its name.

const privateHost = "exchange.corp.invalid"

// company is the inside of a network: the exchange and the ID-token service under TLS,
// and the proxy that leads to them.
type company struct {
	inside    *httptest.Server
	proxy     *httptest.Server
	authority string // file

	mu       sync.Mutex
	tunnels  []string // host:port, in the order that they were asked for
	passport []string // Proxy-Authorization
}

func newCompany(t *testing.T) *company {
	t.Helper()
	c := &company{authority: filepath.Join(t.TempDir(), "authority.pem")}
	c.inside = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		res, err := willing(r)
		if err != nil {
			t.Error(err)
			return
		}
		defer res.Body.Close()
		_, _ = io.Copy(w, res.Body)
	}))
	certificate, authority := privateCertificate(t)
	c.inside.TLS = &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{certificate}}
	c.inside.Config.ErrorLog = log.New(io.Discard, "", 0) // of clients that do not trust it
	c.inside.StartTLS()
	t.Cleanup(c.inside.Close)
	if err := os.WriteFile(c.authority, authority, 0o600); err != nil {
		t.Fatal(err)
	}
	c.proxy = httptest.NewServer(http.HandlerFunc(c.tunnel))
	t.Cleanup(c.proxy.Close)
	return c
}

// privateCertificate is one of an authority that nobody knows.
func privateCertificate(t *testing.T) (tls.Certificate, []byte) {
	t.Helper()
	sign := func(of, by *x509.Certificate, public, key any) []byte {
		der, err := x509.CreateCertificate(rand.Reader, of, by, public, key)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	keys := [2]*ecdsa.PrivateKey{}
	for i := range keys {
		var err error
		if keys[i], err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
			t.Fatal(err)
		}
	}
	from, until := time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	authority := &x509.Certificate{SerialNumber: big.NewInt(1), IsCA: true, BasicConstraintsValid: true, NotBefore: from, NotAfter: until}
	leaf := &x509.Certificate{SerialNumber: big.NewInt(2), DNSNames: []string{privateHost}, NotBefore: from, NotAfter: until}
	root := sign(authority, authority, keys[0].Public(), keys[0])
	der := sign(leaf, authority, keys[1].Public(), keys[0])
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: keys[1]}, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: root})
}

// tunnel is CONNECT, RFC 9110 section 9.3.6. It knows one host.
func (c *company) tunnel(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	c.tunnels = append(c.tunnels, r.Method+" "+r.Host)
	c.passport = append(c.passport, r.Header.Get("Proxy-Authorization"))
	c.mu.Unlock()
	if r.Method != http.MethodConnect || r.Host != privateHost+":443" {
		http.Error(w, "no such host", http.StatusBadGateway)
		return
	}
	near, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer near.Close()
	far, err := net.Dial("tcp", c.inside.Listener.Addr().String())
	if err != nil {
		return
	}
	defer far.Close()
	_, _ = io.WriteString(near, "HTTP/1.1 200 Connection established\r\n\r\n")
	go func() { _, _ = io.Copy(far, buffered) }()
	_, _ = io.Copy(near, far)
}

// half runs one of the program's halves as a process of its own, as the runner does.
func half(t *testing.T, name string, env ...string) (log string, err error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name)
	cmd.Env = append([]string{"NOW=" + storyBegins, "GORACE=atexit_sleep_ms=0"}, env...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err = cmd.Run()
	return out.String(), err
}

func (c *company) job(t *testing.T) []string {
	t.Helper()
	dir := t.TempDir()
	proxy := strings.TrimPrefix(c.proxy.URL, "http://")
	return []string{
		"INPUT_EXCHANGE=https://" + privateHost, "INPUT_TASK=publish-release", "RUNNER_DEBUG=1",
		"ACTIONS_ID_TOKEN_REQUEST_URL=https://" + privateHost + "/idtoken?a=b", "ACTIONS_ID_TOKEN_REQUEST_TOKEN=runtime-token",
		"GITHUB_STATE=" + filepath.Join(dir, "state"), "GITHUB_OUTPUT=" + filepath.Join(dir, "output"),
		"HTTPS_PROXY=http://someone:proxy-canary@" + proxy, "SSL_CERT_FILE=" + c.authority,
	}
}

func TestAProxyAndAPrivateAuthorityAreHonouredByBothHalves(t *testing.T) {
	c := newCompany(t)
	env := c.job(t)
	log, err := half(t, "main", env...)
	if err != nil || !strings.Contains(log, "publish-release: contents: write on acme/widget") {
		t.Fatalf("main: %v\n%s", err, log)
	}
	post, err := half(t, "post", append(env, "STATE_stage=asked", "STATE_lease_token=skl_handle", "STATE_lease_id=lease_01", "STATE_exchange=https://"+privateHost)...)
	if err != nil || !strings.Contains(post, "revoked in 0 ms") {
		t.Errorf("post: %v\n%s", err, post)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.tunnels) < 2 || slices.Contains(c.passport, "") || slices.ContainsFunc(c.tunnels, func(to string) bool { return to != "CONNECT "+privateHost+":443" }) {
		t.Errorf("the proxy was asked for %q with %q", c.tunnels, c.passport)
	}
	// What the debug lines tell helps with just this, and shows no secret.
	seen := asSeen(log) + asSeen(post)
	for _, want := range []string{"::debug::stepkey: HTTPS_PROXY names the proxy 127.0.0.1:", "::debug::stepkey: SSL_CERT_FILE is " + c.authority, "::debug::stepkey: asking https://" + privateHost + " for publish-release"} {
		if !strings.Contains(seen, want) {
			t.Errorf("no %q in:\n%s", want, seen)
		}
	}
	for _, secret := range []string{"proxy-canary", "runtime-token", "ghs_canary", "skl_handle", "eyJh"} {
		if strings.Contains(seen, secret) {
			t.Errorf("%s is seen in:\n%s", secret, seen)
		}
	}
}

func TestACertificateOfAnAuthorityThatNobodyKnowsIsRefusedWithTheRemedy(t *testing.T) {
	c := newCompany(t)
	tokens := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"value":"eyJh.b.c"}`) }))
	t.Cleanup(tokens.Close)
	env := append(c.job(t), "SSL_CERT_FILE=", "ACTIONS_ID_TOKEN_REQUEST_URL="+tokens.URL+"/?a=b")
	log, err := half(t, "main", env...)
	if err == nil || !strings.Contains(log, "::error title=Stepkey%3A exchange not reached::") || !strings.Contains(log, "have the variable SSL_CERT_FILE name its certificate") {
		t.Errorf("%v\n%s", err, log)
	}
}

func TestSilenceIsExplainedByWhatItTellsOfTheNetwork(t *testing.T) {
	for want, err := range map[string]error{
		"needs a proxy (HTTPS_PROXY)":         fmt.Errorf("dial: %w", &net.DNSError{Err: "no such host", Name: privateHost}),
		"has the certificate of another host": &tls.CertificateVerificationError{Err: x509.HostnameError{Certificate: &x509.Certificate{}, Host: privateHost}},
		"SSL_CERT_FILE":                       &tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}},
		"whether the exchange is up":          io.ErrUnexpectedEOF,
	} {
		told := explain(&client.Unreachable{Exchange: "https://" + privateHost, Err: err})
		if told.title != "exchange not reached" || !strings.Contains(told.text, want) || !strings.Contains(told.text, "https://"+privateHost) {
			t.Errorf("%v is told as %q: %q", err, told.title, told.text)
		}
	}
}

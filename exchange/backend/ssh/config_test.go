package ssh_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	cryptossh "golang.org/x/crypto/ssh"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/exchange/backend/ssh"
	"github.com/stepkey/stepkey/internal/secret"
)

func nothingEnded(context.Context) ([]backend.LeaseID, error) { return nil, nil }

// signsWith is a configuration with the key file of these words.
func signsWith(t testing.TB, text string) ssh.Config {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ca")
	write(t, path, text)
	_, host := newSigner(t)
	return ssh.Config{CA: []string{path}, Principals: []string{"deploy"}, Hosts: map[string][]string{"web1.example.com": {string(publicLine(host))}}}
}

func asPEM(t testing.TB, key any, passphrase string) string {
	t.Helper()
	block, err := cryptossh.MarshalPrivateKey(key, "")
	if passphrase != "" {
		block, err = cryptossh.MarshalPrivateKeyWithPassphrase(key, "", []byte(passphrase))
	}
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(block))
}

// The host takes what each kind of authority signs.
func TestAuthoritiesOfEachKindAreTakenByTheHost(t *testing.T) {
	w := settle(t)
	ed, _ := newSigner(t)
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	big, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for name, key := range map[string]any{"ed25519": &ed, "ecdsa": ec, "rsa": big} {
		t.Run(name, func(t *testing.T) {
			c := signsWith(t, asPEM(t, key, ""))
			c.Hosts = map[string][]string{"web1.example.com": {w.HostKey}}
			c.KRL = w.KRL
			b, err := c.Open(time.Now, w.ledger.withdrawn)
			if err != nil {
				t.Fatal(err)
			}
			w.Backend = b
			id, values := w.issue(plain)
			public, _, _, _, err := cryptossh.ParseAuthorizedKey([]byte(values["certificate"].Reveal()))
			if err != nil {
				t.Fatal(err)
			}
			write(t, w.CA, string(cryptossh.MarshalAuthorizedKey(public.(*cryptossh.Certificate).SignatureKey)))
			if _, err := w.run(t.Context(), values, "true"); err != nil {
				t.Error(err)
			}
			w.revoke(id)
			w.refuses(values, string(id))
		})
	}
}

func TestConfigurationsThatCannotBeRightAreRefused(t *testing.T) {
	key, _ := newSigner(t)
	open := asPEM(t, key, "")
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		key   string
		spoil func(*testing.T, *ssh.Config)
		says  string
	}{
		"no key":              {open, func(_ *testing.T, c *ssh.Config) { c.CA = nil }, "ssh-keygen -t ed25519"},
		"no such key":         {open, func(_ *testing.T, c *ssh.Config) { c.CA = []string{c.CA[0] + "2"} }, "no such file"},
		"readable by all":     {open, func(t *testing.T, c *ssh.Config) { mode(t, c.CA[0], 0o644) }, "chmod 600"},
		"readable by group":   {open, func(t *testing.T, c *ssh.Config) { mode(t, c.CA[0], 0o640) }, "chmod 600"},
		"the second, too":     {open, func(t *testing.T, c *ssh.Config) { c.CA = append(c.CA, signsWith(t, "").CA...) }, "no private key"},
		"with a passphrase":   {asPEM(t, key, "correct horse"), nil, "passphrase"},
		"no key in it":        {"-----BEGIN OPENSSH PRIVATE KEY-----\nc2VjcmV0\n-----END OPENSSH PRIVATE KEY-----\n", nil, "no private key"},
		"a public key":        {string(publicLine(mustSigner(t, key))), nil, "no private key"},
		"a small RSA key":     {asPEM(t, small, ""), nil, "1024 bits"},
		"a day and more":      {open, func(_ *testing.T, c *ssh.Config) { c.MaxTTL = 25 * time.Hour }, "max_ttl"},
		"less than no time":   {open, func(_ *testing.T, c *ssh.Config) { c.MaxTTL = -1 }, "max_ttl"},
		"no principals":       {open, func(_ *testing.T, c *ssh.Config) { c.Principals = []string{} }, "principals: none is named"},
		"principals not set":  {open, func(_ *testing.T, c *ssh.Config) { c.Principals = nil }, "principals: none is named"},
		"no hosts":            {open, func(_ *testing.T, c *ssh.Config) { c.Hosts = map[string][]string{} }, "hosts: none is named"},
		"hosts not set":       {open, func(_ *testing.T, c *ssh.Config) { c.Hosts = nil }, "hosts: none is named"},
		"a key and much else": {open + strings.Repeat("#", 64<<10), nil, "more than 65536 bytes"},
		"a principal list":    {open, func(_ *testing.T, c *ssh.Config) { c.Principals = []string{"a,b"} }, "principals"},
		"a host pattern":      {open, hostIs("*.example.com", "ssh-ed25519 AAAA"), "hosts"},
		"a host without key":  {open, func(_ *testing.T, c *ssh.Config) { c.Hosts["web2.example.com"] = nil }, "ssh-keyscan"},
		"a key that is none":  {open, hostIs("web2.example.com", "ssh-ed25519 AAAA"), "one line of a .pub file"},
		"a key with options":  {open, hostIs("web2.example.com", `command="x" `+string(publicLine(mustSigner(t, key)))), "one line of a .pub file"},
		"two keys in one":     {open, hostIs("web2.example.com", strings.Repeat(string(publicLine(mustSigner(t, key))), 2)), "one line of a .pub file"},
		"a host given twice":  {open, func(_ *testing.T, c *ssh.Config) { c.Hosts["web1.example.com:22"] = c.Hosts["web1.example.com"] }, "given twice"},
	} {
		t.Run(name, func(t *testing.T) {
			config := signsWith(t, c.key)
			if c.spoil != nil {
				c.spoil(t, &config)
			}
			_, err := config.Open(time.Now, nothingEnded)
			if err == nil || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "c2VjcmV0") {
				t.Errorf("it says: %v; want …%s…", err, c.says)
			}
		})
	}
	if _, err := signsWith(t, open).Open(time.Now, nothingEnded); err != nil {
		t.Errorf("the good one: %v", err)
	}
}

// An empty list is not one that was left out: what it was read into limits nothing.
func TestAnEmptyListInTheConfigurationIsNotEverybody(t *testing.T) {
	const asRoot = "{principals: [root], hosts: [any.example.com]}"
	for block, says := range map[string]string{
		"{ca: [ca], principals: [], hosts: {}}":                              "principals: none",
		"{ca: [], principals: [], hosts: {}}":                                "principals: none",
		"{ca: [ca], principals: [], hosts: {web1.example.com: [KEY]}}":       "principals: none",
		"{ca: [ca], principals: [deploy], hosts: {}}":                        "hosts: none",
		"{ca: [ca], principals: [deploy], hosts: {web1.example.com: []}}":    "no key is given",
		"{ca: [ca], hosts: {web1.example.com: [KEY]}}":                       `missing: "principals"`,
		"{ca: [ca], principals: [deploy]}":                                   `missing: "hosts"`,
		"{ca: [ca], principals: , hosts: {web1.example.com: [KEY]}}":         "no value is given",
		"{ca: [ca], principals: [deploy], hosts: {web1.example.com: [KEY]}}": "",
	} {
		_, host := newSigner(t)
		var c ssh.Config
		err := node(t, strings.ReplaceAll(block, "KEY", strings.TrimSpace(string(publicLine(host))))).Decode(&c)
		limits, refused := c.Limits()
		if err == nil {
			err = refused
		}
		if (err == nil) != (says == "") || err != nil && !strings.Contains(err.Error(), says) {
			t.Errorf("%s: it says %v; want …%s…", block, err, says)
		}
		if says != "" {
			continue
		}
		if _, err := ssh.New(ssh.Options{Limits: limits}).Scope(node(t, asRoot)); err == nil {
			t.Errorf("%s: a task logs in as root", block)
		}
	}
	// No configuration at all limits nothing: so task files are checked anywhere.
	limits, err := ssh.Config{}.Limits()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ssh.New(ssh.Options{Limits: limits}).Scope(node(t, asRoot)); err != nil {
		t.Errorf("without a configuration: %v", err)
	}
}

func mode(t *testing.T, path string, to os.FileMode) {
	t.Helper()
	if err := os.Chmod(path, to); err != nil {
		t.Fatal(err)
	}
}

func hostIs(name, key string) func(*testing.T, *ssh.Config) {
	return func(_ *testing.T, c *ssh.Config) { c.Hosts[name] = []string{key} }
}

func mustSigner(t testing.TB, key any) cryptossh.Signer {
	t.Helper()
	signer, err := cryptossh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return signer
}

// A backend that only reads task files claims nothing of certificates.
func TestABackendForCheckingTasksIssuesAndRevokesNothing(t *testing.T) {
	b := anything()
	if err := b.Revoke(t.Context(), newLease(), secret.String{}); err == nil {
		t.Error("it revoked")
	}
}

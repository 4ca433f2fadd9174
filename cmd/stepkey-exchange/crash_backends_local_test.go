package main

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	cryptossh "golang.org/x/crypto/ssh"

	"github.com/stepkey/stepkey/exchange/client"
	"github.com/stepkey/stepkey/internal/needs"
)

// What the exchange makes by itself, and nobody else keeps: logins of registries and SSH
// certificates. No message is sent, so only the store's points are between a beginning
// and an end.

// passwords are the registry's: they live where the exchange takes them.
type passwords struct{ key []byte }

func startRegistry(t *testing.T) func(*crashRun) outsider {
	t.Helper()
	key := registryKey(t)
	return func(*crashRun) outsider { return passwords{key} }
}

func (p passwords) configure(r *crashRun) (backend, credential string) {
	write(r.t, r.dir, "registry.pem", p.key)
	return "registry: {keys: [registry.pem], issuer: lease.example.com, service: registry.example.com, registry: registry.example.com, repositories: [acme/]}",
		"registry: {repositories: [acme/widget], actions: [pull, push]}"
}

func (passwords) use(*crashRun, *client.Grant) {}

// alive shows the life that is every password that was made. Without a life nobody is
// there to take one.
func (passwords) alive(r *crashRun) map[string]string {
	alive := map[string]string{}
	if r.outside.now.over() {
		return alive
	}
	for _, one := range r.made() {
		req, err := http.NewRequestWithContext(r.t.Context(), http.MethodGet, "http://"+r.outside.now.address+"/registry/token?scope=repository:acme/widget:pull", nil)
		if err != nil {
			r.t.Fatal(err)
		}
		req.SetBasicAuth(one.Values["username"], one.Values["password"])
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			continue
		}
		_ = resp.Body.Close()
		if resp.StatusCode == http.StatusOK {
			alive[string(one.Lease)] = "a password that is taken"
		}
	}
	return alive
}

// certificates are SSH's: they live for hosts that read the list in the exchange's file.
type certificates struct{ ca, public string }

func startSSH(t *testing.T) func(*crashRun) outsider {
	t.Helper()
	needs.Programs(t, "ssh-keygen")
	ca := filepath.Join(t.TempDir(), "ssh_ca")
	output(t, ".", "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", ca)
	public, err := os.ReadFile(ca + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	return func(*crashRun) outsider { return certificates{ca, strings.TrimSpace(string(public))} }
}

func (c certificates) configure(*crashRun) (backend, credential string) {
	return fmt.Sprintf("ssh: {ca: [%s], principals: [deploy], hosts: {web1.example.com: [%q]}, krl: krl}", c.ca, c.public),
		"ssh: {principals: [deploy], hosts: [web1.example.com]}"
}

func (certificates) use(*crashRun, *client.Grant) {}

// alive are the certificates in their time that OpenSSH does not find in the list.
func (certificates) alive(r *crashRun) map[string]string {
	alive := map[string]string{}
	for _, one := range r.made() {
		key, _, _, _, err := cryptossh.ParseAuthorizedKey([]byte(one.Values["certificate"]))
		if err != nil {
			r.t.Fatal(err)
		}
		certificate, now := key.(*cryptossh.Certificate), uint64(r.world.clock.now().Unix())
		if now < certificate.ValidAfter || now >= certificate.ValidBefore {
			continue
		}
		write(r.t, r.dir, "id-cert.pub", []byte(one.Values["certificate"]))
		if said := mayFail(r.t, r.dir, "ssh-keygen", "-Q", "-f", "krl", "id-cert.pub"); !strings.Contains(said, "REVOKED") {
			alive[string(one.Lease)] = "a certificate that no list has"
		}
	}
	return alive
}

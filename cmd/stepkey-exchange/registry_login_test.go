package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stepkey/stepkey/exchange/client"
	"github.com/stepkey/stepkey/internal/githubsim"
	"github.com/stepkey/stepkey/internal/secret"
)

// shows presents a registry login to the exchange and returns the status of the answer.
func shows(t *testing.T, url string, values map[string]secret.String) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+"/registry/token?service=registry.example.com&scope=repository:acme/widget:pull,push", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth(values["username"].Reveal(), values["password"].Reveal())
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || (resp.StatusCode == http.StatusOK) != strings.Contains(string(text), `"access_token"`) {
		t.Fatalf("%s, %v: %.200s", resp.Status, err, text)
	}
	return resp.StatusCode
}

func registryKey(t *testing.T) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

// A login is good for as long as the store has its lease, over a restart, and whoever ended
// it.
func TestARegistryLoginIsTakenUntilItsLeaseEnds(t *testing.T) {
	gh, dir := acme(t), t.TempDir()
	output(t, "../..", "go", "build", "-o", filepath.Join(dir, "stepkey-exchange"), "./cmd/stepkey-exchange")
	output(t, dir, "./stepkey-exchange", "keys", "create", "stepkey.keys")
	write(t, dir, "registry.pem", registryKey(t))
	write(t, dir, "tasks/publish.yaml", []byte("task: publish\npurpose: Push an image.\nallow:\n  - issuer: github\n    claims: {repository_id: \"456789\", event_name: push}\n"+
		"credential:\n  registry: {repositories: [acme/widget], actions: [pull, push]}\nlimits: {ttl: 10m, per_job: 3}\n"))
	address := freeAddress(t)
	url := "http://" + address
	write(t, dir, "stepkey.yaml", fmt.Appendf(nil, "url: https://lease.example.com\nlisten: %s\nadmin: 127.0.0.1:0\ntasks: tasks\nissuers:\n  github: {kind: github, url: %q, private_network: true}\n"+
		"backends:\n  registry: {keys: [registry.pem], issuer: lease.example.com, service: registry.example.com, registry: registry.example.com, repositories: [acme/]}\n", address, gh.IssuerURL()))
	s := serve(t, dir)
	lease := func() *client.Grant {
		t.Helper()
		subject, err := gh.StartJob(githubsim.JobSpec{Repository: "acme/widget", IDToken: true}).IDToken("https://lease.example.com")
		if err != nil {
			t.Fatal(err)
		}
		grant, err := s.client.Token(t.Context(), client.TokenRequest{SubjectToken: secret.New(subject), Task: "publish"})
		if err != nil {
			t.Fatal(err)
		}
		return grant
	}
	given, kept := lease(), lease()
	check := func(when string, of *client.Grant, want int) {
		t.Helper()
		if got := shows(t, url, of.Values); got != want {
			t.Errorf("%s: the answer is %d, want %d", when, got, want)
		}
	}
	check("at first", given, http.StatusOK)
	if _, err := s.client.Revoke(t.Context(), given.LeaseToken); err != nil {
		t.Fatal(err)
	}
	check("given back", given, http.StatusUnauthorized)
	check("the other", kept, http.StatusOK)
	kill(t, s)
	s = serve(t, dir)
	check("given back, after a restart", given, http.StatusUnauthorized)
	check("the other, after a restart", kept, http.StatusOK)

	c := exec.CommandContext(t.Context(), "./stepkey-exchange", "revoke", "--all")
	c.Dir = dir
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	check("ended by an operator in another process", kept, http.StatusUnauthorized)
}

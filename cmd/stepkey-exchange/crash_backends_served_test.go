package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/stepkey/stepkey/exchange/client"
)

// handouts are credentials that a server of the test keeps, by lease, and until when.
type handouts struct {
	clock hastened
	mu    sync.Mutex
	until map[string]time.Time
	other map[string]string // accessor -> lease
}

func newHandouts(r *crashRun) *handouts {
	return &handouts{clock: r.world.clock, until: map[string]time.Time{}, other: map[string]string{}}
}

func (*handouts) use(*crashRun, *client.Grant) {}

func (h *handouts) alive(*crashRun) map[string]string {
	h.mu.Lock()
	defer h.mu.Unlock()
	alive, now := map[string]string{}, h.clock.now()
	for id, until := range h.until {
		if now.Before(until) {
			alive[id] = "a token"
		}
	}
	return alive
}

// vaultTokens is a server that makes tokens and revokes them by their accessors, and no
// more: exchange/backend/vault has the strict one.
type vaultTokens struct{ *handouts }

func startVault(*testing.T) func(*crashRun) outsider {
	return func(r *crashRun) outsider { return vaultTokens{newHandouts(r)} }
}

func (v vaultTokens) configure(r *crashRun) (backend, credential string) {
	write(r.t, r.dir, "vault.token", []byte("hvs.the-exchanges-own-token\n"))
	address := serveWeb(r.t, &web{passage: &r.outside.passage, to: v}).URL
	return fmt.Sprintf("vault: {address: %q, token_file: vault.token, policies: [deploy-web]}", address), "vault: {policies: [deploy-web]}"
}

func (v vaultTokens) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var in struct {
		TTL      string            `json:"ttl"`
		Meta     map[string]string `json:"meta"`
		Policies []string          `json:"policies"`
		Accessor string            `json:"accessor"`
	}
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	answer := map[string]any{"request_id": "one", "warnings": []string{}}
	switch r.URL.Path {
	case "/v1/auth/token/create":
		ttl, err := time.ParseDuration(in.TTL)
		id := in.Meta["stepkey_lease"]
		if err != nil || id == "" {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		v.until[id], v.other["accessor of "+id] = v.clock.now().Add(ttl), id
		answer["auth"] = map[string]any{"client_token": "hvs.of." + id, "accessor": "accessor of " + id, "policies": in.Policies, "token_policies": in.Policies,
			"lease_duration": int(ttl.Seconds()), "renewable": false, "token_type": "service", "orphan": false, "num_uses": 0}
	case "/v1/auth/token/revoke-accessor":
		delete(v.until, v.other[in.Accessor])
	default:
		w.WriteHeader(http.StatusNotFound)
		return
	}
	_ = json.NewEncoder(w).Encode(answer)
}

// programTokens is a service that an operator's program asks. What the program is asked,
// it passes on, and the answer back; its number tells whom to kill.
type programTokens struct {
	*handouts
	shell, curl string
}

func startProgram(t *testing.T) func(*crashRun) outsider {
	t.Helper()
	curl, err := exec.LookPath("curl")
	if err != nil {
		t.Fatal(err)
	}
	shell, err := exec.LookPath("sh")
	if err != nil {
		t.Fatal(err)
	}
	return func(r *crashRun) outsider { return programTokens{newHandouts(r), shell, curl} }
}

func (p programTokens) configure(r *crashRun) (backend, credential string) {
	address := serveWeb(r.t, &web{passage: &r.outside.passage, to: p}).URL
	command := fmt.Sprintf(`exec %s --silent --data-binary @- --header "Program: $$" %s`, p.curl, address)
	return fmt.Sprintf("exec: {programs: {tokens: {command: [%s, -c, '%s']}}}", p.shell, command), "exec: {program: tokens}"
}

func (p programTokens) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Verb, Lease, Handle string
		DiesBy              time.Time `json:"dies_by"`
	}
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil || in.Lease == "" {
		return // no answer is none
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch in.Verb {
	case "issue":
		p.until[in.Lease] = in.DiesBy
		_ = json.NewEncoder(w).Encode(map[string]any{"values": map[string]string{"token": "of " + in.Lease}, "handle": "handle of " + in.Lease})
	case "revoke":
		delete(p.until, in.Lease)
		_ = json.NewEncoder(w).Encode(map[string]any{"gone": true})
	}
}

package kubernetes_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/exchange/backend/backendtest"
	"github.com/stepkey/stepkey/internal/secret"
)

const (
	configmaps = "/api/v1/namespaces/web/configmaps"
	patience   = 15 * time.Second // that API servers remember a token for at most
	pollEvery  = 200 * time.Millisecond
)

var hostile = map[string]string{
	"no namespace":             "rules: [{resources: [pods], verbs: [get]}]",
	"nothing to do":            "namespace: web",
	"two ways at once":         "namespace: web\nrole: deployer\nrules: [{resources: [pods], verbs: [get]}]",
	"no rules":                 "namespace: web\nrules: []",
	"the cluster's own":        "namespace: kube-system\ncluster_role: view",
	"a namespace not listed":   "namespace: other\ncluster_role: view",
	"the leases' namespace":    "namespace: stepkey-leases\ncluster_role: view",
	"a way out of the path":    "namespace: ../../nodes\ncluster_role: view",
	"a way out with escapes":   "namespace: \"web%2f..\"\ncluster_role: view",
	"a role not listed":        "namespace: web\nrole: admin",
	"everything":               "namespace: web\ncluster_role: cluster-admin",
	"an account not listed":    "namespace: web\nservice_account: bystander",
	"an account's path":        "namespace: web\nservice_account: publisher/token",
	"another lease's account":  "namespace: web\nservice_account: stepkey-lease-01",
	"every verb":               "namespace: web\nrules: [{resources: [pods], verbs: [\"*\"]}]",
	"every resource":           "namespace: web\nrules: [{resources: [\"*\"], verbs: [get]}]",
	"every part":               "namespace: web\nrules: [{resources: [\"pods/*\"], verbs: [get]}]",
	"every group":              "namespace: web\nrules: [{api_group: \"*\", resources: [pods], verbs: [get]}]",
	"bind":                     "namespace: web\nrules: [{api_group: rbac.authorization.k8s.io, resources: [roles], verbs: [bind]}]",
	"impersonate":              "namespace: web\nrules: [{resources: [serviceaccounts], verbs: [impersonate]}]",
	"tokens of others":         "namespace: web\nrules: [{resources: [serviceaccounts/token], verbs: [create]}]",
	"bindings of its own":      "namespace: web\nrules: [{api_group: rbac.authorization.k8s.io, resources: [rolebindings], verbs: [create]}]",
	"Secrets of its own":       "namespace: web\nrules: [{resources: [secrets], verbs: [create]}]",
	"create by name":           "namespace: web\nrules: [{resources: [pods], names: [a], verbs: [create]}]",
	"a resource in capitals":   "namespace: web\nrules: [{resources: [ConfigMaps], verbs: [get]}]",
	"a verb twice":             "namespace: web\nrules: [{resources: [pods], verbs: [get, get]}]",
	"no verb":                  "namespace: web\nrules: [{resources: [pods], verbs: []}]",
	"an unknown key":           "namespace: web\nrules: [{resources: [pods], verbs: [get], nonResourceURLs: [/]}]",
	"a line's end":             "namespace: \"web\\n\"\ncluster_role: view",
	"very long":                "namespace: web\nrole: " + strings.Repeat("a", 5000),
	"very many":                "namespace: web\nrules: [" + strings.Repeat("{resources: [pods], verbs: [get]}, ", 17) + "]",
	"a text where a list goes": "namespace: web\nrules: [{resources: pods, verbs: [get]}]",
}

// settled is a backend whose revocation is over when API servers, too, have forgotten what
// its scope's words say that they remember for a while.
type settled struct {
	backend.Backend
	s      *scene
	mu     sync.Mutex
	tokens map[backend.LeaseID]secret.String
}

func (b *settled) Issue(ctx context.Context, o backend.Order) (backend.Issued, error) {
	issued, err := b.Backend.Issue(ctx, o)
	if err == nil {
		b.mu.Lock()
		b.tokens[o.Lease] = issued.Values["token"]
		b.mu.Unlock()
	}
	return issued, err
}

func (b *settled) Revoke(ctx context.Context, lease backend.LeaseID, handle secret.String) error {
	err := b.Backend.Revoke(ctx, lease, handle)
	b.mu.Lock()
	token := b.tokens[lease]
	b.mu.Unlock()
	if err != nil || token.Empty() {
		return err
	}
	return b.s.forgotten(ctx, token, func(status int) bool { return status != http.StatusOK })
}

// forgotten asks, after a revocation, until API servers refuse a token. What counts is when
// a request began: one that began when they should have forgotten it, and is taken, is an
// error; how long a busy machine takes to answer is none.
func (s *scene) forgotten(ctx context.Context, token secret.String, refused func(status int) bool) error {
	revoked := time.Now()
	again := time.NewTicker(pollEvery)
	defer again.Stop()
	for {
		late := time.Since(revoked)
		status, _, err := s.Do(ctx, token.Reveal(), http.MethodGet, configmaps, nil)
		switch {
		case err != nil:
			return err
		case refused(status):
			return nil
		case late > patience:
			return fmt.Errorf("%s after it was revoked its token is answered %d", late, status)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-again.C:
		}
	}
}

func (s *scene) reads(path string) func(context.Context, map[string]secret.String) error {
	return func(ctx context.Context, values map[string]secret.String) error {
		status, text, err := s.Do(ctx, values["token"].Reveal(), http.MethodGet, path, nil)
		if err == nil && status != http.StatusOK {
			err = fmt.Errorf("the API server answered %d: %s", status, text)
		}
		return err
	}
}

func (s *scene) ownToken() string {
	s.Helper()
	text, err := os.ReadFile(s.tokenFile)
	if err != nil {
		s.Fatal(err)
	}
	return string(text)
}

// dies reads a token, which is a JWT of the server's.
func dies(values map[string]secret.String) (time.Time, error) {
	return backendtest.DiesAsSaid(values["token"])
}

// keepsWatching keeps a watch open. It goes on if it shows a change that is made then.
func (s *scene) keepsWatching(ctx context.Context, values map[string]secret.String) (func() bool, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL+configmaps+"?watch=true", nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+values["token"].Reveal())
	resp, err := s.HTTP.Do(req)
	if err != nil {
		return nil, err
	}
	s.Cleanup(func() { _ = resp.Body.Close() })
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("watching is answered %d", resp.StatusCode)
	}
	lines := bufio.NewScanner(resp.Body)
	return func() bool {
		mark := strings.ToLower(string(newLease()))
		if err := s.Must(ctx, http.MethodPut, configmaps+"/page", json.RawMessage(
			`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"page"},"data":{"title":"`+mark+`"}}`), nil); err != nil {
			s.Error(err)
		}
		patient, done := context.WithTimeout(ctx, time.Minute)
		defer done()
		defer context.AfterFunc(patient, func() { _ = resp.Body.Close() })() // the watch is there, and shows nothing
		for lines.Scan() {
			if strings.Contains(lines.Text(), mark) {
				return true
			}
		}
		return false
	}, nil
}

func (s *scene) world() backendtest.World {
	return backendtest.World{
		Backend: &settled{Backend: s.Backend, s: s, tokens: map[backend.LeaseID]secret.String{}}, Now: time.Now,
		Use: s.reads(configmaps), UseLess: s.reads(configmaps), Exceed: s.reads(configmaps + "/page"),
		Overstep: s.reads("/apis/apps/v1/namespaces/web/deployments"), Hold: s.keepsWatching, Dies: dies, Secrets: []string{s.ownToken()},
		Live: func() int {
			all, err := s.left(s.Context())
			if err != nil {
				s.Fatal(err)
			}
			n := 0
			for _, one := range all {
				if strings.HasPrefix(one, "serviceaccounts ") {
					n++
				}
			}
			return n
		},
		LoseReply: func() {
			s.line.set(func() { s.line.lose = func(r *http.Request) bool { return strings.HasSuffix(r.URL.Path, "/token") } })
		},
		LoseEnd: func() func() bool {
			s.line.set(func() {
				s.line.lose = func(r *http.Request) bool {
					return r.Method == http.MethodDelete && strings.Contains(r.URL.Path, "/serviceaccounts/")
				}
			})
			return func() (lost bool) {
				s.line.set(func() { lost = s.line.lose == nil })
				return lost
			}
		},
		Down: func() { s.line.set(func() { s.line.down = true }) },
		Up:   func() { s.line.set(func() { s.line.down = false }) },
	}
}

// Against the API server, as the exchange's own account, which is no administrator.
func TestTokensPassTheSuite(t *testing.T) {
	const reading = "namespace: web\nrules:\n  - {resources: [configmaps], verbs: [list"
	backendtest.Run(t, backendtest.Harness{
		Open:     func(t testing.TB) backendtest.World { return stage(t).world() },
		Good:     reading + ", get, watch]}",
		Narrower: reading + "]}",
		Wider:    reading + ", get, watch]}\n  - {api_group: apps, resources: [deployments], verbs: [list]}",
		Says: backendtest.Phrases{
			Good: []string{"get, list, watch on configmaps"}, Narrower: []string{"list on configmaps"},
			Wider: []string{"get, list, watch on configmaps", "list on deployments"},
		},
		Hostile:  hostile,
		Overtime: 2 * time.Minute, // for the moment of its making, for clocks, and for what API servers remember
		Unproven: "API servers remember a token for a while, so that what one of them says is true of no other",
	})
}

package kubernetes_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/oklog/ulid/v2"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/exchange/backend/kubernetes"
	"github.com/stepkey/stepkey/internal/needs"
	"github.com/stepkey/stepkey/internal/realserver"
	"github.com/stepkey/stepkey/internal/secret"
	"github.com/stepkey/stepkey/internal/yamlfile"
)

// One cluster for all tests of the package, set up with the manifests of the page.
var (
	dir     string
	cluster = sync.OnceValues(func() (*place, error) { return setUp(context.Background()) })
	begun   bool
)

func TestMain(m *testing.M) {
	var err error
	if dir, err = os.MkdirTemp("", "stepkey-kubernetes-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	if begun {
		if p, err := cluster(); err == nil {
			_ = p.Close()
		}
	}
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// place is the cluster.
type place struct {
	*realserver.Kubernetes
	tokenFile string // of the exchange's own account
}

const (
	exchange = "system:serviceaccount:stepkey:exchange"
	accounts = "stepkey-leases"
)

func setUp(ctx context.Context) (*place, error) {
	k, err := realserver.StartKubernetes(ctx, dir)
	if err != nil {
		return nil, err
	}
	p := &place{Kubernetes: k, tokenFile: filepath.Join(dir, "exchange.token")}
	for _, namespace := range []string{"web", "other"} {
		if err := p.apply(ctx, `{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"`+namespace+`"}}`); err != nil {
			return nil, err
		}
	}
	manifests, err := page.Read("yaml")
	if err != nil {
		return nil, err
	}
	for _, manifest := range append(manifests[:2:2], theirs) {
		for one := range strings.SplitSeq(manifest, "\n---\n") {
			text, err := yaml.YAMLToJSON([]byte(one))
			if err != nil {
				return nil, err
			}
			if err := p.apply(ctx, string(text)); err != nil {
				return nil, err
			}
		}
	}
	// What a controller that is not here would fill in.
	err = p.Must(ctx, http.MethodPut, "/apis/rbac.authorization.k8s.io/v1/clusterroles/view", json.RawMessage(
		`{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"ClusterRole","metadata":{"name":"view"},`+
			`"rules":[{"apiGroups":[""],"resources":["configmaps","services"],"verbs":["get","list","watch"]}]}`), nil)
	if err != nil {
		return nil, err
	}
	return p, errors.Join(p.writeToken(ctx), p.policyHolds(ctx))
}

// policyHolds waits until the server has read the admission policy of the page.
func (p *place) policyHolds(ctx context.Context) error {
	own, err := os.ReadFile(p.tokenFile)
	if err != nil {
		return err
	}
	ctx, done := context.WithTimeout(ctx, time.Minute)
	defer done()
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for {
		status, text, err := p.Do(ctx, string(own), http.MethodPost, "/api/v1/namespaces/web/secrets?dryRun=All",
			json.RawMessage(`{"apiVersion":"v1","kind":"Secret","metadata":{"name":"another"}}`))
		if err == nil && status == http.StatusUnprocessableEntity && strings.Contains(string(text), "only what is a lease's") {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the policy does not hold: %d %s (%w)", status, text, err)
		case <-again.C:
		}
	}
}

// theirs is what the operator of the page has in web already, and what tests read there.
const theirs = `
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: deployer, namespace: web}
rules: [{apiGroups: [""], resources: [secrets, configmaps], verbs: [get, list]}]
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: publisher, namespace: web}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: bystander, namespace: web}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: publishes, namespace: web}
rules: [{apiGroups: [""], resources: [configmaps], verbs: [get, list, watch]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: publishes, namespace: web}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: publishes}
subjects: [{kind: ServiceAccount, name: publisher, namespace: web}]
---
apiVersion: v1
kind: ConfigMap
metadata: {name: page, namespace: web}
data: {title: "1"}
---
apiVersion: v1
kind: Secret
metadata: {name: database, namespace: web}
stringData: {password: canary}
---
apiVersion: v1
kind: Secret
metadata: {name: database, namespace: other}
stringData: {password: canary}
`

var plurals = map[string]string{
	"Namespace": "namespaces", "ServiceAccount": "serviceaccounts", "Secret": "secrets", "ConfigMap": "configmaps", "Role": "roles",
	"RoleBinding": "rolebindings", "ValidatingAdmissionPolicy": "validatingadmissionpolicies",
	"ValidatingAdmissionPolicyBinding": "validatingadmissionpolicybindings",
}

// apply makes an object, as kubectl apply does where there is none.
func (p *place) apply(ctx context.Context, object string) error {
	var o struct {
		APIVersion, Kind string
		Metadata         struct{ Namespace string }
	}
	if err := json.Unmarshal([]byte(object), &o); err != nil {
		return err
	}
	path := "/apis/" + o.APIVersion
	if o.APIVersion == "v1" {
		path = "/api/v1"
	}
	if o.Metadata.Namespace != "" {
		path += "/namespaces/" + o.Metadata.Namespace
	}
	return p.Must(ctx, http.MethodPost, path+"/"+plurals[o.Kind], json.RawMessage(object), nil)
}

// writeToken does what the kubelet does.
func (p *place) writeToken(ctx context.Context) error {
	var got struct{ Status struct{ Token string } }
	err := p.Must(ctx, http.MethodPost, "/api/v1/namespaces/stepkey/serviceaccounts/exchange/token",
		json.RawMessage(`{"apiVersion":"authentication.k8s.io/v1","kind":"TokenRequest","spec":{"expirationSeconds":3600}}`), &got)
	if err != nil {
		return err
	}
	return os.WriteFile(p.tokenFile, []byte(got.Status.Token), 0o600)
}

// scene is a test on the cluster, with a backend whose connection can be broken.
type scene struct {
	testing.TB
	*place
	*kubernetes.Backend
	line *line
}

func stage(t testing.TB) *scene {
	t.Helper()
	begun = true
	p, err := cluster()
	needs.Started(t, err)
	s := &scene{TB: t, place: p, line: &line{through: p.HTTP.Transport}}
	s.Backend = s.open(nil)
	return s
}

func (s *scene) config() kubernetes.Config {
	return kubernetes.Config{
		Server: s.URL, CAFile: s.CA, TokenFile: s.tokenFile, Accounts: accounts,
		Namespaces: map[string]kubernetes.Namespace{"web": {
			Rules: true, Roles: []string{"deployer"}, ClusterRoles: []string{"view"}, ServiceAccounts: []string{"publisher"},
		}},
	}
}

// open makes a backend on the scene's line, with other options if change says so.
func (s *scene) open(change func(*kubernetes.Options)) *kubernetes.Backend {
	s.Helper()
	limits, err := s.config().Limits()
	if err != nil {
		s.Fatal(err)
	}
	ca, err := os.ReadFile(s.CA)
	if err != nil {
		s.Fatal(err)
	}
	o := kubernetes.Options{
		Limits: limits, Server: s.URL, CA: string(ca), ClientServer: s.URL, ClientCA: string(ca), Transport: s.line, Now: time.Now,
		Token: func() (secret.String, error) {
			text, err := os.ReadFile(s.tokenFile)
			return secret.New(string(text)), err
		},
	}
	if change != nil {
		change(&o)
	}
	return kubernetes.New(o)
}

// line is a connection that breaks when it is told to.
type line struct {
	through http.RoundTripper
	mu      sync.Mutex
	down    bool
	lose    func(*http.Request) bool // whose answer is lost; once
	meddle  func(*http.Request, *http.Response) *http.Response
	asked   []string
}

func (l *line) set(change func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	change()
}

var errBroken = errors.New("the line is broken")

func (l *line) RoundTrip(r *http.Request) (*http.Response, error) {
	l.mu.Lock()
	down, lost, meddle := l.down, l.lose != nil && l.lose(r), l.meddle
	if lost {
		l.lose = nil
	}
	l.asked = append(l.asked, r.Method+" "+r.URL.Path)
	l.mu.Unlock()
	if down {
		return nil, errBroken
	}
	resp, err := l.through.RoundTrip(r)
	if err == nil && lost {
		_ = resp.Body.Close()
		return nil, errBroken
	}
	if err == nil && meddle != nil {
		resp = meddle(r, resp)
	}
	return resp, err
}

func node(t testing.TB, block string) backend.Block {
	t.Helper()
	root, err := yamlfile.Parse("task.yaml", []byte("credential:\n  kubernetes: "+block+"\n"))
	if err != nil {
		t.Fatal(err)
	}
	return root.Get("credential", "kubernetes")
}

func newLease() backend.LeaseID { return backend.LeaseID("lease_" + ulid.Make().String()) }

func nameOf(id backend.LeaseID) string {
	return "stepkey-" + strings.ToLower(strings.ReplaceAll(string(id), "_", "-"))
}

func (s *scene) order(block string) backend.Order {
	s.Helper()
	scope, err := s.Scope(node(s, block))
	if err != nil {
		s.Fatal(err)
	}
	now := time.Now()
	return backend.Order{Lease: newLease(), Scope: scope, At: now, Until: now.Add(10 * time.Minute), For: "acme/widget, workflow release"}
}

func (s *scene) issue(block string) (backend.LeaseID, backend.Issued) {
	s.Helper()
	o := s.order(block)
	issued, err := s.Issue(s.Context(), o)
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() {
		if err := s.Revoke(context.WithoutCancel(s.Context()), o.Lease, issued.Handle); err != nil {
			s.Error(err)
		}
	})
	return o.Lease, issued
}

// get asks as whoever has the credential.
func (s *scene) get(issued backend.Issued, path string) int {
	s.Helper()
	status, _, err := s.Do(s.Context(), issued.Values["token"].Reveal(), http.MethodGet, path, nil)
	if err != nil {
		s.Fatal(err)
	}
	return status
}

// left are the objects of leases that the cluster has, by kind and name.
func (p *place) left(ctx context.Context) ([]string, error) {
	var all []string
	for _, path := range []string{"/api/v1/secrets", "/api/v1/serviceaccounts", "/apis/rbac.authorization.k8s.io/v1/roles", "/apis/rbac.authorization.k8s.io/v1/rolebindings"} {
		var list struct {
			Items []struct {
				Metadata struct{ Namespace, Name string }
			}
		}
		if err := p.Must(ctx, http.MethodGet, path, nil, &list); err != nil {
			return nil, err
		}
		for _, item := range list.Items {
			if strings.HasPrefix(item.Metadata.Name, "stepkey-lease-") {
				all = append(all, path[strings.LastIndex(path, "/")+1:]+" "+item.Metadata.Namespace+" "+item.Metadata.Name)
			}
		}
	}
	return all, nil
}

func (s *scene) nothingLeft(of backend.LeaseID) {
	s.Helper()
	all, err := s.left(s.Context())
	if err != nil {
		s.Fatal(err)
	}
	for _, one := range all {
		if of == "" || strings.HasSuffix(one, nameOf(of)) {
			s.Errorf("there is still %s", one)
		}
	}
}

// within asks again and again until it is so.
func (s *scene) within(most time.Duration, so func() bool) bool {
	ctx, done := context.WithTimeout(s.Context(), most)
	defer done()
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for !so() {
		select {
		case <-ctx.Done():
			return false
		case <-again.C:
		}
	}
	return true
}

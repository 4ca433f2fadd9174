package kubernetes_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/exchange/backend/kubernetes"
	"github.com/stepkey/stepkey/internal/secret"
)

// The exchange's own account, with the page's roles, cannot make more of itself, nor read
// what it hands on. That these roles are enough all other tests show, which run with them.
func TestTheExchangesAccountCannotMakeMoreOfItself(t *testing.T) {
	s := stage(t)
	own, err := os.ReadFile(s.tokenFile)
	if err != nil {
		t.Fatal(err)
	}
	const rbac = "/apis/rbac.authorization.k8s.io/v1/namespaces/web/"
	binding := func(kind, name string) string {
		return `{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"RoleBinding","metadata":{"name":"stepkey-lease-x"},"roleRef":{"apiGroup":"rbac.authorization.k8s.io",` +
			`"kind":"` + kind + `","name":"` + name + `"},"subjects":[{"kind":"ServiceAccount","name":"exchange","namespace":"stepkey"}]}`
	}
	const token = `{"apiVersion":"authentication.k8s.io/v1","kind":"TokenRequest","spec":{"expirationSeconds":600}}`
	for _, c := range []struct{ method, path, body string }{
		{"POST", rbac + "rolebindings", binding("ClusterRole", "cluster-admin")},
		{"POST", rbac + "rolebindings", binding("ClusterRole", "system:aggregate-to-admin")},
		{"POST", rbac + "roles", `{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"Role","metadata":{"name":"stepkey-lease-x"},"rules":[{"apiGroups":["*"],"resources":["*"],"verbs":["*"]}]}`},
		{"POST", rbac + "roles", `{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"Role","metadata":{"name":"stepkey-lease-x"},"rules":[{"apiGroups":[""],"resources":["secrets"],"verbs":["get"]}]}`},
		{"POST", "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", strings.Replace(binding("ClusterRole", "view"), "RoleBinding", "ClusterRoleBinding", 1)},
		{"POST", "/api/v1/namespaces/web/serviceaccounts/bystander/token", token},
		{"POST", "/api/v1/namespaces/stepkey/serviceaccounts/exchange/token", token},
		{"POST", "/api/v1/namespaces/web/serviceaccounts", `{"apiVersion":"v1","kind":"ServiceAccount","metadata":{"name":"stepkey-lease-x"}}`},
		{"GET", "/api/v1/namespaces/web/secrets/database", `null`},
		{"GET", "/api/v1/namespaces/web/secrets", `null`},
		{"GET", "/api/v1/namespaces/other/secrets", `null`},
		// The admission policy's share: Kubernetes' roles alone would allow these.
		{"DELETE", "/api/v1/namespaces/web/secrets/database", `{}`},
		{"DELETE", rbac + "roles/deployer", `{}`},
		{"DELETE", rbac + "rolebindings/publishes", `{}`},
		{"POST", "/api/v1/namespaces/web/secrets", `{"apiVersion":"v1","kind":"Secret","metadata":{"name":"another"}}`},
	} {
		status, text, err := s.Do(t.Context(), string(own), c.method, c.path, json.RawMessage(c.body))
		if err != nil {
			t.Fatal(err)
		}
		if status != http.StatusForbidden && status != http.StatusUnprocessableEntity {
			t.Errorf("%s %s %s is answered %d: %s", c.method, c.path, c.body, status, text)
		}
	}
}

// What a task's rules may give ends where the exchange's own rights do. The server says so,
// and nothing is left of the try.
func TestRulesBeyondTheExchangesOwnAreRefusedByTheServer(t *testing.T) {
	s := stage(t)
	o := s.order("{namespace: web, rules: [{resources: [configmaps], verbs: [get]}, {resources: [nodes], verbs: [get]}]}")
	issued, err := s.Issue(t.Context(), o)
	if !errors.Is(err, backend.ErrNotCreated) || errors.Is(err, backend.ErrUnavailable) || !issued.Handle.Empty() {
		t.Fatalf("it ended with %v", err)
	}
	for _, words := range []string{"making the role in namespace web", "answered 403", "RBAC permissions not currently held", "may hand on only what it holds itself"} {
		if !strings.Contains(err.Error(), words) {
			t.Errorf("%q is not in: %v", words, err)
		}
	}
	s.nothingLeft(o.Lease)
}

// What is wrong with the cluster or the exchange's account is said, and what was made
// before it is taken away again.
func TestWhatIsMissingIsSaid(t *testing.T) {
	s := stage(t)
	for name, c := range map[string]struct {
		change func(*kubernetes.Options)
		block  string
		says   []string
	}{
		"a role that may not be bound": {func(o *kubernetes.Options) {
			o.Namespaces = listing("web", kubernetes.Namespace{Roles: []string{"publishes-secrets"}})
		},
			"{namespace: web, role: publishes-secrets}", []string{"making the role binding", "answered 40"}},
		"a namespace without rights": {func(o *kubernetes.Options) { o.Namespaces = listing("other", kubernetes.Namespace{Rules: true}) },
			"{namespace: other, rules: [{resources: [configmaps], verbs: [get]}]}", []string{"namespace other", "answered 403", exchange, "docs/backends/kubernetes.md"}},
		"no rights where accounts stand": {func(o *kubernetes.Options) { o.Accounts = "other" },
			every["role"], []string{"making the service account in namespace other", "answered 403"}},
		"an account that is not there": {func(o *kubernetes.Options) {
			o.Namespaces = listing("web", kubernetes.Namespace{ServiceAccounts: []string{"publisher2"}})
		},
			"{namespace: web, service_account: publisher2}", []string{"publisher2", "answered 403"}},
		"the exchange's token is over": {func(o *kubernetes.Options) {
			o.Token = func() (secret.String, error) { return secret.New("over"), nil }
		},
			every["role"], []string{"answered 401", "token_file"}},
		"the exchange's token is gone": {func(o *kubernetes.Options) {
			o.Token = func() (secret.String, error) { return secret.String{}, errors.New("no such file") }
		},
			every["role"], []string{"no such file"}},
		"a server that is not there": {func(o *kubernetes.Options) { o.Server = "https://127.0.0.1:1" },
			every["role"], []string{"could not be reached"}},
		"a server of another authority": {func(o *kubernetes.Options) { o.Transport, o.CA = nil, "" },
			every["role"], []string{"could not be reached", "certificate"}},
	} {
		b := s.open(c.change)
		s.Backend = b
		o := s.order(c.block)
		issued, err := b.Issue(t.Context(), o)
		if err == nil || len(issued.Values) > 0 {
			t.Errorf("%s: it was issued", name)
			continue
		}
		for _, words := range c.says {
			if !strings.Contains(err.Error(), words) {
				t.Errorf("%s: %q is not in: %v", name, words, err)
			}
		}
		if name == "no rights where accounts stand" { // it may not delete there, either
			err := s.open(nil).Revoke(t.Context(), o.Lease, secret.String{})
			if err != nil || issued.Handle.Empty() {
				t.Errorf("%s: %v", name, err)
			}
		} else if !errors.Is(err, backend.ErrNotCreated) {
			t.Errorf("%s: nothing was made, and it says %v", name, err)
		}
		s.nothingLeft(o.Lease)
	}
}

func listing(name string, in kubernetes.Namespace) map[string]kubernetes.Namespace {
	return map[string]kubernetes.Namespace{name: in}
}

// The kubelet replaces the exchange's token: the file counts, at each request.
func TestTheExchangesTokenIsReadAnew(t *testing.T) {
	s := stage(t)
	c := s.config()
	c.TokenFile = t.TempDir() + "/token"
	write := func(text string) {
		if err := os.WriteFile(c.TokenFile, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("old\n")
	b, err := c.Open(nil)
	if err != nil {
		t.Fatal(err)
	}
	o := s.order(every["role"])
	if _, err := b.Issue(t.Context(), o); !errors.Is(err, backend.ErrNotCreated) {
		t.Fatalf("with an old token: %v", err)
	}
	own, err := os.ReadFile(s.tokenFile)
	if err != nil {
		t.Fatal(err)
	}
	write(string(own) + "\n")
	issued, err := b.Issue(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if got := s.get(issued, configmaps); got != http.StatusOK {
		t.Errorf("it is answered %d", got)
	}
	if err := b.Revoke(t.Context(), o.Lease, issued.Handle); err != nil {
		t.Error(err)
	}
}

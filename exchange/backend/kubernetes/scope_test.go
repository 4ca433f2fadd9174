package kubernetes_test

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/goccy/go-yaml"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/exchange/backend/kubernetes"
)

// What a credential may do, judged by the API server.
func TestTheServerGivesWhatTheScopeSaysAndNothingElse(t *testing.T) {
	s := stage(t)
	const (
		rbac        = "/apis/rbac.authorization.k8s.io/v1/namespaces/web/"
		deployments = "/apis/apps/v1/namespaces/web/deployments"
	)
	for block, may := range map[string]map[string]int{
		"{namespace: web, rules: [{resources: [configmaps], verbs: [get, list]}]}": {
			configmaps: 200, configmaps + "/page": 200, "/api/v1/namespaces/web/secrets": 403, "/api/v1/namespaces/other/configmaps": 403,
			"/api/v1/configmaps": 403, "/api/v1/nodes": 403, deployments: 403, rbac + "roles": 403, "/api/v1/namespaces/stepkey-leases/serviceaccounts": 403,
		},
		"{namespace: web, rules: [{resources: [configmaps], names: [page], verbs: [get]}, {api_group: apps, resources: [deployments], verbs: [list]}]}": {
			configmaps: 403, configmaps + "/page": 200, configmaps + "/another": 403, deployments: 200, deployments + "/web": 403,
		},
		"{namespace: web, role: deployer}": {
			"/api/v1/namespaces/web/secrets/database": 200, configmaps: 200, "/api/v1/namespaces/other/secrets/database": 403, deployments: 403, "/api/v1/namespaces/web/pods": 403,
		},
		"{namespace: web, cluster_role: view}": {
			configmaps: 200, "/api/v1/namespaces/web/services": 200, "/api/v1/namespaces/web/secrets": 403, "/api/v1/configmaps": 403, "/api/v1/namespaces/other/configmaps": 403,
		},
		"{namespace: web, service_account: publisher}": {
			configmaps: 200, "/api/v1/namespaces/web/secrets": 403, "/api/v1/namespaces/other/configmaps": 403,
		},
	} {
		_, issued := s.issue(block)
		for path, want := range may {
			if got := s.get(issued, path); got != want {
				t.Errorf("%s: GET %s is answered %d, want %d", block, path, got, want)
			}
		}
	}
}

// A binding of one lease gives nothing to another, also not where both have the same role.
func TestOneLeaseDoesNotWidenAnother(t *testing.T) {
	s := stage(t)
	_, narrow := s.issue("{namespace: web, rules: [{resources: [configmaps], verbs: [list]}]}")
	_, account := s.issue("{namespace: web, service_account: publisher}")
	wide, issued := s.issue("{namespace: web, role: deployer}")
	if got := s.get(issued, "/api/v1/namespaces/web/secrets"); got != http.StatusOK {
		t.Fatalf("the wide one is answered %d, so this proves nothing", got)
	}
	for _, one := range []backend.Issued{narrow, account} {
		if got := s.get(one, "/api/v1/namespaces/web/secrets"); got != http.StatusForbidden {
			t.Errorf("beside a wider lease it is answered %d", got)
		}
	}
	if err := s.Revoke(t.Context(), wide, issued.Handle); err != nil {
		t.Fatal(err)
	}
	for _, one := range []backend.Issued{narrow, account} {
		if got := s.get(one, configmaps); got != http.StatusOK {
			t.Errorf("after the end of another lease it is answered %d", got)
		}
	}
}

// A credential works from the moment at which it is had.
func TestACredentialWorksAtOnce(t *testing.T) {
	s := stage(t)
	for _, block := range []string{"{namespace: web, rules: [{resources: [configmaps], verbs: [list]}]}", "{namespace: web, role: deployer}"} {
		for range 25 {
			if _, issued := s.issue(block); s.get(issued, configmaps) != http.StatusOK {
				t.Errorf("%s: it does not work at once", block)
			}
		}
	}
}

func TestTheKubeconfigIsComplete(t *testing.T) {
	s := stage(t)
	s.Backend = s.open(func(o *kubernetes.Options) { o.ClientServer, o.ClientCA = "https://203.0.113.7:6443/", "its CA" })
	_, issued := s.issue("{namespace: web, role: deployer}")
	type named struct {
		Name    string
		Cluster struct {
			Server string
			CA     string `yaml:"certificate-authority-data"`
		}
		User    struct{ Token string }
		Context struct{ Cluster, User, Namespace string }
	}
	var file struct {
		APIVersion                string `yaml:"apiVersion"`
		Kind                      string
		Clusters, Users, Contexts []named
		Current                   string `yaml:"current-context"`
	}
	if err := yaml.UnmarshalWithOptions([]byte(issued.Values["kubeconfig"].Reveal()), &file, yaml.DisallowUnknownField()); err != nil {
		t.Fatal(err)
	}
	ca, err := base64.StdEncoding.DecodeString(file.Clusters[0].Cluster.CA)
	c := file.Contexts[0]
	if err != nil || string(ca) != "its CA" || file.Clusters[0].Cluster.Server != "https://203.0.113.7:6443" || file.Kind != "Config" || file.APIVersion != "v1" ||
		file.Users[0].User.Token != issued.Values["token"].Reveal() || c.Context.Namespace != "web" || c.Name != file.Current ||
		c.Context.Cluster != file.Clusters[0].Name || c.Context.User != file.Users[0].Name {
		t.Errorf("it is %+v (%v)", file, err)
	}
	for name, want := range map[string]string{"server": "https://203.0.113.7:6443", "ca": "its CA", "namespace": "web"} {
		if got := issued.Values[name].Reveal(); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if want := []string{"server", "ca", "namespace"}; !slices.Equal(issued.Public, want) { // the kubeconfig holds the token
		t.Errorf("no secret are %q, want %q", issued.Public, want)
	}
}

// A token lives to the lease's end, ten minutes at least, and no longer than was promised.
func TestATokenLivesAsLongAsItsLease(t *testing.T) {
	s := stage(t)
	at := time.Now()
	s.Backend = s.open(func(o *kubernetes.Options) { o.Now = func() time.Time { return at } })
	for ttl, want := range map[time.Duration]time.Duration{
		time.Minute: 10 * time.Minute, 10 * time.Minute: 10 * time.Minute, 20 * time.Minute: 20 * time.Minute, 3 * time.Hour: time.Hour,
		3607 * time.Second: time.Hour, // for which servers make some tokens live a year
	} {
		o := s.order("{namespace: web, role: deployer}")
		o.At, o.Until = at, at.Add(ttl)
		issued, err := s.Issue(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		if got := lifeOf(t, issued); got != want {
			t.Errorf("the token of a lease of %s lives %s, want %s", ttl, got, want)
		}
		if past := issued.DiesAt.Sub(at) - want; past != 75*time.Second || issued.DiesAt.After(s.Terms(o).DiesAt) {
			t.Errorf("a lease of %s is said to be dead %s after its token, and was promised to be at %s", ttl, past, s.Terms(o).DiesAt)
		}
		if err := s.Revoke(t.Context(), o.Lease, issued.Handle); err != nil {
			t.Error(err)
		}
	}
}

// An hour and seven seconds is a time that servers read as "a year" for some tokens.
func TestAnHourAndSevenSecondsIsNotAYear(t *testing.T) {
	s := stage(t)
	at := time.Now()
	s.Backend = s.open(func(o *kubernetes.Options) {
		o.MaxTTL, o.Now = 3607*time.Second+500*time.Millisecond, func() time.Time { return at }
	})
	o := s.order("{namespace: web, role: deployer}")
	o.At, o.Until = at, at.Add(4*time.Hour)
	issued, err := s.Issue(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Revoke(t.Context(), o.Lease, issued.Handle) }()
	if got := lifeOf(t, issued); got != 3607*time.Second {
		t.Errorf("it lives %s", got)
	}
}

func lifeOf(t *testing.T, issued backend.Issued) time.Duration {
	t.Helper()
	var claims struct{ Iat, Exp int64 }
	payload, err := base64.RawURLEncoding.DecodeString(strings.Split(issued.Values["token"].Reveal(), ".")[1])
	if err != nil || yaml.Unmarshal(payload, &claims) != nil {
		t.Fatalf("it is no token: %v", err)
	}
	return time.Duration(claims.Exp-claims.Iat) * time.Second
}

// API servers take a token for a minute after its end, which Terms counts in.
func TestATokenIsRefusedOneMinuteAfterItsEnd(t *testing.T) {
	s := stage(t)
	_, issued := s.issue("{namespace: web, role: deployer}")
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: s.Key}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for past, want := range map[time.Duration]int{-time.Minute: http.StatusOK, 30 * time.Second: http.StatusOK, 65 * time.Second: http.StatusUnauthorized} {
		claims := map[string]any{}
		payload, err := base64.RawURLEncoding.DecodeString(strings.Split(issued.Values["token"].Reveal(), ".")[1])
		if err != nil || json.Unmarshal(payload, &claims) != nil {
			t.Fatal(err)
		}
		end := time.Now().Add(-past)
		claims["exp"], claims["iat"], claims["nbf"] = end.Unix(), end.Add(-10*time.Minute).Unix(), end.Add(-10*time.Minute).Unix()
		token, err := jwt.Signed(signer).Claims(claims).Serialize()
		if err != nil {
			t.Fatal(err)
		}
		status, _, err := s.Do(t.Context(), token, http.MethodGet, configmaps, nil)
		if err != nil || status != want {
			t.Errorf("%s past its end it is answered %d, want %d (%v)", past, status, want, err)
		}
	}
}

// A token says to whom it is shown.
func TestTokensForAnotherAudienceAreNotForTheServer(t *testing.T) {
	s := stage(t)
	s.Backend = s.open(func(o *kubernetes.Options) { o.Audiences = []string{"https://elsewhere.example.com"} })
	_, issued := s.issue("{namespace: web, role: deployer}")
	if got := s.get(issued, configmaps); got != http.StatusUnauthorized {
		t.Errorf("it is answered %d", got)
	}
}

// What the page says of the objects: whose they are can be read off them.
func TestObjectsSayWhoseTheyAre(t *testing.T) {
	s := stage(t)
	id, _ := s.issue("{namespace: web, role: deployer}")
	var account struct {
		Automount bool `json:"automountServiceAccountToken"`
		Metadata  struct{ Labels, Annotations map[string]string }
	}
	if err := s.Must(t.Context(), http.MethodGet, "/api/v1/namespaces/stepkey-leases/serviceaccounts/"+nameOf(id), nil, &account); err != nil {
		t.Fatal(err)
	}
	m := account.Metadata
	if m.Labels["stepkey/lease"] != string(id) || m.Labels["app.kubernetes.io/managed-by"] != "stepkey" || account.Automount ||
		m.Annotations["stepkey/for"] != "acme/widget, workflow release" || m.Annotations["stepkey/until"] == "" {
		t.Errorf("it is %+v", account)
	}
}

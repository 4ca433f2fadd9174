package identity_test

import (
	"crypto/x509"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stepkey/stepkey/exchange/identity"
)

// spiffeWith is a SPIFFE issuer whose keys are where change says.
func spiffeWith(change func(*identity.Issuer)) []identity.Issuer {
	i := identity.Issuer{Name: "spiffe", Kind: "spiffe", URL: "https://spire.example.org", TrustDomain: "example.org"}
	change(&i)
	return []identity.Issuer{i}
}

const bundleURL = "https://bundle.example.net:8443/keys"

func TestKeysAreReadWhereTheOperatorSaysAndNowhereElse(t *testing.T) {
	f := forgeFor(t)
	v, n := kindVerifier(t, spiffeWith(func(i *identity.Issuer) { i.KeysURL = bundleURL }))
	n.documents = map[string]string{bundleURL: encode(t, map[string]any{"spiffe_sequence": 7, "spiffe_refresh_hint": 300, "keys": []any{
		jwk(t, "rsa-1", &f.rsa1.PublicKey, map[string]any{"use": "jwt-svid"}),
		jwk(t, "stranger-1", &f.stranger.PublicKey, map[string]any{"use": "x509-svid"}),
	}})}
	if _, err := v.Verify(t.Context(), signed(t, claimsOf(t, "spiffe", "spire"))); err != nil {
		t.Error(err)
	}
	header := honestHeader()
	header["kid"] = "stranger-1"
	if _, err := v.Verify(t.Context(), f.sign(t, "stranger", encode(t, header), encode(t, claimsOf(t, "spiffe", "spire")))); ruleOf(t, err) != identity.RuleKey {
		t.Errorf("signed with a key that is for certificates: %v", err)
	}
	if len(n.asked) != 1 || n.asked[0] != bundleURL {
		t.Errorf("asked %v", n.asked)
	}
}

func TestOnlyASPIFFEBundlesKeysMayBeForSVIDs(t *testing.T) {
	issuers := kindIssuers()
	v, n := kindVerifier(t, issuers)
	n.publish(t, issuers[0].URL, map[string]any{"keys": []any{jwk(t, "rsa-1", &forgeFor(t).rsa1.PublicKey, map[string]any{"use": "jwt-svid"})}})
	if _, err := v.Verify(t.Context(), signed(t, claimsOf(t, "gitlab", "push"))); ruleOf(t, err) != identity.RuleKey {
		t.Errorf("of GitLab: %v", err)
	}
}

// A cluster whose issuer cannot be reached is trusted by a file of keys, which is read
// again when a key in a token is not in it.
func TestKeysInAFileAreReadAgainWhenTheyChange(t *testing.T) {
	f := forgeFor(t)
	file := filepath.Join(t.TempDir(), "keys.json")
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(encode(t, map[string]any{"keys": []any{jwk(t, "old-1", &f.ghe.PublicKey, nil)}}))
	now := present
	list := []identity.Issuer{{Name: "kubernetes", Kind: "kubernetes", URL: "https://kubernetes.default.svc.cluster.local", KeysFile: file}}
	v, err := identity.New(audience, list, identity.Options{Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	n := &network{documents: map[string]string{}}
	v.ReachThrough(n)
	token := signed(t, claimsOf(t, "kubernetes", "pod"))
	if _, err := v.Verify(t.Context(), token); ruleOf(t, err) != identity.RuleKey {
		t.Errorf("before: %v", err)
	}
	write(encode(t, onlyKey(t, "rsa-1")))
	now = now.Add(time.Minute)
	if _, err := v.Verify(t.Context(), token); err != nil {
		t.Errorf("after: %v", err)
	}
	if n.requests() != 0 {
		t.Errorf("asked %v", n.asked)
	}
}

func TestAnIssuersURLMayEndInASlashWhereItsKindHasThat(t *testing.T) {
	const url = "https://eastus.oic.example.com/tenant/cluster/"
	v, n := kindVerifier(t, []identity.Issuer{{Name: "aks", Kind: "kubernetes", URL: url}})
	n.documents = map[string]string{
		strings.TrimSuffix(url, "/") + "/.well-known/openid-configuration": encode(t, map[string]any{"issuer": url, "jwks_uri": url + "openid/v1/jwks"}),
		url + "openid/v1/jwks": encode(t, onlyKey(t, "rsa-1")),
	}
	claims := claimsOf(t, "kubernetes", "pod")
	claims["iss"] = url
	if _, err := v.Verify(t.Context(), signed(t, claims)); err != nil {
		t.Error(err)
	}
	claims["iss"] = strings.TrimSuffix(url, "/")
	if _, err := v.Verify(t.Context(), signed(t, claims)); ruleOf(t, err) != identity.RuleIssuer {
		t.Errorf("without the slash: %v", err)
	}
	for _, asked := range n.asked {
		if strings.Contains(asked, "cluster//") {
			t.Errorf("asked %s", asked)
		}
	}
}

// The bundle's host is held to what every issuer's is.
func TestAConfiguredKeySetIsFetchedAsGuarded(t *testing.T) {
	elsewhere := newLocalIssuer(t, httptest.NewTLSServer)
	for private, reached := range map[bool]bool{false: false, true: true} {
		list := spiffeWith(func(i *identity.Issuer) { i.KeysURL, i.Private = elsewhere.URL+"/keys", private })
		list[0].Roots = rootsOf(elsewhere)
		v, err := identity.New(audience, list, identity.Options{Now: atPresent})
		if err != nil {
			t.Fatal(err)
		}
		elsewhere.keys = func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(encode(t, onlyKey(t, "rsa-1")))) }
		_, err = v.Verify(t.Context(), signed(t, claimsOf(t, "spiffe", "spire")))
		if (err == nil) != reached {
			t.Errorf("private_network %t: %v", private, err)
		}
	}
}

func TestWhatOnlySomeKindsHaveIsCheckedAtStart(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "keys.json")
	if err := os.WriteFile(empty, []byte(`{"keys": [{"kty": "oct", "k": "AAAA", "kid": "a"}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	job := func(change func(*identity.JobClaims)) identity.Issuer {
		j := identity.JobClaims{Key: []string{"project", "job"}, Pin: []string{"project"}}
		change(&j)
		return identity.Issuer{Name: "ci", Kind: "oidc", URL: "https://ci.example", Job: &j}
	}
	gitlab := func(change func(*identity.Issuer)) identity.Issuer {
		i := identity.Issuer{Name: "gitlab", Kind: "gitlab", URL: "https://gitlab.com"}
		change(&i)
		return i
	}
	for says, i := range map[string]identity.Issuer{
		"trust_domain is missing":        {Name: "spiffe", Kind: "spiffe", URL: "https://spire.example.org"},
		"the name of a trust domain":     {Name: "spiffe", Kind: "spiffe", URL: "https://spire.example.org", TrustDomain: "spiffe://example.org"},
		"trust_domain is for":            gitlab(func(i *identity.Issuer) { i.TrustDomain = "example.org" }),
		"job is missing":                 {Name: "ci", Kind: "oidc", URL: "https://ci.example"},
		"job is for":                     gitlab(func(i *identity.Issuer) { i.Job = &identity.JobClaims{} }),
		"1 to 8 claims":                  job(func(j *identity.JobClaims) { j.Key = nil }),
		"each list 1 to 8":               job(func(j *identity.JobClaims) { j.Pin = nil }),
		"listed twice":                   job(func(j *identity.JobClaims) { j.Key = []string{"job", "job"} }),
		"no name of a claim":             job(func(j *identity.JobClaims) { j.Run = "a b" }),
		"says nothing of a job":          job(func(j *identity.JobClaims) { j.Pin = []string{"aud"} }),
		"sub alone":                      job(func(j *identity.JobClaims) { j.Key = []string{"sub"} }),
		"for an issuer of that kind":     {Name: "github", Kind: "gitlab", URL: "https://gitlab.com"},
		"/org/ and the organization's":   {Name: "circleci", Kind: "circleci", URL: "https://oidc.circleci.com/org/acme"},
		"both set":                       gitlab(func(i *identity.Issuer) { i.KeysURL, i.KeysFile = bundleURL, empty }),
		"jwks_uri: url \"http://":        gitlab(func(i *identity.Issuer) { i.KeysURL = "http://bundle.example.net/keys" }),
		"jwks_file: key set":             gitlab(func(i *identity.Issuer) { i.KeysFile = empty + ".gone" }),
		"jwks_file: no key in":           gitlab(func(i *identity.Issuer) { i.KeysFile = empty }),
		"ends in a slash":                gitlab(func(i *identity.Issuer) { i.URL = "https://gitlab.com/" }),
		"//\" ends in a slash":           {Name: "k", Kind: "kubernetes", URL: "https://cluster.example//"},
		"empty or dotted path segments)": {Name: "k", Kind: "kubernetes", URL: "https://cluster.example/a/../b/"},
	} {
		t.Run(says, func(t *testing.T) {
			_, err := identity.New(audience, []identity.Issuer{i}, identity.Options{})
			if err == nil || !strings.Contains(err.Error(), says) {
				t.Errorf("want an error that says %q, got %v", says, err)
			}
		})
	}
	if _, err := identity.New(audience, kindIssuers(), identity.Options{}); err != nil {
		t.Errorf("good ones: %v", err)
	}
	shared := job(func(j *identity.JobClaims) { j.Key, j.Pin, j.Shared = []string{"sub"}, []string{"sub"}, true })
	if _, err := identity.New(audience, []identity.Issuer{shared}, identity.Options{}); err != nil {
		t.Errorf("a shared name: %v", err)
	}
}

func rootsOf(i *localIssuer) *x509.CertPool {
	roots := x509.NewCertPool()
	roots.AddCert(i.Certificate())
	return roots
}

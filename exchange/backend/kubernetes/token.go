package kubernetes

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/exchange/backend/reach"
	"github.com/stepkey/stepkey/internal/secret"
)

// grantedToken is what the server made.
type grantedToken struct {
	text string
	life time.Duration // from its making
}

// requestToken asks for a token of the lease's service account, or of the one that the
// task names, bound to the lease's Secret. uid is of that account or that Secret.
func (b *Backend) requestToken(ctx context.Context, m made, uid string) (grantedToken, error) {
	want := wanted{
		namespace: m.accounts, account: m.name, hangs: own{Name: m.name, UID: uid}, audiences: b.audiences,
		life: max(b.end(m.order).Sub(b.now()).Truncate(time.Second), shortest),
	}
	spec := tokenSpec{Audiences: b.audiences, ExpirationSeconds: int64(want.life / time.Second)}
	if m.want.form == byAccount {
		want.namespace, want.account, want.bound = m.want.namespace, m.want.name, true
		spec.BoundObjectRef = &objectRef{APIVersion: "v1", Kind: "Secret", Name: m.name, UID: uid}
	}
	var got tokenRequest
	err := b.call(ctx, http.MethodPost, serviceAccounts.in(want.namespace)+"/"+want.account+"/token", tokenRequest{
		typed: typed{APIVersion: "authentication.k8s.io/v1", Kind: "TokenRequest"}, Spec: spec,
	}, &got)
	if err != nil {
		return grantedToken{}, fmt.Errorf("asking for a token of service account %s in namespace %s: %w", want.account, want.namespace, err)
	}
	return want.held(got.Status.Token)
}

var tokenForm = regexp.MustCompile(`\A[A-Za-z0-9_-]+\.([A-Za-z0-9_-]+)\.[A-Za-z0-9_-]+\z`)

// wanted is what a token has to be.
type wanted struct {
	namespace, account string
	hangs              own  // on what it dies
	bound              bool // that is a Secret, and else the account itself
	audiences          []string
	life               time.Duration
}

// own is an object of the lease's, as a token names it.
type own struct {
	Name string `json:"name"`
	UID  string `json:"uid"`
}

// claims are those of a token that are looked at.
type claims struct {
	Subject    string    `json:"sub"`
	Audience   audiences `json:"aud"`
	Issued     float64   `json:"iat"`
	Expires    float64   `json:"exp"`
	Kubernetes struct {
		Account own `json:"serviceaccount"`
		Secret  own `json:"secret"`
	} `json:"kubernetes.io"`
}

// audiences of a token are a list, or one (RFC 7519, section 4.1.3).
type audiences []string

func (a *audiences) UnmarshalJSON(text []byte) error {
	*a = audiences{""}
	if json.Unmarshal(text, &(*a)[0]) == nil {
		return nil
	}
	return json.Unmarshal(text, (*[]string)(a))
}

// errUnended is of a token that the deletion of the lease's objects does not end.
var errUnended = errors.New("such a token hangs on nothing that is the lease's, so that only its own end ends it; look at the cluster's admission webhooks")

// held holds a token against what was asked for: whose it is, that it dies with what is
// deleted at the lease's end, for whom, and no longer. Its signature is the server's own
// matter. Something in between, as webhooks are, may have changed the request.
func (w wanted) held(text string) (grantedToken, error) {
	parts := tokenForm.FindStringSubmatch(text)
	if parts == nil {
		return grantedToken{}, fmt.Errorf("the API server answered with something that is no token: %w", errUnended)
	}
	var c claims
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil || json.Unmarshal(payload, &c) != nil {
		return grantedToken{}, fmt.Errorf("the API server answered with a token that cannot be read: %w", errUnended)
	}
	hangs := c.Kubernetes.Account
	if w.bound {
		hangs = c.Kubernetes.Secret
	}
	lives := c.Expires - c.Issued
	switch whose := "system:serviceaccount:" + w.namespace + ":" + w.account; {
	case c.Subject != whose:
		return grantedToken{}, fmt.Errorf("the API server made a token of %s, and was asked for one of %s: %w", reach.OneLine(c.Subject, maxMessage), whose, errUnended)
	case w.hangs.UID == "" || hangs != w.hangs:
		return grantedToken{}, fmt.Errorf("the API server made a token of %s that is not bound to what was made for the lease: %w", whose, errUnended)
	case len(w.audiences) > 0 && !sameSet(w.audiences, c.Audience):
		return grantedToken{}, fmt.Errorf("the API server made a token for the audiences %s, and was asked for one for %s",
			reach.OneLine(strings.Join(c.Audience, ", "), maxMessage), strings.Join(w.audiences, ", "))
	case lives <= 0 || lives > w.life.Seconds():
		return grantedToken{}, fmt.Errorf("the API server made a token that lives %.0f s, and %.0f s were the most; look at its --service-account flags", lives, w.life.Seconds())
	}
	return grantedToken{text: text, life: time.Duration(lives * float64(time.Second))}, nil
}

func sameSet(a, b []string) bool {
	sorted := func(of []string) []string { return slices.Compact(slices.Sorted(slices.Values(of))) }
	return slices.Equal(sorted(a), sorted(b))
}

// credential is a token and all that it takes to use it.
func (b *Backend) credential(namespace, token string) backend.Issued {
	return backend.Issued{
		Values: map[string]secret.String{
			"token": secret.New(token), "server": secret.New(b.client.server), "ca": secret.New(b.client.ca),
			"namespace": secret.New(namespace), "kubeconfig": secret.New(b.client.kubeconfig(namespace, token)),
		},
		Public: []string{"server", "ca", "namespace"}, // kubeconfig holds the token
		Env:    map[string]string{"KUBE_TOKEN": "token", "KUBE_HOST": "server", "KUBE_CLUSTER_CA_CERT_DATA": "ca", "KUBE_NAMESPACE": "namespace"},
	}
}

// kubeconfig is a file for kubectl and all that read the same: YAML, of which JSON is
// part. Names are base64's and ours, so that quoting is all there is to do.
func (t target) kubeconfig(namespace, token string) string {
	quoted := func(text string) string {
		out, err := json.Marshal(text)
		if err != nil {
			return `""` // a text is always JSON
		}
		return string(out)
	}
	return strings.NewReplacer(
		"SERVER", quoted(t.server), "CA", base64.StdEncoding.EncodeToString([]byte(t.ca)), "NAMESPACE", quoted(namespace), "TOKEN", quoted(token),
	).Replace(`apiVersion: v1
kind: Config
clusters:
  - name: stepkey
    cluster:
      server: SERVER
      certificate-authority-data: CA
users:
  - name: stepkey
    user:
      token: TOKEN
contexts:
  - name: stepkey
    context:
      cluster: stepkey
      user: stepkey
      namespace: NAMESPACE
current-context: stepkey
`)
}

package kubernetes

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
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
// task names, bound to the lease's Secret.
func (b *Backend) requestToken(ctx context.Context, m made, bound *objectRef) (grantedToken, error) {
	namespace, account := m.accounts, m.name
	if m.want.form == byAccount {
		namespace, account = m.want.namespace, m.want.name
	}
	life := max(b.end(m.order).Sub(b.now()).Truncate(time.Second), shortest)
	var got tokenRequest
	err := b.call(ctx, http.MethodPost, serviceAccounts.in(namespace)+"/"+account+"/token", tokenRequest{
		typed: typed{APIVersion: "authentication.k8s.io/v1", Kind: "TokenRequest"},
		Spec:  tokenSpec{Audiences: b.audiences, ExpirationSeconds: int64(life / time.Second), BoundObjectRef: bound},
	}, &got)
	if err != nil {
		return grantedToken{}, fmt.Errorf("asking for a token of service account %s in namespace %s: %w", account, namespace, err)
	}
	return held(got.Status.Token, "system:serviceaccount:"+namespace+":"+account, life)
}

var tokenForm = regexp.MustCompile(`\A[A-Za-z0-9_-]+\.([A-Za-z0-9_-]+)\.[A-Za-z0-9_-]+\z`)

// held holds a token against what was asked for: whose it is, and no longer. Its
// signature is the server's own matter.
func held(text, whose string, life time.Duration) (grantedToken, error) {
	parts := tokenForm.FindStringSubmatch(text)
	if parts == nil {
		return grantedToken{}, errors.New("the API server answered with something that is no token")
	}
	var claims struct {
		Subject string  `json:"sub"`
		Issued  float64 `json:"iat"`
		Expires float64 `json:"exp"`
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil || json.Unmarshal(payload, &claims) != nil {
		return grantedToken{}, errors.New("the API server answered with a token that cannot be read")
	}
	lives := claims.Expires - claims.Issued
	switch {
	case claims.Subject != whose:
		return grantedToken{}, fmt.Errorf("the API server made a token of %s, and was asked for one of %s", reach.OneLine(claims.Subject, maxMessage), whose)
	case lives <= 0 || lives > life.Seconds():
		return grantedToken{}, fmt.Errorf("the API server made a token that lives %.0f s, and %.0f s were the most; look at its --service-account flags", lives, life.Seconds())
	}
	return grantedToken{text: text, life: time.Duration(lives * float64(time.Second))}, nil
}

// credential is a token and all that it takes to use it.
func (b *Backend) credential(namespace, token string) backend.Issued {
	return backend.Issued{
		Values: map[string]secret.String{
			"token": secret.New(token), "server": secret.New(b.client.server), "ca": secret.New(b.client.ca),
			"namespace": secret.New(namespace), "kubeconfig": secret.New(b.client.kubeconfig(namespace, token)),
		},
		Env: map[string]string{"KUBE_TOKEN": "token", "KUBE_HOST": "server", "KUBE_CLUSTER_CA_CERT_DATA": "ca", "KUBE_NAMESPACE": "namespace"},
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

package kubernetes

import (
	"reflect"
	"time"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/exchange/backend/reach"
)

// The few objects that are made, and of each no more than is used.

type meta struct {
	Name        string            `json:"name"`
	UID         string            `json:"uid,omitempty"`
	Labels      map[string]string `json:"labels,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

type typed struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Metadata   meta   `json:"metadata"`
}

type serviceAccount struct {
	typed
	Automount bool `json:"automountServiceAccountToken"`
}

type boundSecret struct {
	typed
	Type      string `json:"type"`
	Immutable bool   `json:"immutable"`
}

type policyRule struct {
	APIGroups     []string `json:"apiGroups"`
	Resources     []string `json:"resources"`
	ResourceNames []string `json:"resourceNames,omitempty"`
	Verbs         []string `json:"verbs"`
}

type role struct {
	typed
	Rules []policyRule `json:"rules"`
}

type roleRef struct {
	APIGroup string `json:"apiGroup"`
	Kind     string `json:"kind"`
	Name     string `json:"name"`
}

type subject struct {
	Kind      string `json:"kind"`
	Name      string `json:"name"`
	Namespace string `json:"namespace"`
}

type roleBinding struct {
	typed
	RoleRef  roleRef   `json:"roleRef"`
	Subjects []subject `json:"subjects"`
}

type tokenRequest struct {
	typed
	Spec   tokenSpec `json:"spec"`
	Status struct {
		Token string `json:"token"`
	} `json:"status"`
}

type tokenSpec struct {
	Audiences         []string   `json:"audiences,omitempty"`
	ExpirationSeconds int64      `json:"expirationSeconds"`
	BoundObjectRef    *objectRef `json:"boundObjectRef,omitempty"`
}

type objectRef struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Name       string `json:"name"`
	UID        string `json:"uid"`
}

const rbacGroup = "rbac.authorization.k8s.io"

// A kind of object, by where it stands.
type kind struct{ words, prefix, plural string }

var (
	secrets         = kind{"the Secret", "/api/v1", "secrets"}
	serviceAccounts = kind{"the service account", "/api/v1", "serviceaccounts"}
	roles           = kind{"the role", "/apis/" + rbacGroup + "/v1", "roles"}
	roleBindings    = kind{"the role binding", "/apis/" + rbacGroup + "/v1", "rolebindings"}
)

func (k kind) in(namespace string) string {
	return k.prefix + "/namespaces/" + namespace + "/" + k.plural
}

const maxFor = 200 // characters of the workload's words

// made is what a lease's objects are made of.
type made struct {
	want     *scope
	name     string // of each of them
	accounts string // the namespace of service accounts
	order    backend.Order
}

func (m made) object(version, kind string) typed {
	return typed{APIVersion: version, Kind: kind, Metadata: meta{
		Name:   m.name,
		Labels: map[string]string{"app.kubernetes.io/managed-by": "stepkey", "stepkey/lease": string(m.order.Lease)},
		Annotations: map[string]string{
			"stepkey/for": reach.OneLine(m.order.For, maxFor), "stepkey/until": m.order.Until.UTC().Format(time.RFC3339),
			"stepkey/scope": reach.OneLine(m.want.String(), maxFor),
		},
	}}
}

func (m made) serviceAccount() serviceAccount {
	return serviceAccount{typed: m.object("v1", "ServiceAccount")}
}

func (m made) secret() boundSecret {
	return boundSecret{typed: m.object("v1", "Secret"), Type: "stepkey/lease", Immutable: true}
}

func (m made) role() role {
	r := role{typed: m.object(rbacGroup+"/v1", "Role")}
	for _, g := range grouped(m.want.grants) {
		r.Rules = append(r.Rules, policyRule{
			APIGroups: []string{g.group}, Resources: []string{g.resource}, ResourceNames: g.names, Verbs: g.verbs,
		})
	}
	return r
}

func (m made) roleBinding() roleBinding {
	to := roleRef{APIGroup: rbacGroup, Kind: "Role", Name: m.name}
	switch m.want.form {
	case byRole:
		to.Name = m.want.name
	case byClusterRole:
		to.Kind, to.Name = "ClusterRole", m.want.name
	case byRules, byAccount:
	}
	return roleBinding{
		typed: m.object(rbacGroup+"/v1", "RoleBinding"), RoleRef: to,
		Subjects: []subject{{Kind: "ServiceAccount", Name: m.name, Namespace: m.accounts}},
	}
}

// An object that the server changed before it kept it, as webhooks may, is not the one
// that was asked for.
func (r role) same(got role) bool { return reflect.DeepEqual(r.Rules, got.Rules) }

func (r roleBinding) same(got roleBinding) bool {
	return r.RoleRef == got.RoleRef && reflect.DeepEqual(r.Subjects, got.Subjects)
}

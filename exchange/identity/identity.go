// Package identity answers one question: who is asking?
//
// It hides how a subject token (a compact JWS that carries OIDC claims) comes to
// be believed: its spelling, its issuer, the keys of that issuer and how they are
// kept fresh, its signature, times and audience, and which claims name the job.
// The answer is a Workload, or a Refusal that says which rule failed. After this
// package nobody looks at a token again.
//
// The order is fixed: size and spelling, listed issuer, header, key, signature,
// times, audience, claims. Before the signature holds, the only claim that has any
// effect is iss, and its only effect is to choose among the configured issuers; a
// token that names another one causes no outbound request.
//
// A token may be bound to one request: then its audience says to which, and whoever
// calls Verify must see to that; see Workload.Binding.
//
// Nothing here compares secrets: all inputs come from the caller or are public, so
// no comparison needs constant time.
package identity

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"log/slog"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
)

// An Issuer is one OIDC issuer that the exchange trusts, as configured.
type Issuer struct {
	// Name is the issuer's key in the configuration; task files use it.
	Name string `yaml:"-"`
	// Kind says which claims name the job: "github" for github.com, GHE.com and
	// GitHub Enterprise Server alike; see kinds.
	Kind string `yaml:"kind"`
	// URL is iss, byte for byte.
	URL string `yaml:"url"`
	// MaxAge is how long after iat a subject token is taken; if zero 60 s, and an hour for
	// kinds whose tokens are made beforehand. The leeway comes on top.
	MaxAge time.Duration `yaml:"max_age"`
	// Private lets the issuer be plain http and resolve to loopback and private
	// addresses: for GitHub Enterprise Server inside a network, and for tests.
	// Link-local addresses, where clouds keep their metadata, stay out of reach.
	Private bool `yaml:"private_network"`
	// KeysURL is where the key set is, for issuers whose discovery document cannot be had
	// or names another host: a SPIFFE bundle, a cluster's API server. Then nothing else is
	// asked. KeysFile is the key set in a file, read again whenever keys are.
	KeysURL  string `yaml:"jwks_uri"`
	KeysFile string `yaml:"jwks_file"`
	// TrustDomain is whose SPIFFE IDs an issuer of the kind spiffe may name.
	TrustDomain string `yaml:"trust_domain"`
	// Job is for the kind oidc alone, which knows no claims by itself.
	Job *JobClaims `yaml:"job"`
	// Roots are the certificate authorities for the issuer's TLS; the system's if nil.
	Roots *x509.CertPool `yaml:"-"`
}

// Options are what a Verifier takes from its surroundings.
type Options struct {
	Now func() time.Time // time.Now if nil
	Log *slog.Logger     // key refreshes and their failures; discarded if nil
}

// A Verifier turns subject tokens into workloads. Safe for concurrent use.
type Verifier struct {
	audience string
	now      func() time.Time
	issuers  map[string]*issuer // by URL
}

// issuer is a configured issuer at work.
type issuer struct {
	Issuer
	kind kind
	keys *keyRing
}

// New checks the configuration and makes a Verifier. It does not touch the
// network: keys are fetched when the first token of an issuer arrives. The error
// names every mistake, not only the first.
func New(audience string, issuers []Issuer, o Options) (*Verifier, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if err := checkConfiguration(audience, issuers); err != nil {
		return nil, err
	}
	v := &Verifier{audience: audience, now: o.Now, issuers: make(map[string]*issuer, len(issuers))}
	for _, configured := range issuers {
		k, _ := kindOf(configured)
		configured.MaxAge = cmp.Or(configured.MaxAge, k.maxAge, defaultMaxAge)
		v.issuers[configured.URL] = &issuer{Issuer: configured, kind: k, keys: newKeyRing(configured, k, o)}
	}
	return v, nil
}

// Verify says who presents the subject token. The error is a *Refusal if the token
// is not believed, and wraps ErrUnavailable if that cannot be told now because the
// issuer's keys cannot be had. It waits for the network only when keys are missing
// or due, at most about ten seconds, and no longer than ctx allows.
func (v *Verifier) Verify(ctx context.Context, subjectToken string) (Workload, error) {
	t, err := parse(subjectToken)
	if err != nil {
		return Workload{}, err
	}
	i, err := v.listed(t)
	if err != nil {
		return Workload{}, err
	}
	w, err := v.verify(ctx, i, t)
	if refusal, ok := errors.AsType[*Refusal](err); ok {
		refusal.Issuer = i.Name
	}
	return w, err
}

// listed finds the configured issuer that the token claims to be from.
func (v *Verifier) listed(t *token) (*issuer, error) {
	iss, ok := t.claims["iss"].(string)
	if !ok {
		return nil, refuse(RuleIssuer, "the claim iss is missing or is not a string", fixIssuerToken)
	}
	i, ok := v.issuers[iss]
	if !ok {
		return nil, refuse(RuleIssuer,
			"the issuer "+show(iss)+" is not configured here (it must equal a configured URL byte for byte)",
			"send a token of a configured issuer, or have the operator add this one")
	}
	return i, nil
}

// verify applies every rule behind the choice of issuer, in order.
func (v *Verifier) verify(ctx context.Context, i *issuer, t *token) (Workload, error) {
	if err := t.checkHeader(); err != nil {
		return Workload{}, err
	}
	unreadable, err := v.checkSignature(ctx, i, t)
	if err != nil {
		return Workload{}, err
	}
	life, err := checkTimes(t.claims, i.MaxAge, v.now())
	if err != nil {
		return Workload{}, err
	}
	t.claims = i.kind.oneAudience(t.claims)
	binding, err := checkAudience(t.claims, v.audience)
	if err != nil {
		return Workload{}, err
	}
	if unreadable != nil {
		return Workload{}, unreadable
	}
	id, err := i.kind.tokenID(t)
	if err != nil {
		return Workload{}, err
	}
	claims, err := i.kind.read(t.claims)
	if err != nil {
		return Workload{}, err
	}
	job, err := i.names(i.kind, claims)
	if err != nil {
		return Workload{}, err
	}
	return Workload{
		Issuer: i.Name, TokenID: id,
		IssuedAt: life.issued, Expires: life.expires.Add(Leeway),
		Claims: claims, Job: job, Binding: binding,
	}, nil
}

// names is the job that claims name, once all rules about them hold.
func (i Issuer) names(k kind, c Claims) (Job, error) {
	if err := i.checkSubject(k, c); err != nil {
		return Job{}, err
	}
	return k.job(i.Name, c)
}

// checkSignature lets go-oidc verify the token with the issuer's keys.
//
// go-oidc also reads the claims into its own struct. If only that failed, the
// signature holds and the mistake is in the claims: unreadable. It is reported
// after our own rules on times and audience, which say better what is wrong.
func (v *Verifier) checkSignature(ctx context.Context, i *issuer, t *token) (unreadable, err error) {
	keys := &keysForOne{ring: i.keys, token: t}
	_, oidcErr := oidc.NewVerifier(i.URL, keys, &oidc.Config{
		SupportedSigningAlgs: algorithms(),
		SkipClientIDCheck:    true, // checkAudience: go-oidc is content if ours is one of several
		SkipExpiryCheck:      true, // checkTimes: go-oidc has no leeway for exp and ignores iat
		Now:                  v.now,
	}).Verify(ctx, t.raw)
	switch {
	case keys.err != nil:
		return nil, keys.err // go-oidc keeps only the text of it
	case !keys.asked:
		return nil, refuse(RuleHeader, "the header holds a member that does not have the form RFC 7515 gives it", fixIssuerToken)
	case oidcErr != nil:
		return refuse(RuleClaims, "a registered claim (such as sub or nonce) has a type that OpenID Connect does not allow", fixIssuerToken), nil
	}
	return nil, nil
}

// keysForOne is the oidc.KeySet of one verification. It remembers the error, which
// go-oidc would reduce to text.
type keysForOne struct {
	ring  *keyRing
	token *token
	asked bool
	err   error
}

// VerifySignature implements oidc.KeySet.
func (k *keysForOne) VerifySignature(ctx context.Context, _ string) ([]byte, error) {
	k.asked = true
	var payload []byte
	payload, k.err = k.ring.verify(ctx, k.token)
	return payload, k.err
}

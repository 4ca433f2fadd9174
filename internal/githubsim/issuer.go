package githubsim

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1" //nolint:gosec // x5t is SHA-1 by RFC 7515, section 4.1.7
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/big"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// issuer holds the keys of ID tokens. Several are published; one signs.
type issuer struct {
	signing   signingKey
	published []jose.JSONWebKey
}

// signingKey is an RSA key in the certificate that its x5t is the thumbprint of.
type signingKey struct {
	id         string
	thumbprint string
	private    *rsa.PrivateKey
	public     jose.JSONWebKey
}

// newIssuer makes the signing key and a second one that is published only.
func newIssuer(now time.Time) (issuer, error) {
	type made struct {
		key signingKey
		err error
	}
	other := make(chan made, 1)
	go func() {
		key, err := newSigningKey(now)
		other <- made{key, err}
	}()
	signing, err := newSigningKey(now)
	second := <-other
	if err != nil {
		return issuer{}, err
	}
	return issuer{signing, []jose.JSONWebKey{second.key.public, signing.public}}, second.err
}

func newSigningKey(now time.Time) (signingKey, error) {
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return signingKey{}, fmt.Errorf("making an RSA key: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()),
		Subject:      pkix.Name{CommonName: "token.actions.githubusercontent.com"},
		NotBefore:    now.AddDate(0, 0, -1),
		NotAfter:     now.AddDate(2, 0, 0),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		return signingKey{}, fmt.Errorf("making a key's certificate: %w", err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		return signingKey{}, fmt.Errorf("reading a key's certificate: %w", err)
	}
	sum := sha1.Sum(der) //nolint:gosec // as above
	key := signingKey{
		id:         strings.ToUpper(hex.EncodeToString(sum[:])),
		thumbprint: base64.RawURLEncoding.EncodeToString(sum[:]),
		private:    private,
	}
	key.public = jose.JSONWebKey{
		Key: private.Public(), KeyID: key.id, Algorithm: string(jose.RS256), Use: "sig",
		Certificates: []*x509.Certificate{certificate}, CertificateThumbprintSHA1: sum[:],
	}
	return key, nil
}

// RotateKeys makes a new signing key, unseen until now. The old one leaves the
// JWKS at once; the second published key stays.
func (g *GitHub) RotateKeys() {
	key, err := newSigningKey(g.opts.Now())
	if err != nil {
		panic("githubsim: " + err.Error())
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.issuer = issuer{key, []jose.JSONWebKey{g.issuer.published[0], key.public}}
}

// sign makes the compact JWS of any claims. The caller holds g.mu.
func (g *GitHub) sign(claims map[string]any) string {
	key := g.issuer.signing
	options := (&jose.SignerOptions{}).WithType("JWT").WithHeader("x5t", key.thumbprint)
	return compact(jose.SigningKey{
		Algorithm: jose.RS256,
		Key:       jose.JSONWebKey{Key: key.private, KeyID: key.id},
	}, options, claims)
}

// compact signs with a key of our own making, where only claims that are no
// JSON can fail.
func compact(key jose.SigningKey, options *jose.SignerOptions, claims map[string]any) string {
	payload, err := json.Marshal(claims)
	if err != nil {
		panic("githubsim: claims that are no JSON: " + err.Error())
	}
	signer, err := jose.NewSigner(key, options)
	if err != nil {
		panic("githubsim: " + err.Error())
	}
	signed, err := signer.Sign(payload)
	if err != nil {
		panic("githubsim: " + err.Error())
	}
	text, err := signed.CompactSerialize()
	if err != nil {
		panic("githubsim: " + err.Error())
	}
	return text
}

func (g *GitHub) issuerRoutes() []route {
	return []route{
		{"GET", issuerPrefix + "/.well-known/openid-configuration", anyone, getDiscovery},
		{"GET", issuerPrefix + "/.well-known/jwks", anyone, getKeys},
		{"GET", idTokenPrefix + "/{run}/{job}", anyone, getIDToken},
	}
}

func getDiscovery(c *call) (answer, error) {
	issuer := c.g.IssuerURL()
	return ok(map[string]any{
		"issuer":                                issuer,
		"jwks_uri":                              issuer + "/.well-known/jwks",
		"subject_types_supported":               []string{"public", "pairwise"},
		"response_types_supported":              []string{"id_token"},
		"claims_supported":                      claimsSupported(),
		"id_token_signing_alg_values_supported": []string{"RS256"},
		"scopes_supported":                      []string{"openid"},
	}), nil
}

func getKeys(c *call) (answer, error) {
	return ok(jose.JSONWebKeySet{Keys: c.g.issuer.published}), nil
}

func claimsSupported() []string {
	return strings.Fields("sub aud exp iat iss jti nbf ref sha repository repository_id repository_owner " +
		"repository_owner_id enterprise enterprise_id run_id run_number run_attempt actor actor_id workflow " +
		"workflow_ref workflow_sha head_ref base_ref event_name ref_type ref_protected environment " +
		"environment_node_id job_workflow_ref job_workflow_sha repository_visibility runner_environment check_run_id")
}

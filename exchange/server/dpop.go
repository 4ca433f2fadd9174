package server

import (
	"crypto"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/json" // names are matched exactly, and none may stand twice

	"github.com/stepkey/stepkey/exchange/client"
	"github.com/stepkey/stepkey/internal/secret"
)

// A request may prove that its sender holds a key: DPoP, RFC 9449. The key tells one
// holder from another, so that a retry can be told from a second asker in the same
// job. It does not bind the credential, which outside systems take as a bearer
// token, so token_type stays Bearer.
//
// One claim is ours: sth, the base64url SHA-256 of the subject token, made as
// RFC 9449 makes ath of access tokens. It is required. A proof then goes with one
// subject token, which is good for one exchange, and there is no store of used jti:
// who sends a captured proof again needs the same subject token, and that is used up.

const (
	maxProof   = 4 << 10 // bytes; a proof has about 500
	maxProofID = 128
	proofLife  = 60 * time.Second // either way from now
)

// provingCurves are the keys that may prove, by the algorithm they sign with.
var provingCurves = map[jose.SignatureAlgorithm]string{jose.ES256: "P-256", jose.EdDSA: "Ed25519"}

func provingAlgs() []jose.SignatureAlgorithm {
	return []jose.SignatureAlgorithm{jose.ES256, jose.EdDSA}
}

func badProof(format string, args ...any) error {
	return &badRequest{http.StatusBadRequest, client.CodeInvalidDPoPProof, "the DPoP proof " + fmt.Sprintf(format, args...)}
}

// holder is the RFC 7638 thumbprint of the key that r proves to hold, empty when it
// proves none. It asks of a proof what RFC 9449 section 4.3 lists, and that it was
// made for this subject token.
func (s *Server) holder(r *http.Request, subjectToken secret.String) (string, error) {
	sent := r.Header.Values("DPoP")
	if len(sent) == 0 {
		return "", nil
	}
	if len(sent) > 1 {
		return "", badProof("is there more than once; send one DPoP header or none")
	}
	key, said, err := openProof(sent[0])
	if err != nil {
		return "", err
	}
	if err := said.check(s.URL+"/token", subjectToken, s.Exchange.Now()); err != nil {
		return "", err
	}
	thumbprint, err := key.Thumbprint(crypto.SHA256)
	if err != nil {
		return "", badProof("has a key that has no thumbprint")
	}
	return base64.RawURLEncoding.EncodeToString(thumbprint), nil
}

// compactJWS is the one spelling that passes. In a header field, white space or a
// comma would come from two proofs that a proxy folded into one.
var compactJWS = regexp.MustCompile(`\A[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\z`)

// openProof returns the key that the proof names, and what is said in it, once the
// signature is by that key. Nothing of the claims is read before.
func openProof(proof string) (jose.JSONWebKey, proofClaims, error) {
	none, said := jose.JSONWebKey{}, proofClaims{}
	if len(proof) > maxProof {
		return none, said, badProof("has %d bytes; at most %d are read", len(proof), maxProof)
	}
	if !compactJWS.MatchString(proof) {
		return none, said, badProof("is not one JWT: three parts in base64url without padding, with dots between them")
	}
	key, err := proofKey(proof[:strings.IndexByte(proof, '.')])
	if err != nil {
		return none, said, err
	}
	signed, err := jose.ParseSignedCompact(proof, provingAlgs())
	if err != nil {
		return none, said, badProof("is not a well-formed JWS")
	}
	payload, err := signed.Verify(key)
	if err != nil {
		return none, said, badProof("is not signed by the key in its header (jwk)")
	}
	if json.Unmarshal(payload, &said) != nil {
		return none, said, badProof("has claims that are no JSON object, or one of htm, htu, iat, jti and sth is of the wrong type or stands twice")
	}
	return key, said, nil
}

// proofKey reads the header: typ, alg and jwk, and nothing else. What else RFC 7515
// knows either points to other keys (jku, x5u, x5c, kid) or changes how the rest is
// read (crit, b64, zip).
func proofKey(segment string) (jose.JSONWebKey, error) {
	none := jose.JSONWebKey{}
	text, err := base64.RawURLEncoding.Strict().DecodeString(segment)
	if err != nil {
		return none, badProof("has a header that is not base64url")
	}
	members := map[string]json.RawMessage{}
	var header struct {
		Typ string          `json:"typ"`
		Alg string          `json:"alg"`
		JWK json.RawMessage `json:"jwk"`
	}
	if json.Unmarshal(text, &members) != nil || json.Unmarshal(text, &header) != nil {
		return none, badProof("has a header that is no JSON object, or one of its members stands twice")
	}
	curve, allowed := provingCurves[jose.SignatureAlgorithm(header.Alg)]
	switch {
	case header.Typ != "dpop+jwt":
		return none, badProof("must be of the type (typ) dpop+jwt")
	case !allowed:
		return none, badProof("must be signed with the algorithm (alg) ES256 or EdDSA")
	case header.JWK == nil:
		return none, badProof("lacks the public key that it is signed with (jwk)")
	case len(members) != 3:
		return none, badProof("has more in its header than typ, alg and jwk")
	}
	return publicKey(header.JWK, curve)
}

// publicKey reads a JWK that holds a public key of the curve and nothing else.
func publicKey(text []byte, curve string) (jose.JSONWebKey, error) {
	none, key := jose.JSONWebKey{}, jose.JSONWebKey{}
	members := map[string]string{} // all that is allowed is strings
	if json.Unmarshal(text, &members) != nil {
		return none, badProof("has a key (jwk) that is no JSON object of strings")
	}
	if _, private := members["d"]; private {
		return none, badProof("shows a private key (d in jwk); that key is burnt: make another one, and send its public part alone")
	}
	for name := range members {
		switch name {
		case "kty", "crv", "x", "y":
		default:
			return none, badProof("has more in its key (jwk) than kty, crv, x and y")
		}
	}
	if members["crv"] != curve {
		return none, badProof("must have a key (jwk) on the curve P-256 for ES256, or Ed25519 for EdDSA")
	}
	if err := key.UnmarshalJSON(text); err != nil || !key.Valid() || !key.IsPublic() {
		return none, badProof("has a key (jwk) that is no point of its curve, or is not written as RFC 7518 section 6.2 has it")
	}
	return key, nil
}

// proofClaims are those of RFC 9449 section 4.2, and sth. Others mean nothing to us.
type proofClaims struct {
	HTM string          `json:"htm"`
	HTU string          `json:"htu"`
	IAT *float64        `json:"iat"` // seconds; RFC 7519 section 2 allows fractions
	JTI string          `json:"jti"`
	STH string          `json:"sth"`
	ATH json.RawMessage `json:"ath"`
}

func (p proofClaims) check(url string, subjectToken secret.String, now time.Time) error {
	target, _, _ := strings.Cut(p.HTU, "#")
	target, _, _ = strings.Cut(target, "?")
	foreign := func(r rune) bool { return r < '!' || r > '~' }
	hash := sha256.Sum256([]byte(subjectToken.Reveal()))
	switch {
	case p.HTM != http.MethodPost:
		return badProof("is for another method; its htm must be POST")
	case target != url:
		return badProof("is for another URL; its htu must be %s, so call the exchange by the URL that it is configured with", url)
	case p.IAT == nil:
		return badProof("does not say when it was made (iat)")
	case p.JTI == "" || len(p.JTI) > maxProofID || strings.ContainsFunc(p.JTI, foreign):
		return badProof("needs an id (jti) of 1 to %d printable ASCII characters, without spaces", maxProofID)
	case p.ATH != nil:
		return badProof("is for the use of an access token (ath), and there is none yet")
	case p.STH == "":
		return badProof("is not bound to the subject token; its claim sth must be the base64url SHA-256 of subject_token")
	case p.STH != base64.RawURLEncoding.EncodeToString(hash[:]):
		return badProof("is bound to another subject token (sth)")
	}
	return p.fresh(now)
}

// fresh compares as numbers: what a hostile iat would overflow is no time at all.
func (p proofClaims) fresh(now time.Time) error {
	const nanos = float64(time.Second)
	ahead := *p.IAT - float64(now.UnixNano())/nanos
	switch limit := proofLife.Seconds(); {
	case ahead > limit:
		return badProof("was made in the future (iat): the sender's clock is more than %.0f s ahead of the exchange's", limit)
	case ahead < -limit:
		return badProof("is older than %.0f s (iat): make one for each request, and look whether the sender's clock is behind", limit)
	}
	return nil
}

package identity

import "strings"

// ReadClaims reads claims without believing them: text is a JSON object, or a compact
// JWS whose claims are read and whose signature is not looked at. It is as strict about
// both as Verify. The error is a *Refusal, and shows nothing of the text.
func ReadClaims(text string) (Claims, error) {
	text = strings.TrimSpace(text)
	if !strings.HasPrefix(text, "{") {
		t, err := parse(text)
		if err != nil {
			return nil, err
		}
		return t.claims, nil
	}
	if len(text) > maxToken {
		return nil, refuse(RuleSize, "the claims are longer than a whole token may be", fixIssuerToken)
	}
	claims, err := decodeObject([]byte(text))
	if err != nil {
		return nil, refuse(RuleJSON, "the text "+err.Error(), fixIssuerToken)
	}
	return claims, nil
}

// Unverified is the workload that Verify would make of these claims, had a token of this
// issuer held them: the same types are demanded, and the same claims name the job. What
// a token nests may be written flat (kubernetes.io/pod/uid). Of the issuer only Name, Kind,
// TrustDomain and Job are read. Nothing vouches for it: signature, times,
// audience and jti are not looked at, and TokenID, IssuedAt and Expires stay empty.
//
// It is for explaining task files and for testing them, and for nothing that gives a
// credential; the tests of the house know who may call it. The error is a *Refusal.
func Unverified(i Issuer, claims Claims) (Workload, error) {
	k, known := kindOf(i)
	if !known {
		return Workload{}, refuse(RuleIssuer, "no claims are known of issuers of the kind "+show(i.Kind), "name an issuer of a known kind")
	}
	claims, err := k.readWritten(k.oneAudience(claims))
	if err != nil {
		return Workload{}, err
	}
	job, err := i.names(k, claims)
	if err != nil {
		return Workload{}, err
	}
	return Workload{Issuer: i.Name, Claims: claims, Job: job}, nil
}

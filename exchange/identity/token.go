package identity

import (
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
)

const (
	maxToken  = 16 << 10 // bytes of a whole subject token; GitHub's have about 2 KiB
	maxHeader = 1 << 10  // bytes of its decoded header
	maxKeyID  = 256      // bytes of a kid
)

// A token is a compact JWS, taken apart and not yet believed.
type token struct {
	raw    string
	header map[string]any
	claims Claims
	alg    string // set by checkHeader
	kid    string // set by checkHeader
}

// parse takes a subject token apart. Every token has exactly one spelling that
// passes: base64 decoders, go-jose's included, skip line breaks and ignore unused
// trailing bits, which would give one token many.
func parse(raw string) (*token, error) {
	if len(raw) > maxToken {
		return nil, refuse(RuleSize, fmt.Sprintf("the token has %d bytes, at most %d are read", len(raw), maxToken), fixIssuerToken)
	}
	if dots := strings.Count(raw, "."); dots != 2 {
		return nil, refuse(RuleForm, fmt.Sprintf("it has %d dots where a signed token has two", dots),
			"send the ID token (header.claims.signature), not another kind of token")
	}
	parts := strings.Split(raw, ".")
	var decoded [3][]byte
	for n, name := range []string{"header", "claims", "signature"} {
		var err error
		if decoded[n], err = decodeSegment(name, parts[n]); err != nil {
			return nil, err
		}
	}
	if len(decoded[0]) > maxHeader {
		return nil, refuse(RuleSize, fmt.Sprintf("the header has %d bytes, at most %d are read", len(decoded[0]), maxHeader), fixIssuerToken)
	}
	header, err := decodeObject(decoded[0])
	if err != nil {
		return nil, refuse(RuleJSON, "the header "+err.Error(), fixIssuerToken)
	}
	claims, err := decodeObject(decoded[1])
	if err != nil {
		return nil, refuse(RuleJSON, "the claims part "+err.Error(), fixIssuerToken)
	}
	return &token{raw: raw, header: header, claims: claims}, nil
}

// decodeSegment decodes base64url without padding (RFC 7515, 2), one spelling only.
func decodeSegment(name, segment string) ([]byte, error) {
	if segment == "" {
		return nil, refuse(RuleForm, "the "+name+" is empty", fixIssuerToken)
	}
	foreign := strings.IndexFunc(segment, func(r rune) bool {
		return (r < 'A' || r > 'Z') && (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' && r != '_'
	})
	if foreign >= 0 {
		return nil, refuse(RuleForm, "the "+name+" holds a character outside base64url (padding, spaces and line breaks are not part of it)", fixIssuerToken)
	}
	decoded, err := base64.RawURLEncoding.Strict().DecodeString(segment)
	if err != nil { // not err itself: it would tell positions in the token and nothing more
		return nil, refuse(RuleForm, "the "+name+" is cut off, or is not the one way to write its bytes in base64url", fixIssuerToken)
	}
	return decoded, nil
}

// checkHeader checks what RFC 8725 asks of a header.
//
// jku, jwk, x5u and x5c are ignored: keys come from the configured issuer alone.
// kid is required: without it, choosing a key would mean trying all of them.
func (t *token) checkHeader() error {
	alg, _ := t.header["alg"].(string)
	if !slices.Contains(algorithms(), alg) {
		return refuse(RuleHeader, fmt.Sprintf("the algorithm %s is not one of %s", show(alg), strings.Join(algorithms(), ", ")), fixIssuerToken)
	}
	// typ is a media type (RFC 7515, 4.1.9), so case does not matter. Only JWT
	// passes, not its long form application/jwt, which no issuer sends: another
	// type means a token made for another use (RFC 8725, 3.11).
	if typ, present := t.header["typ"]; present {
		if text, _ := typ.(string); !strings.EqualFold(text, "JWT") {
			return refuse(RuleHeader, "the type (typ) is "+show(text)+" and not JWT", "send an ID token, not another kind of token")
		}
	}
	for _, name := range []string{"crit", "b64"} { // RFC 7515, 4.1.11; RFC 7797: change how a JWS is read
		if _, present := t.header[name]; present {
			return refuse(RuleHeader, "the header holds "+name+", which no ID token needs", fixIssuerToken)
		}
	}
	kid, _ := t.header["kid"].(string)
	if kid == "" || len(kid) > maxKeyID {
		return refuse(RuleHeader, fmt.Sprintf("the key id (kid) is missing, or is not a string of 1 to %d bytes", maxKeyID), fixIssuerToken)
	}
	t.alg, t.kid = alg, kid
	return nil
}

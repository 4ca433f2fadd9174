package identity

import (
	"encoding/base64"
	"strings"
)

// For makes a Verifier for tokens that are made for another audience, as a second
// door of one exchange needs it. Everything else is shared, the issuers' keys and
// how often they may be asked for included.
func (v *Verifier) For(audience string) (*Verifier, error) {
	if err := checkOurAudience(audience); err != nil {
		return nil, err
	}
	other := *v
	other.audience = audience
	return &other, nil
}

const (
	boundPath = "/bound/"
	sha256Len = 32 // bytes
)

// readAudience reports whether aud is ours, and what it is bound to, if it is. There
// are two forms, byte for byte: ours itself, and ours with boundPath and the base64url
// of a SHA-256 in its one spelling. Nothing else that begins like ours is for us.
func readAudience(aud, ours string) (binding string, isOurs bool) {
	if aud == ours {
		return "", true
	}
	binding, found := strings.CutPrefix(aud, ours+boundPath)
	if !found {
		return "", false
	}
	hash, err := base64.RawURLEncoding.DecodeString(binding)
	if err != nil || len(hash) != sha256Len || base64.RawURLEncoding.EncodeToString(hash) != binding {
		return "", false
	}
	return binding, true
}

// checkAudience demands that the token was made for us and for nobody else, and returns
// what it is bound to. A list is refused even if ours is its only entry: GitHub never
// sends one.
func checkAudience(c Claims, ours string) (binding string, err error) {
	fix := "request the ID token with the audience " + show(ours)
	switch aud := c["aud"].(type) {
	case string:
		binding, isOurs := readAudience(aud, ours)
		switch {
		case isOurs:
			return binding, nil
		case strings.HasPrefix(aud, ours+boundPath):
			return "", refuse(RuleAudience, "it is made for this exchange and bound to something that is no SHA-256 in base64url (43 characters)", fix+", "+boundPath+" and that, or without both")
		}
		return "", refuse(RuleAudience, "it is made for "+show(aud)+" and not for this exchange", fix)
	case []any:
		return "", refuse(RuleAudience, "the claim aud is a list; a token for this exchange names it alone, as a string", fix)
	default:
		return "", refuse(RuleAudience, "the claim aud is missing or is not a string", fix)
	}
}

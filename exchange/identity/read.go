package identity

import (
	"crypto/sha256"
	"encoding/base64"
	"maps"
	"strings"
)

// read gives a token's claims the shape in which policies read them: flat, by name. What
// is in no row stays as it is. The claims that are given are not changed.
func (k kind) read(c Claims) (Claims, error) {
	out := maps.Clone(c)
	if k.nulls {
		maps.DeleteFunc(out, func(_ string, value any) bool { return value == nil })
	}
	if k.inside != "" {
		for name := range c {
			if strings.HasPrefix(name, k.inside+"/") {
				return nil, refuse(RuleClaims, "the claim "+show(name)+" stands outside "+k.inside+", where no token has it", fixIssuerToken)
			}
		}
		if inner, present := c[k.inside]; present {
			delete(out, k.inside)
			if err := flatten(out, k.inside, inner, 0); err != nil {
				return nil, err
			}
		}
	}
	for _, name := range k.lists {
		if value, present := out[name]; present {
			joined, ok := joinedTexts(value)
			if !ok {
				return nil, refuse(RuleClaims, "the claim "+name+" is not a list of strings without commas", fixIssuerToken)
			}
			out[name] = joined
		}
	}
	return out, nil
}

// readWritten is read for claims that people write down: these may be flat already, and
// then they must be so as a whole.
func (k kind) readWritten(c Claims) (Claims, error) {
	if _, nested := c[k.inside]; k.inside != "" && !nested {
		flat := k
		flat.inside = ""
		return flat.read(c)
	}
	for _, name := range k.lists {
		if joined, flat := c[name].(string); flat {
			list := []any{}
			for one := range strings.SplitSeq(joined, ",") {
				if joined != "" {
					list = append(list, one)
				}
			}
			c = maps.Clone(c)
			c[name] = list
		}
	}
	return k.read(c)
}

// maxInside is how deep objects are read in each other: kubernetes.io/pod/uid.
const maxInside = 2

// flatten makes claims of the members of a claim, each by the names on the way to it with
// a slash between them. A member whose own name holds a slash could be taken for another.
func flatten(into Claims, at string, value any, depth int) error {
	object, ok := value.(map[string]any)
	switch {
	case !ok && depth == 0:
		return refuse(RuleClaims, "the claim "+at+" is not an object", fixIssuerToken)
	case !ok:
		into[at] = value
		return nil
	case depth == maxInside:
		return refuse(RuleClaims, "the claim "+show(at)+" is an object inside an object, where no token has one", fixIssuerToken)
	}
	for name, inner := range object {
		if name == "" || strings.Contains(name, "/") {
			return refuse(RuleClaims, "the claim "+at+" has a member "+show(name)+", which could be taken for another", fixIssuerToken)
		}
		if err := flatten(into, at+"/"+name, inner, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// joinedTexts is a list of texts as one text, with commas.
func joinedTexts(value any) (string, bool) {
	list, ok := value.([]any)
	if !ok {
		return "", false
	}
	all := make([]string, 0, len(list))
	for _, one := range list {
		s, ok := one.(string)
		if !ok || s == "" || strings.Contains(s, ",") {
			return "", false
		}
		all = append(all, s)
	}
	return strings.Join(all, ","), true
}

// oneAudience reads a list of one audience as that audience. A list of more stays, and is
// refused: whoever else the token is for could use it here.
func (k kind) oneAudience(c Claims) Claims {
	list, _ := c["aud"].([]any)
	if !k.audienceList || len(list) != 1 {
		return c
	}
	out := maps.Clone(c)
	out["aud"] = list[0]
	return out
}

// tokenID is the key of a token's one use, with the issuer's name: its jti, or where the
// issuer gives none, signedID.
func (k kind) tokenID(t *token) (string, error) {
	if _, present := t.claims["jti"]; !present && !k.tokenIDs {
		return t.signedID(), nil
	}
	return tokenID(t.claims)
}

// signedID names a token by the hash of what is signed of it, its header and claims. Not
// of the signature: whoever holds an ECDSA signature can make a second one that holds.
//
// Two tokens that an issuer makes of the same claims in the same second are one token to
// us, so that the second is refused as used. That errs on the safe side.
func (t *token) signedID() string {
	signed := t.raw[:strings.LastIndexByte(t.raw, '.')]
	hash := sha256.Sum256([]byte(signed))
	return "sha256:" + base64.RawURLEncoding.EncodeToString(hash[:])
}

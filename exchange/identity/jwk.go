package identity

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/go-jose/go-jose/v4"
)

const (
	maxKeys    = 50
	minRSABits = 2048 // RFC 7518, 3.3; go-jose itself refuses more than 4096
	exponent   = 65537
)

// algorithms are those a subject token may be signed with. GitHub has RS256 alone.
func algorithms() []string {
	return []string{string(jose.RS256), string(jose.ES256), string(jose.EdDSA)}
}

// A key verifies signatures of one algorithm, the one its type has here, whatever
// a token's header says (RFC 8725, 3.1).
type key struct {
	alg    string
	public crypto.PublicKey
}

// verify returns the token's payload if this key signed it.
func (k key) verify(t *token) ([]byte, error) {
	signed, err := jose.ParseSignedCompact(t.raw, []jose.SignatureAlgorithm{jose.SignatureAlgorithm(k.alg)})
	if err != nil {
		return nil, err
	}
	return signed.Verify(k.public)
}

// same reports whether both are one key.
func (k key) same(other key) bool {
	public, ok := k.public.(interface{ Equal(crypto.PublicKey) bool })
	return ok && public.Equal(other.public)
}

// readKeys reads a JWK set (RFC 7517) and keeps the keys that may verify tokens, by
// kid. What is not usable is left out, as the RFC asks, and named in dropped. A kid
// that two usable keys share names neither: both are left out. uses is what a key's use
// may be, where it says one.
func readKeys(document map[string]any, uses []string) (keys map[string]key, dropped []string, err error) {
	list, ok := document["keys"].([]any)
	if !ok {
		return nil, nil, errors.New("the document has no list named keys")
	}
	if len(list) > maxKeys {
		return nil, nil, fmt.Errorf("the document lists %d keys, at most %d are read", len(list), maxKeys)
	}
	keys = make(map[string]key, len(list))
	shared := make(map[string]bool)
	for _, entry := range list {
		members, _ := entry.(map[string]any)
		kid, _ := members["kid"].(string)
		usable, err := readKey(members, uses)
		if err != nil {
			dropped = append(dropped, show(kid)+": "+err.Error())
			continue
		}
		if _, twice := keys[kid]; twice {
			shared[kid] = true
		}
		keys[kid] = usable
	}
	for kid := range shared {
		delete(keys, kid)
		dropped = append(dropped, show(kid)+": two keys share this kid")
	}
	return keys, dropped, nil
}

// readKey reads one JWK. go-jose decodes the numbers; whether the key may be used
// is decided here, since go-jose verifies with keys marked for encryption too.
func readKey(members map[string]any, uses []string) (key, error) {
	if kid, _ := members["kid"].(string); kid == "" {
		return key{}, errors.New("it has no kid")
	}
	if err := checkUse(members, uses); err != nil {
		return key{}, err
	}
	material := make(map[string]any, 5) // no x5c, x5t, x5u: a certificate vouches for nothing here
	for _, name := range []string{"kty", "crv", "n", "e", "x", "y"} {
		if value, present := members[name]; present {
			material[name] = value
		}
	}
	encoded, err := json.Marshal(material)
	if err != nil {
		return key{}, err
	}
	var decoded jose.JSONWebKey
	if err := decoded.UnmarshalJSON(encoded); err != nil {
		return key{}, err
	}
	usable, err := usableKey(decoded.Key)
	if err != nil {
		return key{}, err
	}
	if alg, present := members["alg"]; present && alg != usable.alg {
		return key{}, fmt.Errorf("it is not for %s", usable.alg)
	}
	return usable, nil
}

// checkUse checks what the key says it is for (RFC 7517, 4.2 and 4.3), and that it
// is a public key: an issuer that shows a private one has lost it.
func checkUse(members map[string]any, uses []string) error {
	for _, private := range []string{"d", "p", "q", "dp", "dq", "qi", "oth", "k", "priv"} {
		if _, present := members[private]; present {
			return errors.New("it is private or symmetric")
		}
	}
	if use, present := members["use"]; present && !slices.ContainsFunc(uses, func(one string) bool { return use == one }) {
		return errors.New("its use is not " + strings.Join(uses, " or "))
	}
	if operations, present := members["key_ops"]; present {
		if list, _ := operations.([]any); !slices.Contains(list, any("verify")) {
			return errors.New("its key_ops do not hold verify")
		}
	}
	return nil
}

// usableKey checks the strength of a key and gives it its algorithm.
func usableKey(public any) (key, error) {
	switch public := public.(type) {
	case *rsa.PublicKey:
		if bits := public.N.BitLen(); bits < minRSABits {
			return key{}, fmt.Errorf("it has %d bits, at least %d are needed", bits, minRSABits)
		}
		if public.E != exponent {
			return key{}, fmt.Errorf("its exponent is not %d", exponent)
		}
		return key{alg: string(jose.RS256), public: public}, nil
	case *ecdsa.PublicKey:
		if public.Curve != elliptic.P256() {
			return key{}, errors.New("its curve is not P-256")
		}
		return key{alg: string(jose.ES256), public: public}, nil
	case ed25519.PublicKey:
		return key{alg: string(jose.EdDSA), public: public}, nil
	default:
		return key{}, errors.New("its type is not RSA, EC or Ed25519")
	}
}

package identity_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"maps"
	"math/big"
	"sync"
	"testing"

	"github.com/go-jose/go-jose/v4"
)

// forge makes keys and signs anything with them, in ways no JOSE library would.
type forge struct {
	rsa1, misfit, stranger, small, exponent3, ghe *rsa.PrivateKey
	ec1                                           *ecdsa.PrivateKey
	ed1                                           ed25519.PrivateKey
}

// theForge is made once: RSA keys are slow to make.
var theForge = sync.OnceValues(newForge)

func forgeFor(t testing.TB) *forge {
	t.Helper()
	f, err := theForge()
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func newForge() (*forge, error) {
	f := &forge{}
	var errs [8]error
	for n, k := range []**rsa.PrivateKey{&f.rsa1, &f.misfit, &f.stranger, &f.ghe} {
		*k, errs[n] = rsa.GenerateKey(rand.Reader, 2048)
	}
	f.small, errs[4] = rsa.GenerateKey(rand.Reader, 1024)
	f.exponent3, errs[5] = exponentThree()
	f.ec1, errs[6] = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	_, f.ed1, errs[7] = ed25519.GenerateKey(rand.Reader)
	return f, errors.Join(errs[:]...)
}

// exponentThree makes a 2048 bit key that crypto/rsa itself would not make.
func exponentThree() (*rsa.PrivateKey, error) {
	one, three := big.NewInt(1), big.NewInt(3)
	for {
		p, err := rand.Prime(rand.Reader, 1024)
		if err != nil {
			return nil, err
		}
		q, err := rand.Prime(rand.Reader, 1024)
		if err != nil {
			return nil, err
		}
		phi := new(big.Int).Mul(new(big.Int).Sub(p, one), new(big.Int).Sub(q, one))
		n := new(big.Int).Mul(p, q)
		d := new(big.Int).ModInverse(three, phi)
		if d == nil || n.BitLen() != 2048 {
			continue
		}
		k := &rsa.PrivateKey{PublicKey: rsa.PublicKey{N: n, E: 3}, D: d, Primes: []*big.Int{p, q}}
		k.Precompute()
		return k, nil
	}
}

// keySet is what github.com publishes in the stories.
func (f *forge) keySet(t testing.TB) map[string]any {
	t.Helper()
	return map[string]any{"keys": []any{
		jwk(t, "rsa-1", &f.rsa1.PublicKey, map[string]any{"use": "sig", "alg": "RS256"}),
		jwk(t, "ec-1", &f.ec1.PublicKey, map[string]any{"key_ops": []any{"verify"}}),
		jwk(t, "ed-1", f.ed1.Public(), nil),
		jwk(t, "enc-1", &f.misfit.PublicKey, map[string]any{"use": "enc"}),
		jwk(t, "ops-1", &f.misfit.PublicKey, map[string]any{"key_ops": []any{"encrypt"}}),
		jwk(t, "rs512-1", &f.misfit.PublicKey, map[string]any{"alg": "RS512"}),
		jwk(t, "small-1", &f.small.PublicKey, nil),
		jwk(t, "e3-1", &f.exponent3.PublicKey, nil),
		jwk(t, "large-1", &rsa.PublicKey{N: new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 4097), big.NewInt(1)), E: 65537}, nil),
		jwk(t, "p384-1", p384(t), nil),
		jwk(t, "oct-1", []byte("a symmetric key that everybody can read"), nil),
		jwk(t, "private-1", f.misfit, nil),
		jwk(t, "twice-1", &f.misfit.PublicKey, nil),
		jwk(t, "twice-1", &f.stranger.PublicKey, nil),
		jwk(t, "mislabelled-1", &f.ec1.PublicKey, map[string]any{"alg": "RS256"}),
		map[string]any{"kty": "of tomorrow", "kid": "future-1"},
		"not even an object",
	}}
}

func p384(t testing.TB) *ecdsa.PublicKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &k.PublicKey
}

// jwk writes a key as go-jose does, with more members on top.
func jwk(t testing.TB, kid string, k any, more map[string]any) map[string]any {
	t.Helper()
	encoded, err := jose.JSONWebKey{Key: k, KeyID: kid}.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	members := map[string]any{}
	if err := json.Unmarshal(encoded, &members); err != nil {
		t.Fatal(err)
	}
	maps.Copy(members, more)
	return members
}

// sign makes a compact JWS of any two texts, with a key or a trick.
func (f *forge) sign(t testing.TB, key, header, claims string) string {
	t.Helper()
	input := segment(header) + "." + segment(claims)
	return input + "." + segment(string(f.signature(t, key, []byte(input))))
}

func segment(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }

func (f *forge) signature(t testing.TB, key string, input []byte) []byte {
	t.Helper()
	digest := sha256.Sum256(input)
	switch key {
	case "ed-1":
		return ed25519.Sign(f.ed1, input)
	case "ec-1":
		r, s, err := ecdsa.Sign(rand.Reader, f.ec1, digest[:])
		if err != nil {
			t.Fatal(err)
		}
		return append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
	case "DER":
		return must(ecdsa.SignASN1(rand.Reader, f.ec1, digest[:]))(t)
	case "zeros":
		return make([]byte, 64)
	case "HMAC of the public key":
		mac := hmac.New(sha256.New, must(x509.MarshalPKIXPublicKey(&f.rsa1.PublicKey))(t))
		mac.Write(input)
		return mac.Sum(nil)
	case "HMAC of nothing":
		mac := hmac.New(sha256.New, nil)
		mac.Write(input)
		return mac.Sum(nil)
	case "PSS":
		return must(rsa.SignPSS(rand.Reader, f.rsa1, crypto.SHA256, digest[:], nil))(t)
	}
	k, known := map[string]*rsa.PrivateKey{
		"": f.rsa1, "rsa-1": f.rsa1, "stranger": f.stranger, "ghe-1": f.ghe,
		"enc-1": f.misfit, "ops-1": f.misfit, "rs512-1": f.misfit, "private-1": f.misfit, "twice-1": f.misfit,
		"small-1": f.small, "e3-1": f.exponent3,
	}[key]
	if !known {
		t.Fatalf("the forge has no key %q", key)
	}
	signature := must(rsa.SignPKCS1v15(nil, k, crypto.SHA256, digest[:]))(t)
	if err := rsa.VerifyPKCS1v15(&k.PublicKey, crypto.SHA256, digest[:], signature); err != nil {
		t.Fatalf("the forge's signature with %q must be valid, or the story proves nothing: %v", key, err)
	}
	return signature
}

func must[T any](value T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
}

// encode writes JSON without HTML escapes, numbers as they are.
func encode(t testing.TB, value any) string {
	t.Helper()
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		t.Fatal(err)
	}
	return string(bytes.TrimSpace(out.Bytes()))
}

package server_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"maps"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"
)

type members = map[string]any

// aKey signs proofs by hand, honest ones and others.
type aKey struct {
	alg  string
	jwk  members
	d    string // the private part, as a JWK has it
	sign func(input []byte) []byte
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func ecKey(t testing.TB, curve elliptic.Curve, alg string) aKey {
	t.Helper()
	private, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	size := (curve.Params().BitSize + 7) / 8
	point, err := private.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	d, err := private.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	sign := func(input []byte) []byte {
		hash := sha256.Sum256(input)
		r, s, err := ecdsa.Sign(rand.Reader, private, hash[:])
		if err != nil {
			t.Fatal(err)
		}
		return append(r.FillBytes(make([]byte, size)), s.FillBytes(make([]byte, size))...)
	}
	return aKey{alg, members{"kty": "EC", "crv": curve.Params().Name, "x": b64(point[1 : 1+size]), "y": b64(point[1+size:])}, b64(d), sign}
}

func edKey(t testing.TB) aKey {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return aKey{"EdDSA", members{"kty": "OKP", "crv": "Ed25519", "x": b64(public)}, b64(private.Seed()), func(input []byte) []byte { return ed25519.Sign(private, input) }}
}

func rsaKey(t testing.TB, alg string) aKey {
	t.Helper()
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	sign := func(input []byte) []byte {
		hash := sha256.Sum256(input)
		signature, err := rsa.SignPKCS1v15(rand.Reader, private, crypto.SHA256, hash[:])
		if err != nil {
			t.Fatal(err)
		}
		return signature
	}
	return aKey{alg, members{"kty": "RSA", "n": b64(private.N.Bytes()), "e": "AQAB"}, b64(private.D.Bytes()), sign}
}

// A draft is a proof before it is signed.
type draft struct {
	key            aKey
	header, claims members
}

func aDraft(k aKey, subject string) draft {
	hash := sha256.Sum256([]byte(subject))
	return draft{k, members{"typ": "dpop+jwt", "alg": k.alg, "jwk": maps.Clone(k.jwk)}, members{
		"htm": "POST", "htu": audience + "/token", "iat": time.Now().Unix(), "jti": "a-proof", "sth": b64(hash[:]),
	}}
}

func (d draft) signed(t testing.TB) string {
	t.Helper()
	header, headerErr := json.Marshal(d.header)
	claims, claimsErr := json.Marshal(d.claims)
	if err := errors.Join(headerErr, claimsErr); err != nil {
		t.Fatal(err)
	}
	return d.signedAs(string(header), string(claims))
}

// signedAs signs JSON that no encoder would write.
func (d draft) signedAs(header, claims string) string {
	input := b64([]byte(header)) + "." + b64([]byte(claims))
	return input + "." + b64(d.key.sign([]byte(input)))
}

type badProof struct {
	name   string
	header []string // the DPoP headers of one request
	says   string
}

// A forger makes proofs for one subject token, each with one thing wrong.
type forger struct {
	t       testing.TB
	k       aKey
	subject string
}

func (f forger) draft() draft { return aDraft(f.k, f.subject) }

func (f forger) by(k aKey) string { return aDraft(k, f.subject).signed(f.t) }

// claim puts a claim in; nil leaves it out.
func (f forger) claim(name string, value any) string {
	d := f.draft()
	if d.claims[name] = value; value == nil {
		delete(d.claims, name)
	}
	return d.signed(f.t)
}

func (f forger) header(name string, value any) string {
	d := f.draft()
	if d.header[name] = value; value == nil {
		delete(d.header, name)
	}
	return d.signed(f.t)
}

func (f forger) inKey(d draft, name string, value any) string {
	d.header["jwk"].(members)[name] = value
	return d.signed(f.t)
}

// text is an honest proof's header and claims, to be spoilt before they are signed.
func (f forger) text() (header, claims string) {
	part := func(m members) string {
		text, err := json.Marshal(m)
		if err != nil {
			f.t.Fatal(err)
		}
		return string(text)
	}
	return part(f.draft().header), part(f.draft().claims)
}

func one(name, proof, says string) badProof { return badProof{name, []string{proof}, says} }

func hostileProofs(t testing.TB, subject string) []badProof {
	f := forger{t, ecKey(t, elliptic.P256(), "ES256"), subject}
	return slices.Concat(f.misshapen(), f.badHeaders(), f.badKeys(), f.badSignatures(), f.badClaims())
}

func (f forger) misshapen() []badProof {
	honest := f.by(f.k)
	parts := strings.Split(honest, ".")
	return []badProof{
		{"two proofs", []string{honest, honest}, "more than once"},
		{"two proofs, one of them empty", []string{honest, ""}, "more than once"},
		one("two proofs in one field", honest+", "+honest, "not one JWT"),
		one("an empty header", "", "not one JWT"),
		one("no JWT", marker, "not one JWT"),
		one("white space inside", parts[0]+". "+parts[1]+"."+parts[2], "not one JWT"),
		one("padding", parts[0]+"=."+parts[1]+"."+parts[2], "not one JWT"),
		one("no signature", parts[0]+"."+parts[1]+".", "not one JWT"),
		one("four parts", honest+"."+parts[2], "not one JWT"),
		one("the scheme of a bearer", "DPoP "+honest, "not one JWT"),
		one("oversize", f.claim("more", strings.Repeat("a", 4<<10)), "at most 4096"),
	}
}

func (f forger) badHeaders() []badProof {
	head, claims := f.text()
	hmacKey := aKey{"HS256", f.k.jwk, "", func(input []byte) []byte {
		mac := hmac.New(sha256.New, []byte(f.k.jwk["x"].(string)))
		mac.Write(input)
		return mac.Sum(nil)
	}}
	return []badProof{
		one("a header that is no JSON", f.draft().signedAs(marker, claims), "header that is no JSON object"),
		one("a header that is a list", f.draft().signedAs("[]", claims), "header that is no JSON object"),
		one("a header with alg twice", f.draft().signedAs(`{"alg":"none",`+head[1:], claims), "stands twice"),
		one("a header in capitals", f.draft().signedAs(strings.ReplaceAll(head, `"jwk"`, `"JWK"`), claims), "lacks the public key"),
		one("no type", f.header("typ", nil), "dpop+jwt"),
		one("a plain JWT", f.header("typ", "JWT"), "dpop+jwt"),
		one("unsigned", f.header("alg", "none"), "ES256 or EdDSA"),
		one("HS256 with the public key", f.by(hmacKey), "ES256 or EdDSA"),
		one("RS256", f.by(rsaKey(f.t, "RS256")), "ES256 or EdDSA"),
		one("RSA called ES256", f.by(rsaKey(f.t, "ES256")), "more in its key"),
		one("P-384", f.by(ecKey(f.t, elliptic.P384(), "ES384")), "ES256 or EdDSA"),
		one("P-384 called ES256", f.by(ecKey(f.t, elliptic.P384(), "ES256")), "curve P-256"),
		one("Ed25519 called ES256", f.by(aKey{"ES256", edKey(f.t).jwk, "", edKey(f.t).sign}), "curve P-256"),
		one("crit", f.header("crit", []string{"exp"}), "more in its header"),
		one("kid", f.header("kid", marker), "more in its header"),
		one("jku", f.header("jku", "https://evil.example.com/"+marker), "more in its header"),
		one("x5c", f.header("x5c", []string{"MIIB"}), "more in its header"),
		one("b64", f.header("b64", false), "more in its header"),
	}
}

func (f forger) badKeys() []badProof {
	head, claims := f.text()
	return []badProof{
		one("no key", f.header("jwk", nil), "lacks the public key"),
		one("a key that is null", f.draft().signedAs(strings.Replace(head, `"jwk":{`, `"jwk":null,"was":{`, 1), claims), "more in its header"),
		one("a key that is a string", f.header("jwk", marker), "no JSON object of strings"),
		one("a private key", f.inKey(f.draft(), "d", f.k.d), "private key"),
		one("a private key that is empty", f.inKey(f.draft(), "d", ""), "private key"),
		one("a private Ed25519 key", f.inKey(aDraft(edKey(f.t), f.subject), "d", b64(make([]byte, 32))), "private key"),
		one("a key with a kid", f.inKey(f.draft(), "kid", marker), "more in its key"),
		one("a symmetric key", f.header("jwk", members{"kty": "oct", "crv": "P-256", "x": b64([]byte(marker))}), "no point of its curve"),
		one("a point that is on no curve", f.inKey(f.draft(), "y", f.k.jwk["x"]), "no point of its curve"),
		one("a coordinate with a zero in front", f.inKey(f.draft(), "x", "AAAA"+f.k.jwk["x"].(string)), "no point of its curve"),
		one("a point of low order", f.by(aKey{"EdDSA", members{"kty": "OKP", "crv": "Ed25519", "x": b64(append([]byte{1}, make([]byte, 31)...))}, "", edKey(f.t).sign}), "no point of its curve"),
	}
}

func (f forger) badSignatures() []badProof {
	_, claims := f.text()
	parts := strings.Split(f.by(f.k), ".")
	swapped := f.draft()
	swapped.header["jwk"] = ecKey(f.t, elliptic.P256(), "ES256").jwk
	return []badProof{
		one("somebody else's key", swapped.signed(f.t), "not signed by the key"),
		one("a signature in DER", parts[0]+"."+parts[1]+"."+b64(derOf(f.t, parts[2])), "not signed by the key"),
		one("a signature of nothing", parts[0]+"."+parts[1]+"."+b64(make([]byte, 64)), "not signed by the key"),
		one("claims put in afterwards", parts[0]+"."+b64([]byte(claims[:len(claims)-1]))+"."+parts[2], "not signed by the key"),
	}
}

func (f forger) badClaims() []badProof {
	head, claims := f.text()
	now := time.Now()
	return []badProof{
		one("claims that are a list", f.draft().signedAs(head, "[]"), "claims that are no JSON object"),
		one("a claim twice", f.draft().signedAs(head, `{"htm":"GET",`+claims[1:]), "stands twice"),
		one("another method", f.claim("htm", "GET"), "htm must be POST"),
		one("a method in lower case", f.claim("htm", "post"), "htm must be POST"),
		one("no method", f.claim("htm", nil), "htm must be POST"),
		one("another host", f.claim("htu", "https://evil.example.com/token"), "htu must be "+audience+"/token"),
		one("another path", f.claim("htu", audience+"/revoke"), "htu must be"),
		one("a longer path", f.claim("htu", audience+"/token/"), "htu must be"),
		one("another scheme", f.claim("htu", "http"+strings.TrimPrefix(audience, "https")+"/token"), "htu must be"),
		one("a URL that is a list", f.claim("htu", []string{audience + "/token"}), "wrong type"),
		one("no URL", f.claim("htu", nil), "htu must be"),
		one("an old one", f.claim("iat", now.Add(-2*time.Minute).Unix()), "older than 60 s"),
		one("one from the future", f.claim("iat", now.Add(2*time.Minute).Unix()), "in the future"),
		one("one from the end of time", f.claim("iat", 1e300), "in the future"),
		one("a time in text", f.claim("iat", "now"), "wrong type"),
		one("no time", f.claim("iat", nil), "when it was made"),
		one("no id", f.claim("jti", nil), "needs an id"),
		one("an endless id", f.claim("jti", strings.Repeat("a", 129)), "needs an id"),
		one("an id with a line break", f.claim("jti", "a\nb"), "needs an id"),
		one("an id that is a number", f.claim("jti", 7), "wrong type"),
		one("a proof of using an access token", f.claim("ath", b64(make([]byte, 32))), "access token"),
		one("ath that is null", f.draft().signedAs(head, `{"ath":null,`+claims[1:]), "access token"),
		one("bound to no subject token", f.claim("sth", nil), "not bound"),
		one("bound to another subject token", aDraft(f.k, f.subject+"x").signed(f.t), "another subject token"),
	}
}

// derOf writes a signature as everybody but JWS does.
func derOf(t testing.TB, segment string) []byte {
	t.Helper()
	raw, err := base64.RawURLEncoding.DecodeString(segment)
	if err != nil {
		t.Fatal(err)
	}
	der := []byte{}
	for _, half := range [][]byte{raw[:32], raw[32:]} {
		n := new(big.Int).SetBytes(half).Bytes()
		if n[0]&0x80 != 0 {
			n = append([]byte{0}, n...)
		}
		der = append(append(der, 2, byte(len(n))), n...)
	}
	return append([]byte{0x30, byte(len(der))}, der...)
}

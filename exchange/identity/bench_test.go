package identity_test

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"strings"
	"testing"
)

// BenchmarkVerify is the whole of Verify with keys at hand: RS256, 2048 bits, a token
// of GitHub's size. BenchmarkFloorRSAVerify is what no verifier can do without.
func BenchmarkVerify(b *testing.B) {
	v := verifierAt(b, newNetwork(b), atPresent)
	token := honest(b, present)
	if _, err := v.Verify(b.Context(), token); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := v.Verify(b.Context(), token); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkFloorRSAVerify(b *testing.B) {
	token := honest(b, present)
	end := strings.LastIndexByte(token, '.')
	signature, public := []byte(unsegment(token[end+1:])), &forgeFor(b).rsa1.PublicKey
	b.ReportAllocs()
	for b.Loop() {
		digest := sha256.Sum256([]byte(token[:end]))
		if err := rsa.VerifyPKCS1v15(public, crypto.SHA256, digest[:], signature); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkRefuseUnlisted is what a token of a foreign issuer costs.
func BenchmarkRefuseUnlisted(b *testing.B) {
	v := verifierAt(b, newNetwork(b), atPresent)
	token := story{Claims: map[string]any{"iss": "https://evil.example"}}.build(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := v.Verify(b.Context(), token); err == nil {
			b.Fatal("believed")
		}
	}
}

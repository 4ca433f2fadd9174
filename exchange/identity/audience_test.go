package identity

import (
	"encoding/base64"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// FuzzAudience: an audience is ours in two spellings and no other, whatever ours is.
func FuzzAudience(f *testing.F) {
	const ours, hash = "https://exchange.example", "47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU"
	for _, aud := range []string{
		ours, ours + "/", ours + "/bound/" + hash, ours + "/bound/" + hash + "/", ours + "/bound/" + hash + "/bound/" + hash, ours + "/bound/bound/" + hash,
		ours + "/BOUND/" + hash, ours + "//bound/" + hash, ours + "/bound/" + hash[:42] + "V", ours + "/bound/" + hash + "=", ours + "/bound/" + hash[:41] + "\r\n", "",
	} {
		f.Add(aud, ours)
		f.Add(aud, strings.TrimSuffix(aud, hash))
	}
	f.Fuzz(func(t *testing.T, aud, ours string) {
		binding, isOurs := readAudience(aud, ours)
		switch {
		case !isOurs && (binding != "" || aud == ours):
			t.Fatalf("%q for %q: bound to %q", aud, ours, binding)
		case !isOurs:
			return
		case binding == "" && aud != ours, binding != "" && aud != ours+"/bound/"+binding:
			t.Fatalf("%q is taken for %q, bound to %q", aud, ours, binding)
		}
		if hash, err := base64.RawURLEncoding.Strict().DecodeString(binding); binding != "" && (err != nil || len(hash) != 32 || len(binding) != 43) {
			t.Fatalf("bound to %q: %v", binding, err)
		}
	})
}

// Every SHA-256 can be bound to, in one spelling: with any byte of the audience changed,
// cut out or put in, it is not ours, or bound to something else.
func TestABoundAudienceHasOneSpelling(t *testing.T) {
	const ours = "https://exchange.example"
	rapid.Check(t, func(t *rapid.T) {
		hash := base64.RawURLEncoding.EncodeToString(rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "hash"))
		aud := ours + "/bound/" + hash
		if binding, isOurs := readAudience(aud, ours); !isOurs || binding != hash {
			t.Fatalf("%s: %q, %t", aud, binding, isOurs)
		}
		at := rapid.IntRange(0, len(aud)).Draw(t, "at")
		put := rapid.SampledFrom([]string{"", "/", "A", "V", "=", "+", " ", "\n", "\x00", "%2f", "é"}).Draw(t, "put")
		cut := min(at+rapid.IntRange(0, 2).Draw(t, "cut"), len(aud))
		changed := aud[:at] + put + aud[cut:]
		if binding, isOurs := readAudience(changed, ours); isOurs && changed != aud && binding == hash {
			t.Fatalf("%q is taken for %q", changed, aud)
		}
	})
}

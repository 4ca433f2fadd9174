package identity_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/stepkey/stepkey/exchange/identity"
)

// FuzzVerify cuts a piece out of an honest token and puts another in its place, up
// to the whole of it. Whatever is believed then is the honest token, byte for byte:
// an RS256 signature has one spelling.
func FuzzVerify(f *testing.F) {
	token := honest(f, present)
	parts := strings.Split(token, ".")
	f.Add(uint16(0), uint16(0), "")
	f.Add(uint16(0), uint16(len(token)), token)
	f.Add(uint16(len(token)-1), uint16(1), spellings(token)[7][len(token)-1:])
	f.Add(uint16(len(parts[0])), uint16(1), ".\n")
	f.Add(uint16(len(token)), uint16(0), "=")
	f.Add(uint16(0), uint16(len(parts[0])), segment(`{"alg":"none","kid":"rsa-1"}`))
	f.Add(uint16(len(parts[0])+1), uint16(len(parts[1])), segment(`{"iss":"`+githubURL+`"}`))
	for _, s := range stories(f, "hostile.yaml") {
		f.Add(uint16(0), uint16(len(token)), s.build(f))
	}
	v := verifierAt(f, newNetwork(f), atPresent)
	f.Fuzz(func(t *testing.T, at, cut uint16, put string) {
		from := min(int(at), len(token))
		to := min(from+int(cut), len(token))
		changed := token[:from] + put + token[to:]
		w, err := v.Verify(t.Context(), changed)
		if err == nil {
			if changed != token {
				t.Fatalf("believed %+v, which the issuer did not sign in this spelling", w)
			}
			return
		}
		if _, refused := errors.AsType[*identity.Refusal](err); !refused {
			t.Fatalf("a hostile token leads to %v", err)
		}
		if leak := leaks(changed, err.Error()); leak != "" {
			t.Fatalf("the error shows %q: %v", leak, err)
		}
	})
}

package client_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"
	"github.com/stepkey/stepkey/exchange/client"
)

// holding returns the request of all stories, with a key.
func holding(t *testing.T) client.TokenRequest {
	t.Helper()
	key, err := client.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	r := ask
	r.Key = key
	return r
}

func TestAKeyIsProvenAsRFC9449HasIt(t *testing.T) {
	var proofs []string
	server := against(t, func(w http.ResponseWriter, r *http.Request) {
		proofs = append(proofs, r.Header.Values("DPoP")...)
		saying(http.StatusOK, good)(w, r)
	})
	now := time.Date(2026, 11, 23, 15, 0, 0, 0, time.UTC)
	c, err := client.New(server.URL(), client.Options{Now: func() time.Time { return now }, Rand: strings.NewReader("0123456789abcdefFEDCBA9876543210")})
	if err != nil {
		t.Fatal(err)
	}
	r := holding(t)
	for range 2 {
		if _, err := c.Token(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.Token(t.Context(), ask); err != nil || len(proofs) != 2 {
		t.Fatalf("%d proofs; without a key none is sent (%v)", len(proofs), err)
	}
	for i, id := range []string{"0123456789abcdef", "FEDCBA9876543210"} {
		signed, err := jose.ParseSignedCompact(proofs[i], []jose.SignatureAlgorithm{jose.ES256})
		if err != nil {
			t.Fatal(err)
		}
		header := signed.Signatures[0].Protected
		if header.ExtraHeaders[jose.HeaderType] != "dpop+jwt" || !header.JSONWebKey.IsPublic() {
			t.Errorf("header %+v", header)
		}
		payload, err := signed.Verify(header.JSONWebKey.Key.(*ecdsa.PublicKey))
		if err != nil {
			t.Fatal(err)
		}
		var claims map[string]any
		if err := json.Unmarshal(payload, &claims); err != nil {
			t.Fatal(err)
		}
		hash := sha256.Sum256([]byte(idToken))
		want := map[string]any{
			"htm": "POST", "htu": c.URL() + "/token", "iat": float64(now.Unix()),
			"jti": base64.RawURLEncoding.EncodeToString([]byte(id)), "sth": base64.RawURLEncoding.EncodeToString(hash[:]),
		}
		if diff := cmp.Diff(want, claims); diff != "" {
			t.Errorf("claims (-want +got):\n%s", diff)
		}
		thumbprint, err := header.JSONWebKey.Thumbprint(crypto.SHA256)
		if err != nil || r.Key.Thumbprint() != base64.RawURLEncoding.EncodeToString(thumbprint) {
			t.Errorf("thumbprint %s, %v", r.Key.Thumbprint(), err)
		}
	}
}

func TestAPrintedKeyShowsItsThumbprintAlone(t *testing.T) {
	r := holding(t)
	text, err := json.Marshal(r.Key) //nolint:staticcheck // that it has nothing to show is the point
	if err != nil || string(text) != "{}" {
		t.Errorf("as JSON: %s, %v", text, err)
	}
	if text := fmt.Sprintf("%v %+v %s", r.Key, r.Key, r.Key); strings.ReplaceAll(text, r.Key.Thumbprint(), "x") != "x x x" {
		t.Errorf("printed: %s", text)
	}
	if text := fmt.Sprintf("%#v", r); strings.Contains(text, "PrivateKey") {
		t.Errorf("printed: %s", text)
	}
}

func TestWithoutRandomnessNothingIsSent(t *testing.T) {
	server := against(t, func(http.ResponseWriter, *http.Request) { t.Error("it was sent") })
	c, err := client.New(server.URL(), client.Options{Rand: iotest.ErrReader(iotest.ErrTimeout)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Token(t.Context(), holding(t)); err == nil || !strings.Contains(err.Error(), "DPoP proof") {
		t.Errorf("%v", err)
	}
}

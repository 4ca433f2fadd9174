package client_test

import (
	"crypto"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/stepkey/stepkey/exchange/client"
	"pgregory.net/rapid"
)

// The vectors were made by another program from the words of Binding alone. A change of
// any of them is another way to bind, and needs another name.
func TestABindingIsTheHashThatItsWordsSay(t *testing.T) {
	const thumbprint = "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I" // of RFC 9449, section 6.1
	for _, v := range []struct{ thumbprint, task, details, want string }{
		{thumbprint, "publish-release", "", "Apt783008rKqyRja3JyBdYF0uF9v4M2UmA2mjXAS5ps"},
		{thumbprint, "publish-release", `[{"type":"stepkey_task","ttl":"1m30s"}]`, "MSZAuH44eiw677u_XpsyXkAB8erzldAXGwFP46zXzk0"},
		{thumbprint, "acme/widget:publish-release", `[{"type":"stepkey_task","inputs":{"version":"v1.2.3 é"}}]`, "JKHq-CBh76I8l0wmZZITK6q2f5K08mQ1mt1bgj-Ig2s"},
		{"", "", "", "Am7diVmU2wk6Ls42r6fXuXq-a42YtNOa0RYwQ7yeqso"},
	} {
		if got := client.Binding(v.thumbprint, v.task, v.details); got != v.want {
			t.Errorf("%s %s: %s", v.task, v.details, got)
		}
	}
	if client.BindingRequestV1 != "stepkey-bound-request-v1" {
		t.Errorf("the way is called %s", client.BindingRequestV1)
	}
}

// Where one part ends and the next begins is hashed, too.
func TestNoTwoRequestsHaveOneBinding(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		draw := func(label string) [3]string {
			text := rapid.SliceOfN(rapid.SampledFrom([]string{"", "a", "b", "ab", "\x00", "\x00\x00\x00\x00\x00\x00\x00\x01", "[]"}), 3, 3).Draw(t, label)
			return [3]string(text)
		}
		one, other := draw("one"), draw("other")
		if same := client.Binding(one[0], one[1], one[2]) == client.Binding(other[0], other[1], other[2]); same != (one == other) {
			t.Fatalf("%q and %q: the same %t", one, other, same)
		}
	})
}

// What is bound is what is sent: the exchange makes the same of the form and the proof.
func TestABoundAudienceIsOfTheRequestThatIsSent(t *testing.T) {
	var bound string
	server := against(t, func(w http.ResponseWriter, r *http.Request) {
		bound = client.Binding(thumbprintIn(t, r.Header.Get("DPoP")), r.PostFormValue("scope"), r.PostFormValue("authorization_details"))
		saying(http.StatusOK, good)(w, r)
	})
	r := holding(t)
	for name, change := range map[string]func(*client.TokenRequest){
		"the task alone":   func(*client.TokenRequest) {},
		"a time to live":   func(r *client.TokenRequest) { r.TTL = 90 * time.Second },
		"inputs":           func(r *client.TokenRequest) { r.Inputs = map[string]string{"z": "<é>", "a": "1", "m": "\xff"} },
		"less than all":    func(r *client.TokenRequest) { r.Narrow = json.RawMessage(" {\"github\" : {\"b\":1,\"a\":2}}\n") },
		"all at once":      func(r *client.TokenRequest) { r.TTL, r.Inputs = time.Minute, map[string]string{"a": ""} },
		"inputs of no one": func(r *client.TokenRequest) { r.Inputs = map[string]string{} },
	} {
		changed := r
		change(&changed)
		want, err := client.BoundAudience("https://exchange.example", changed)
		if err != nil {
			t.Fatal(err)
		}
		again, err := client.BoundAudience("https://exchange.example", changed)
		if err != nil || again != want {
			t.Errorf("%s: another try has another audience: %v", name, err)
		}
		if _, err := server.Token(t.Context(), changed); err != nil {
			t.Fatal(err)
		}
		if want != "https://exchange.example/bound/"+bound || len(bound) != 43 {
			t.Errorf("%s: bound to %s, sent %s", name, want, bound)
		}
	}
}

// thumbprintIn is the name of the key in a proof's header, as another program makes it.
func thumbprintIn(t *testing.T, proof string) string {
	t.Helper()
	signed, err := jose.ParseSignedCompact(proof, []jose.SignatureAlgorithm{jose.ES256})
	if err != nil {
		t.Fatal(err)
	}
	hash, err := signed.Signatures[0].Protected.JSONWebKey.Thumbprint(crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	return base64.RawURLEncoding.EncodeToString(hash)
}

func TestWhatCannotBeBoundIsNot(t *testing.T) {
	r := holding(t)
	for name, c := range map[string]struct {
		audience string
		change   func(*client.TokenRequest)
		says     string
	}{
		"no audience":      {"", func(*client.TokenRequest) {}, "audience"},
		"no key":           {"x", func(r *client.TokenRequest) { r.Key = nil }, "key"},
		"no task":          {"x", func(r *client.TokenRequest) { r.Task = "" }, "task"},
		"what is not JSON": {"x", func(r *client.TokenRequest) { r.Narrow = json.RawMessage("{") }, "not JSON"},
	} {
		changed := r
		c.change(&changed)
		if got, err := client.BoundAudience(c.audience, changed); got != "" || err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

// A token that is bound to the request is good for it alone: ask the issuer for one with
// the audience that this gives, put it into the request, and send that as it is.
func ExampleBoundAudience() {
	key, err := client.NewKey()
	if err != nil {
		fmt.Println(err)
		return
	}
	request := client.TokenRequest{Task: "publish-release", TTL: 5 * time.Minute, Key: key}
	audience, err := client.BoundAudience("https://lease.example.com", request)
	if err != nil {
		fmt.Println(err)
		return
	}
	readable, binding, _ := strings.Cut(audience, "/bound/")
	fmt.Println(readable, len(binding))
	// Output: https://lease.example.com 43
}

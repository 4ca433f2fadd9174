package main

import (
	"net/http"
	"strings"
	"testing"
)

// FuzzIDTokenAnswer: what is taken for an ID token was masked before.
func FuzzIDTokenAnswer(f *testing.F) {
	for _, body := range []string{`{"value":"eyJh.b.c"}`, `{"value":""}`, `{"value":1}`, `{"value":"a\nb"}`, `{}`, `null`, `[`, ``, "<html>"} {
		f.Add(200, body)
		f.Add(401, body)
	}
	f.Fuzz(func(t *testing.T, status int, body string) {
		r := newRig(t, func(*http.Request) (*http.Response, error) { return answering(status, body) })
		req, err := r.idTokenRequest(t.Context(), "https://exchange.example.com")
		if err != nil {
			t.Fatal(err)
		}
		token, err := r.idTokenOnce(t.Context(), req)
		if (err == nil) == token.Empty() {
			t.Errorf("token empty: %v, error: %v", token.Empty(), err)
		}
		if err == nil && !strings.HasPrefix(r.log.String(), "::add-mask::") {
			t.Errorf("it was not masked: %q", r.log.String())
		}
	})
}

// FuzzEvent: any event file is read as one from a fork or not.
func FuzzEvent(f *testing.F) {
	for _, event := range []string{
		`{"pull_request":{"head":{"repo":{"id":2,"fork":true}},"base":{"repo":{"id":1}}}}`,
		`{"pull_request":{"head":{"repo":null},"base":{"repo":{"id":1}}}}`,
		`{"pull_request":null}`, `{"pull_request":[]}`, `{}`, ``,
	} {
		f.Add([]byte(event))
	}
	f.Fuzz(func(t *testing.T, event []byte) {
		if headIsFork(event) && !strings.Contains(strings.ToLower(string(event)), "pull") && !strings.Contains(string(event), `\u`) {
			t.Errorf("a fork's pull request without a pull request: %q", event)
		}
	})
}

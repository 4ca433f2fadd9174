package server

import (
	"net/url"
	"strings"
	"testing"
)

// FuzzForm: no body makes the parser fail other than with words, and whatever it
// takes as a request names one task and one subject token that were in the body.
func FuzzForm(f *testing.F) {
	for _, seed := range []string{
		"", "&", "a=b", "scope=x&scope=", "scope=x&scope=y", "%zz", "a;b", "grant_type=",
		"grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Atoken-exchange&subject_token=a.b.c&subject_token_type=urn%3Aietf%3Aparams%3Aoauth%3Atoken-type%3Ajwt&scope=publish-release",
		"grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Atoken-exchange&subject_token=a.b.c&subject_token_type=urn%3Aietf%3Aparams%3Aoauth%3Atoken-type%3Ajwt&scope=publish-release&authorization_details=%5B%7B%22type%22%3A%22stepkey_task%22%2C%22ttl%22%3A%225m%22%7D%5D",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, body string) {
		form, err := parseForm(body)
		if err != nil {
			inWordsOf(t, err, body)
			return
		}
		r, err := form.tokenRequest()
		if err != nil {
			inWordsOf(t, err, body)
			return
		}
		values, _ := url.ParseQuery(body)
		if !has(values["scope"], r.Task) || !has(values["subject_token"], r.SubjectToken.Reveal()) || strings.ContainsAny(r.Task, " \t\r\n") || r.TTL < 0 {
			t.Errorf("%q was read as task %q", body, r.Task)
		}
	})
}

func inWordsOf(t *testing.T, err error, body string) {
	t.Helper()
	say, _ := inWords(err)
	if say.status < 400 || say.status > 499 || say.text == "" {
		t.Errorf("%q: %d %q", body, say.status, say.text)
	}
}

func has(all []string, one string) bool {
	for _, v := range all {
		if v == one {
			return true
		}
	}
	return false
}

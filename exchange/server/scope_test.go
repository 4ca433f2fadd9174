package server

import (
	"strings"
	"testing"

	"github.com/stepkey/stepkey/exchange/client"
)

func TestATaskIsNamedAloneOrWithTheRepositoryThatKeepsIt(t *testing.T) {
	long := strings.Repeat("r", 100)
	for scope, want := range map[string]bool{
		"publish-release":             true,
		"acme/widget:publish-release": true,
		"Acme-Corp_x/.github:t":       true,
		"a/widget.js:t":               true,
		"acme/" + long + ":t":         true,
		"acme/" + long + "r:t":        false,
		"acme/widget":                 false,
		"acme/widget:":                false,
		"acme:t":                      false,
		":t":                          false,
		"/widget:t":                   false,
		"acme/:t":                     false,
		"acme/widget:T":               false,
		"acme/widget:t:t":             false,
		"acme/widget/more:t":          false,
		"-acme/widget:t":              false,
		"acme/.:t":                    false,
		"acme/..:t":                   false,
		"acme/widget.git:t":           false,
		"acme/widget.GIT:t":           false,
		"acme/wid%2Fget:t":            false,
		"acme/wid get:t":              false,
		"acme/widget:t\n":             false,
	} {
		f := form{"grant_type": client.GrantTypeTokenExchange, "subject_token": "a.b.c", "subject_token_type": client.TokenTypeJWT, "scope": scope}
		r, err := f.tokenRequest()
		if (err == nil) != want || want && r.Task != scope {
			t.Errorf("%q: %q, %v", scope, r.Task, err)
		}
	}
}

package client

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stepkey/stepkey/internal/secret"
)

// FuzzAnswer: whatever comes back, what is accepted is whole, and what is refused
// says so in bounded words that repeat neither our secret nor control characters.
func FuzzAnswer(f *testing.F) {
	const told = "eyJh.canary.c2ln"
	const grant = `{"access_token":"x","issued_token_type":"y","token_type":"bearer","scope":"t","lease":{"id":"l","token":"s",
"ends_at":"2026-11-23T15:05:00Z","dies_at":"2026-11-23T15:05:00.5+01:00"},"credential":{"kind":"k","values":{"token":"x"}}}`
	for _, body := range []string{
		grant, grant[:90], strings.ReplaceAll(grant, "+01:00", "Z"), `{"leases":[{"id":"l","state":"revoked"}]}`, `{"leases":null}`, `{"active":true}`, `{}`, `[]`, `null`, ``,
		`{"error":"access_denied","error_description":"no \u0007\u2028 ` + told + `","audit_id":"a"}`,
	} {
		f.Add(200, body, "")
		f.Add(403, body, "3")
		f.Add(307, body, "https://elsewhere.example.com/"+told)
		f.Add(302, body, "https://"+told)
	}
	f.Fuzz(func(t *testing.T, status int, body, header string) {
		got := answer{status: status, header: http.Header{"Retry-After": {header}, "Location": {header}}, body: []byte(body)}
		refused := refusal(got, secret.New(told))
		checkWords(t, refused.Error(), told)
		if refused.RetryAfter < 0 || refused.RetryAfter > maxRetryAfter {
			t.Errorf("retry after %v", refused.RetryAfter)
		}

		g, err := readGrant(got, "t")
		if err != nil {
			checkWords(t, err.Error(), told)
		} else if g.LeaseID == "" || g.LeaseToken.Empty() || g.EndsAt.IsZero() || g.DiesAt.Before(g.EndsAt) || len(g.Values) == 0 {
			t.Errorf("half a grant: %+v", g)
		} else {
			checkWords(t, g.Granted+g.Kind+g.LeaseID, "")
		}
		if r, err := readRevocation(got); err != nil {
			checkWords(t, err.Error(), told)
		} else {
			for _, lease := range r.Leases {
				checkWords(t, lease.ID+lease.State, "")
			}
		}
		if _, err := readIntrospection(got); err != nil {
			checkWords(t, err.Error(), told)
		}
	})
}

func checkWords(t *testing.T, text, told string) {
	t.Helper()
	if len(text) > 2*maxDescription+1024 || strings.ContainsAny(text, "\r\n\x1b\x00") || told != "" && strings.Contains(text, told) {
		t.Errorf("unfit for a log: %q", text)
	}
}

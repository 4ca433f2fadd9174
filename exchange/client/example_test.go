package client_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"

	"github.com/stepkey/stepkey/exchange/client"
	"github.com/stepkey/stepkey/internal/secret"
)

// One task's credential, from asking to giving it back.
func Example() {
	exchange := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/token":
			_, _ = io.WriteString(w, `{"access_token":"ghs_1","issued_token_type":"urn:ietf:params:oauth:token-type:access_token",
				"token_type":"Bearer","expires_in":300,"scope":"publish-release",
				"lease":{"id":"lease_1","token":"skl_1","ends_at":"2026-11-23T15:05:00Z","dies_at":"2026-11-23T16:00:30Z",
					"revocable":true,"granted":"contents: write on acme/widget"},
				"credential":{"kind":"github","values":{"token":"ghs_1"},"env":{"GH_TOKEN":"ghs_1"}}}`)
		case "/revoke":
			_, _ = io.WriteString(w, `{"leases":[{"id":"lease_1","state":"revoked"}]}`)
		}
	}))
	defer exchange.Close()
	ctx := context.Background()

	c, err := client.New(exchange.URL, client.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	grant, err := c.Token(ctx, client.TokenRequest{SubjectToken: secret.New("an ID token"), Task: "publish-release"})
	if refused, ok := errors.AsType[*client.Error](err); ok {
		fmt.Println("denied:", refused.Description, refused.AuditID)
		return
	}
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%s: %s until %s; token %v\n", grant.Task, grant.Granted, grant.EndsAt.Format("15:04"), grant.Values["token"])

	ended, err := c.Revoke(ctx, grant.LeaseToken)
	fmt.Println(ended.Leases, err)
	// Output:
	// publish-release: contents: write on acme/widget until 15:05; token [redacted]
	// [{lease_1 revoked}] <nil>
}

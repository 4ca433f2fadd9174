package client_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/stepkey/stepkey/exchange/client"
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
	grant, err := c.Token(ctx, client.TokenRequest{SubjectToken: client.NewSecret("an ID token"), Task: "publish-release"})
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
	// [{lease_1 revoked }] <nil>
}

const granted = `{"access_token":"ghs_1","issued_token_type":"urn:ietf:params:oauth:token-type:access_token",
	"token_type":"Bearer","expires_in":300,"scope":"publish-release",
	"lease":{"id":"lease_1","token":"skl_1","ends_at":"2026-11-23T15:05:00Z","dies_at":"2026-11-23T16:00:30Z",
		"revocable":true,"granted":"contents: write on acme/widget"},
	"credential":{"kind":"github","values":{"token":"ghs_1"},"env":{"GH_TOKEN":"ghs_1"}}}`

// answering is an exchange that gives these answers in turn; "" is a connection that
// breaks after the request has arrived.
func answering(answers ...string) (*client.Client, func()) {
	exchange := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		answer := answers[0]
		answers = answers[1:]
		if answer == "" {
			panic(http.ErrAbortHandler)
		}
		_, _ = io.WriteString(w, answer)
	}))
	c, err := client.New(exchange.URL, client.Options{})
	if err != nil {
		panic(err)
	}
	return c, exchange.Close
}

// anIDToken stands for whatever gives the job an ID token: a new one at each call.
func anIDToken(audience string) client.Secret { return client.NewSecret("an ID token for " + audience) }

// An answer that was lost may have been a credential. The same key and a fresh subject
// token replace it; the exchange ends what the lost answer held.
func ExampleClient_Token_retry() {
	c, end := answering("", granted)
	defer end()
	key, err := client.NewKey() // one for all tries, and for nothing else
	if err != nil {
		fmt.Println(err)
		return
	}
	for range 3 {
		ctx, cancel := context.WithTimeout(context.Background(), 40*time.Second)
		grant, err := c.Token(ctx, client.TokenRequest{SubjectToken: anIDToken(c.URL()), Task: "publish-release", Key: key})
		cancel()
		if none, ok := errors.AsType[*client.Unreachable](err); ok {
			fmt.Println("no answer; it may have arrived:", none.Arrived)
			continue
		}
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println("granted:", grant.LeaseID)
		return
	}
	// Output:
	// no answer; it may have arrived: true
	// granted: lease_1
}

// To give a credential back is idempotent: what had ended before is no error, and the
// states say what is true now. While the exchange could not confirm an end it answers
// with CodeUnavailable, and goes on by itself.
func ExampleClient_Revoke() {
	c, end := answering(`{"leases":[{"id":"lease_1","state":"revoked"}]}`, `{"leases":[]}`)
	defer end()
	leaseToken := client.NewSecret("skl_1") // of the Grant
	for range 2 {
		ended, err := c.Revoke(context.Background(), leaseToken)
		if busy, ok := errors.AsType[*client.Error](err); ok && busy.Code == client.CodeUnavailable {
			fmt.Println("ask again in", busy.RetryAfter)
			continue
		}
		fmt.Println(ended.Leases, err)
	}
	// Output:
	// [{lease_1 revoked }] <nil>
	// [] <nil>
}

// Without the lease token, a job ends what it holds of a task in its own name.
func ExampleClient_RevokeJob() {
	c, end := answering(`{"leases":[{"id":"lease_1","state":"revoked"},{"id":"lease_2","state":"revoked"}]}`)
	defer end()
	ended, err := c.RevokeJob(context.Background(), anIDToken(c.URL()), "publish-release")
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, lease := range ended.Leases {
		fmt.Println(lease.ID, lease.State)
	}
	// Output:
	// lease_1 revoked
	// lease_2 revoked
}

// What became of a credential, by the lease's own token.
func ExampleClient_Introspect() {
	c, end := answering(
		`{"active":true,"scope":"publish-release","lease_id":"lease_1","lease_state":"active","lease_ends_at":"2026-11-23T15:05:00Z"}`,
		`{"active":false,"lease_state":"revoked","lease_ended_at":"2026-11-23T15:01:00Z","lease_end_reason":"revoked by its holder"}`,
	)
	defer end()
	for range 2 {
		told, err := c.Introspect(context.Background(), client.NewSecret("skl_1"))
		if err != nil {
			fmt.Println(err)
			return
		}
		if told.Active {
			fmt.Println(told.Scope, "until", told.EndsAt)
		} else {
			fmt.Println(told.State, "at", told.EndedAt+":", told.Reason)
		}
	}
	// Output:
	// publish-release until 2026-11-23T15:05:00Z
	// revoked at 2026-11-23T15:01:00Z: revoked by its holder
}

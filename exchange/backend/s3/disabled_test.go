package s3_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stepkey/stepkey/exchange/backend/s3"
	"github.com/stepkey/stepkey/internal/secret"
)

// administrator makes a second one, who may still do something where root may not.
func (s *store) administrator() map[string]secret.String {
	s.Helper()
	s.account("second", "the-second-administrators-key", `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["admin:*"]}]}`)
	return s.keys("second", "the-second-administrators-key")
}

// set changes the server's configuration, as an administrator.
func (s *store) set(as map[string]secret.String, line string) {
	s.Helper()
	if _, err := do(s.Context(), as, http.MethodPut, "/minio/admin/v3/set-config-kv", sealedFor(s, as, line)); err != nil {
		s.Fatalf("%s: %v", line, err)
	}
}

// MinIO refuses the sessions of a root that is turned off with the code of those that are
// gone. They are not: they live again with their account.
func TestASessionThatIsOnlyTurnedOffIsNotSaidToBeGone(t *testing.T) {
	s := startStore(t)
	second := s.administrator()
	o := order(t, s.Backend, task)
	issued, err := s.Issue(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	s.set(second, "api root_access=off")
	isRefused(t, put(t.Context(), issued.Values, "/backups/widget/x"), "while root is turned off", "InvalidAccessKeyId")
	if err := s.Revoke(t.Context(), o.Lease, issued.Handle); err == nil || !strings.Contains(err.Error(), "account is turned off") {
		t.Errorf("the end of a session that is only turned off: %v; want it tried again, and why", err)
	}
	if err := s.Revoke(t.Context(), o.Lease, secret.String{}); err == nil || !strings.Contains(err.Error(), "account is turned off") {
		t.Errorf("by name: %v; want why", err)
	}
	s.set(second, "api root_access=on")
	if err := put(t.Context(), issued.Values, "/backups/widget/x"); err != nil {
		t.Fatalf("it does not live again: %v; then revoke.go is too strict", err)
	}
	if err := s.Revoke(t.Context(), o.Lease, issued.Handle); err != nil {
		t.Fatal(err)
	}
	gone(t, issued.Values, "after its end")
}

// An ordinary account that is turned off keeps its sessions from their end no more than from
// anything else.
func TestASessionEndsAlsoWhileItsAccountIsTurnedOff(t *testing.T) {
	s := startStore(t)
	s.account("stepkey", "the-exchanges-own-key", page.Block(t, "json", forMinIO))
	b := s.as(s.URL, "stepkey", "the-exchanges-own-key")
	o := order(t, b, task)
	issued, err := b.Issue(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	status := func(is string) {
		if _, err := s.Do(t.Context(), http.MethodPut, "/minio/admin/v3/set-user-status?accessKey=stepkey&status="+is, ""); err != nil {
			t.Fatal(err)
		}
	}
	status("disabled")
	if err := b.Revoke(t.Context(), o.Lease, issued.Handle); err != nil {
		t.Errorf("while the account is turned off: %v", err)
	}
	status("enabled")
	gone(t, issued.Values, "with the account turned on again")
}

// Whoever changes the configuration from MinIO to another server has not ended what MinIO has.
func TestASessionOfMinIOIsDueUnderAnotherKind(t *testing.T) {
	s := startStore(t)
	o := order(t, s.Backend, task)
	issued, err := s.Issue(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{"aws", "sts"} {
		b := newSTSOf(t, s3.Options{Kind: kind, Role: stsRole}).backend
		err := b.Revoke(t.Context(), o.Lease, issued.Handle)
		if err == nil || !strings.Contains(err.Error(), s.URL+", and") || !strings.Contains(err.Error(), "configure the former") || isLost(err) {
			t.Errorf("%s: %v; want that the former is to be configured, and no end of trying", kind, err)
		}
	}
	if err := s.Revoke(t.Context(), o.Lease, issued.Handle); err != nil {
		t.Error(err)
	}
}

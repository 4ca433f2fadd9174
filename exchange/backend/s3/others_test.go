package s3_test

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/exchange/backend/s3"
	"github.com/stepkey/stepkey/internal/secret"
)

func isLost(err error) bool { return errors.Is(err, backend.ErrLost) }

// A server that is only known to have AssumeRole is asked as AWS is, and steps are sent to it.
func TestAnotherServerIsAskedForItsRoleAndStepsAreSentThere(t *testing.T) {
	server := newSTSOf(t, s3.Options{Kind: "sts", Role: "arn:aws:iam:::role/backups"})
	b := server.backend
	o := order(t, b, task)
	issued, err := b.Issue(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if got := server.last.Get("RoleArn"); got != "arn:aws:iam:::role/backups" || server.last.Get("RoleSessionName") != string(o.Lease) {
		t.Errorf("asked for is %s, as %s", got, server.last.Get("RoleSessionName"))
	}
	if issued.Env["AWS_ENDPOINT_URL"] != "endpoint" || issued.Values["endpoint"].Reveal() != server.url {
		t.Errorf("steps are sent to %q", issued.Values["endpoint"].Reveal())
	}
	if !slices.Equal(issued.Public, []string{"region", "endpoint"}) {
		t.Errorf("no secret is said to be in %v", issued.Public)
	}
	if b.Terms(o).Revocable || !isLost(b.Revoke(t.Context(), o.Lease, issued.Handle)) || !strings.Contains(issued.Granted.String(), "cannot be revoked") {
		t.Error("it is not said that it expires")
	}
}

// What nobody tried may show what MinIO shows.
func TestAnotherServersListIsGivenOnlyWhereNamesMayBeSeen(t *testing.T) {
	c := s3.Config{Kind: "sts", Buckets: []string{"backups", "artifacts"}, Listed: []string{"backups"}}
	limits, err := c.Limits()
	if err != nil {
		t.Fatal(err)
	}
	b := s3.New(s3.Options{Limits: limits, Kind: "sts"})
	scope, err := b.Scope(node(t, "{bucket: backups, prefix: widget/, actions: [list]}"))
	if err != nil || !strings.Contains(scope.String(), "the server may show it the names in all of the bucket") {
		t.Errorf("%v, %v; want that more may be shown", scope, err)
	}
	if _, err := b.Scope(node(t, "{bucket: artifacts, prefix: widget/, actions: [list]}")); err == nil || !strings.Contains(err.Error(), "kind sts may show") {
		t.Errorf("list in a bucket that is not listed: %v", err)
	}
}

// The only real server here that takes what kind sts sends, and holds to the policy.
func TestARealServerTakesWhatKindSTSSends(t *testing.T) {
	s := startStore(t)
	s.config.Kind, s.config.Role = "sts", "arn:aws:iam:::role/backups"
	b, err := s.config.Open(time.Now)
	if err != nil {
		t.Fatal(err)
	}
	o := order(t, b, task)
	issued, err := b.Issue(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if err := put(t.Context(), issued.Values, "/backups/widget/x"); err != nil {
		t.Error(err)
	}
	isRefused(t, put(t.Context(), issued.Values, "/backups/gadget/x"), "beside the prefix", "AccessDenied")
	_, err = do(t.Context(), issued.Values, http.MethodGet, "/backups/widget/x", "")
	isRefused(t, err, "what is not named", "AccessDenied")
}

// With a region of its own, MinIO takes no other.
func TestAMinIOWithARegionOfItsOwn(t *testing.T) {
	s := startStore(t)
	s.set(s.keys(s.User, s.Password), "site region=home_1")
	if err := errors.Join(s.Close(), s.Start(t.Context())); err != nil {
		t.Fatal(err)
	}
	s.config.Region = "home_1"
	b, err := s.config.Open(time.Now)
	if err != nil {
		t.Fatal(err)
	}
	o := order(t, b, task)
	issued, err := b.Issue(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if err := put(t.Context(), issued.Values, "/backups/widget/x"); err != nil {
		t.Error(err)
	}
	if err := b.Revoke(t.Context(), o.Lease, issued.Handle); err != nil {
		t.Error(err)
	}
	isRefused(t, put(t.Context(), issued.Values, "/backups/widget/x"), "after its end", "InvalidAccessKeyId")
	if _, err := s.Issue(t.Context(), o); err == nil || !strings.Contains(err.Error(), "region be the server's own") || !errors.Is(err, backend.ErrNotCreated) {
		t.Errorf("with the region that is not the server's: %v", err)
	}
}

// STS of AWS calls a clock that is apart a wrong signature.
func TestAClockThatIsApartFromAWSIsNoWrongKey(t *testing.T) {
	for _, apart := range []time.Duration{time.Hour, -time.Hour} {
		now := func() time.Time { return time.Now().Add(apart) }
		b := newSTSOf(t, s3.Options{Kind: "aws", Role: stsRole, Now: now}).backend
		o := order(t, b, task)
		o.At, o.Until = now(), now().Add(20*time.Minute)
		_, err := b.Issue(t.Context(), o)
		if err == nil || !strings.Contains(err.Error(), "NTP") || strings.Contains(err.Error(), "secret_key_file") || !errors.Is(err, backend.ErrNotCreated) {
			t.Errorf("%s: %v; want that the clocks are apart", apart, err)
		}
	}
	b := newSTSOf(t, s3.Options{Kind: "aws", Role: stsRole, SecretKey: func() (secret.String, error) { return secret.New("another"), nil }}).backend
	if _, err := b.Issue(t.Context(), order(t, b, task)); err == nil || !strings.Contains(err.Error(), "secret_key_file") {
		t.Errorf("a wrong key: %v", err)
	}
}

// A session's source identity is its lease, where the configuration wants one and the role's
// trust allows it.
func TestASourceIdentityIsTheLease(t *testing.T) {
	for _, c := range []struct{ wanted, trusted bool }{{true, true}, {true, false}, {false, false}} {
		t.Run(fmt.Sprintf("%+v", c), func(t *testing.T) {
			server := newSTSOf(t, s3.Options{Kind: "aws", Role: stsRole, SourceIdentity: c.wanted})
			server.trustsSource = c.trusted
			o := order(t, server.backend, task)
			_, err := server.backend.Issue(t.Context(), o)
			if c.wanted && !c.trusted {
				if err == nil || !strings.Contains(err.Error(), "docs/backends/s3.md") || !errors.Is(err, backend.ErrNotCreated) {
					t.Errorf("without sts:SetSourceIdentity: %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := server.last.Get("SourceIdentity"); c.wanted && got != string(o.Lease) || !c.wanted && server.last.Has("SourceIdentity") {
				t.Errorf("the source identity is %q", got)
			}
		})
	}
}

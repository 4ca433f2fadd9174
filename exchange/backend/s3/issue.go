package s3

import (
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strconv"
	"time"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/exchange/backend/reach"
	"github.com/stepkey/stepkey/internal/secret"
)

// leaseForm is what a session's name may be made of (AWS STS, RoleSessionName).
var leaseForm = regexp.MustCompile(`\A[\w+=,.@-]{2,64}\z`)

// assumed is an answer to AssumeRole.
type assumed struct {
	XMLName      xml.Name `xml:"AssumeRoleResponse"`
	AccessKey    string   `xml:"AssumeRoleResult>Credentials>AccessKeyId"`
	SecretKey    string   `xml:"AssumeRoleResult>Credentials>SecretAccessKey"`
	SessionToken string   `xml:"AssumeRoleResult>Credentials>SessionToken"`
	Expiration   string   `xml:"AssumeRoleResult>Credentials>Expiration"`
}

// Issue asks for a session with exactly the order's scope.
func (b *Backend) Issue(ctx context.Context, o backend.Order) (backend.Issued, error) {
	want, ours := o.Scope.(*scope)
	switch {
	case !ours || want == nil || b.secretKey == nil:
		return backend.Issued{}, fmt.Errorf("issuing a session of object storage: the order's scope is not one of this backend: %w", backend.ErrNotCreated)
	case !leaseForm.MatchString(string(o.Lease)):
		return backend.Issued{}, fmt.Errorf("issuing a session of object storage: the lease's id cannot be a session's name: %w", backend.ErrNotCreated)
	}
	issued, err := b.issue(ctx, o, want)
	if err != nil {
		return issued, fmt.Errorf("issuing a session to %s: %w", want, err)
	}
	return issued, nil
}

func (b *Backend) issue(ctx context.Context, o backend.Order, want *scope) (backend.Issued, error) {
	now := b.now()
	left := o.At.Add(inFlight).Sub(now)
	if left <= 0 || !now.Before(o.Until) {
		return backend.Issued{}, fmt.Errorf("the order is from %s, so a session made now would outlive what was promised: %w",
			o.At.UTC().Format(time.RFC3339), backend.ErrNotCreated)
	}
	ctx, cancel := context.WithTimeout(ctx, left)
	defer cancel()
	policy, err := want.policy(b.partition, b.kind == kindMinIO)
	if err != nil {
		return backend.Issued{}, fmt.Errorf("%w: %w", err, backend.ErrNotCreated)
	}
	form := url.Values{
		"Action": {"AssumeRole"}, "Version": {"2011-06-15"}, "Policy": {policy},
		"DurationSeconds": {strconv.Itoa(int(life(o) / time.Second))},
	}
	if b.kind == kindMinIO {
		form.Set("TokenRevokeType", string(o.Lease)) // what Revoke names
	} else {
		form.Set("RoleArn", b.role)
		form.Set("RoleSessionName", string(o.Lease)) // so that AWS's own log can be read beside ours
	}
	if b.source {
		form.Set("SourceIdentity", string(o.Lease))
	}
	own, err := b.own()
	if err != nil {
		return backend.Issued{}, classify(err, true)
	}
	got, err := b.call(ctx, own, target{"sts", b.sts + "/"}, form)
	if err != nil {
		err = classify(err, true)
		if !errors.Is(err, backend.ErrNotCreated) {
			err = fmt.Errorf("%w; a session may have been made that nobody holds", err)
		}
		return backend.Issued{}, err
	}
	return b.accept(ctx, o, want, got)
}

// accept hands a session out if it is what was ordered. What its policy became, the server
// does not say.
func (b *Backend) accept(ctx context.Context, o backend.Order, want *scope, said answer) (backend.Issued, error) {
	var got assumed
	err := xml.Unmarshal(said.text, &got)
	end, timeErr := time.Parse(time.RFC3339, got.Expiration)
	now := b.now()
	if said.at.IsZero() {
		said.at = now
	}
	lives := end.Sub(said.at) // both by the server's clock, so that ours may show another time
	switch {
	case err != nil || timeErr != nil || got.AccessKey == "" || got.SecretKey == "" || got.SessionToken == "":
		return backend.Issued{}, fmt.Errorf("the server's answer is no session; look whether endpoint is that of the server: %w", backend.ErrLost)
	case lives > life(o)+slack:
		return b.withdraw(ctx, o.Lease, b.handle(got), fmt.Errorf("the server's session lives for %s, and %s was asked for; "+
			"look whether MINIO_STS_DURATION is set for the server, and take it out", lives, life(o)))
	}
	dies := now.Add(lives)
	if latest := b.Terms(o).DiesAt; dies.After(latest) {
		dies = latest
	}
	values := map[string]secret.String{
		"access_key_id": secret.New(got.AccessKey), "secret_access_key": secret.New(got.SecretKey), "session_token": secret.New(got.SessionToken),
		"region": secret.New(b.region),
	}
	env := map[string]string{
		"AWS_ACCESS_KEY_ID": "access_key_id", "AWS_SECRET_ACCESS_KEY": "secret_access_key", "AWS_SESSION_TOKEN": "session_token",
		"AWS_REGION": "region", "AWS_DEFAULT_REGION": "region",
	}
	public := []string{"region"}
	if b.endpoint != "" {
		values["endpoint"] = secret.New(b.endpoint)
		env["AWS_ENDPOINT_URL"] = "endpoint"
		public = append(public, "endpoint")
	}
	return backend.Issued{Values: values, Env: env, Public: public, Handle: b.handle(got), Granted: want, DiesAt: dies}, nil
}

// slack is how much longer a session may seem to live than was asked for: what makes it and
// what answers may be two machines.
const slack = 5 * time.Second

// handle is what is sealed: the session itself, since only who holds it is sure to end it.
// See Revoke. Where none can be ended, nothing is kept.
type handle struct {
	Endpoint string `json:"endpoint"`
	Access   string `json:"access"`
	Secret   string `json:"secret"`
	Token    string `json:"token"`
}

func (b *Backend) handle(got assumed) secret.String {
	if b.limits.Expires {
		return secret.New("{}")
	}
	text, err := json.Marshal(handle{b.endpoint, got.AccessKey, got.SecretKey, got.SessionToken})
	if err != nil {
		return secret.New("{}") // four texts are always JSON
	}
	return secret.New(string(text))
}

// withdraw ends a session that may not be handed out, also when the request that wanted
// it is over.
func (b *Backend) withdraw(ctx context.Context, lease backend.LeaseID, sealed secret.String, why error) (backend.Issued, error) {
	if b.limits.Expires {
		return backend.Issued{}, fmt.Errorf("%w; it cannot be revoked, and nobody holds it: %w", why, backend.ErrLost)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), reach.RequestFor)
	defer cancel()
	if err := b.Revoke(ctx, lease, sealed); err != nil {
		return backend.Issued{Handle: sealed}, fmt.Errorf("%w; it could not be revoked: %w", why, err)
	}
	return backend.Issued{}, fmt.Errorf("%w; it was revoked at once: %w", why, backend.ErrNotCreated)
}

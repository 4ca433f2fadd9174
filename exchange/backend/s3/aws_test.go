package s3_test

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/exchange/backend/s3"
	"github.com/stepkey/stepkey/internal/secret"
)

// sts is an imitation of AWS's, after the documentation of AssumeRole, and NOT verified
// against the real one. It is stricter: a form with a field that it does not know is
// refused.
type sts struct {
	backend *s3.Backend
	url     string
	last    url.Values

	role         string                           // the only one there is
	trustsSource bool                             // it lets a session have a source identity
	answer       func(w http.ResponseWriter) bool // instead of a session, when it returns true
}

const (
	stsAccess = "AKIDEXCHANGE0000"
	stsSecret = "the-exchanges-own-secret-key"
	stsRole   = "arn:aws:iam::123456789012:role/stepkey-backups"
)

func newSTS(t testing.TB) *sts {
	t.Helper()
	return newSTSOf(t, s3.Options{Kind: "aws", Role: stsRole})
}

// newSTSOf has the role of the options, and a backend that knows where it is.
func newSTSOf(t testing.TB, o s3.Options) *sts {
	t.Helper()
	s := &sts{role: o.Role}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	s.url = server.URL
	o.Limits, o.Endpoint, o.Region, o.AccessKey = s3.Limits{Buckets: []string{"backups"}, Expires: true}, server.URL, "eu-central-1", stsAccess
	if o.SecretKey == nil {
		o.SecretKey = func() (secret.String, error) { return secret.New(stsSecret), nil }
	}
	s.backend = s3.New(o)
	return s
}

func (s *sts) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if why := unsigned(r); why != "" {
		fail(w, http.StatusForbidden, "SignatureDoesNotMatch", why)
		return
	}
	if err := r.ParseForm(); err != nil || r.Method != http.MethodPost || r.URL.Path != "/" || r.URL.RawQuery != "" {
		fail(w, http.StatusBadRequest, "InvalidAction", "want a form, posted to /")
		return
	}
	s.last = r.PostForm
	if s.answer != nil && s.answer(w) {
		return
	}
	if r.PostForm.Has("SourceIdentity") && !s.trustsSource {
		fail(w, http.StatusForbidden, "AccessDenied", "User is not authorized to perform: sts:SetSourceIdentity")
		return
	}
	if why := s.refuses(r.PostForm); why != "" {
		fail(w, http.StatusBadRequest, "ValidationError", why)
		return
	}
	seconds, _ := strconv.Atoi(r.PostForm.Get("DurationSeconds"))
	w.Header().Set("Content-Type", "text/xml")
	fmt.Fprintf(w, `<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult><Credentials>
<AccessKeyId>ASIASESSION</AccessKeyId><SecretAccessKey>session-secret-key</SecretAccessKey><SessionToken>session-token</SessionToken><Expiration>%s</Expiration>
</Credentials></AssumeRoleResult></AssumeRoleResponse>`, time.Now().Add(time.Duration(seconds)*time.Second).UTC().Format(time.RFC3339))
}

func fail(w http.ResponseWriter, status int, code, message string) {
	w.WriteHeader(status)
	fmt.Fprintf(w, "<ErrorResponse><Error><Type>Sender</Type><Code>%s</Code><Message>", code)
	_ = xml.EscapeText(w, []byte(message))
	fmt.Fprint(w, "</Message></Error></ErrorResponse>")
}

// unsigned says what is wrong with a request's signature.
func unsigned(r *http.Request) string {
	at, err := time.Parse("20060102T150405Z", r.Header.Get("X-Amz-Date"))
	const most, form = 15 * time.Minute, "20060102T150405Z"
	now := time.Now().UTC()
	switch {
	case err != nil:
		return "there is no date"
	case now.Sub(at) > most: // its words are those of the real one
		return fmt.Sprintf("Signature expired: %s is now earlier than %s (%s - 15 min.)", at.Format(form), now.Add(-most).Format(form), now.Format(form))
	case at.Sub(now) > most:
		return fmt.Sprintf("Signature not yet current: %s is still later than %s (%s + 15 min.)", at.Format(form), now.Add(most).Format(form), now.Format(form))
	}
	again := r.Clone(r.Context())
	for name := range again.Header { // what is signed again is what was signed
		if !slices.Contains([]string{"Content-Type", "X-Amz-Content-Sha256"}, name) {
			again.Header.Del(name)
		}
	}
	again.URL = &url.URL{Scheme: "http", Host: r.Host, Path: r.URL.Path}
	key := aws.Credentials{AccessKeyID: stsAccess, SecretAccessKey: stsSecret}
	if err := v4.NewSigner().SignHTTP(r.Context(), key, again, r.Header.Get("X-Amz-Content-Sha256"), "sts", "eu-central-1", at); err != nil {
		return err.Error()
	}
	if again.Header.Get("Authorization") != r.Header.Get("Authorization") {
		return "it is another signature"
	}
	return ""
}

// refuses says what is wrong with a form.
func (s *sts) refuses(form url.Values) string {
	for field, values := range form {
		if !slices.Contains([]string{"Action", "Version", "RoleArn", "RoleSessionName", "DurationSeconds", "Policy", "SourceIdentity"}, field) || len(values) != 1 {
			return "unknown field " + field
		}
	}
	seconds, err := strconv.Atoi(form.Get("DurationSeconds"))
	switch {
	case form.Get("Action") != "AssumeRole" || form.Get("Version") != "2011-06-15":
		return "no such action"
	case form.Get("RoleArn") != s.role:
		return "no such role"
	case len(form.Get("RoleSessionName")) < 2 || len(form.Get("RoleSessionName")) > 64:
		return "the session's name has another length"
	case form.Has("SourceIdentity") && !regexp.MustCompile(`\A[\w+=,.@-]{2,64}\z`).MatchString(form.Get("SourceIdentity")):
		return "the source identity has another form"
	case err != nil || seconds < 900 || seconds > 43200:
		return "1 validation error detected: Value at 'durationSeconds' is out of range"
	case len(form.Get("Policy")) > 2048 || !json.Valid([]byte(form.Get("Policy"))):
		return "the policy is no JSON, or too long"
	}
	return ""
}

const task = "{bucket: backups, prefix: widget/, actions: [write]}"

func TestASessionOfAWSExpiresAndSaysSo(t *testing.T) {
	server := newSTS(t)
	b := server.backend
	for _, c := range []struct{ ttl, lives time.Duration }{
		{5 * time.Minute, 15 * time.Minute}, {15 * time.Minute, 15 * time.Minute},
		{time.Hour, time.Hour - 30*time.Second}, {12 * time.Hour, 12*time.Hour - 30*time.Second},
	} {
		o := order(t, b, task)
		o.Until = o.At.Add(c.ttl)
		issued, err := b.Issue(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		terms := b.Terms(o)
		if terms.Revocable || issued.DiesAt.After(terms.DiesAt) || terms.DiesAt.After(o.At.Add(max(c.ttl, 15*time.Minute+30*time.Second))) {
			t.Errorf("for %s it dies at %s, and the terms are %+v", c.ttl, issued.DiesAt, terms)
		}
		if got := server.last.Get("DurationSeconds"); got != strconv.Itoa(int(c.lives/time.Second)) || server.last.Get("RoleSessionName") != string(o.Lease) {
			t.Errorf("for %s a session of %s s is asked for, as %s", c.ttl, got, server.last.Get("RoleSessionName"))
		}
		if err := b.Revoke(t.Context(), o.Lease, issued.Handle); !errors.Is(err, backend.ErrLost) {
			t.Errorf("revoking it: %v; want an error that it cannot be", err)
		}
		if strings.Contains(issued.Handle.Reveal(), "session") {
			t.Error("the session is kept, although nothing can be done with it but to use it")
		}
		if !strings.Contains(issued.Granted.String(), "cannot be revoked") {
			t.Errorf("%s does not say that it cannot be revoked", issued.Granted)
		}
	}
}

func TestAnswersOfSTSAreTakenForWhatTheyAre(t *testing.T) {
	type kind struct{ notCreated, unavailable bool }
	for name, c := range map[string]struct {
		answer func(w http.ResponseWriter)
		says   string
		is     kind
	}{
		"the role may not be taken": {func(w http.ResponseWriter) { fail(w, 403, "AccessDenied", "not authorized to perform: sts:AssumeRole") },
			"docs/backends/s3.md", kind{notCreated: true}},
		"the role's sessions are shorter": {func(w http.ResponseWriter) {
			fail(w, 400, "ValidationError", "exceeds the MaxSessionDuration set for this role")
		}, "the role's longest session", kind{notCreated: true}},
		"too many requests": {func(w http.ResponseWriter) { fail(w, 400, "Throttling", "Rate exceeded") }, "Rate exceeded", kind{true, true}},
		"the clock":         {func(w http.ResponseWriter) { fail(w, 403, "RequestTimeTooSkewed", "") }, "NTP", kind{notCreated: true}},
		"the clock of STS": {func(w http.ResponseWriter) {
			fail(w, 403, "SignatureDoesNotMatch", "Signature not yet current: 20260101T120000Z is still later than 20260101T110000Z")
		}, "NTP", kind{notCreated: true}},
		"a fault of its own": {func(w http.ResponseWriter) { fail(w, 500, "InternalFailure", "later") },
			"may have been made", kind{unavailable: true}},
		"a redirect":   {func(w http.ResponseWriter) { w.Header().Set("Location", "http://127.0.0.1:1/"); w.WriteHeader(307) }, "another one is to be asked", kind{notCreated: true}},
		"another page": {func(w http.ResponseWriter) { fmt.Fprint(w, "<html></html>") }, "is no session", kind{}},
		"a session that outlives the order": {func(w http.ResponseWriter) {
			fmt.Fprintf(w, `<AssumeRoleResponse><AssumeRoleResult><Credentials><AccessKeyId>A</AccessKeyId><SecretAccessKey>canary</SecretAccessKey>`+
				`<SessionToken>canary</SessionToken><Expiration>%s</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>`, time.Now().Add(48*time.Hour).UTC().Format(time.RFC3339))
		}, "was asked for", kind{}},
	} {
		t.Run(name, func(t *testing.T) {
			server := newSTS(t)
			server.answer = func(w http.ResponseWriter) bool { c.answer(w); return true }
			issued, err := server.backend.Issue(t.Context(), order(t, server.backend, task))
			if err == nil || len(issued.Values) > 0 {
				t.Fatalf("it gives %d values, %v", len(issued.Values), err)
			}
			if !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "canary") {
				t.Errorf("%v; want …%s…", err, c.says)
			}
			if got := (kind{errors.Is(err, backend.ErrNotCreated), errors.Is(err, backend.ErrUnavailable)}); got != c.is {
				t.Errorf("%v is taken for %+v, want %+v", err, got, c.is)
			}
		})
	}
}

// asked is what was sent last, to whom.
type asked struct {
	host string
	form url.Values
}

func (a *asked) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := r.ParseForm(); err != nil {
		return nil, err
	}
	a.host, a.form = r.URL.Host, r.PostForm
	return nil, errors.New("nobody is there")
}

// In China and for the government of the United States, STS and the names of buckets are others.
func TestEachPartitionOfAWSIsAskedInItsOwnWords(t *testing.T) {
	for partition, c := range map[string]struct{ region, host string }{
		"aws":        {"eu-central-1", "sts.eu-central-1.amazonaws.com"},
		"aws-us-gov": {"us-gov-west-1", "sts.us-gov-west-1.amazonaws.com"},
		"aws-cn":     {"cn-north-1", "sts.cn-north-1.amazonaws.com.cn"},
	} {
		var last asked
		b := s3.New(s3.Options{
			Limits: s3.Limits{Buckets: []string{"backups"}, Expires: true}, Kind: "aws", Region: c.region, AccessKey: stsAccess,
			Role: "arn:" + partition + ":iam::123456789012:role/stepkey", Transport: &last,
			SecretKey: func() (secret.String, error) { return secret.New(stsSecret), nil },
		})
		if _, err := b.Issue(t.Context(), order(t, b, task)); err == nil {
			t.Error("a session comes from nowhere")
		}
		if last.host != c.host || !strings.Contains(last.form.Get("Policy"), `"arn:`+partition+`:s3:::backups/widget/*"`) {
			t.Errorf("%s: %s is asked for %s", partition, last.host, last.form.Get("Policy"))
		}
	}
}

// How long a session lives is counted by the clock of whoever made it, so that neither clock
// can make it seem shorter than it is.
func TestALifeIsCountedByTheServersClock(t *testing.T) {
	for _, c := range []struct {
		ahead, lives time.Duration
		taken        bool
	}{
		{0, 15 * time.Minute, true}, {10 * time.Minute, 15 * time.Minute, true}, {-10 * time.Minute, 15 * time.Minute, true},
		{0, 17 * time.Minute, false}, {-10 * time.Minute, 17 * time.Minute, false},
	} {
		server := newSTS(t)
		server.answer = func(w http.ResponseWriter) bool {
			at := time.Now().UTC().Add(c.ahead)
			w.Header().Set("Date", at.Format(http.TimeFormat))
			fmt.Fprintf(w, `<AssumeRoleResponse><AssumeRoleResult><Credentials><AccessKeyId>A</AccessKeyId><SecretAccessKey>B</SecretAccessKey>`+
				`<SessionToken>C</SessionToken><Expiration>%s</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>`, at.Add(c.lives).Format(time.RFC3339))
			return true
		}
		o := order(t, server.backend, task)
		o.Until = o.At.Add(10 * time.Minute)
		issued, err := server.backend.Issue(t.Context(), o)
		if (err == nil) != c.taken {
			t.Errorf("%+v: %v", c, err)
		}
		if err == nil && issued.DiesAt.Sub(o.At.Add(c.lives)).Abs() > inFlight {
			t.Errorf("%+v: it is said to die at %s", c, issued.DiesAt)
		}
	}
}

const inFlight = 30 * time.Second // as the page says

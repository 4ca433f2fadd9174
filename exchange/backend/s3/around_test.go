package s3_test

import (
	"archive/zip"
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/exchange/backend/s3"
	"github.com/stepkey/stepkey/internal/secret"
)

// What a session's holder might try in order to have more, or to have it longer.

// MinIO holds the prefix in a header against the policy, and lists by the one in the address.
// If this fails, MinIO is mended, and "listed" is needed no more.
func TestMinIOShowsEveryNameToWhoeverMayList(t *testing.T) {
	s := startStore(t)
	if err := s.Put(t.Context(), "backups", "another/name", "a"); err != nil {
		t.Fatal(err)
	}
	_, values := s.issue("{bucket: backups, prefix: widget/, actions: [list]}")
	for what, c := range map[string]struct {
		target string
		header http.Header
	}{
		"a header":         {"/backups?list-type=2&prefix=another%2F", http.Header{"Prefix": {"widget/"}}},
		"a second address": {"/backups?list-type=2&prefix=another%2F&prefix=widget%2F", nil},
	} {
		text, err := doWith(t.Context(), values, request{http.MethodGet, c.target, "", c.header})
		if err != nil || !strings.Contains(text, "another/name") {
			t.Errorf("%s does not mislead it any more: %v, %s", what, err, text)
		}
	}
	o := order(t, s.Backend, "{bucket: backups, prefix: widget/, actions: [list, write]}")
	if !strings.Contains(o.Scope.String(), "names in all of the bucket") {
		t.Errorf("%s does not say what list shows", o.Scope)
	}
	_, err := s.Scope(node(t, "{bucket: artifacts, prefix: widget/, actions: [list]}"))
	if err == nil || !strings.Contains(err.Error(), "listed") {
		t.Errorf("list in a bucket that is not listed: %v", err)
	}
}

// No other door leads out of the prefix: not a copy, not an archive that MinIO unpacks.
func TestNothingLeadsOutOfThePrefix(t *testing.T) {
	s := startStore(t)
	if err := s.Put(t.Context(), "backups", "another/name", "a"); err != nil {
		t.Fatal(err)
	}
	_, values := s.issue("{bucket: backups, prefix: widget/, actions: [read, write, delete]}")
	const many = "<Delete><Object><Key>another/name</Key></Object></Delete>"
	sum := sha256.Sum256([]byte(many))
	for what, r := range map[string]request{
		"a copy from elsewhere":            {http.MethodPut, "/backups/widget/x", "", http.Header{"X-Amz-Copy-Source": {"/backups/another/name"}}},
		"an archive that is unpacked":      {http.MethodPut, "/backups/widget/x.tar", "", http.Header{"X-Amz-Meta-Snowball-Auto-Extract": {"true"}, "X-Amz-Meta-Minio-Snowball-Prefix": {"another"}}},
		"deleting many":                    {http.MethodPost, "/backups?delete=", many, http.Header{"X-Amz-Checksum-Sha256": {base64.StdEncoding.EncodeToString(sum[:])}}},
		"the versions":                     {http.MethodGet, "/backups?versions=&prefix=widget%2F", "", nil},
		"a version of the bucket's policy": {http.MethodDelete, "/backups?policy=", "", nil},
	} {
		text, err := doWith(t.Context(), values, r)
		if err == nil && strings.Contains(text, "<Code>AccessDenied</Code>") {
			continue // deleting many is answered with 200 and a list of refusals
		}
		isRefused(t, err, what, "AccessDenied")
	}
	if keys, err := s.Objects(t.Context(), "backups"); err != nil || len(keys) != 1 {
		t.Errorf("the bucket has %v, %v; want the other object alone", keys, err)
	}
}

// A session may not make itself a key that outlives it. The account itself may, with the
// same request: so it is not refused for its form.
func TestASessionCannotMakeItselfAKeyThatOutlivesIt(t *testing.T) {
	s := startStore(t)
	_, values := s.issue(task)
	root := s.keys(s.User, s.Password)
	const add, lasting = "/minio/admin/v3/add-service-account", `{"name":"mine"}`
	if _, err := do(t.Context(), root, http.MethodPut, add, sealedFor(t, root, lasting)); err != nil {
		t.Fatalf("the account itself: %v", err)
	}
	_, err := do(t.Context(), values, http.MethodPut, add, sealedFor(t, values, lasting))
	isRefused(t, err, "a lasting key", "AccessDenied")
}

// keys are an account's own, as values.
func (s *store) keys(name, key string) map[string]secret.String {
	return map[string]secret.String{
		"endpoint": secret.New(s.URL), "region": secret.New("us-east-1"), "access_key_id": secret.New(name), "secret_access_key": secret.New(key),
	}
}

// sealedFor is what is ordered of MinIO's administration, as it takes that: encrypted with the
// secret key of whoever asks.
func sealedFor(t testing.TB, values map[string]secret.String, ordered string) string {
	t.Helper()
	salt, nonce := make([]byte, 32), make([]byte, 12)
	for _, random := range [][]byte{salt, nonce[:8]} {
		if _, err := rand.Read(random); err != nil {
			t.Fatal(err)
		}
	}
	key, err := pbkdf2.Key(sha256.New, values["secret_access_key"].Reveal(), salt, 8192, 32)
	if err != nil {
		t.Fatal(err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	seal, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	last := seal.Seal([]byte{0x80}, nonce, nil, nil) // says that the only piece is the last one
	text := append(append(salt, 2), nonce[:8]...)
	nonce[8] = 1
	return string(seal.Seal(text, nonce, []byte(ordered), last))
}

// Whoever holds a session may end the others of the same account. It takes from them, and
// gives nobody anything; the page says so.
func TestASessionCanEndOthersOfItsAccount(t *testing.T) {
	s := startStore(t)
	_, mine := s.issue(task)
	_, other := s.issue(task)
	if _, err := do(t.Context(), mine, http.MethodPost, "/minio/admin/v3/revoke-tokens/builtin?fullRevoke=true", ""); err != nil {
		t.Fatalf("MinIO does not let it any more, and docs/backends/s3.md can leave that out: %v", err)
	}
	gone(t, other, "the other session")
}

// An address that is signed with a session is good for as long as that.
func TestASignedAddressEndsWithItsSession(t *testing.T) {
	s := startStore(t)
	if err := s.Put(t.Context(), "backups", "widget/x", "a"); err != nil {
		t.Fatal(err)
	}
	o := order(t, s.Backend, "{bucket: backups, prefix: widget/, actions: [read]}")
	issued, err := s.Issue(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	signed := presigned(t, issued.Values, "/backups/widget/x")
	if status := fetched(t, signed); status != http.StatusOK {
		t.Fatalf("the address is answered with %d", status)
	}
	if err := s.Revoke(t.Context(), o.Lease, issued.Handle); err != nil {
		t.Fatal(err)
	}
	if status := fetched(t, signed); status != http.StatusForbidden {
		t.Errorf("after the session's end the address is answered with %d", status)
	}
}

func presigned(t *testing.T, values map[string]secret.String, target string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, values["endpoint"].Reveal()+target+"?X-Amz-Expires=604800", nil)
	if err != nil {
		t.Fatal(err)
	}
	session := aws.Credentials{
		AccessKeyID: values["access_key_id"].Reveal(), SecretAccessKey: values["secret_access_key"].Reveal(), SessionToken: values["session_token"].Reveal(),
	}
	signed, _, err := v4.NewSigner().PresignHTTP(t.Context(), session, req, "UNSIGNED-PAYLOAD", "s3", values["region"].Reveal(), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

func fetched(t *testing.T, address string) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if err := resp.Body.Close(); err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode
}

// The account that the page describes is enough: it is no administrator, and its sessions can
// do no more than the page's policy, whatever the task says.
func TestAnOrdinaryAccountIsEnough(t *testing.T) {
	s := startStore(t)
	s.account("stepkey", "the-exchanges-own-key", page.Block(t, "json", forMinIO))
	b := s.as(s.URL, "stepkey", "the-exchanges-own-key")
	o := order(t, b, "{bucket: backups, prefix: widget/, actions: [read, write, list, delete]}")
	issued, err := b.Issue(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	for what, try := range map[string]trial{
		"write":  {http.MethodPut, "/backups/widget/x", "x"},
		"read":   {http.MethodGet, "/backups/widget/x", ""},
		"list":   {http.MethodGet, "/backups?list-type=2&prefix=widget%2F", ""},
		"delete": {http.MethodDelete, "/backups/widget/x", ""},
	} {
		if what == "read" {
			if err := s.Put(t.Context(), "backups", "widget/x", "x"); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := do(t.Context(), issued.Values, try.method, try.target, try.body); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := b.Revoke(t.Context(), o.Lease, issued.Handle); err != nil {
		t.Fatal(err)
	}
	gone(t, issued.Values, "a session of an ordinary account")
	if err := b.Revoke(t.Context(), o.Lease, secret.String{}); !errors.Is(err, backend.ErrLost) {
		t.Errorf("by name: %v; want it told, and ErrLost", err)
	}
	s.mayNoMore()
}

// mayNoMore: a task that names what the account cannot do gets a session that cannot either.
func (s *store) mayNoMore() {
	s.Helper()
	wide := s3.New(s3.Options{
		Limits: s3.Limits{Buckets: []string{"elsewhere"}}, Kind: "minio", Endpoint: s.URL, AccessKey: "stepkey",
		SecretKey: func() (secret.String, error) { return secret.New("the-exchanges-own-key"), nil },
	})
	if err := s.MakeBucket(s.Context(), "elsewhere"); err != nil {
		s.Fatal(err)
	}
	issued, err := wide.Issue(s.Context(), order(s, wide, "{bucket: elsewhere, prefix: widget/, actions: [write]}"))
	if err != nil {
		s.Fatal(err)
	}
	isRefused(s, put(s.Context(), issued.Values, "/elsewhere/widget/x"), "what the account may not", "AccessDenied")
}

// account makes an ordinary user with a policy.
func (s *store) account(name, key, policy string) {
	s.Helper()
	var file bytes.Buffer
	archive := zip.NewWriter(&file)
	for part, holds := range map[string]any{
		"policies":      map[string]json.RawMessage{"of-" + name: json.RawMessage(policy)},
		"users":         map[string]any{name: map[string]string{"secretKey": key, "status": "enabled"}},
		"user_mappings": map[string]any{name: map[string]any{"version": 1, "policy": "of-" + name}},
	} {
		w, err := archive.Create("iam-assets/" + part + ".json")
		if err == nil {
			err = json.NewEncoder(w).Encode(holds)
		}
		if err != nil {
			s.Fatal(err)
		}
	}
	if err := archive.Close(); err != nil {
		s.Fatal(err)
	}
	if _, err := s.Do(s.Context(), http.MethodPut, "/minio/admin/v3/import-iam", file.String()); err != nil {
		s.Fatal(err)
	}
}

// The longest that a task can name fits into a session's policy.
func TestTheLongestTaskIsNotTooLong(t *testing.T) {
	s := startStore(t)
	bucket := strings.Repeat("b", 63)
	b := s3.New(s3.Options{
		Limits: s3.Limits{Buckets: []string{bucket}}, Kind: "minio", Endpoint: s.URL, AccessKey: s.User,
		SecretKey: func() (secret.String, error) { return secret.New(s.Password), nil },
	})
	o := order(t, b, "{bucket: "+bucket+", prefix: "+strings.Repeat("p", 511)+"/, actions: [read, write, list, delete]}")
	if _, err := b.Issue(t.Context(), o); err != nil {
		t.Errorf("MinIO: %v", err)
	}
}

func TestClocksThatAreApartAreSaid(t *testing.T) {
	s := startStore(t)
	later := func() time.Time { return time.Now().Add(time.Hour) }
	b := s3.New(s3.Options{
		Limits: s3.Limits{Buckets: []string{"backups"}}, Kind: "minio", Endpoint: s.URL, AccessKey: s.User, Now: later,
		SecretKey: func() (secret.String, error) { return secret.New(s.Password), nil },
	})
	o := order(t, b, task)
	o.At, o.Until = later(), later().Add(20*time.Minute)
	if _, err := b.Issue(t.Context(), o); err == nil || !strings.Contains(err.Error(), "NTP") || !errors.Is(err, backend.ErrNotCreated) {
		t.Errorf("%v; want that the clocks are apart, and that nothing was created", err)
	}
}

package s3_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/xml"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/oklog/ulid/v2"
)

// One session and its end: two requests of the exchange's and one that sees that it is
// over. The floor is those three, by a client that does nothing else, on the same server.
func BenchmarkIssueAndRevoke(b *testing.B) {
	s := startStore(b)
	b.Run("lease", func(b *testing.B) {
		for b.Loop() {
			o := order(b, s.Backend, task)
			issued, err := s.Issue(b.Context(), o)
			if err != nil {
				b.Fatal(err)
			}
			if err := s.Revoke(b.Context(), o.Lease, issued.Handle); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("floor", func(b *testing.B) {
		const policy = `{"Statement":[{"Effect":"Allow","Action":["s3:PutObject","s3:AbortMultipartUpload","s3:ListMultipartUploadParts"],` +
			`"Resource":["arn:aws:s3:::backups/widget/*"]},{"Effect":"Deny","Action":["admin:*"]}],"Version":"2012-10-17"}`
		c, root := &bare{b, v4.NewSigner()}, aws.Credentials{AccessKeyID: s.User, SecretAccessKey: s.Password}
		for b.Loop() {
			made := c.post("sts", root, s.URL+"/", url.Values{
				"Action": {"AssumeRole"}, "Version": {"2011-06-15"}, "DurationSeconds": {"1170"}, "Policy": {policy}, "TokenRevokeType": {ulid.Make().String()},
			}, http.StatusOK)
			var got struct {
				Access string `xml:"AssumeRoleResult>Credentials>AccessKeyId"`
				Secret string `xml:"AssumeRoleResult>Credentials>SecretAccessKey"`
				Token  string `xml:"AssumeRoleResult>Credentials>SessionToken"`
			}
			if err := xml.Unmarshal(made, &got); err != nil {
				b.Fatal(err)
			}
			session := aws.Credentials{AccessKeyID: got.Access, SecretAccessKey: got.Secret, SessionToken: got.Token}
			c.post("s3", session, s.URL+"/minio/admin/v3/revoke-tokens/builtin", nil, http.StatusNoContent)
			c.post("s3", session, s.URL+"/minio/admin/v3/revoke-tokens/builtin", nil, http.StatusForbidden)
		}
	})
}

// bare is a client that signs and sends.
type bare struct {
	*testing.B
	signer *v4.Signer
}

func (c *bare) post(service string, key aws.Credentials, address string, form url.Values, want int) []byte {
	c.Helper()
	body := form.Encode()
	req, err := http.NewRequestWithContext(c.Context(), http.MethodPost, address, strings.NewReader(body))
	if err != nil {
		c.Fatal(err)
	}
	sum := sha256.Sum256([]byte(body))
	hash := hex.EncodeToString(sum[:])
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("X-Amz-Content-Sha256", hash)
	if err := c.signer.SignHTTP(c.Context(), key, req, hash, service, "us-east-1", time.Now()); err != nil {
		c.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		c.Fatal(err)
	}
	text, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if err != nil || resp.StatusCode != want {
		c.Fatalf("%s: %d, %v: %s", address, resp.StatusCode, err, text)
	}
	return text
}

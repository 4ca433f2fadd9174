package s3

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/exchange/backend/reach"
)

const (
	maxAnswer  = 1 << 20 // bytes
	maxMessage = 200     // characters of the server's own words
)

// failed is a request that was not answered as it should be.
type failed struct {
	reach.Failed
	code string // the server's, as AccessDenied
	said string // the server's own words
}

func (f *failed) Error() string {
	words := f.Words("the server")
	switch {
	case f.Cause != nil:
		return words
	case f.Status >= 300 && f.Status < 400:
		return words + ", that another one is to be asked; let endpoint name the server itself"
	}
	if f.code != "" {
		words += " " + reach.OneLine(f.code, maxMessage)
	}
	if text := reach.OneLine(f.said, maxMessage); text != "" {
		words += fmt.Sprintf(", %q", text)
	}
	if hint := f.hint(); hint != "" {
		words += "; " + hint
	}
	return words
}

// noSuchKey are MinIO's words of a key that it does not have.
const noSuchKey = "does not exist in our records"

// hint: some codes stand for several things, and only the server's words tell which. MinIO's
// STS refuses a key or a region with AccessDenied, and has one code for a key that it does not
// know and one that is turned off; AWS's STS calls a signature of another time a wrong one.
func (f *failed) hint() string {
	switch {
	case strings.Contains(f.said, "account is disabled"):
		return "the account is turned off; turn it on again, since until then nothing is given, and no session of root's can be ended"
	case strings.Contains(f.said, "Signature expired"), strings.Contains(f.said, "Signature not yet current"):
		return hints["RequestTimeTooSkewed"]
	case strings.Contains(f.said, "region is wrong"):
		return "let region be the server's own, MINIO_REGION or its site's region; which one MinIO says here that it expects is not always true"
	case f.code == "AccessDenied" && strings.Contains(f.said, noSuchKey):
		return hints["InvalidAccessKeyId"]
	case f.code == "AccessDenied" && strings.Contains(f.said, "signature we calculated does not match"):
		return hints["SignatureDoesNotMatch"]
	}
	return hints[f.code]
}

// hints say what to do about an answer, by its code.
var hints = map[string]string{
	"InvalidAccessKeyId":      "the server does not know the access_key of the configuration",
	"InvalidClientTokenId":    "the server does not know the access_key of the configuration",
	"SignatureDoesNotMatch":   "look whether secret_key_file holds the key of access_key",
	"RequestTimeTooSkewed":    "the clocks of the exchange and the server are apart; set both by NTP",
	"AccessDenied":            "look whether the exchange's own account may do this, as docs/backends/s3.md shows",
	"PackedPolicyTooLarge":    "the session's policy is too long; give the task a shorter prefix",
	"ValidationError":         "look whether the role's longest session is as long as the task's ttl",
	"RegionDisabledException": "sessions of this region are turned off in the account; turn them on, or take another region",
}

// Temporary: waiting may help.
func (f *failed) Temporary() bool {
	return f.Failed.Temporary() || f.code == "Throttling" || f.code == "ThrottlingException" || strings.Contains(f.said, "not initialized") // MinIO, which just began
}

// own is the exchange's own key.
func (b *Backend) own() (aws.Credentials, error) {
	key, err := b.secretKey()
	if err != nil {
		return aws.Credentials{}, &failed{Failed: reach.Failed{Unsent: true, Own: true, Cause: err}}
	}
	return aws.Credentials{AccessKeyID: b.accessKey, SecretAccessKey: key.Reveal()}, nil
}

// target is where a request goes, and for which of the server's services it is signed.
type target struct{ service, url string }

// answer is what came with 2xx.
type answer struct {
	text []byte
	at   time.Time // by the server's clock; zero where it does not say
}

// call sends one POST signed with a key. Its error is *failed.
func (b *Backend) call(ctx context.Context, key aws.Credentials, to target, form url.Values) (answer, error) {
	body := form.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to.url, strings.NewReader(body))
	if err != nil {
		return answer{}, &failed{Failed: reach.Failed{Unsent: true, Cause: err}}
	}
	sum := sha256.Sum256([]byte(body))
	hash := hex.EncodeToString(sum[:])
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
	req.Header.Set("User-Agent", "stepkey")
	req.Header.Set("X-Amz-Content-Sha256", hash)
	if err := b.signer.SignHTTP(ctx, key, req, hash, to.service, b.region, b.now()); err != nil {
		return answer{}, &failed{Failed: reach.Failed{Unsent: true, Cause: fmt.Errorf("signing the request: %w", err)}}
	}
	resp, unsent, err := reach.Do(b.http, req)
	if err != nil {
		return answer{}, &failed{Failed: reach.Failed{Unsent: unsent, Cause: err}}
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if resp.StatusCode >= 300 {
		return answer{}, refusal(resp.StatusCode, text)
	}
	if err != nil {
		return answer{}, &failed{Failed: reach.Failed{Status: resp.StatusCode, Cause: errors.New("and its answer was cut off")}}
	}
	at, _ := http.ParseTime(resp.Header.Get("Date"))
	return answer{text, at}, nil
}

// refusal reads the server's words: XML from STS, with or without a frame, and JSON from
// MinIO's administration. Without them the status says enough.
func refusal(status int, text []byte) *failed {
	f := &failed{Failed: reach.Failed{Status: status}}
	var framed struct {
		Error struct {
			Code    string `xml:"Code"`
			Message string `xml:"Message"`
		} `xml:"Error"`
		Code    string `xml:"Code" json:"Code"`
		Message string `xml:"Message" json:"Message"`
	}
	if xml.Unmarshal(text, &framed) != nil && json.Unmarshal(text, &framed) != nil {
		return f
	}
	f.code, f.said = framed.Error.Code, framed.Error.Message
	if f.code == "" {
		f.code, f.said = framed.Code, framed.Message
	}
	return f
}

// classify turns a failed call into the backend's terms.
func classify(err error, creates bool) error {
	var f *failed
	if !errors.As(err, &f) {
		return err
	}
	if f.Temporary() {
		err = fmt.Errorf("%w; %w", err, backend.ErrUnavailable)
	}
	if creates && f.NothingDone() {
		err = fmt.Errorf("%w; %w", err, backend.ErrNotCreated)
	}
	return err
}

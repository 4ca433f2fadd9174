package realserver

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// MinIO is an object store with one node and no buckets.
type MinIO struct {
	*process
	URL      string // http://ADDRESS:PORT
	User     string // root's access key
	Password string

	address, port, dir string
	now                func() time.Time
}

// StartMinIO keeps its data below dir, and listens on an address of this machine.
func StartMinIO(ctx context.Context, dir, address string) (*MinIO, error) {
	port, err := freePort(ctx, address)
	if err != nil {
		return nil, err
	}
	m := &MinIO{
		User: "admin", Password: rand.Text(),
		URL: "http://" + net.JoinHostPort(address, port), address: address, port: port, dir: dir, now: time.Now,
	}
	return m, m.Start(ctx)
}

// Start runs it on the data and the port that it had, after Close.
func (m *MinIO) Start(ctx context.Context) error {
	program, err := built("minio")
	if err != nil {
		return err
	}
	console, err := freePort(ctx, m.address)
	if err != nil {
		return err
	}
	cmd := exec.Command(program, "server", "--quiet", "--address", net.JoinHostPort(m.address, m.port),
		"--console-address", net.JoinHostPort(m.address, console), filepath.Join(m.dir, "data"))
	cmd.Env = []string{
		"HOME=" + m.dir, "MINIO_ROOT_USER=" + m.User, "MINIO_ROOT_PASSWORD=" + m.Password,
		"MINIO_BROWSER=off", "MINIO_UPDATE=off", "MINIO_CALLHOME_ENABLE=off",
	}
	m.process, err = launch(ctx, cmd, m.ready)
	return err
}

// ready: its own sign of health comes before it knows its accounts, and buckets before
// sessions.
func (m *MinIO) ready(ctx context.Context) error {
	if _, err := m.Do(ctx, http.MethodGet, "/", ""); err != nil {
		return err
	}
	_, err := m.signed(ctx, "sts", http.MethodPost, "/", "Action=AssumeRole&Version=2011-06-15&DurationSeconds=1")
	if err != nil && strings.Contains(err.Error(), "not initialized") {
		return err
	}
	return nil // so short a session is refused, which is an answer
}

// MakeBucket makes an empty one.
func (m *MinIO) MakeBucket(ctx context.Context, name string) error {
	_, err := m.Do(ctx, http.MethodPut, "/"+url.PathEscape(name), "")
	return err
}

// Put writes an object.
func (m *MinIO) Put(ctx context.Context, bucket, key, text string) error {
	_, err := m.Do(ctx, http.MethodPut, (&url.URL{Path: "/" + bucket + "/" + key}).EscapedPath(), text)
	return err
}

// Get reads an object.
func (m *MinIO) Get(ctx context.Context, bucket, key string) (string, error) {
	return m.Do(ctx, http.MethodGet, (&url.URL{Path: "/" + bucket + "/" + key}).EscapedPath(), "")
}

// Objects are the keys of a bucket's first thousand objects, in order.
func (m *MinIO) Objects(ctx context.Context, bucket string) ([]string, error) {
	text, err := m.Do(ctx, http.MethodGet, "/"+url.PathEscape(bucket)+"?list-type=2", "")
	if err != nil {
		return nil, err
	}
	var list struct {
		Keys []string `xml:"Contents>Key"`
	}
	if err := xml.Unmarshal([]byte(text), &list); err != nil {
		return nil, fmt.Errorf("reading a list of MinIO's: %w", err)
	}
	return list.Keys, nil
}

// Do is one request as root, of S3's or of MinIO's own at /minio/admin. What is not
// answered with 2xx is an error.
func (m *MinIO) Do(ctx context.Context, method, target, body string) (string, error) {
	return m.signed(ctx, "s3", method, target, body)
}

func (m *MinIO) signed(ctx context.Context, service, method, target, body string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, method, m.URL+target, strings.NewReader(body))
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256([]byte(body))
	hash := hex.EncodeToString(sum[:])
	req.Header.Set("X-Amz-Content-Sha256", hash)
	if service == "sts" {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	root := aws.Credentials{AccessKeyID: m.User, SecretAccessKey: m.Password}
	escaped := func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true } // the path is escaped once, as S3 has it
	if err := v4.NewSigner(escaped).SignHTTP(ctx, root, req, hash, service, "us-east-1", m.now()); err != nil {
		return "", fmt.Errorf("signing for MinIO: %w", err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, 16<<20))
	_ = resp.Body.Close()
	if err == nil && resp.StatusCode/100 != 2 {
		err = fmt.Errorf("MinIO answers %s with %d: %s", method, resp.StatusCode, text)
	}
	return string(text), err
}

// Stored lists a folder below the data, for looking at what MinIO keeps.
func (m *MinIO) Stored(place string) ([]os.DirEntry, error) {
	return os.ReadDir(filepath.Join(m.dir, "data", place))
}

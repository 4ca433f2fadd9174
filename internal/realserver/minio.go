package realserver

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// MinIO is a node of an object store that has no buckets.
type MinIO struct {
	*process
	URL      string // http://ADDRESS:PORT
	User     string // root's access key
	Password string

	address, port, dir string
	volumes            []string
	settings           []string
	now                func() time.Time
}

// StartMinIO runs one node, which keeps its data below dir and listens on an address of this
// machine.
func StartMinIO(ctx context.Context, dir, address string) (*MinIO, error) {
	for again := 2; ; again-- {
		m, err := newMinIO(ctx, dir, address)
		if err != nil {
			return nil, err
		}
		m.volumes = []string{filepath.Join(dir, "data")}
		err = m.Start(ctx)
		if err == nil || again == 0 || !strings.Contains(err.Error(), "port is already in use") {
			return m, err
		}
	}
}

func newMinIO(ctx context.Context, dir, address string) (*MinIO, error) {
	port, err := freePort(ctx, address)
	if err != nil {
		return nil, err
	}
	return &MinIO{
		User: "admin", Password: rand.Text(),
		URL: "http://" + net.JoinHostPort(address, port), address: address, port: port, dir: dir, now: time.Now,
	}, nil
}

// StartMinIONodes runs several nodes that are one store. All that were started are returned
// with an error, too.
func StartMinIONodes(ctx context.Context, dir string, many int) ([]*MinIO, error) {
	address, err := ownAddress()
	if err != nil {
		return nil, err
	}
	var nodes []*MinIO
	var volumes []string
	for i := range many {
		m, err := newMinIO(ctx, dir, address)
		if err != nil {
			return nil, err
		}
		nodes = append(nodes, m)
		volumes = append(volumes, m.URL+filepath.Join(dir, fmt.Sprint("node", i)))
	}
	errs := make([]error, many)
	var all sync.WaitGroup
	for i, m := range nodes { // none is ready before the others run
		m.Password, m.volumes = nodes[0].Password, volumes
		m.settings = []string{"MINIO_CI_CD=1"} // all volumes may be on the machine's only disk
		all.Go(func() { errs[i] = m.Start(ctx) })
	}
	all.Wait()
	started := slices.DeleteFunc(nodes, func(m *MinIO) bool { return m.process == nil })
	return started, errors.Join(errs...)
}

// ownAddress is one of this machine's that is not loopback, where it has one: in a container
// MinIO does not take that for a node's.
func ownAddress() (string, error) {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return "", fmt.Errorf("looking for an address of this machine: %w", err)
	}
	for _, one := range all {
		if ip, _, err := net.ParseCIDR(one.String()); err == nil && ip.To4() != nil && ip.IsGlobalUnicast() {
			return ip.String(), nil
		}
	}
	return "127.0.0.1", nil
}

// Start runs it on the data and the port that it had, after Close.
func (m *MinIO) Start(ctx context.Context) error {
	program, err := built("minio")
	if err != nil {
		return err
	}
	cmd := exec.Command(program, append([]string{"server", "--quiet", "--address", net.JoinHostPort(m.address, m.port), //nolint:gosec,noctx // ours, and it outlives its start
		"--console-address", net.JoinHostPort(m.address, "1")}, m.volumes...)...) // it has no console, but looks for a port
	cmd.Env = append([]string{
		"HOME=" + m.dir, "MINIO_ROOT_USER=" + m.User, "MINIO_ROOT_PASSWORD=" + m.Password,
		"MINIO_BROWSER=off", "MINIO_UPDATE=off", "MINIO_CALLHOME_ENABLE=off",
	}, m.settings...)
	m.process, err = launch(ctx, cmd, m.ready)
	return err
}

func (m *MinIO) ready(ctx context.Context) error {
	if _, err := m.Do(ctx, http.MethodGet, "/", ""); err != nil {
		return err
	}
	// It takes root's requests before it has read the other accounts. Then it knows of a
	// stranger that there is none.
	_, err := m.signed(ctx, "stranger", http.MethodGet, "/", "")
	if err != nil && strings.Contains(err.Error(), "<Code>InvalidAccessKeyId</Code>") {
		return nil
	}
	return fmt.Errorf("it does not know its accounts yet: %w", err)
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
	return m.signed(ctx, m.User, method, target, body)
}

func (m *MinIO) signed(ctx context.Context, user, method, target, body string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, method, m.URL+target, strings.NewReader(body))
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256([]byte(body))
	hash := hex.EncodeToString(sum[:])
	req.Header.Set("X-Amz-Content-Sha256", hash)
	key := aws.Credentials{AccessKeyID: user, SecretAccessKey: m.Password}
	escaped := func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true } // the path is escaped once, as S3 has it
	if err := v4.NewSigner(escaped).SignHTTP(ctx, key, req, hash, "s3", "us-east-1", m.now()); err != nil {
		return "", fmt.Errorf("signing for MinIO: %w", err)
	}
	resp, err := (&http.Client{Timeout: readyWithin}).Do(req)
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

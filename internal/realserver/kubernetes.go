package realserver

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// Kubernetes is an API server with its store: RBAC, service accounts and their tokens, and nothing
// that runs pods or tidies up behind owners.
type Kubernetes struct {
	*process
	URL   string          // https://127.0.0.1:PORT
	CA    string          // a file, PEM
	Admin string          // the token of a member of system:masters
	Key   *rsa.PrivateKey // signs the tokens of service accounts
	HTTP  *http.Client    // trusts the server
}

const (
	kubernetesIssuer = "https://kubernetes.test" // and the audience of its tokens
	keySize          = 2048
	triedFor         = 2 * time.Second // of one look whether it is ready
)

// StartKubernetes keeps its data, key and certificate below dir.
func StartKubernetes(ctx context.Context, dir string) (*Kubernetes, error) {
	program, err := built("kube-apiserver")
	if err != nil {
		return nil, err
	}
	k := &Kubernetes{Admin: rand.Text(), CA: filepath.Join(dir, "apiserver.crt")}
	var ports [3]string
	for i := range ports {
		if ports[i], err = freePort(ctx, "127.0.0.1"); err != nil {
			return nil, err
		}
	}
	k.URL = "https://" + net.JoinHostPort("127.0.0.1", ports[0])
	if err := k.writeFiles(dir); err != nil {
		return nil, fmt.Errorf("preparing kube-apiserver: %w", err)
	}
	cmd := exec.Command(program, kubernetesFlags(dir, ports[0])...) //nolint:gosec,noctx // ours, and it outlives its start
	cmd.Env = []string{
		"HOME=" + dir, "ETCD_DIR=" + filepath.Join(dir, "etcd"),
		"ETCD_CLIENT_URL=http://" + net.JoinHostPort("127.0.0.1", ports[1]), "ETCD_PEER_URL=http://" + net.JoinHostPort("127.0.0.1", ports[2]),
	}
	k.process, err = launch(ctx, cmd, k.ready)
	return k, err
}

func kubernetesFlags(dir, port string) []string {
	key := filepath.Join(dir, "accounts.key")
	return []string{
		"--bind-address=127.0.0.1", "--advertise-address=127.0.0.1", "--secure-port=" + port, "--cert-dir=" + dir,
		"--service-account-issuer=" + kubernetesIssuer, "--api-audiences=" + kubernetesIssuer,
		"--service-account-key-file=" + key, "--service-account-signing-key-file=" + key,
		"--token-auth-file=" + filepath.Join(dir, "tokens.csv"), "--authorization-mode=RBAC",
		"--service-cluster-ip-range=10.0.0.0/24",
		// Without a controller no namespace gets the account that this plugin asks for.
		"--disable-admission-plugins=ServiceAccount",
		"--endpoint-reconciler-type=none", // it exits without this one
	}
}

func (k *Kubernetes) writeFiles(dir string) error {
	var err error
	if k.Key, err = rsa.GenerateKey(rand.Reader, keySize); err != nil {
		return err
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(k.Key)})
	return errors.Join(
		os.WriteFile(filepath.Join(dir, "accounts.key"), text, 0o600),
		os.WriteFile(filepath.Join(dir, "tokens.csv"), []byte(k.Admin+",admin,1,system:masters\n"), 0o600),
	)
}

// ready: it takes requests, and has made the first namespace, into which tests write.
func (k *Kubernetes) ready(ctx context.Context) error {
	ctx, done := context.WithTimeout(ctx, triedFor)
	defer done()
	roots := x509.NewCertPool()
	text, err := os.ReadFile(k.CA) // written by the server
	if err != nil || !roots.AppendCertsFromPEM(text) {
		return fmt.Errorf("it has no certificate: %w", err)
	}
	k.HTTP = &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, MaxIdleConnsPerHost: 20,
	}}
	for _, path := range []string{"/readyz", "/api/v1/namespaces/default"} {
		if err := k.Must(ctx, http.MethodGet, path, nil, nil); err != nil {
			return err
		}
	}
	return nil
}

// Must is one request of the administrator's that has to be answered with 2xx. in is sent, and out
// read, as JSON, where they are not nil.
func (k *Kubernetes) Must(ctx context.Context, method, path string, in, out any) error {
	status, text, err := k.Do(ctx, k.Admin, method, path, in)
	switch {
	case err != nil:
		return err
	case status/100 != 2:
		return fmt.Errorf("kube-apiserver answers %s %s with %d: %s", method, path, status, text)
	case out != nil:
		return json.Unmarshal(text, out)
	}
	return nil
}

// Do is one request with a token.
func (k *Kubernetes) Do(ctx context.Context, token, method, path string, in any) (int, []byte, error) {
	var body io.Reader = http.NoBody
	if in != nil {
		text, err := json.Marshal(in)
		if err != nil {
			return 0, nil, err
		}
		body = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, k.URL+path, body)
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", "application/json")
	resp, err := k.HTTP.Do(req)
	if err != nil {
		return 0, nil, err
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, 16<<20))
	_ = resp.Body.Close()
	return resp.StatusCode, text, err
}

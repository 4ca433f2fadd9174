package realserver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
)

// RegistryConfig is where a registry is, and whose tokens it takes.
type RegistryConfig struct {
	Version int    // 3, which "make servers" builds; Debian's 2 if it is 0
	Dir     string // below which it keeps its files
	Listen  string // ADDRESS:PORT; any free port if that is 0

	Realm, Service, Issuer string
	Trust                  string // how it knows the issuer's keys: a line of its configuration
}

// Registry is a container registry that sends its clients elsewhere for tokens.
type Registry struct {
	*process
	Host string // and port, as clients log in to it
}

// StartRegistry starts one without any image.
func StartRegistry(ctx context.Context, c RegistryConfig) (*Registry, error) {
	program, err := c.program()
	if err != nil {
		return nil, err
	}
	address, port, err := net.SplitHostPort(c.Listen)
	if err == nil && port == "0" {
		port, err = freePort(ctx, address)
	}
	if err != nil {
		return nil, fmt.Errorf("finding where the registry is to listen: %w", err)
	}
	r := &Registry{Host: net.JoinHostPort(address, port)}
	config := filepath.Join(c.Dir, "config.yml")
	if err := os.WriteFile(config, c.text(r.Host), 0o600); err != nil {
		return nil, fmt.Errorf("preparing the registry: %w", err)
	}
	cmd := exec.CommandContext(context.WithoutCancel(ctx), program, "serve", config) //nolint:gosec // a program of this machine
	cmd.Env = []string{"HOME=" + c.Dir, "OTEL_TRACES_EXPORTER=none"}
	r.process, err = launch(ctx, cmd, r.ready)
	return r, err
}

func (c RegistryConfig) program() (string, error) {
	switch c.Version {
	case 0, 2:
		return installed("docker-registry", "apt-get install docker-registry")
	case 3:
		return built("registry")
	default:
		return "", fmt.Errorf("there is no registry of version %d here; want 2 or 3", c.Version)
	}
}

func (c RegistryConfig) text(listen string) []byte {
	return fmt.Appendf(nil, `version: 0.1
log: {accesslog: {disabled: true}, level: info}
storage: {filesystem: {rootdirectory: %q}, delete: {enabled: true}}
http: {addr: %q, secret: x, relativeurls: true}
auth: {token: {realm: %q, service: %q, issuer: %q, %s}}
`, filepath.Join(c.Dir, "data"), listen, c.Realm, c.Service, c.Issuer, c.Trust)
}

// ready: it takes requests, and refuses those without a token.
func (r *Registry) ready(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+r.Host+"/v2/", nil)
	if err != nil {
		return err
	}
	client := http.Client{Timeout: endsWithin}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusUnauthorized {
		err = fmt.Errorf("who has no token is answered with %d", resp.StatusCode)
	}
	return errors.Join(err, resp.Body.Close())
}

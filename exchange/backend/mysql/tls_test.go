package mysql_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/exchange/backend/backendtest"
	"github.com/stepkey/stepkey/exchange/backend/mysql"
	"github.com/stepkey/stepkey/internal/needs"
	"github.com/stepkey/stepkey/internal/secret"
)

// overTLS is a server with a certificate for the address 127.0.0.1 and no name, which ends
// then, and with MariaDB's plugin for ed25519.
func overTLS(t *testing.T, a backendtest.Authority, ends time.Time) *place {
	t.Helper()
	dir := t.TempDir()
	certificate, key := a.Certify(t, ends)
	for name, content := range map[string][]byte{"server.crt": certificate, "server.key": key} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p, err := setUp(t.Context(), "--ssl-cert="+filepath.Join(dir, "server.crt"), "--ssl-key="+filepath.Join(dir, "server.key"), "--plugin-load-add=auth_ed25519")
	needs.Started(t, err)
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// at is a backend of that server, which is reached so.
func (p *place) at(t *testing.T, host, mode, root, plugin string) *scene {
	t.Helper()
	b, err := mysql.New(mysql.Options{
		Limits: mysql.Limits{Databases: []string{"app"}, Roles: []string{"migrator"}}, From: from, Authentication: plugin,
		Server: mysql.Server{Host: host, Port: p.port, SSLMode: mode, RootCertificate: root, User: "stepkey", Password: p.password},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return &scene{TB: t, place: p, Backend: b}
}

func TestOverTLS(t *testing.T) {
	ours, others := backendtest.NewAuthority(t, time.Now()), backendtest.NewAuthority(t, time.Now())
	p, late, plain := overTLS(t, ours, time.Now().Add(time.Hour)), overTLS(t, ours, time.Now().Add(-time.Minute)), there(t)
	for _, c := range []struct {
		name, host, mode, root, refused string
		server                          *place
	}{
		{"the authority is known and the address certified", "127.0.0.1", "verify-identity", ours.File, "", p},
		{"the mode is left out", "127.0.0.1", "", ours.File, "", p},
		{"the name is not certified, and not looked at", "localhost", "verify-ca", ours.File, "", p},
		{"the authority is not looked at", "localhost", "required", "", "", p},
		{"the name is not certified", "localhost", "verify-identity", ours.File, "write host as its certificate does", p},
		{"another authority", "127.0.0.1", "verify-identity", others.File, "name the authority that signed its certificate as root_certificate", p},
		{"another authority, and no name looked at", "127.0.0.1", "verify-ca", others.File, "name the authority that signed its certificate as root_certificate", p},
		{"an authority is named that it is not of", "127.0.0.1", "required", others.File, "name the authority that signed its certificate as root_certificate", p},
		{"none of the machine's authorities", "127.0.0.1", "verify-identity", "", "name the authority that signed its certificate as root_certificate", p},
		{"a certificate of the past", "127.0.0.1", "verify-identity", ours.File, "it needs another certificate", late},
		{"a certificate of the past, and no name looked at", "127.0.0.1", "verify-ca", ours.File, "it needs another certificate", late},
		{"TLS where the server has none", "127.0.0.1", "required", "", "the server has no TLS switched on", plain},
		{"TLS to be verified where the server has none", "127.0.0.1", "verify-identity", ours.File, "the server has no TLS switched on", plain},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := c.server.at(t, c.host, c.mode, c.root, "")
			if c.refused == "" {
				s.wantEncrypted()
				return
			}
			_, err := s.Issue(t.Context(), s.order(asMigrator))
			if !errors.Is(err, backend.ErrNotCreated) || !strings.Contains(err.Error(), c.refused) {
				t.Errorf("%v; want …%s…, and that nothing was created", err, c.refused)
			}
		})
	}
	t.Run("the plugin ed25519", func(t *testing.T) {
		s := p.at(t, "127.0.0.1", "", ours.File, "ed25519")
		s.wantEncrypted()
		id, _ := s.issue(asMigrator)
		if n := s.number("SELECT COUNT(*) FROM mysql.user WHERE plugin = 'ed25519' AND User = '" + userOf(id) + "'"); n != 1 {
			t.Errorf("%d users have it", n)
		}
		s.end(id)
	})
}

// wantEncrypted: a lease is issued, used and ended, and all of that over TLS; without, the
// server lets nobody in.
func (s *scene) wantEncrypted() {
	s.Helper()
	id, made := s.issue(asMigrator)
	c := s.login(made)
	var name, cipher string
	if err := c.QueryRowContext(s.Context(), "SHOW STATUS LIKE 'Ssl_cipher'").Scan(&name, &cipher); err != nil || cipher == "" {
		s.Errorf("a step's session has the cipher %q: %v", cipher, err)
	}
	made.Values["ssl_mode"] = secret.New("disabled")
	if c, err := login(s.Context(), made.Values); err == nil {
		_ = c.Close()
		s.Errorf("it logs in without TLS")
	}
	s.end(id)
	s.gone(id)
}

// A server without the plugin says so, and nothing is made.
func TestAPluginThatTheServerLacksIsSaidSo(t *testing.T) {
	for plugin, says := range map[string]string{"ed25519": "INSTALL SONAME 'auth_ed25519'", "caching_sha2_password": "which is MySQL's"} {
		s := stage(t, choice{plugin: plugin})
		o := s.order(asMigrator)
		_, err := s.Issue(t.Context(), o)
		wantRefused(t, err, says)
		s.gone(o.Lease)
	}
}

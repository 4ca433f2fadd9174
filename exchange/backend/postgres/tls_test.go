package postgres_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/exchange/backend/backendtest"
	"github.com/stepkey/stepkey/exchange/backend/postgres"
	"github.com/stepkey/stepkey/internal/needs"
	"github.com/stepkey/stepkey/internal/pgserver"
	"github.com/stepkey/stepkey/internal/secret"
)

// overTLS is a server that lets in over TLS alone, as the page says, with a certificate
// for the address 127.0.0.1 and no name, which ends then.
func overTLS(t *testing.T, a backendtest.Authority, ends time.Time) *place {
	t.Helper()
	p, err := setUp(t.Context(), pgserver.Quick)
	needs.Started(t, err)
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	certificate, key := a.Certify(t, ends)
	p.keep(t, "server.key", key)
	p.keep(t, "server.crt", certificate)
	p.keep(t, "pg_hba.conf", []byte("host all admin 127.0.0.1/32 trust\nhostssl app all 127.0.0.1/32 scram-sha-256\n"))
	for _, one := range []string{"ALTER SYSTEM SET ssl = on", "SELECT pg_reload_conf()"} {
		if err := p.Exec(t.Context(), one); err != nil {
			t.Fatal(err)
		}
	}
	untilTLS(t, p)
	return p
}

// keep writes a file of the server's own, who refuses a key that others may read.
func (p *place) keep(t *testing.T, name string, content []byte) {
	t.Helper()
	path := filepath.Join(p.DataDir(), name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(p.DataDir())
	if err != nil {
		t.Fatal(err)
	}
	if owner, ok := info.Sys().(*syscall.Stat_t); ok {
		if err := os.Chown(path, int(owner.Uid), int(owner.Gid)); err != nil {
			t.Fatal(err)
		}
	}
}

// at is a backend of that server, which is reached so.
func (p *place) at(t *testing.T, host, sslmode, root string) *scene {
	t.Helper()
	b, err := postgres.New(postgres.Options{
		Limits: postgres.Limits{Databases: []string{"app"}, Roles: []string{"migrator"}}, Owner: "migrator",
		Server: postgres.Server{Host: host, Port: p.port, SSLMode: sslmode, RootCertificate: root, User: "stepkey", Password: p.password},
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
		name, host, sslmode, root, refused string
		server                             *place
	}{
		{"the authority is known and the address certified", "127.0.0.1", "verify-full", ours.File, "", p},
		{"the mode is left out", "127.0.0.1", "", ours.File, "", p},
		{"the name is not certified, and not looked at", "localhost", "verify-ca", ours.File, "", p},
		{"the authority is not looked at", "localhost", "require", "", "", p},
		{"the name is not certified", "localhost", "verify-full", ours.File, "wanted to match localhost; if this is the server that is meant, write host as its certificate does", p},
		{"another authority", "127.0.0.1", "verify-full", others.File, "name the authority that signed its certificate as root_certificate", p},
		{"another authority, and no name looked at", "127.0.0.1", "verify-ca", others.File, "name the authority that signed its certificate as root_certificate", p},
		{"an authority is named that it is not of", "127.0.0.1", "require", others.File, "name the authority that signed its certificate as root_certificate", p},
		{"none of the machine's authorities", "127.0.0.1", "verify-full", "", "name the authority that signed its certificate as root_certificate", p},
		{"a certificate of the past", "127.0.0.1", "verify-full", ours.File, "it needs another certificate", late},
		{"no TLS where the server asks for it", "127.0.0.1", "disable", "", "no encryption (28000); compare user, password_file and sslmode", p},
		{"TLS where the server has none", "127.0.0.1", "require", "", "ssl = off", plain},
		{"TLS to be verified where the server has none", "127.0.0.1", "verify-full", ours.File, "ssl = off", plain},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := c.server.at(t, c.host, c.sslmode, c.root)
			if c.refused == "" {
				s.wantEncrypted(c.root)
				return
			}
			_, err := s.Issue(t.Context(), s.order(asMigrator))
			if !errors.Is(err, backend.ErrNotCreated) || !strings.Contains(err.Error(), c.refused) {
				t.Errorf("%v; want …%s…, and that nothing was created", err, c.refused)
			}
		})
	}
}

// untilTLS waits until the server has reloaded its configuration.
func untilTLS(t *testing.T, p *place) {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), 20*time.Second)
	defer stop()
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for {
		c, err := pgx.Connect(ctx, strings.Replace(p.DSN("app"), "sslmode=disable", "sslmode=require", 1))
		if err == nil {
			_ = c.Close(ctx)
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("the server does not take TLS: %v", err)
		case <-again.C:
		}
	}
}

// wantEncrypted: a lease is issued, used and ended, and all of that over TLS.
func (s *scene) wantEncrypted(root string) {
	s.Helper()
	id, made := s.issue(asMigrator)
	if root != "" {
		made.Values["url"] = secret.New(made.Values["url"].Reveal() + "&sslrootcert=" + root)
	}
	s.login(made)
	if n := s.number("app", `SELECT count(*) FROM pg_stat_ssl s JOIN pg_stat_activity a USING (pid) WHERE s.ssl AND (a.usename = 'stepkey' OR a.usename LIKE 'stepkey\_%')`); n != 2 {
		s.Errorf("%d sessions are over TLS, want the exchange's and the lease's", n)
	}
	s.end(id)
	s.gone(id)
}

package pgserver

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"strings"
)

// standbyName is both what a standby calls itself and the name of its slot.
const standbyName = "standby"

// Standby starts a second server that follows this one by streaming replication,
// through a slot, and returns when it has caught on. A server has one standby at most.
func (s *Server) Standby(ctx context.Context, with Settings) (*Server, error) {
	b := &Server{bin: s.bin, address: s.address, options: with, as: s.as}
	var err error
	if b.dir, err = os.MkdirTemp("", "pgserver-"); err != nil {
		return nil, fmt.Errorf("making room for a standby: %w", err)
	}
	if err := b.copyOf(ctx, s); err != nil {
		return nil, errors.Join(err, os.RemoveAll(b.dir))
	}
	if err := b.runBeside(ctx, s); err != nil {
		return nil, errors.Join(err, b.Close())
	}
	return b, nil
}

// copyOf takes the primary's files, and writes down how to follow it: standby.signal,
// primary_conninfo and primary_slot_name are what -R leaves in the data directory.
func (s *Server) copyOf(ctx context.Context, primary *Server) error {
	if s.as != nil {
		if err := os.Chown(s.dir, int(s.as.Uid), int(s.as.Gid)); err != nil {
			return fmt.Errorf("giving the standby's directory to its user: %w", err)
		}
	}
	from := "host=" + primary.address + " port=" + primary.port + " user=admin sslmode=disable application_name=" + standbyName
	c := s.command(ctx, "pg_basebackup", "-d", from, "-D", s.DataDir(), "-R", "-X", "stream", "-C", "-S", standbyName, "-c", "fast", "--no-sync")
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("copying the primary: %w: %s", err, out)
	}
	return nil
}

func (s *Server) runBeside(ctx context.Context, primary *Server) error {
	if err := s.run(ctx); err != nil {
		return err
	}
	return until(ctx, "the standby to follow", func(ctx context.Context) error {
		return primary.standbyIs(ctx, "state", "streaming")
	})
}

// Synchronous makes every commit of a primary wait for its standby from now on. how is
// PostgreSQL's synchronous_commit: "on" waits until the standby has it on the disk,
// "remote_apply" until it can be read there, too.
func (s *Server) Synchronous(ctx context.Context, how string) error {
	for _, statement := range []string{
		`ALTER SYSTEM SET synchronous_standby_names = '` + standbyName + `'`,
		`ALTER SYSTEM SET synchronous_commit = ` + how,
		`SELECT pg_reload_conf()`,
	} {
		if err := s.Exec(ctx, statement); err != nil {
			return fmt.Errorf("making replication synchronous: %w", err)
		}
	}
	return until(ctx, "replication to be synchronous", func(ctx context.Context) error {
		return s.standbyIs(ctx, "sync_state", "sync")
	})
}

func (s *Server) standbyIs(ctx context.Context, column, want string) error {
	var got sql.NullString
	err := s.admin.QueryRowContext(ctx, `SELECT `+column+` FROM pg_stat_replication WHERE application_name = $1`, standbyName).Scan(&got)
	if err != nil || got.String != want {
		return errors.Join(err, fmt.Errorf("the standby's %s is %q", column, got.String))
	}
	return nil
}

// Promote makes a standby a primary and returns when it can be written to.
func (s *Server) Promote(ctx context.Context) error {
	var done bool
	if err := s.admin.QueryRowContext(ctx, `SELECT pg_promote(true, $1)`, int(readyWithin.Seconds())).Scan(&done); err != nil || !done {
		return errors.Join(err, errors.New("the standby does not become a primary"))
	}
	return nil
}

// DSNOfPair names a database of two servers of which either may be the primary, the way
// an operator writes it.
func DSNOfPair(first, second *Server, database string) string {
	hosts := []string{first.address + ":" + first.port, second.address + ":" + second.port}
	return "postgres://admin@" + strings.Join(hosts, ",") + "/" + database + "?sslmode=disable&target_session_attrs=read-write"
}

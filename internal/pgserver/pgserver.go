// Package pgserver runs a real PostgreSQL on loopback for tests and benchmarks.
//
// It hides how one is found, made and started on this machine: initdb and postgres
// refuse to run as root, so as root they run as another user.
package pgserver

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the database/sql driver "pgx"

	"github.com/stepkey/stepkey/internal/needs"
)

// ErrMissing: there is no PostgreSQL on this machine.
var ErrMissing error = needs.Missing{What: "PostgreSQL, with initdb and postgres,", Get: "on Debian, apt-get install postgresql"}

// Server is one running PostgreSQL with a data directory of its own.
type Server struct {
	dir     string
	bin     string
	address string
	port    string
	as      *syscall.Credential
	options []string
	process *process // nil while it is down
	admin   *sql.DB
}

// Settings are for postgres's -c. The default trades durability for speed, for tests
// that never look at it; Durable is what an operator runs.
type Settings []string

// Quick and Durable are the two settings that tests need: a server that is killed must
// be Durable, or it forgets what it has confirmed.
var (
	Quick   = Settings{"fsync=off", "synchronous_commit=off", "full_page_writes=off", "shared_buffers=32MB"}
	Durable = Settings{"shared_buffers=128MB"}
)

const (
	readyWithin = 30 * time.Second
	endsWithin  = 30 * time.Second // the last checkpoint included
)

// process is one run of a server.
type process struct {
	cmd  *exec.Cmd
	over chan struct{} // closed when it has ended
	err  error         // how; to be read once it is over
}

func (p *process) ended() bool {
	select {
	case <-p.over:
		return true
	default:
		return false
	}
}

// Start makes a cluster and starts it on a free port of loopback.
func Start(ctx context.Context, with Settings) (*Server, error) {
	return StartOn(ctx, "127.0.0.1", with)
}

// StartOn listens on another address of this machine: the gateway of a network of
// containers, that only they and this machine reach. Everybody there is let in.
func StartOn(ctx context.Context, address string, with Settings) (*Server, error) {
	bin, err := programs()
	if err != nil {
		return nil, err
	}
	s := &Server{bin: bin, address: address, options: with}
	if s.dir, err = os.MkdirTemp("", "pgserver-"); err != nil {
		return nil, fmt.Errorf("making room for PostgreSQL: %w", err)
	}
	if err := s.initialize(ctx); err != nil {
		return nil, errors.Join(err, os.RemoveAll(s.dir))
	}
	if err := s.run(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// programs finds the newest server on PATH or where Debian keeps it. What is on PATH may
// be a link; the other programs are beside what it leads to.
func programs() (string, error) {
	if path, err := exec.LookPath("initdb"); err == nil {
		if path, err = filepath.EvalSymlinks(path); err != nil {
			return "", fmt.Errorf("finding PostgreSQL: %w", err)
		}
		return filepath.Dir(path), nil
	}
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if err != nil || len(found) == 0 {
		return "", ErrMissing
	}
	slices.Sort(found)
	return filepath.Dir(found[len(found)-1]), nil
}

func (s *Server) initialize(ctx context.Context) error {
	if os.Geteuid() == 0 {
		if err := s.notAsRoot(); err != nil {
			return err
		}
	}
	c := s.command(ctx, "initdb", "-D", filepath.Join(s.dir, "data"), "-U", "admin", "-A", "trust", "-N", "--no-instructions", "--locale=C", "-E", "UTF8")
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("making a PostgreSQL cluster: %w: %s", err, out)
	}
	rules, err := os.OpenFile(filepath.Join(s.DataDir(), "pg_hba.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err == nil {
		_, err = rules.WriteString("host all all samenet trust\n")
		err = errors.Join(err, rules.Close())
	}
	if err != nil {
		return fmt.Errorf("letting the network in: %w", err)
	}
	return nil
}

func (s *Server) notAsRoot() error {
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, errU := strconv.ParseUint(u.Uid, 10, 32)
		gid, errG := strconv.ParseUint(u.Gid, 10, 32)
		if err := errors.Join(errU, errG, os.Chown(s.dir, int(uid), int(gid))); err != nil {
			return fmt.Errorf("giving PostgreSQL's directory to %s: %w", name, err)
		}
		s.as = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		return nil
	}
	return errors.New("PostgreSQL does not run as root, and there is neither a user postgres nor nobody")
}

func (s *Server) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	c := exec.CommandContext(ctx, filepath.Join(s.bin, name), args...)
	c.Dir = s.dir
	c.SysProcAttr = &syscall.SysProcAttr{Credential: s.as, Pdeathsig: syscall.SIGKILL}
	return c
}

// run starts the server for the first time.
func (s *Server) run(ctx context.Context) error {
	var err error
	if s.port, err = freePort(ctx, s.address); err != nil {
		return err
	}
	if s.admin, err = sql.Open("pgx", s.DSN("postgres")); err != nil {
		return fmt.Errorf("starting PostgreSQL: %w", err)
	}
	return s.launch(ctx)
}

// freePort was free a moment ago, and is not one of those that Linux gives to outgoing
// connections: a server that is down for a while must find it free again.
func freePort(ctx context.Context, address string) (string, error) {
	var config net.ListenConfig
	var faults error
	for range 100 {
		n, err := rand.Int(rand.Reader, big.NewInt(20_000))
		if err != nil {
			return "", fmt.Errorf("finding a port for PostgreSQL: %w", err)
		}
		port := strconv.FormatInt(12_000+n.Int64(), 10)
		l, err := config.Listen(ctx, "tcp", net.JoinHostPort(address, port))
		if err == nil {
			return port, l.Close()
		}
		faults = err
	}
	return "", fmt.Errorf("finding a port for PostgreSQL: %w", faults)
}

func (s *Server) launch(ctx context.Context) error {
	args := []string{"-D", s.DataDir(), "-c", "listen_addresses=" + s.address, "-c", "port=" + s.port, "-c", "unix_socket_directories=" + s.dir, "-c", "max_connections=200"}
	for _, o := range s.options {
		args = append(args, "-c", o)
	}
	said, err := os.OpenFile(s.journal(), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("starting PostgreSQL: %w", err)
	}
	defer func() { _ = said.Close() }() // it has its own by then
	p := &process{cmd: s.command(context.WithoutCancel(ctx), "postgres", args...), over: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = said, said
	if err := p.cmd.Start(); err != nil {
		return fmt.Errorf("starting PostgreSQL: %w", err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.over)
	}()
	if err := s.waitUntilReady(ctx, p); err != nil {
		err = errors.Join(err, p.end(syscall.SIGQUIT))
		return fmt.Errorf("%w; it said:\n%s", err, s.said())
	}
	s.process = p
	return nil
}

// journal is what the server prints, until it has a log of its own.
func (s *Server) journal() string { return filepath.Join(s.dir, "journal") }

const maxSaid = 4 << 10

func (s *Server) said() string {
	text, err := os.ReadFile(s.journal())
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-maxSaid):])
}

// waitUntilReady gives up as soon as the process has ended. Then whoever answers at its
// port is another.
func (s *Server) waitUntilReady(ctx context.Context, p *process) error {
	ctx, done := context.WithCancel(ctx)
	defer done()
	go func() {
		select {
		case <-p.over:
			done()
		case <-ctx.Done():
		}
	}()
	err := until(ctx, "PostgreSQL", func(ctx context.Context) error { return s.admin.PingContext(ctx) })
	if p.ended() {
		return fmt.Errorf("starting PostgreSQL: it ended at once: %w", errors.Join(p.err, err))
	}
	return err
}

// end ends a process by a signal: SIGINT kindly, SIGQUIT at once. One that does not heed it is
// killed, and its children see that.
func (p *process) end(by syscall.Signal) error {
	if err := p.cmd.Process.Signal(by); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("ending PostgreSQL: %w", err)
	}
	late := time.NewTimer(endsWithin)
	defer late.Stop()
	select {
	case <-p.over:
		return p.fault()
	case <-late.C:
	}
	err := errors.Join(fmt.Errorf("PostgreSQL did not end within %s of %s, and was killed", endsWithin, by), p.cmd.Process.Kill())
	<-p.over
	return err
}

// fault is what went wrong with waiting for it; that it ended badly is none.
func (p *process) fault() error {
	<-p.over
	var code *exec.ExitError
	if errors.As(p.err, &code) {
		return nil
	}
	return p.err
}

// until asks again and again whether something is so, for as long as a start may take.
func until(ctx context.Context, what string, so func(context.Context) error) error {
	ctx, done := context.WithTimeout(ctx, readyWithin)
	defer done()
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for {
		err := so(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %w", what, err)
		case <-again.C:
		}
	}
}

// DSN names a database of this server.
func (s *Server) DSN(database string) string {
	return "postgres://admin@" + s.address + ":" + s.port + "/" + database + "?sslmode=disable"
}

// DataDir is where the server keeps its files.
func (s *Server) DataDir() string { return filepath.Join(s.dir, "data") }

// Database makes an empty database and returns its DSN.
func (s *Server) Database(ctx context.Context) (string, error) {
	name := "db_" + rand.Text()
	if _, err := s.admin.ExecContext(ctx, `CREATE DATABASE "`+name+`"`); err != nil {
		return "", fmt.Errorf("making a database: %w", err)
	}
	return s.DSN(name), nil
}

// Emptied empties the database that is there from the start and returns its DSN. A
// server that is going to be killed has less to recover than with a new one.
func (s *Server) Emptied(ctx context.Context) (string, error) {
	for _, statement := range []string{`DROP SCHEMA public CASCADE`, `CREATE SCHEMA public`} {
		if _, err := s.admin.ExecContext(ctx, statement); err != nil {
			return "", fmt.Errorf("emptying a database: %w", err)
		}
	}
	return s.DSN("postgres"), nil
}

// Exec runs a statement as the superuser, outside of any database made here.
func (s *Server) Exec(ctx context.Context, statement string) error {
	_, err := s.admin.ExecContext(ctx, statement)
	return err
}

// stop ends the server and cuts its connections.
func (s *Server) stop() error {
	var err error
	if s.admin != nil {
		err = s.admin.Close()
	}
	if s.process == nil {
		return err
	}
	return errors.Join(err, s.process.end(syscall.SIGINT))
}

// Close ends the server and removes all it wrote.
func (s *Server) Close() error { return errors.Join(s.stop(), os.RemoveAll(s.dir)) }

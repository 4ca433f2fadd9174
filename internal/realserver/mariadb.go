package realserver

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"

	"github.com/go-sql-driver/mysql"
)

// MariaDB is a server with the accounts that it has from the start.
type MariaDB struct {
	*process
	Address string // ADDRESS:PORT
	// Root is its superuser, who comes through a socket and needs no password.
	Root *sql.DB

	dir string
}

// MariaDBDurable are options of a server that is run as by an operator: what it has confirmed is on
// the disk, and it writes no statement down.
var MariaDBDurable = []string{"--innodb-flush-log-at-trx-commit=1", "--innodb-buffer-pool-size=128M", "--general-log=0"}

// StartMariaDB makes a server and starts it on a free port of an address. Options are those of
// mariadbd, and stand above what tests have otherwise. Its files go with Close.
func StartMariaDB(ctx context.Context, address string, options ...string) (*MariaDB, error) {
	const get = "apt-get install mariadb-server"
	program, err1 := installed("mariadbd", get, "/usr/sbin/mariadbd")
	maker, err2 := installed("mariadb-install-db", get)
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	me, err1 := user.Current()
	port, err2 := freePort(ctx, address)
	// The path of a socket is at most 107 bytes, and that of a test's own folder may be longer.
	dir, err3 := os.MkdirTemp("", "mariadb-")
	if err := errors.Join(err1, err2, err3); err != nil {
		return nil, fmt.Errorf("preparing MariaDB: %w", err)
	}
	m := &MariaDB{Address: net.JoinHostPort(address, port), dir: dir}
	// A server that starts takes away what others keep for the moment in the same folder.
	common := []string{"--no-defaults", "--tmpdir=" + dir, "--datadir=" + filepath.Join(dir, "data"), "--user=" + me.Username}
	prepare := exec.CommandContext(ctx, maker, append(common, "--auth-root-authentication-method=normal", "--skip-test-db")...) //nolint:gosec // a program of this machine
	if out, err := prepare.CombinedOutput(); err != nil {
		return nil, errors.Join(fmt.Errorf("making a MariaDB: %w: %s", err, out), os.RemoveAll(dir))
	}
	err := m.launch(ctx, exec.Command(program, append(append(common, m.settings(address, port)...), options...)...)) //nolint:gosec,noctx // it outlives its start, a program of this machine
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return m, nil
}

// settings trade durability for speed: no test looks at what a crash leaves. See MariaDBDurable.
func (m *MariaDB) settings(address, port string) []string {
	return []string{
		"--socket=" + m.socket(), "--port=" + port, "--bind-address=" + address, "--pid-file=" + filepath.Join(m.dir, "pid"),
		"--innodb-buffer-pool-size=16M", "--innodb-flush-log-at-trx-commit=0", "--skip-log-bin", "--skip-name-resolve",
		"--max-connections=300", "--general-log=1", "--general-log-file=" + m.General(),
	}
}

func (m *MariaDB) socket() string { return filepath.Join(m.dir, "s") }

// General is its file of every statement.
func (m *MariaDB) General() string { return filepath.Join(m.dir, "general.log") }

func (m *MariaDB) launch(ctx context.Context, cmd *exec.Cmd) error {
	c := mysql.NewConfig()
	c.User, c.Net, c.Addr, c.MultiStatements = "root", "unix", m.socket(), true
	c.Logger = &mysql.NopLogger{} // it is not there at first
	connector, err := mysql.NewConnector(c)
	if err != nil {
		return fmt.Errorf("preparing MariaDB: %w", err)
	}
	m.Root = sql.OpenDB(connector)
	if m.process, err = launch(ctx, cmd, m.Root.PingContext); err != nil {
		return errors.Join(err, m.Root.Close())
	}
	return nil
}

// Close ends the server and removes all it wrote.
func (m *MariaDB) Close() error {
	return errors.Join(m.Root.Close(), m.process.Close(), os.RemoveAll(m.dir))
}

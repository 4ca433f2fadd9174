// Package postgres is the backend for PostgreSQL login roles.
//
// It hides how a task's block becomes a role of its own for each lease, with a password
// that the server never sees, and how such a role is taken out of a server again with
// all that hangs on it: its sessions, what they prepared, what it owns and what it was
// granted, in every database.
//
// What PostgreSQL does not offer, this backend cannot either: VALID UNTIL stops logins
// alone, and a session that is open goes on until it is terminated. So nothing of a
// lease dies by itself; Terms says so, and the keeper goes on until it is gone.
package postgres

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/exchange/backend/reach"
	"github.com/stepkey/stepkey/internal/secret"
	"github.com/stepkey/stepkey/internal/yamlfile"
)

// Config is the operator's, strictly decoded.
type Config struct {
	Host            string   `yaml:"host,required"`
	Port            int      `yaml:"port"`                   // 5432 unless given
	SSLMode         string   `yaml:"sslmode"`                // disable, require, verify-ca or verify-full, which is the default
	RootCertificate string   `yaml:"root_certificate"`       // a file, PEM; the machine's own roots unless given
	User            string   `yaml:"user,required"`          // the exchange's account: CREATEROLE, no superuser
	PasswordFile    string   `yaml:"password_file,required"` // of that account; a line end at its end is not part of it
	Databases       []string `yaml:"databases,required"`     // that tasks may name
	Roles           []string `yaml:"roles"`                  // that tasks may be members of
	Owner           string   `yaml:"owner"`                  // gets what a lease leaves behind
	DropOwned       bool     `yaml:"drop_owned"`             // what a lease leaves behind is dropped
	Client          Client   `yaml:"client"`
}

// Client is how steps reach the server, where that is not how the exchange does. An
// empty field is the exchange's own.
type Client struct {
	Host    string `yaml:"host"`
	Port    int    `yaml:"port"`
	SSLMode string `yaml:"sslmode"`
}

// Open reads the password file and makes the backend. It asks no network.
func (c Config) Open(now func() time.Time) (*Backend, error) {
	limits, err := c.Limits()
	if err != nil {
		return nil, err
	}
	password, err := reach.Password(c.PasswordFile)
	if err != nil {
		return nil, fmt.Errorf("password_file: %w", err)
	}
	if (c.Owner == "") != c.DropOwned {
		return nil, errors.New("say what becomes of tables and other things that a lease made and still owns at its end, either " +
			"owner: ROLE, which gives them to a role, or drop_owned: true, which drops them with all that depends on them")
	}
	return New(Options{Limits: limits, Server: c.server(password), Owner: c.Owner, Client: c.Client, Now: now})
}

func (c Config) server(password secret.String) Server {
	return Server{Host: c.Host, Port: c.Port, SSLMode: c.SSLMode, RootCertificate: c.RootCertificate, User: c.User, Password: password}
}

// Limits checks what the configuration says of tasks. It reads no file.
func (c Config) Limits() (Limits, error) {
	for _, name := range c.Databases {
		if why := nameFault(name); why != "" {
			return Limits{}, fmt.Errorf("databases: %s is none: %s", yamlfile.Quote(name), why)
		}
	}
	for _, name := range c.Roles {
		why := roleFault(name)
		if name == c.User {
			why = "it is the exchange's own account"
		}
		if why != "" {
			return Limits{}, fmt.Errorf("roles: %s may not be given to tasks: %s", yamlfile.Quote(name), why)
		}
	}
	l := Limits{Databases: slices.Clone(c.Databases), Roles: slices.Clone(c.Roles)}
	if l.Databases != nil && l.Roles == nil {
		l.Roles = []string{} // with a configuration, no roles means none
	}
	return l, nil
}

// Limits are what tasks may ask for. A nil field limits nothing: task files are also
// checked where no configuration is at hand.
type Limits struct {
	Databases []string
	Roles     []string
}

// Server is where the exchange itself logs in.
type Server struct {
	Host            string
	Port            int    // default 5432
	SSLMode         string // default verify-full
	RootCertificate string // file; empty: the machine's own roots
	User            string
	Password        secret.String
}

// Options are what New needs: what Config says, opened.
type Options struct {
	Limits
	Server Server
	Owner  string // gets what leases leave behind; empty: it is dropped
	Client Client
	Now    func() time.Time
	Rand   io.Reader // of passwords and their salts; default crypto/rand
	// Pause waits between two looks at sessions that are ending; default a timer.
	Pause func(context.Context, time.Duration) error
}

// Backend makes PostgreSQL login roles. Safe for concurrent use.
type Backend struct {
	limits Limits
	owner  string
	client Client
	server *server
	now    func() time.Time
	rand   io.Reader
	pause  func(context.Context, time.Duration) error
}

var _ backend.Backend = (*Backend)(nil)

// New makes a backend. It asks no network. Without a Server.Host it can only read task
// files.
func New(o Options) (*Backend, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Rand == nil {
		o.Rand = rand.Reader
	}
	if o.Pause == nil {
		o.Pause = reach.Pause
	}
	b := &Backend{limits: o.Limits, owner: o.Owner, now: o.Now, rand: o.Rand, pause: o.Pause}
	if o.Server.Host == "" {
		return b, nil
	}
	if o.Owner != "" {
		why := roleFault(o.Owner)
		if o.Owner == o.Server.User {
			why = "it is the exchange's own account, and a function or view that a lease leaves behind would act as it; make a role that holds no more than the tasks"
		}
		if why != "" {
			return nil, fmt.Errorf("owner: %s cannot be one: %s", yamlfile.Quote(o.Owner), why)
		}
	}
	if len(o.Databases) == 0 {
		return nil, errors.New("databases: name those that tasks may use, as [app]")
	}
	var err error
	if b.server, err = newServer(o.Server); err != nil {
		return nil, err
	}
	b.client, err = o.Client.orLike(b.server.at)
	return b, err
}

// orLike fills in what is not given from how the exchange reaches the server.
func (c Client) orLike(s Server) (Client, error) {
	if c.Host == "" {
		c.Host = s.Host
	}
	if c.Port == 0 {
		c.Port = s.Port
	}
	if c.SSLMode == "" {
		c.SSLMode = s.SSLMode
	}
	if err := checkAddress(c.Host, c.Port, c.SSLMode); err != nil {
		return c, fmt.Errorf("client: %w", err)
	}
	return c, nil
}

// Close closes the connections to the server. The backend is not to be used after it.
func (b *Backend) Close() {
	if b.server != nil {
		b.server.close()
	}
}

// Terms: logins end at the lease's end by themselves, open sessions do not, and no setting
// that a role cannot change for itself ends one. Only Revoke ends a lease's credential for
// certain.
func (*Backend) Terms(backend.Order) backend.Terms {
	return backend.Terms{DiesAt: backend.Never, Revocable: true}
}

// Lifetimes is what the linter of task files holds a task's ttl against: a migration or
// a dump may take its time, and nothing dies by itself.
func (*Backend) Lifetimes() (sensible, longest time.Duration) { return time.Hour, 0 }

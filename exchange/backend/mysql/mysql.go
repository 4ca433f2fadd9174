// Package mysql is the backend for users of MariaDB and MySQL.
//
// It hides how a task's block becomes a user of its own for each lease, with a password
// that the server never sees, and how such a user is taken out of a server again with all
// that hangs on it: its sessions, what it was granted, and what it defined (views,
// routines, triggers and events go on acting as whoever defined them).
//
// It also hides that nothing of this is one transaction: every statement counts at once,
// and one whose answer was lost may come to pass later. Therefore a user is locked until
// all of it stands, and whoever makes or ends it holds a lock of its name on the server.
//
// What these servers do not offer, this backend cannot either: no password ends at a time,
// and a session that is open goes on until it is killed. Terms says so, and the keeper
// goes on until the user is gone.
package mysql

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"regexp"
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
	Port            int      `yaml:"port"`                   // 3306 unless given
	SSLMode         string   `yaml:"ssl_mode"`               // disabled, required, verify-ca or verify-identity, which is the default
	RootCertificate string   `yaml:"root_certificate"`       // a file, PEM; the machine's own roots unless given
	User            string   `yaml:"user,required"`          // the exchange's account
	PasswordFile    string   `yaml:"password_file,required"` // of that account; a line end at its end is not part of it
	Databases       []string `yaml:"databases,required"`     // that tasks may name
	Roles           []string `yaml:"roles"`                  // that tasks may have
	DropDefined     bool     `yaml:"drop_defined"`           // what a lease defined is dropped; otherwise a lease that did cannot end
	From            string   `yaml:"from"`                   // the hosts that leases log in from, as the server's accounts have it; % unless given
	Authentication  string   `yaml:"authentication"`         // the server's plugin; what its clients know unless given
	Client          Client   `yaml:"client"`
}

// Client is how steps reach the server, where that is not how the exchange does. An
// empty field is the exchange's own.
type Client struct {
	Host    string `yaml:"host"`
	Port    int    `yaml:"port"`
	SSLMode string `yaml:"ssl_mode"`
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
	return New(Options{
		Limits: limits, DropDefined: c.DropDefined, From: c.From, Authentication: c.Authentication, Client: c.Client, Now: now,
		Server: Server{Host: c.Host, Port: c.Port, SSLMode: c.SSLMode, RootCertificate: c.RootCertificate, User: c.User, Password: password},
	})
}

// Limits checks what the configuration says of tasks. It reads no file.
func (c Config) Limits() (Limits, error) {
	for _, name := range c.Databases {
		if why := databaseFault(name); why != "" {
			return Limits{}, fmt.Errorf("databases: %s is none for tasks: %s", yamlfile.Quote(name), why)
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
	Port            int    // default 3306
	SSLMode         string // default verify-identity
	RootCertificate string // file; empty: the machine's own roots
	User            string
	Password        secret.String
}

// Options are what New needs: what Config says, opened.
type Options struct {
	Limits
	Server         Server
	DropDefined    bool
	From           string // default %
	Authentication string
	Client         Client
	Now            func() time.Time
	Rand           io.Reader // of passwords and salts; default crypto/rand
	// Pause waits between two looks at sessions that are ending; default a timer.
	Pause func(context.Context, time.Duration) error
}

// Backend makes users of MariaDB and MySQL. Safe for concurrent use.
type Backend struct {
	limits      Limits
	dropDefined bool
	from        string
	plugin      plugin
	client      Client
	server      *server
	ended       *ended
	now         func() time.Time
	rand        io.Reader
	pause       func(context.Context, time.Duration) error
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
	if o.From == "" {
		o.From = "%"
	}
	b := &Backend{
		limits: o.Limits, dropDefined: o.DropDefined, from: o.From, plugin: plugin(o.Authentication),
		ended: &ended{now: o.Now}, now: o.Now, rand: o.Rand, pause: o.Pause,
	}
	if o.Server.Host == "" {
		return b, nil
	}
	if err := o.check(); err != nil {
		return nil, err
	}
	var err error
	if b.server, err = newServer(o.Server); err != nil {
		return nil, err
	}
	b.client, err = o.Client.orLike(b.server.at)
	return b, err
}

var fromForm = regexp.MustCompile(`\A[0-9A-Za-z.:%_/-]{1,60}\z`)

func (o Options) check() error {
	switch {
	case len(o.Databases) == 0:
		return errors.New("databases: name those that tasks may use, as [app]")
	case !fromForm.MatchString(o.From):
		return fmt.Errorf("from: want the hosts that leases log in from, as 10.0.%% or 10.0.0.0/255.255.0.0; found %s", yamlfile.Quote(o.From))
	case !slices.Contains([]plugin{"", native, edwards, sha2}, plugin(o.Authentication)):
		return fmt.Errorf("authentication: want %s, %s or %s; found %s", native, edwards, sha2, yamlfile.Quote(o.Authentication))
	}
	return nil
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
		_ = b.server.db.Close() // what could fail is a farewell
	}
}

// Terms: only Revoke ends a lease's credential. Nothing on these servers ends a user or a
// session at a time: PASSWORD EXPIRE counts days, and whoever is let in with a password that
// is over may give itself a new one. Nothing is said to remain: a transaction that a lease
// prepared is a write of its and no credential, and next to no lease has one.
func (*Backend) Terms(backend.Order) backend.Terms {
	return backend.Terms{DiesAt: backend.Never, Revocable: true}
}

// Lifetimes is what the linter of task files holds a task's ttl against: a migration or
// a dump may take its time, and nothing dies by itself.
func (*Backend) Lifetimes() (sensible, longest time.Duration) { return time.Hour, 0 }

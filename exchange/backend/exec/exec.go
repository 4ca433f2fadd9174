// Package exec is the backend for what no other backend reaches: programs of the
// operator's own, which make a credential, end it, and speak JSON.
//
// It hides how a program is kept from being more than that: it gets what the task's
// closed form lets through and nothing else, runs with an environment, folder and time
// of its own, leaves no process behind, and what it answers is believed only as far as
// it fits the order. docs/backends/exec.md is what a program's author reads.
//
// What a program promises, this backend cannot check: that a credential is named after
// its lease, that revoking it twice is fine, and that it dies when it is said to.
package exec

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/stepkey/stepkey/exchange/backend"
)

// Config is the operator's, strictly decoded.
type Config struct {
	Programs map[string]Program `yaml:"programs,required"` // name, as tasks give it -> program
	AtOnce   int                `yaml:"at_once"`           // runs of each program that issue at one moment, and as many that revoke; 8 unless given
}

// Program is one program of the operator's.
type Program struct {
	About       string               `yaml:"about"`            // what its credentials are, in a few words
	Command     []string             `yaml:"command,required"` // a whole path, and arguments that are always the same
	Directory   string               `yaml:"directory"`        // that it runs in; / unless given
	Environment map[string]string    `yaml:"environment"`      // variables with their values
	Pass        []string             `yaml:"pass_environment"` // variables that it gets as the exchange has them
	Timeout     time.Duration        `yaml:"timeout"`          // of one run; 10s unless given
	Revoke      *bool                `yaml:"revoke"`           // whether it can; true unless given
	Probe       bool                 `yaml:"probe"`            // whether it can say that a credential is gone
	Retired     bool                 `yaml:"retired"`          // it makes nothing more, and is still asked to end what it may have made
	LongestLife time.Duration        `yaml:"longest_life"`     // of a credential, from its making; without it each dies at its lease's end
	Parameters  map[string]Parameter `yaml:"parameters"`       // that a task gives, each with its closed form
}

// Parameter is the form of what a task may give.
type Parameter struct {
	About    string   `yaml:"about"`
	Pattern  string   `yaml:"pattern"` // RE2, of a whole text
	Enum     []string `yaml:"enum"`
	Length   int      `yaml:"max_length"` // in bytes; 100 unless given
	List     bool     `yaml:"list"`       // texts of that form, and not one
	Most     int      `yaml:"max_items"`  // of a list; 16 unless given
	Optional bool     `yaml:"optional"`
}

const (
	// inFlight is how long after the lease's intent a program may be at work. Issue
	// keeps it, so that Terms is true.
	inFlight = 30 * time.Second
	// skew is how far the clock of what the program speaks to may be from ours.
	skew = time.Minute

	defaultTimeout, maxTimeout = 10 * time.Second, 15 * time.Second // an end gets 15 s from the exchange
	maxLife                    = 366 * 24 * time.Hour
	defaultAtOnce, maxAtOnce   = 8, 256
	maxPrograms                = 64
)

// Options are what New needs: what Config says, checked.
type Options struct {
	// Programs by name. nil limits nothing: task files are also checked where no
	// configuration is at hand.
	Programs map[string]*program
	Now      func() time.Time
}

// Backend makes credentials by programs of the operator's. Safe for concurrent use.
type Backend struct {
	programs map[string]*program
	now      func() time.Time

	mu     sync.Mutex
	missed map[string]bool // programs that a handle was of and that the configuration does not have
}

var (
	_ backend.Backend = (*Backend)(nil)
	_ backend.Prover  = (*Backend)(nil)
)

// Open checks that each program is there and makes the backend. It runs none of them.
// lookup reads the exchange's own environment.
func (c Config) Open(now func() time.Time, lookup func(string) (string, bool)) (*Backend, error) {
	o, err := c.Options()
	if err != nil {
		return nil, err
	}
	for name, p := range o.Programs {
		if err := executable(p.command[0]); err != nil {
			return nil, fmt.Errorf("programs: %s: command: %w", name, err)
		}
		if at, err := os.Stat(p.directory); err != nil || !at.IsDir() {
			return nil, fmt.Errorf("programs: %s: directory: %q is none", name, p.directory)
		}
		for _, variable := range c.Programs[name].Pass {
			if value, set := lookup(variable); set {
				p.environment = append(p.environment, variable+"="+value)
			}
		}
	}
	if err := closeOnExec(); err != nil {
		return nil, fmt.Errorf("keeping the exchange's files from programs: %w", err)
	}
	o.Now = now
	return New(o), nil
}

// Options checks all that can be checked without looking at files.
func (c Config) Options() (Options, error) {
	o := Options{Programs: map[string]*program{}}
	switch {
	case len(c.Programs) == 0:
		return o, errors.New("programs: name at least one, as tokens: {command: [/usr/local/libexec/tokens]}")
	case len(c.Programs) > maxPrograms:
		return o, fmt.Errorf("programs: %d are named; %d is the most", len(c.Programs), maxPrograms)
	case c.AtOnce < 0 || c.AtOnce > maxAtOnce:
		return o, fmt.Errorf("at_once is %d; want 1 to %d", c.AtOnce, maxAtOnce)
	}
	for name, one := range c.Programs {
		p, err := one.check(name)
		if err != nil {
			return o, fmt.Errorf("programs: %s: %w", shown(name), err)
		}
		most := cmp.Or(c.AtOnce, defaultAtOnce)
		p.issuing, p.ending = make(slots, most), make(slots, most)
		o.Programs[name] = p
	}
	return o, nil
}

// New makes a backend over programs that were checked.
func New(o Options) *Backend {
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Backend{programs: o.Programs, now: o.Now, missed: map[string]bool{}}
}

// program is a Program that was checked.
type program struct {
	name        string
	about       string
	command     []string
	directory   string
	environment []string
	timeout     time.Duration
	revocable   bool
	probes      bool
	retired     bool
	life        time.Duration // 0: until the lease's end
	forms       map[string]form
	// Places of its own: a program that hangs keeps nobody from another one, and nobody
	// who asks keeps an end waiting.
	issuing, ending slots
}

var (
	programName  = regexp.MustCompile(`\A[a-z][a-z0-9-]{0,62}\z`)
	variableName = regexp.MustCompile(`\A[A-Za-z_][A-Za-z0-9_]{0,127}\z`)
)

const nameForm = "want a name of 1 to 63 of a-z, 0-9 and -, a letter first"

// searchPath is where a program finds others, unless its configuration says otherwise.
const searchPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

func (c Program) check(name string) (*program, error) {
	p := &program{
		name: name, about: c.About, command: slices.Clone(c.Command), directory: c.Directory, timeout: c.Timeout,
		revocable: c.Revoke == nil || *c.Revoke, probes: c.Probe, retired: c.Retired, life: c.LongestLife, forms: map[string]form{},
	}
	if p.directory == "" {
		p.directory = "/"
	}
	if p.timeout == 0 {
		p.timeout = defaultTimeout
	}
	switch {
	case !programName.MatchString(name):
		return nil, errors.New(nameForm)
	case len(p.about) > maxAbout || !oneLine(p.about):
		return nil, fmt.Errorf("about: want a few words in one line, %d bytes at most", maxAbout)
	case len(p.command) == 0 || !filepath.IsAbs(p.command[0]) || filepath.Clean(p.command[0]) != p.command[0]:
		return nil, errors.New("command: want a list that begins with the program's whole path, as [/usr/local/libexec/tokens]")
	case slices.ContainsFunc(p.command, func(s string) bool { return strings.ContainsRune(s, 0) }):
		return nil, errors.New("command: an argument holds a zero byte, which no program can be given")
	case !filepath.IsAbs(p.directory):
		return nil, errors.New("directory: want a whole path")
	case p.timeout < 0 || p.timeout > maxTimeout:
		return nil, fmt.Errorf("timeout is %s; want up to %s, since an exchange gives an end no longer", p.timeout, maxTimeout)
	case p.life < 0 || p.life > maxLife:
		return nil, fmt.Errorf("longest_life is %s; want up to %s", p.life, maxLife)
	}
	if err := p.variables(c); err != nil {
		return nil, err
	}
	return p, p.readForms(c.Parameters)
}

func (p *program) variables(c Program) error {
	for _, name := range c.Pass {
		if _, twice := c.Environment[name]; twice || !variableName.MatchString(name) {
			return fmt.Errorf("pass_environment: %s is given under environment, too, or is no variable's name", shown(name))
		}
	}
	for name, value := range c.Environment {
		if !variableName.MatchString(name) || strings.ContainsRune(value, 0) {
			return fmt.Errorf("environment: %s is no variable's name, or its value holds a zero byte", shown(name))
		}
		p.environment = append(p.environment, name+"="+value)
	}
	if _, given := c.Environment["PATH"]; !given && !slices.Contains(c.Pass, "PATH") {
		p.environment = append(p.environment, "PATH="+searchPath)
	}
	slices.Sort(p.environment)
	return nil
}

// executable refuses what anybody but its owner could exchange for another program.
func executable(path string) error {
	at, err := os.Stat(path)
	switch {
	case err != nil:
		return fmt.Errorf("looking for the program: %w", err)
	case !at.Mode().IsRegular() || at.Mode().Perm()&0o111 == 0:
		return fmt.Errorf("%q is no program that can be run", path)
	case at.Mode().Perm()&0o022 != 0:
		return fmt.Errorf("%q can be written to by others than its owner, and it will be trusted; chmod go-w it", path)
	}
	return nil
}

// Terms: a credential dies at its lease's end, or the operator's longest life after its
// making, which may be as late as half a minute after the intent.
func (b *Backend) Terms(o backend.Order) backend.Terms {
	want, _ := o.Scope.(*scope)
	if p := b.of(want); p != nil {
		return p.terms(o)
	}
	return backend.Terms{DiesAt: o.Until.Add(skew)}
}

func (p *program) terms(o backend.Order) backend.Terms {
	t := backend.Terms{DiesAt: o.Until.Add(skew), Revocable: p.revocable}
	if p.life > 0 {
		t.DiesAt = o.At.Add(inFlight + p.life + skew)
	}
	return t
}

// of is the program of a scope, or nil.
func (b *Backend) of(s *scope) *program {
	if s == nil {
		return nil
	}
	return b.programs[s.program]
}

// Lifetimes is what the linter of task files holds a task's ttl against: whichever
// program lets credentials live longest.
func (b *Backend) Lifetimes() (sensible, longest time.Duration) {
	for _, p := range b.programs {
		if p.retired {
			continue
		}
		if p.life == 0 {
			return 15 * time.Minute, 0
		}
		longest = max(longest, p.life)
	}
	return 15 * time.Minute, longest
}

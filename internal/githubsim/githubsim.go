// Package githubsim is GitHub on loopback, as strict as the real one.
//
// It hides how GitHub is imitated: the OIDC issuer with its keys, the endpoint
// from which a job gets its ID tokens, the App API, installation tokens in both
// formats, the webhook that tells of jobs, and as much of repositories,
// releases, contents, issues and Actions as is needed to show what a token can
// do and what it cannot. Where GitHub would refuse, this package refuses with
// the same status and words; where GitHub's behaviour is not documented, a
// comment says "assumed" and the choice is the one that hurts a careless client
// most.
//
// State lives in memory. The package serves tests and the demo alike, so it
// does not import testing and nothing of the service. It does not speak git or
// GraphQL, and it counts requests but never enforces a rate limit: a Fault does
// that on demand.
//
// Methods that name something nobody added (a repository, an installation)
// panic: that is a mistake in the scene, not an answer of GitHub.
package githubsim

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

// Where things live below the one listener. The API and the uploads have the
// paths of a GitHub Enterprise Server, so that gh, octokit and go-github find
// them when they are told the host alone.
const (
	apiPrefix     = "/api/v3"
	uploadPrefix  = "/api/uploads"
	issuerPrefix  = "/_services/token"
	idTokenPrefix = "/_services/idtoken"
)

// TokenFormat is the shape of new installation tokens.
type TokenFormat int

// The two shapes in use since 2026-04-27. A create request can override the
// default with the header X-GitHub-Stateless-S2S-Token.
const (
	Stateless TokenFormat = iota // ghs_<APPID>_<JWT>, about 520 characters
	Opaque                       // ghs_ and 36 letters and digits
)

// Options say what kind of GitHub is started. The zero value is a good one.
type Options struct {
	// Now is the clock of everything. Default: time.Now.
	Now func() time.Time
	// Listen is the TCP address. Default: "127.0.0.1:0". The URLs follow from
	// the address really listened on, so it must be one that clients can dial.
	Listen string
	// TokenFormat of new installation tokens.
	TokenFormat TokenFormat
	// FirstUseLag says how many of the first requests with a new installation
	// token are refused although it is valid, as GitHub does for seconds: 401,
	// then 404 (on a private repository, otherwise 401), then 403, in turn.
	// DELETE /installation/token is a request like any other: a 401 from it
	// does not yet prove that the token is gone.
	FirstUseLag int
	// Log gets one debug line per request, without secrets. Default: none.
	Log *slog.Logger
}

// GitHub is one running instance. All methods are safe for concurrent use.
type GitHub struct {
	opts   Options
	base   string
	server *http.Server
	routes []route
	closed chan struct{}
	served sync.WaitGroup

	mu            sync.Mutex // guards all below
	lastID        int64
	issuer        issuer
	tokenKey      *ecdsa.PrivateKey // signs what is inside stateless tokens
	accounts      map[string]account
	repositories  map[string]*repository // by lower-case owner/name
	apps          map[int64]*App
	installations map[int64]*installation
	tokens        map[string]*token // by hash
	issued        []*token          // in the order of making
	jobs          map[int64]*Job
	webhooks      []*Webhook
	runNumbers    map[string]int64 // by repository and workflow file
	used          map[string]int64 // requests, by who made them
	requests      []*Request
	fault         func(*http.Request) *Fault
}

// Start listens and serves until Close.
func Start(opts Options) (*GitHub, error) {
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.Listen == "" {
		opts.Listen = "127.0.0.1:0"
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	g := &GitHub{
		opts:          opts,
		closed:        make(chan struct{}),
		lastID:        50_000_000_000, // of the size of today's real job ids: beyond 32 bits
		accounts:      map[string]account{},
		repositories:  map[string]*repository{},
		apps:          map[int64]*App{},
		installations: map[int64]*installation{},
		tokens:        map[string]*token{},
		jobs:          map[int64]*Job{},
		runNumbers:    map[string]int64{},
		used:          map[string]int64{},
	}
	if err := g.makeKeys(); err != nil {
		return nil, err
	}
	return g, g.listen()
}

func (g *GitHub) makeKeys() (err error) {
	if g.issuer, err = newIssuer(g.opts.Now()); err != nil {
		return fmt.Errorf("making the issuer's keys: %w", err)
	}
	if g.tokenKey, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return fmt.Errorf("making the key of stateless tokens: %w", err)
	}
	return nil
}

func (g *GitHub) listen() error {
	listener, err := net.Listen("tcp", g.opts.Listen)
	if err != nil {
		return fmt.Errorf("listening for GitHub's clients: %w", err)
	}
	g.base = "http://" + listener.Addr().String()
	g.routes = g.table()
	g.server = &http.Server{Handler: http.HandlerFunc(g.serve), ReadHeaderTimeout: time.Minute}
	g.served.Go(func() {
		if err := g.server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			g.opts.Log.Error("GitHub stopped serving", "error", err)
		}
	})
	return nil
}

// Close stops at once: open connections are cut, delayed requests given up.
// It may be called once.
func (g *GitHub) Close() {
	close(g.closed)
	_ = g.server.Close()
	g.served.Wait()
}

// URL is the base of the API, the value of GITHUB_API_URL: no slash at the end.
// go-github wants one: its BaseURL is URL() + "/".
func (g *GitHub) URL() string { return g.base + apiPrefix }

// UploadURL is the base of asset uploads, again without a slash at the end.
func (g *GitHub) UploadURL() string { return g.base + uploadPrefix }

// IssuerURL is the issuer of ID tokens, exactly as it stands in their iss.
func (g *GitHub) IssuerURL() string { return g.base + issuerPrefix }

// newID gives an id that nothing else has. The caller holds g.mu.
func (g *GitHub) newID() int64 {
	g.lastID++
	return g.lastID
}

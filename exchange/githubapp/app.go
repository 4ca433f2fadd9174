// Package githubapp speaks to GitHub as a GitHub App.
//
// It hides how: the App's JWT and the skew of clocks, which permission names a
// library knows, the cache of installations, what may be tried again and what
// may not, and how long GitHub needs to know its own tokens. Whoever uses it
// sees installations, tokens and one type of error that says whether GitHub may
// have done something.
//
// It knows no tasks, leases or policy, and keeps no token but those that Jobs
// reads with.
package githubapp

import (
	"crypto"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/google/go-github/v60/github"
	"golang.org/x/oauth2"

	"github.com/stepkey/stepkey/internal/secret"
)

const (
	// GitHub's docs name no limit for creating a token; 5 s were seen to be too
	// few for installations with hundreds of repositories.
	timeout = 10 * time.Second
	// An answer that names 500 repositories has about 3 MiB.
	maxAnswer = 16 << 20
)

// Config says which App on which GitHub.
type Config struct {
	// API is the base of the REST API: https://api.github.com (the default),
	// https://api.SUB.ghe.com, or https://HOST/api/v3. Plain http is accepted on
	// loopback addresses only.
	API string
	// ClientID of the App. The App's numeric id works as well.
	ClientID string
	// Key signs the App's JWT: an RSA key of at least 2048 bits, or a key
	// management service that holds one.
	Key crypto.Signer
	// Transport carries every request. Default: one of its own that takes the
	// proxy from the environment as Go programs do (HTTPS_PROXY, NO_PROXY). All
	// requests here go to API, an address that the operator wrote; nothing that a
	// workload says decides where they go.
	Transport http.RoundTripper
	// Pause is the first pause before trying again; further ones grow from it.
	// Default: 250 ms.
	Pause time.Duration
	// Now is the clock. Default: time.Now.
	Now func() time.Time
}

// App is a GitHub App. Safe for concurrent use.
type App struct {
	base      *url.URL
	transport http.RoundTripper
	jwt       *signer
	pause     time.Duration
	now       func() time.Time
	asked     rests // GitHub asked to leave them alone

	mu            sync.Mutex
	installations map[string]Installation // by "id/123" and "name/owner/repository"
}

// New checks the configuration and asks no network.
func New(c Config) (*App, error) {
	base, err := parseAPI(c.API)
	if err != nil {
		return nil, err
	}
	if c.Transport == nil {
		c.Transport = ownTransport()
	}
	if c.Pause <= 0 {
		c.Pause = 250 * time.Millisecond
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	jwt, err := newSigner(c.ClientID, c.Key, c.Now)
	if err != nil {
		return nil, err
	}
	return &App{
		base: base, transport: c.Transport, jwt: jwt, pause: c.Pause, now: c.Now,
		installations: map[string]Installation{},
	}, nil
}

func parseAPI(api string) (*url.URL, error) {
	if api == "" {
		api = "https://api.github.com"
	}
	base, err := url.Parse(api)
	if err != nil {
		return nil, errors.New("the API of GitHub is no URL; write it as https://api.github.com or https://HOST/api/v3")
	}
	if base.User != nil || base.RawQuery != "" || base.Fragment != "" || base.Host == "" {
		return nil, fmt.Errorf("the API of GitHub at %q: want scheme, host and path alone, as https://HOST/api/v3", base.Host)
	}
	if base.Scheme != "https" && (base.Scheme != "http" || !loopback(base.Hostname())) {
		return nil, fmt.Errorf("the API of GitHub at %q: want https, since tokens travel there", base.Host)
	}
	base.Path = strings.TrimSuffix(base.Path, "/") + "/" // go-github wants one
	return base, nil
}

func loopback(host string) bool {
	return host == "localhost" || net.ParseIP(host).IsLoopback()
}

func ownTransport() *http.Transport {
	return &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: timeout / 2}).DialContext,
		TLSHandshakeTimeout:   timeout / 2,
		ForceAttemptHTTP2:     true,
		MaxIdleConnsPerHost:   20,
		IdleConnTimeout:       90 * time.Second,
		ResponseHeaderTimeout: timeout,
	}
}

// limited cuts answers that would not end.
type limited struct{ base http.RoundTripper }

func (l limited) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := l.base.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	resp.Body = struct {
		io.Reader
		io.Closer
	}{io.LimitReader(resp.Body, maxAnswer), resp.Body}
	return resp, nil
}

// Client returns a client that shows an installation's token with each request,
// always as Bearer: stateless tokens are not taken any other way everywhere.
func (a *App) Client(token secret.String) *github.Client {
	return a.client(oauth2.StaticTokenSource(&oauth2.Token{AccessToken: token.Reveal()}))
}

// client makes a go-github client for one use. Clients are not shared: go-github
// remembers a rate limit per client and then refuses, by the machine's own clock
// and without asking, what another installation or a revocation may well do.
//
// Redirects are not followed: the transport would show the token to the next
// host too, and a repository that answers under another name is not the one
// that was named.
func (a *App) client(source oauth2.TokenSource) *github.Client {
	client := github.NewClient(&http.Client{
		Transport:     limited{&oauth2.Transport{Source: source, Base: a.transport}},
		Timeout:       timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	})
	client.BaseURL = a.base
	client.UserAgent = "stepkey"
	return client
}

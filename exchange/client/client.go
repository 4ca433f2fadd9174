// Package client speaks to the exchange: a token for a credential, and the end
// of what was given.
//
// It hides one decision: how a call to the exchange travels and how its answer
// is read. Callers see grants with their secrets wrapped, and three kinds of
// error that differ in what may be done next:
//
//   - *Error: the exchange (or something before it) answered no.
//   - *Unreachable: no answer. Its field Arrived says whether the request may
//     have been acted on all the same.
//   - *BadAnswer: an answer that cannot be used, although it says yes.
//
// Each call is one attempt. When to try again is the caller's to decide, who
// knows what is safe: an exchange must never be repeated with the same subject
// token once the first may have arrived, whereas revocation is idempotent. How
// long to wait is the context's to say; there is no timeout of its own.
//
// # One credential, from asking to giving it back
//
// [New] takes the exchange's URL. [Client.Token] exchanges the workload's ID token for a
// [Grant]: the credential's values, ready variables, and a lease token. [Client.Revoke]
// ends it by the lease token, [Client.RevokeJob] by another ID token of the job;
// [Client.Introspect] tells what became of it. Each has an example.
//
// Secrets are wrapped as [Secret], which does not print.
//
// It depends on the standard library alone and on nothing of the service, so
// that a program that embeds it stays small. Proxies (HTTPS_PROXY, NO_PROXY) and
// private certificate authorities (SSL_CERT_FILE, SSL_CERT_DIR) are honoured the
// way net/http and crypto/x509 do by default.
package client

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/stepkey/stepkey/internal/secret"
)

// maxAnswer bounds what is read of an answer, in bytes. The largest credentials
// are private keys with certificates: some 10 KiB.
const maxAnswer = 256 << 10

// A Client speaks to one exchange. Safe for concurrent use.
type Client struct {
	base      string
	http      *http.Client
	userAgent string
	now       func() time.Time
	rand      io.Reader
}

// Options are what a Client may be given beside the URL. The zero value is good.
type Options struct {
	HTTP      *http.Client // nil: net/http's defaults. Redirects and cookies are off either way
	UserAgent string       // "stepkey" if empty
	// AllowHTTP permits http:// to hosts other than this machine. Whoever sees
	// that network then sees subject tokens and credentials: tests and demos only.
	AllowHTTP bool
	Now       func() time.Time // nil: time.Now. The exchange allows for a minute's difference to its own
	Rand      io.Reader        // nil: crypto/rand.Reader. Names the proofs of a Key. Must be safe for concurrent use
}

// New returns a client of the exchange at exchangeURL, the base under which
// /token and /revoke lie. The URL must be https, or http on a loopback address.
func New(exchangeURL string, o Options) (*Client, error) {
	base, err := baseURL(exchangeURL, o.AllowHTTP)
	if err != nil {
		return nil, err
	}
	c := &Client{base: base, http: withoutRedirects(o.HTTP), userAgent: cmp.Or(o.UserAgent, "stepkey"), now: o.Now, rand: o.Rand}
	if c.now == nil {
		c.now = time.Now
	}
	if c.rand == nil {
		c.rand = rand.Reader
	}
	return c, nil
}

// URL is the exchange's base URL in its one spelling: lower-case scheme and host,
// no slash at the end. It is the audience that subject tokens should carry.
func (c *Client) URL() string { return c.base }

func baseURL(given string, allowHTTP bool) (string, error) {
	u, err := url.Parse(given)
	if err != nil || u.Host == "" || u.Hostname() == "" {
		return "", errors.New("the exchange's URL is not a URL with a host; give it as https://exchange.example.com")
	}
	if u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || u.Opaque != "" {
		return "", errors.New("the exchange's URL holds more than scheme, host and path; leave out user, query and fragment")
	}
	u.Scheme, u.Host = strings.ToLower(u.Scheme), strings.ToLower(u.Host)
	switch {
	case u.Scheme == "https", u.Scheme == "http" && (allowHTTP || isLoopback(u.Hostname())):
	case u.Scheme == "http":
		return "", fmt.Errorf("the exchange's URL is http://%s: tokens and credentials would travel readable; use https", u.Host)
	default:
		return "", errors.New("the exchange's URL must begin with https://")
	}
	return strings.TrimRight(u.String(), "/"), nil
}

func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// withoutRedirects copies h: a redirect would carry the token to another place,
// and a cookie would tie calls together that have nothing to do with each other.
func withoutRedirects(h *http.Client) *http.Client {
	if h == nil {
		h = &http.Client{}
	}
	own := *h
	own.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	own.Jar = nil
	return &own
}

// answer is what came back, whole and bounded.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// call is one form to send.
type call struct {
	path  string
	form  url.Values
	told  secret.String // inside the form; nothing that comes back may repeat it
	proof string        // DPoP; empty for none
}

func (c *Client) post(ctx context.Context, send call) (answer, error) {
	var way connection
	ctx = httptrace.WithClientTrace(ctx, way.trace())
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.base+send.path, strings.NewReader(send.form.Encode()))
	if err != nil {
		return answer{}, errors.New("the exchange's URL cannot be called; give it as https://exchange.example.com")
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", c.userAgent)
	if send.proof != "" {
		req.Header.Set("DPoP", send.proof)
	}

	res, err := c.http.Do(req)
	if err != nil {
		return answer{}, &Unreachable{Exchange: c.base, Arrived: way.mayHaveArrived(), Err: plain(err, send.told)}
	}
	defer func() { _ = res.Body.Close() }()
	got := answer{status: res.StatusCode, header: res.Header}
	got.body, err = io.ReadAll(io.LimitReader(res.Body, maxAnswer+1))
	if err != nil {
		return answer{}, &Unreachable{Exchange: c.base, Arrived: true, Err: fmt.Errorf("the answer broke off: %w", plain(err, send.told))}
	}
	if len(got.body) > maxAnswer {
		return answer{}, &BadAnswer{Status: got.status, Why: fmt.Sprintf("it is longer than %d KiB", maxAnswer>>10)}
	}
	if got.status < 200 || got.status > 299 {
		return answer{}, refusal(got, send.told)
	}
	return got, nil
}

// plain takes off url.Error's repetition of method and URL, and keeps out of the
// text what the other side wrote: net/http quotes malformed answers, and a
// hostile one repeats the token.
func plain(err error, told secret.String) error {
	if outer, ok := errors.AsType[*url.Error](err); ok {
		err = outer.Err
	}
	return &cause{text: readable(hide(err.Error(), told)), err: err}
}

type cause struct {
	text string
	err  error
}

func (c *cause) Error() string { return c.text }
func (c *cause) Unwrap() error { return c.err }

// connection knows whether a request ever had a connection to go out on. Only a
// transport that says it looked for one and found none proves that nothing
// arrived; a transport that says nothing proves nothing.
type connection struct{ sought, got atomic.Bool }

func (c *connection) trace() *httptrace.ClientTrace {
	return &httptrace.ClientTrace{
		GetConn: func(string) { c.sought.Store(true) },
		GotConn: func(httptrace.GotConnInfo) { c.got.Store(true) },
	}
}

func (c *connection) mayHaveArrived() bool { return c.got.Load() || !c.sought.Load() }

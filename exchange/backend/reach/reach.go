// Package reach is what backends do alike on their way to the systems behind them.
//
// It hides how the exchange's own secret and the certificates it trusts are read from
// files, which addresses are taken and which servers believed, how a request is bounded,
// whether anything of one was sent and what its failure proves, and how the words of others
// are made fit for a log.
package reach

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"os"
	"regexp"
	"strings"
	"sync/atomic"
	"time"
	"unicode"

	"github.com/stepkey/stepkey/internal/secret"
)

const maxSecret = 16 << 10 // bytes of a file

// Password reads the file of a password of the exchange's own account. A line end at its
// end is not part of it.
func Password(path string) (secret.String, error) {
	text, err := read(path, "password of the exchange's account")
	if err != nil {
		return secret.String{}, err
	}
	password := secret.New(strings.TrimRight(text, "\r\n"))
	if password.Empty() {
		return secret.String{}, errors.New("the file is empty; it holds the password of the exchange's account, in one line")
	}
	return password, nil
}

var oneWord = regexp.MustCompile(`\A[!-~]+\z`)

// Token reads the file of the exchange's own token or key, one word, with white space
// around it or not. what it is stands in errors.
func Token(path, what string) (secret.String, error) {
	text, err := read(path, "exchange's own "+what)
	if err != nil {
		return secret.String{}, err
	}
	token := strings.TrimSpace(text)
	if !oneWord.MatchString(token) {
		return secret.String{}, fmt.Errorf("%s holds no %s: want one line, and nothing else", path, what)
	}
	return secret.New(token), nil
}

func read(path, what string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("reading the %s: %w", what, err)
	}
	defer func() { _ = file.Close() }()
	text, err := io.ReadAll(io.LimitReader(file, maxSecret+1))
	if err != nil {
		return "", fmt.Errorf("reading the %s: %w", what, err)
	}
	if len(text) > maxSecret {
		return "", fmt.Errorf("reading the %s: %s has more than %d bytes, so it is none", what, path, maxSecret)
	}
	return string(text), nil
}

// Roots reads certificates in PEM form, and returns their text as well.
func Roots(path string) (*x509.CertPool, string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, "", fmt.Errorf("reading certificates: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		return nil, "", fmt.Errorf("%s holds no certificate in PEM form", path)
	}
	return roots, string(text), nil
}

// RequestFor is what one request may take.
const RequestFor = 10 * time.Second

// Transport has bounds of its own and trusts roots; nil: what the system trusts. It goes
// by the environment's HTTPS_PROXY and NO_PROXY, as programs of a company's network must.
func Transport(roots *x509.CertPool) *http.Transport {
	return &http.Transport{
		Proxy:                 proxy,
		DialContext:           (&net.Dialer{Timeout: RequestFor / 2}).DialContext,
		TLSClientConfig:       &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:   RequestFor / 2,
		ForceAttemptHTTP2:     true,
		MaxIdleConnsPerHost:   20,
		IdleConnTimeout:       90 * time.Second,
		ResponseHeaderTimeout: RequestFor,
	}
}

// proxy: through one, https:// is a tunnel. All that is http:// it would read, the
// exchange's own secret among it, and where that is allowed it is so for one network alone.
func proxy(req *http.Request) (*url.URL, error) {
	if req.URL.Scheme != "https" {
		return nil, nil //nolint:nilnil // the transport's word for none
	}
	return http.ProxyFromEnvironment(req)
}

// Client asks the server it is told and no other: one that is named by an answer would be
// shown the exchange's own secret. nil stands for Transport(nil).
func Client(transport http.RoundTripper) *http.Client {
	if transport == nil {
		transport = Transport(nil)
	}
	return &http.Client{
		Transport: transport, Timeout: RequestFor,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// Do sends a request. unsent: no connection was had, so that nobody was asked anything.
// The error does not name the request's address.
func Do(c *http.Client, req *http.Request) (resp *http.Response, unsent bool, err error) {
	var connected atomic.Bool
	traced := httptrace.WithClientTrace(req.Context(), &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { connected.Store(true) }})
	resp, err = c.Do(req.WithContext(traced)) //nolint:gosec // where to is the operator's configuration
	if err != nil {
		var wrapped *url.Error
		if errors.As(err, &wrapped) {
			err = wrapped.Err
		}
		return nil, !connected.Load(), err
	}
	return resp, false, nil
}

// Pause waits, unless ctx ends before that.
func Pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// OneLine are another's words on one line, with nothing in them that cannot be seen, cut
// to most characters.
func OneLine(text string, most int) string {
	text = strings.Join(strings.FieldsFunc(text, func(r rune) bool {
		return !unicode.IsPrint(r) || unicode.IsSpace(r) || r == unicode.ReplacementChar
	}), " ")
	if short := []rune(text); len(short) > most {
		return string(short[:most]) + "…"
	}
	return text
}

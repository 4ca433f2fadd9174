// Package server is the exchange's network face: OAuth 2.0 Token Exchange (RFC
// 8693), Token Revocation (RFC 7009), Token Introspection (RFC 7662) and Server
// Metadata (RFC 8414) on one listener, health on another.
//
// It hides what requests may look like and how errors become words. It decides
// nothing: what a workload may have is settled in exchange.
package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/stepkey/stepkey/exchange"
	"github.com/stepkey/stepkey/exchange/client"
)

// Limits of every request. Write is longer than the longest a backend may take to
// issue or revoke (30 s), so that an answer is never cut off after the fact.
const (
	readHeaderTimeout = 5 * time.Second
	readTimeout       = 10 * time.Second
	writeTimeout      = 45 * time.Second
	idleTimeout       = 60 * time.Second
	maxHeader         = 16 << 10
	maxBody           = 64 << 10
	drainFor          = 40 * time.Second // what is in flight at shutdown may finish
)

// Server serves one exchange.
type Server struct {
	Exchange *exchange.Exchange
	URL      string                      // our issuer identifier: scheme and host, no trailing slash
	Ready    func(context.Context) error // nil when a lease could be taken right now
	Metrics  http.Handler                // served to the operator; nil for none
	GitHub   *GitHubWebhook              // nil: no webhook is taken
	OctoSTS  *OctoSTS                    // nil: clients of octo-sts are not answered
	Also     map[string]http.Handler     // by pattern: what backends answer to anybody, such as lists of what was revoked
	Log      *slog.Logger
}

// Public is what workloads talk to.
func (s *Server) Public() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /token", s.token)
	mux.HandleFunc("POST /revoke", s.revoke)
	mux.HandleFunc("POST /introspect", s.introspect)
	mux.HandleFunc("GET /.well-known/oauth-authorization-server", s.metadata)
	mux.HandleFunc("GET /.well-known/openid-configuration", s.metadata)
	mux.HandleFunc("GET /jwks", s.jwks)
	if s.OctoSTS != nil {
		mux.HandleFunc("/sts/exchange", s.octoSTS)
	}
	for pattern, answer := range s.Also {
		mux.Handle(pattern, answer)
	}
	if s.GitHub == nil {
		return safe(mux, maxBody)
	}
	with := http.NewServeMux()
	with.Handle("/", safe(mux, maxBody))
	with.Handle("POST /webhooks/github", safe(s.webhook(*s.GitHub), maxDelivery))
	return with
}

// Admin is what the operator's probes talk to. Keep it off the public network.
func (s *Server) Admin() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", s.readyz)
	if s.Metrics != nil {
		mux.Handle("GET /metrics", s.Metrics)
	}
	return safe(mux, maxBody)
}

// Serve answers on both listeners until ctx ends, then stops taking requests and
// lets those in flight finish.
func (s *Server) Serve(ctx context.Context, public, admin net.Listener) error {
	servers := []*http.Server{s.httpServer(s.Public()), s.httpServer(s.Admin())}
	ended := make(chan error, len(servers))
	for i, l := range []net.Listener{public, admin} {
		go func() { ended <- servers[i].Serve(l) }()
	}
	var err error
	select {
	case <-ctx.Done():
	case err = <-ended:
	}
	draining, done := context.WithTimeout(context.WithoutCancel(ctx), drainFor)
	defer done()
	for _, server := range servers {
		err = errors.Join(err, server.Shutdown(draining))
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

func (s *Server) httpServer(h http.Handler) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(s.Log.Handler(), slog.LevelWarn),
	}
}

// safe sets what every answer has, and bounds every body. Nothing here is ever to
// be cached, framed or sniffed.
func safe(next http.Handler, limit int64) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Cache-Control", "no-store")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
		r.Body = http.MaxBytesReader(w, r.Body, limit)
		next.ServeHTTP(w, r)
	})
}

func (s *Server) readyz(w http.ResponseWriter, r *http.Request) {
	if err := s.Ready(r.Context()); err != nil {
		s.Log.ErrorContext(r.Context(), "not ready", "error", err)
		http.Error(w, "not ready: "+err.Error(), http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ok")
}

// metadata is RFC 8414. The same document stands at the OpenID place, since many
// clients look only there.
func (s *Server) metadata(w http.ResponseWriter, r *http.Request) {
	s.answerOrLog(w, r, http.StatusOK, client.Metadata{
		Issuer:                            s.URL,
		TokenEndpoint:                     s.URL + "/token",
		RevocationEndpoint:                s.URL + "/revoke",
		IntrospectionEndpoint:             s.URL + "/introspect",
		JWKSURI:                           s.URL + "/jwks",
		GrantTypesSupported:               []string{client.GrantTypeTokenExchange},
		ResponseTypesSupported:            []string{},
		TokenEndpointAuthMethodsSupported: []string{"none"},
		RevocationAuthMethodsSupported:    []string{"none"},
		IntrospectionAuthMethodsSupported: []string{"none"},
		AuthorizationDetailsTypes:         []string{client.DetailsTypeTask},
		SubjectTypesSupported:             []string{"public"},
		IDTokenSigningAlgs:                []string{"RS256", "ES256", "EdDSA"},
		DPoPSigningAlgs:                   []string{string(jose.ES256), string(jose.EdDSA)},
		SubjectTokenBindings:              []string{client.BindingRequestV1},
	})
}

// jwks is empty: what we hand out is opaque, we sign nothing. The document is there
// because clients that read the metadata ask for it.
func (s *Server) jwks(w http.ResponseWriter, r *http.Request) {
	s.answerOrLog(w, r, http.StatusOK, struct {
		Keys []struct{} `json:"keys"`
	}{[]struct{}{}})
}

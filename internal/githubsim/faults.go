package githubsim

import (
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"strings"
	"time"
)

// Fault is what goes wrong with one request. The zero Fault is none.
type Fault struct {
	Delay      <-chan struct{} // wait for it, or for the request's end, before doing anything
	Outlast    bool            // wait for Delay even after the client has gone: the effect lands late
	LandsBy    time.Time       // a request that Delay lets go after that never arrives: it is cut; zero: no limit
	DropBefore bool            // cut the connection instead of doing anything
	Before     int             // answer this status instead of doing anything
	Drop       bool            // do it, then cut the connection
	After      int             // do it, then answer this status
	Header     http.Header     // of the answers Before and After; of any other, in place of its own
	Body       string          // of the answers Before and After; default: GitHub's error object
}

// Fault sets who is asked for every request, OIDC and ID tokens included; nil,
// and an answer of nil, mean none. f is called before the request is looked at,
// possibly by several requests at once, and may call GitHub's methods. It may
// read the request's body.
//
// A dropped GET on a connection used before is sent again by net/http itself.
func (g *GitHub) Fault(f func(*http.Request) *Fault) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.fault = f
}

func (g *GitHub) faultOf(r *http.Request) *Fault {
	g.mu.Lock()
	f := g.fault
	g.mu.Unlock()
	if f == nil {
		return &Fault{}
	}
	if fault := f(r); fault != nil {
		return fault
	}
	return &Fault{}
}

// wait holds the request back as long as the fault says, and reports whether it
// is to be carried out then.
func (g *GitHub) wait(r *http.Request, f *Fault) bool {
	if f.Delay == nil {
		return true
	}
	gone := r.Context().Done()
	if f.Outlast {
		gone = nil
	}
	select {
	case <-f.Delay:
	case <-gone:
	case <-g.closed:
	}
	return f.LandsBy.IsZero() || !g.opts.Now().After(f.LandsBy)
}

func (f *Fault) answer(status int) answer {
	a := (&refusal{status: status, message: http.StatusText(status)}).answer()
	a.header = f.Header.Clone()
	if f.Body != "" {
		a.bytes, a.contentType = []byte(f.Body), "application/json; charset=utf-8"
	}
	return a
}

// Request is one request that arrived, in the order of arrival.
type Request struct {
	Method string
	Path   string // without the query
	// Authorization is the scheme and the hash of the value, as in
	// TokenInfo.Hash; empty without credentials.
	Authorization string
	Status        int  // 0 while it is under way, and when the connection was cut
	Lost          bool // the connection was cut before anything was done
}

// Requests are all that arrived since Start.
func (g *GitHub) Requests() []Request {
	g.mu.Lock()
	defer g.mu.Unlock()
	all := make([]Request, 0, len(g.requests))
	for _, r := range g.requests {
		all = append(all, *r)
	}
	return all
}

func (g *GitHub) arrived(r *http.Request) *Request {
	seen := &Request{Method: r.Method, Path: r.URL.Path}
	if scheme, value, _ := strings.Cut(r.Header.Get("Authorization"), " "); scheme != "" {
		seen.Authorization = scheme + " " + hashOf(strings.TrimSpace(value))
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.requests = append(g.requests, seen)
	return seen
}

func (g *GitHub) lost(seen *Request) {
	g.mu.Lock()
	defer g.mu.Unlock()
	seen.Lost = true
}

func (g *GitHub) answered(seen *Request, status int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	seen.Status = status
}

// hashOf is the form in which GitHub's audit log names a token (hashed_token):
// base64 of its SHA-256.
func hashOf(value string) string {
	sum := sha256.Sum256([]byte(value))
	return base64.StdEncoding.EncodeToString(sum[:])
}

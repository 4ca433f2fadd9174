package githubsim

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strconv"
	"time"
)

const largestBody = 256 << 20

// serve takes one request from arrival to answer, with its fault, if any,
// around the effect.
func (g *GitHub) serve(w http.ResponseWriter, r *http.Request) {
	seen := g.arrived(r)
	// The whole body first: only then does net/http notice that a client left.
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, largestBody))
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	fault := g.faultOf(r)
	arrives := g.wait(r, fault)
	var a answer
	switch {
	case fault.DropBefore, !arrives:
		g.lost(seen)
		panic(http.ErrAbortHandler) // net/http's way to cut a connection
	case fault.Before != 0:
		a = fault.answer(fault.Before)
	default:
		a = g.handle(r, body)
		maps.Copy(a.header, fault.Header)
	}
	switch {
	case fault.Drop:
		panic(http.ErrAbortHandler)
	case fault.After != 0:
		a = fault.answer(fault.After)
	}
	g.answered(seen, a.status)
	g.opts.Log.DebugContext(r.Context(), "GitHub answered", "method", r.Method, "path", r.URL.Path, "status", a.status)
	g.write(w, a)
}

func (g *GitHub) write(w http.ResponseWriter, a answer) {
	for name, values := range a.header {
		w.Header()[name] = values
	}
	w.Header().Set("Date", g.opts.Now().UTC().Format(http.TimeFormat))
	body, contentType := a.body()
	if contentType != "" {
		w.Header().Set("Content-Type", contentType)
	}
	w.WriteHeader(a.status)
	_, _ = w.Write(body) // a client that left has its answer lost, as always
}

const hourlyLimit = 5000

// withStandardHeaders adds what every answer of GitHub carries. A 304 is free.
// The caller holds g.mu.
func (g *GitHub) withStandardHeaders(a answer, c *call) http.Header {
	header := a.header.Clone()
	if header == nil {
		header = http.Header{}
	}
	header.Set("X-GitHub-Request-Id", requestID())
	who := c.who()
	if a.status != http.StatusNotModified && !c.free {
		g.used[who]++
	}
	limit := g.limitOf(who)
	header.Set("X-RateLimit-Limit", strconv.FormatInt(limit.Limit, 10))
	header.Set("X-RateLimit-Remaining", strconv.FormatInt(limit.Remaining, 10))
	header.Set("X-RateLimit-Used", strconv.FormatInt(limit.Used, 10))
	header.Set("X-RateLimit-Reset", strconv.FormatInt(limit.Reset, 10))
	header.Set("X-RateLimit-Resource", "core")
	return header
}

// who is whose budget the call draws on.
func (c *call) who() string {
	switch {
	case c.token != nil:
		return fmt.Sprintf("installation %d", c.token.installation.id)
	case c.app != nil:
		return fmt.Sprintf("app %d", c.app.ID)
	}
	return "anonymous"
}

type rateLimit struct {
	Limit     int64  `json:"limit"`
	Used      int64  `json:"used"`
	Remaining int64  `json:"remaining"`
	Reset     int64  `json:"reset"`
	Resource  string `json:"resource"`
}

// limitOf counts from the clock's full hour; nothing is refused at zero.
func (g *GitHub) limitOf(who string) rateLimit {
	used := g.used[who]
	return rateLimit{
		Limit: hourlyLimit, Used: used, Remaining: max(0, hourlyLimit-used),
		Reset:    g.opts.Now().Truncate(time.Hour).Add(time.Hour).Unix(),
		Resource: "core",
	}
}

func (g *GitHub) limitRoutes() []route {
	return []route{{"GET", apiPrefix + "/rate_limit", asAnybody, getRateLimit}}
}

// asAnybody lets everybody in, but nobody with bad credentials.
func asAnybody(c *call) error {
	if c.r.Header.Get("Authorization") == "" {
		return nil
	}
	return c.identify(nil)
}

// getRateLimit answers without counting itself, as GitHub's does.
func getRateLimit(c *call) (answer, error) {
	c.free = true
	limit := c.g.limitOf(c.who())
	return ok(map[string]any{"resources": map[string]any{"core": limit}, "rate": limit}), nil
}

func requestID() string {
	var raw [16]byte
	_, _ = rand.Read(raw[:]) // crypto/rand never fails
	return fmt.Sprintf("%X:%X:%X", raw[:2], raw[2:9], raw[9:])
}

package ssh

import (
	"bytes"
	"context"
	"net/http"
	"time"
)

// servedFor bounds how often asking for the list, which anybody may, reads the leases.
const servedFor = time.Second

// serveWithin is how long who asks waits for the leases to be read. No list keeps a host
// with the one it has, as no answer does; but this says so.
const serveWithin = 10 * time.Second

// Handlers are what this backend answers on the exchange's public listener: the list, for
// hosts to fetch.
func (b *Backend) Handlers() map[string]http.Handler {
	return map[string]http.Handler{"GET /ssh/krl": http.HandlerFunc(b.serveKRL)}
}

func (b *Backend) serveKRL(w http.ResponseWriter, r *http.Request) {
	ctx, done := context.WithTimeout(r.Context(), serveWithin)
	defer done()
	e, err := b.press.recent(ctx, servedFor)
	if err != nil {
		// Not why: whoever asks is nobody in particular. The same fault is logged where
		// leases are ended and where the file is brought up to date.
		http.Error(w, "the list of revoked certificates cannot be made now; keep the one you have", http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("ETag", `"`+e.tag+`"`)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(e.list))
}

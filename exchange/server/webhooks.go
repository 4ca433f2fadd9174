package server

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"time"

	"github.com/stepkey/stepkey/exchange/client"
	"github.com/stepkey/stepkey/internal/secret"
)

const (
	// GitHub sends at most 25 MiB. Only an event about an installation grows with what
	// it is about: it lists its repositories, in some 250 bytes each, so that this holds
	// 30,000 of them. Of a larger one the leases end at their deadlines; GitHub itself
	// lets such an App in no longer.
	maxDelivery = 8 << 20
	// All others, whose longest is a workflow_job with its steps, are far below this.
	// Who signs nothing can make us hold no more for each of its requests, and few that
	// are longer at once.
	maxUsual    = 1 << 20
	maxLongOnce = 4
	// GitHub gives up after 10 s and shows the delivery as failed.
	answerDelivery = 8 * time.Second
	// Deliveries at work at once. Most are about jobs that hold nothing and are done
	// in a millisecond; what is refused here the reconciler finds.
	maxDeliveries = 64
)

// GitHubWebhook is how the App's events are taken (POST /webhooks/github).
type GitHubWebhook struct {
	Issuer string        // the configured name of the issuer whose jobs these are
	Secret secret.String // that GitHub signs with
	// Forget is called with an installation that was deleted, suspended or has lost
	// repositories: what is cached of it is no longer so. May be nil.
	Forget func(installation int64)
	// Reaches asks GitHub whether the App can reach a repository, by its id, since an
	// event that says otherwise may be an old one. Nil: every event is believed.
	Reaches func(ctx context.Context, repository string) (bool, error)
	// AnswerWithin is how long an answer waits for the end of what a job held. It is
	// 8 s if zero. The end goes on without the answer.
	AnswerWithin time.Duration
}

// webhook is POST /webhooks/github: a job is over, or the App lost its repository, so
// its credentials are.
//
// The signature is over the raw body and is checked before anything is read from it.
// Everything else about a delivery is unsure: the event's name in the header is not
// signed, deliveries are lost, late, doubled and reordered, and whoever saw one can
// send it again. So what counts is what stands in the body, and every event taken
// stays true or is asked about:
//
//   - workflow_job completed ends what that very job holds; it stays over.
//   - workflow_run completed ends what that attempt of the run and those before it
//     hold; they stay over, and a newer one is not meant.
//   - installation deleted and suspend, installation_repositories removed end what jobs
//     of the repositories named hold. Access can come back, so GitHub is asked first.
//
// None can do more than end leases, and a second time finds nothing to end.
func (s *Server) webhook(g GitHubWebhook) http.Handler {
	if g.AnswerWithin <= 0 {
		g.AnswerWithin = answerDelivery
	}
	slots, long := make(chan struct{}, maxDeliveries), make(chan struct{}, maxLongOnce)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		what, err := g.read(r, long)
		if err != nil {
			s.refuse(w, r, err)
			return
		}
		if what == nil {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		select {
		case slots <- struct{}{}:
		default:
			s.refuse(w, r, errBusy)
			return
		}
		ended := make(chan error, 1)
		go func() {
			defer func() { <-slots }()
			ended <- s.act(context.WithoutCancel(r.Context()), g, *what)
		}()
		s.acknowledge(w, r, ended, g.AnswerWithin)
	})
}

var errBusy = errors.New("too many deliveries at once")

func (s *Server) act(ctx context.Context, g GitHubWebhook, what told) error {
	err := what.act(ctx, s.Exchange, g)
	if err != nil {
		s.Log.ErrorContext(ctx, "a job is over or the App lost its repository, and not all that follows could be done at once; the reconciler and the keeper go on", "issuer", g.Issuer, "over", what.String(), "error", err)
	}
	return err
}

// acknowledge answers 204 when all is begun that follows, and 202 when that takes
// longer than GitHub waits. A failure is a 503, so that it shows among the App's
// deliveries; GitHub sends nothing again by itself.
func (s *Server) acknowledge(w http.ResponseWriter, r *http.Request, ended <-chan error, within time.Duration) {
	late := time.NewTimer(within)
	defer late.Stop()
	select {
	case err := <-ended:
		if err != nil {
			s.refuse(w, r, err)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	case <-late.C:
		w.WriteHeader(http.StatusAccepted)
	}
}

// read checks a delivery and returns what it says, nil for nothing to us.
func (g GitHubWebhook) read(r *http.Request, long chan struct{}) (*told, error) {
	body, err := readDelivery(r, long)
	if err != nil {
		return nil, err
	}
	if !g.signed(body, r.Header.Values("X-Hub-Signature-256")) {
		return nil, &badRequest{http.StatusUnauthorized, client.CodeInvalidRequest, "X-Hub-Signature-256 is missing or not the signature of this body; set the secret of the App's webhook to the one in the exchange's configuration"}
	}
	event := r.Header.Get("X-GitHub-Event")
	if !heeded(event) {
		return nil, nil
	}
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return nil, &badRequest{http.StatusUnsupportedMediaType, client.CodeInvalidRequest, "set the content type of the App's webhook to application/json"}
	}
	return g.heed(body, event)
}

// readDelivery reads the body, a long one only if few others are, and if its length
// was said beforehand.
func readDelivery(r *http.Request, long chan struct{}) ([]byte, error) {
	from := r.Body
	if r.ContentLength > maxUsual {
		select {
		case long <- struct{}{}:
			defer func() { <-long }()
		default:
			return nil, errBusy
		}
	} else {
		from = http.MaxBytesReader(nil, r.Body, maxUsual)
	}
	body, err := io.ReadAll(from)
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return nil, &badRequest{http.StatusRequestEntityTooLarge, client.CodeInvalidRequest, fmt.Sprintf("the delivery is larger than %d bytes; have the App's webhook send workflow jobs and workflow runs alone, with their length", tooLarge.Limit)}
	}
	if err != nil {
		return nil, bad("the body broke off; send the delivery again")
	}
	return body, nil
}

// signed reports whether exactly one signature is there and holds. The SHA-1 one that
// GitHub still sends beside it counts for nothing.
func (g GitHubWebhook) signed(body []byte, signatures []string) bool {
	if len(signatures) != 1 || g.Secret.Empty() {
		return false
	}
	m := hmac.New(sha256.New, []byte(g.Secret.Reveal()))
	m.Write(body)
	return hmac.Equal([]byte("sha256="+hex.EncodeToString(m.Sum(nil))), []byte(signatures[0]))
}

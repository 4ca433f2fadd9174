package server

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"time"

	"github.com/stepkey/stepkey/exchange"
	"github.com/stepkey/stepkey/exchange/client"
	"github.com/stepkey/stepkey/internal/secret"
)

const (
	// GitHub sends at most 25 MiB; a workflow_job, whose steps are the longest part of
	// it, is far below this.
	maxDelivery = 1 << 20
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
	// AnswerWithin is how long an answer waits for the end of what a job held. It is
	// 8 s if zero. The end goes on without the answer.
	AnswerWithin time.Duration
}

// webhook is POST /webhooks/github: the job is over, so its credentials are.
//
// The signature is over the raw body and is checked before anything is read from it.
// Everything else about a delivery is unsure: the event's name in the header is not
// signed, deliveries are lost, late, doubled and reordered, and whoever saw one can
// send it again. So the only one that counts is workflow_job with action completed,
// by what stands in its body; it can only end leases, only of the very job that it
// names, and a second time finds nothing to end.
func (s *Server) webhook(g GitHubWebhook) http.Handler {
	if g.AnswerWithin <= 0 {
		g.AnswerWithin = answerDelivery
	}
	slots := make(chan struct{}, maxDeliveries)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		over, err := g.read(r)
		if err != nil {
			s.refuse(w, r, err)
			return
		}
		if over == nil {
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
			ended <- s.jobOver(context.WithoutCancel(r.Context()), *over)
		}()
		s.acknowledge(w, r, ended, g.AnswerWithin)
	})
}

var errBusy = errors.New("too many deliveries at once")

func (s *Server) jobOver(ctx context.Context, job exchange.Job) error {
	_, err := s.Exchange.JobOver(ctx, job)
	if err != nil {
		s.Log.ErrorContext(ctx, "a job is over, and what it held could not be ended at once; the reconciler and the keeper go on", "issuer", job.Issuer, "run", job.Run, "attempt", job.Attempt, "job", job.ID, "error", err)
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

// read checks a delivery and returns the job that it says is over, nil for none.
func (g GitHubWebhook) read(r *http.Request) (*exchange.Job, error) {
	body, err := io.ReadAll(r.Body)
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return nil, &badRequest{http.StatusRequestEntityTooLarge, client.CodeInvalidRequest, fmt.Sprintf("the delivery is larger than %d bytes; have the App's webhook send workflow jobs alone", maxDelivery)}
	}
	if err != nil {
		return nil, bad("the body broke off; send the delivery again")
	}
	if !g.signed(body, r.Header.Values("X-Hub-Signature-256")) {
		return nil, &badRequest{http.StatusUnauthorized, client.CodeInvalidRequest, "X-Hub-Signature-256 is missing or not the signature of this body; set the secret of the App's webhook to the one in the exchange's configuration"}
	}
	if r.Header.Get("X-GitHub-Event") != "workflow_job" {
		return nil, nil
	}
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return nil, &badRequest{http.StatusUnsupportedMediaType, client.CodeInvalidRequest, "set the content type of the App's webhook to application/json"}
	}
	return g.completed(body)
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

// workflowJob is what of the event we go by; GitHub's is far larger.
type workflowJob struct {
	Action string `json:"action"`
	Job    struct {
		ID      int64  `json:"id"`
		RunID   int64  `json:"run_id"`
		Attempt int64  `json:"run_attempt"`
		Status  string `json:"status"`
	} `json:"workflow_job"`
	Repository struct {
		ID int64 `json:"id"`
	} `json:"repository"`
}

func (g GitHubWebhook) completed(body []byte) (*exchange.Job, error) {
	var e workflowJob
	if err := json.Unmarshal(body, &e); err != nil {
		return nil, bad("the body is no workflow_job event in JSON")
	}
	if e.Action != "completed" || e.Job.Status != "completed" {
		return nil, nil
	}
	if e.Job.ID <= 0 || e.Job.RunID <= 0 || e.Job.Attempt <= 0 || e.Repository.ID <= 0 {
		return nil, bad("the event does not name its repository, run, attempt and job by positive numbers")
	}
	return &exchange.Job{
		Issuer: g.Issuer, Repository: strconv.FormatInt(e.Repository.ID, 10),
		Run: strconv.FormatInt(e.Job.RunID, 10), Attempt: int(e.Job.Attempt), ID: strconv.FormatInt(e.Job.ID, 10),
	}, nil
}

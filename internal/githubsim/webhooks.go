package githubsim

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha1" //nolint:gosec // GitHub still sends X-Hub-Signature; nobody should look at it
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"net/http"
	"time"
)

// deliveryTimeout is how long GitHub waits for the answer to a delivery.
const deliveryTimeout = 10 * time.Second

// Webhook is where an App's events go. Like GitHub's it promises neither that a
// delivery arrives nor when or in what order, and sends nothing again by itself.
type Webhook struct {
	g      *GitHub
	app    *App
	id     int64
	url    string
	secret []byte
	events []string // subscribed to

	// Below: guarded by g.mu.
	held       bool
	deliveries []*Delivery
}

// Delivery is one event on its way. ID stays the same when it is delivered again.
type Delivery struct {
	ID       string // X-GitHub-Delivery, a GUID
	Event    string // X-GitHub-Event
	Action   string
	JobID    int64 // of a workflow_job
	Header   http.Header
	Body     []byte
	Attempts int
	Status   int // the last answer's, 0 for none
}

// AddWebhook sets the webhook of an App: from now on it is told of the jobs of
// every repository where the App is installed with actions: read, and of what else it
// subscribes to: EventWorkflowRun. What becomes of its installations it is always
// told. Deliveries are sent at once, each by itself.
func (g *GitHub) AddWebhook(app App, url, secret string, also ...string) *Webhook {
	g.mu.Lock()
	defer g.mu.Unlock()
	registered := g.apps[app.ID]
	if registered == nil {
		panic(fmt.Sprintf("githubsim: a webhook for App %d: add it first", app.ID))
	}
	w := &Webhook{g: g, app: registered, id: g.newID(), url: url, secret: []byte(secret), events: append([]string{eventWorkflowJob}, also...)}
	g.webhooks = append(g.webhooks, w)
	return w
}

// Hold keeps what happens from now on from being sent: a test sends it when and in
// the order that it likes, or never.
func (w *Webhook) Hold() {
	w.g.mu.Lock()
	defer w.g.mu.Unlock()
	w.held = true
}

// Deliveries are all so far, in the order in which things happened.
func (w *Webhook) Deliveries() []Delivery {
	w.g.mu.Lock()
	defer w.g.mu.Unlock()
	var all []Delivery
	for _, d := range w.deliveries {
		all = append(all, *d)
	}
	return all
}

// Deliver sends one delivery now, for the first time or again, and waits for the
// answer's status.
func (w *Webhook) Deliver(id string) (status int, err error) {
	ctx, done := context.WithTimeout(context.Background(), deliveryTimeout)
	defer done()
	for _, d := range w.Deliveries() {
		if d.ID == id {
			status, err = w.post(ctx, d)
			w.note(id, status)
			return status, err
		}
	}
	panic("githubsim: no delivery " + id)
}

func (w *Webhook) note(id string, status int) {
	w.g.mu.Lock()
	defer w.g.mu.Unlock()
	for _, d := range w.deliveries {
		if d.ID == id {
			d.Attempts++
			d.Status = status
		}
	}
}

func (w *Webhook) post(ctx context.Context, d Delivery) (int, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, w.url, bytes.NewReader(d.Body))
	if err != nil {
		return 0, fmt.Errorf("delivering %s: %w", d.ID, err)
	}
	request.Header = d.Header.Clone()
	client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	answer, err := client.Do(request)
	if err != nil {
		return 0, fmt.Errorf("delivering %s: %w", d.ID, err)
	}
	return answer.StatusCode, answer.Body.Close()
}

// tell makes one delivery. The caller holds g.mu.
func (w *Webhook) tell(event, action string, jobID int64, body map[string]any) {
	d := w.delivery(event, action, body)
	d.JobID = jobID
	w.deliveries = append(w.deliveries, d)
	if !w.held {
		w.sendSoon(d.ID)
	}
}

// sendSoon delivers on its own, until the end of this GitHub.
func (w *Webhook) sendSoon(id string) {
	go func() {
		if _, err := w.Deliver(id); err != nil {
			w.g.opts.Log.Info("GitHub could not deliver an event", "error", err)
		}
	}()
}

// delivery is one event, as GitHub's "Webhook events and payloads" has it.
func (w *Webhook) delivery(event, action string, content map[string]any) *Delivery {
	content["action"] = action
	body, err := json.Marshal(content)
	if err != nil {
		panic(fmt.Sprintf("githubsim: an event that is no JSON: %v", err))
	}
	d := &Delivery{ID: guid(), Event: event, Action: action, Body: body}
	d.Header = http.Header{}
	for name, value := range map[string]string{
		"User-Agent":                             "GitHub-Hookshot/044aadd",
		"Content-Type":                           "application/json",
		"Accept":                                 "*/*",
		"X-GitHub-Event":                         d.Event,
		"X-GitHub-Delivery":                      d.ID,
		"X-GitHub-Hook-ID":                       fmt.Sprint(w.id),
		"X-GitHub-Hook-Installation-Target-ID":   fmt.Sprint(w.app.ID),
		"X-GitHub-Hook-Installation-Target-Type": "integration",
		"X-Hub-Signature":                        "sha1=" + w.mac(sha1.New, body),
		"X-Hub-Signature-256":                    "sha256=" + w.mac(sha256.New, body),
	} {
		d.Header.Set(name, value)
	}
	return d
}

func (w *Webhook) mac(algorithm func() hash.Hash, body []byte) string {
	m := hmac.New(algorithm, w.secret)
	m.Write(body)
	return hex.EncodeToString(m.Sum(nil))
}

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/stepkey/stepkey/exchange/client"
	"github.com/stepkey/stepkey/internal/githubsim"
	"github.com/stepkey/stepkey/internal/secret"
)

// story is what is known while it is told.
type story struct {
	*page
	*world
	job     *githubsim.Job
	stolen  string            // the ID token that the step used, as a thief would have it
	outputs map[string]string // of the step
	state   map[string]string // that the runner keeps for the post step
	token   string            // the credential
}

var errNotAsTold = errors.New("it did not go as told; see the lines marked ✗")

// tell tells it from start to end. An error is a line that could not even be
// reached.
func tell(ctx context.Context, w *world, out io.Writer) error {
	s := &story{page: &page{out: out}, world: w, job: w.job()}
	for _, part := range []func(context.Context) error{s.scene, s.asks, s.works, s.misused, s.ends, s.tripped, s.audit} {
		if err := part(ctx); err != nil {
			return fmt.Errorf("%w\nthe exchange said:\n%s", err, w.log.String())
		}
	}
	if s.failed > 0 {
		return errNotAsTold
	}
	s.line("\n")
	s.told(true, "As told.", "The credential did one task, and nothing of it is left.")
	return nil
}

func (s *story) scene(context.Context) error {
	s.title("Stepkey", "a key for one step. GitHub is simulated on loopback; the rest is real: processes, HTTP, tokens, store.")
	s.chapter("The scene")
	s.told(true, "GitHub", s.gh.URL()+": acme/widget and acme/gadget, private; the App has contents and issues: write")
	s.told(true, "the exchange", fmt.Sprintf("%s: process %d, trusts GitHub's issuer, has one task file", s.url, s.exchange.Process.Pid))
	s.told(true, "a job", fmt.Sprintf("%d, release.yml in acme/widget for tag %s, environment release, id-token: write", s.job.ID(), tag))
	return nil
}

// asks runs the action's first half.
func (s *story) asks(ctx context.Context) error {
	s.chapter("The step asks for its key: uses: stepkey/stepkey, with task: " + task)
	log, err := s.step(ctx, "main", s.job, nil)
	if err != nil {
		return fmt.Errorf("the action's main half: %w:\n%s", err, log)
	}
	if s.outputs, err = s.fileCommand("main", "GITHUB_OUTPUT"); err != nil {
		return err
	}
	if s.state, err = s.fileCommand("main", "GITHUB_STATE"); err != nil {
		return err
	}
	s.token, s.stolen = s.outputs["token"], idToken(log)
	seen, err := s.lastOf("active")
	if err != nil {
		return err
	}
	s.told(seen.Job != "" && s.stolen != "", "claims verified", "the ID token is of this issuer, for this exchange, fresh, and names "+seen.Job)
	s.told(strings.HasPrefix(seen.Granted, "contents: write on acme/widget ("), "granted", seen.Granted+", until "+s.outputs["expires-at"])
	s.told(maskedFirst(log, s.token), "masked", "before anything else was printed; the runner keeps only the lease token for the post step")
	s.told(!contains(s.state, s.token), "not kept", "the credential is in no step state: it is the output of this step and nowhere else")
	return nil
}

// works does what the task is for.
func (s *story) works(ctx context.Context) error {
	s.chapter("It does its work")
	repo, err := s.github(ctx, http.MethodGet, s.gh.URL()+"/repos/acme/widget/releases/tags/"+tag, "")
	if err != nil {
		return err
	}
	var release struct {
		UploadURL string `json:"upload_url"`
	}
	if err := json.Unmarshal(repo.body, &release); err != nil {
		return fmt.Errorf("reading the release: %w", err)
	}
	upload, _, _ := strings.Cut(release.UploadURL, "{")
	done, err := s.github(ctx, http.MethodPost, upload+"?name=widget-1.2.3.tar.gz", "the widget, version 1.2.3")
	if err != nil {
		return err
	}
	stored := s.gh.Assets("acme", "widget", tag)["widget-1.2.3.tar.gz"]
	s.told(done.status == http.StatusCreated && string(stored) == "the widget, version 1.2.3", "upload", "widget-1.2.3.tar.gz to release "+tag+": "+done.words())
	return nil
}

// misused is what must not work, each refused by whoever has to.
func (s *story) misused(ctx context.Context) error {
	s.chapter("It is misused")
	elsewhere, err := s.github(ctx, http.MethodGet, s.gh.URL()+"/repos/acme/gadget/contents/README.md", "")
	if err != nil {
		return err
	}
	s.told(elsewhere.status == http.StatusNotFound, "another repository", "reading acme/gadget: GitHub says "+elsewhere.words())
	issue, err := s.github(ctx, http.MethodPost, s.gh.URL()+"/repos/acme/widget/issues", `{"title":"hello"}`)
	if err != nil {
		return err
	}
	s.told(issue.status == http.StatusForbidden, "another permission", "opening an issue in acme/widget: GitHub says "+issue.words())

	s.refused(ctx, "the stolen ID token", asking(s.stolen), client.CodeInvalidGrant)
	pull := s.gh.StartJob(githubsim.JobSpec{Repository: "acme/widget", Event: "pull_request_target", IDToken: true})
	fresh, err := pull.IDToken(s.url)
	if err != nil {
		return err
	}
	s.refused(ctx, "a pull request's job", asking(fresh), client.CodeAccessDenied)
	s.told(len(s.gh.Issued()) == 1, "in all", plural(len(s.gh.Issued()), "credential was", "credentials were")+" made")
	return nil
}

func asking(subjectToken string) client.TokenRequest {
	return client.TokenRequest{SubjectToken: secret.New(subjectToken), Task: task}
}

// refused asks for what must not be given.
func (s *story) refused(ctx context.Context, who string, r client.TokenRequest, code string) {
	_, err := s.client.Token(ctx, r)
	var no *client.Error
	if !errors.As(err, &no) {
		s.told(false, who, fmt.Sprintf("was not refused by the exchange: %v", err))
		return
	}
	s.told(no.Code == code, who, fmt.Sprintf("the exchange says %d %s: %s", no.Status, no.Code, no.Description))
}

// ends runs the action's other half.
func (s *story) ends(ctx context.Context) error {
	s.chapter("The job is over: the action's post half")
	if log, err := s.step(ctx, "post", s.job, s.state); err != nil {
		return fmt.Errorf("the action's post half: %w:\n%s", err, log)
	}
	begun, err := s.lastOf("revoking")
	if err != nil {
		return err
	}
	ended, err := s.lastOf("revoked")
	if err != nil {
		return err
	}
	s.told(ended.Lease == s.outputs["lease-id"], "revoked", fmt.Sprintf("%s: %s; GitHub confirmed it after %s", ended.Lease, ended.Reason, ended.At.Sub(begun.At).Round(100*time.Microsecond)))
	again, err := s.github(ctx, http.MethodGet, s.gh.URL()+"/repos/acme/widget", "")
	if err != nil {
		return err
	}
	s.told(again.status == http.StatusUnauthorized, "used again", "GitHub says "+again.words())
	s.told(len(s.gh.LiveTokens()) == 0, "left at GitHub", plural(len(s.gh.LiveTokens()), "live token", "live tokens"))
	summary, err := os.ReadFile(filepath.Join(s.dir, "main-github_step_summary"))
	s.told(err == nil && bytes.Contains(summary, []byte(task)) && !bytes.Contains(summary, []byte(s.token)), "job summary", "says what was granted, until when and how it ended, without the credential")
	return nil
}

// tripped is another job, in which somebody has an ID token of the job, fresh, and
// asks for what the step holds. One of the two is a thief, and the exchange cannot
// know which.
func (s *story) tripped(ctx context.Context) error {
	s.chapter("A second exchange in one job: the tripwire")
	job := s.world.job()
	if log, err := s.step(ctx, "main", job, nil); err != nil {
		return fmt.Errorf("the action's main half in a second job: %w:\n%s", err, log)
	}
	outputs, err := s.fileCommand("main", "GITHUB_OUTPUT")
	if err != nil {
		return err
	}
	s.token = outputs["token"]
	works, err := s.github(ctx, http.MethodGet, s.gh.URL()+"/repos/acme/widget", "")
	if err != nil {
		return err
	}
	s.told(works.status == http.StatusOK && len(s.gh.LiveTokens()) == 1, "the step", fmt.Sprintf("has its credential in job %d: GitHub says %s", job.ID(), works.words()))

	if err := s.asksToo(ctx, "somebody else", job); err != nil {
		return err
	}
	dead, err := s.github(ctx, http.MethodGet, s.gh.URL()+"/repos/acme/widget", "")
	if err != nil {
		return err
	}
	s.told(dead.status == http.StatusUnauthorized, "the step, at once", "its credential is dead: GitHub says "+dead.words())
	if err := s.asksToo(ctx, "asked once more", job); err != nil {
		return err
	}
	s.told(len(s.gh.LiveTokens()) == 0, "left at GitHub", plural(len(s.gh.LiveTokens()), "live token", "live tokens"))
	return nil
}

// asksToo asks for the task with a fresh ID token of the job, and with a key that the
// step does not have.
func (s *story) asksToo(ctx context.Context, who string, job *githubsim.Job) error {
	fresh, err := job.IDToken(s.url)
	if err != nil {
		return err
	}
	r := asking(fresh)
	if r.Key, err = client.NewKey(); err != nil {
		return err
	}
	s.refused(ctx, who, r, client.CodeAccessDenied)
	return nil
}

// audit shows what was written down, read by the operator's command.
func (s *story) audit(context.Context) error {
	entries, err := s.auditLog()
	if err != nil {
		return err
	}
	s.chapter("What was written down: stepkey-exchange audit")
	var rows [][]string
	lives := map[string]bool{}
	for _, e := range entries {
		lease := "-"
		if e.Lease != "" {
			lease = "…" + e.Lease[len(e.Lease)-6:]
			lives[e.Lease] = true
		}
		what, _, _ := strings.Cut(strings.TrimPrefix(e.Reason, "task \""+task+"\" denied: "), "\n")
		if what == "" {
			what = e.Granted
		}
		rows = append(rows, []string{e.At.Format("15:04:05.000"), e.Event, lease, strings.TrimPrefix(e.Job, "acme/widget "), cut(what, 46)})
	}
	s.table([]string{"TIME", "EVENT", "LEASE", "JOB", "WHAT"}, rows)
	var events []string
	for _, e := range entries {
		events = append(events, e.Event)
	}
	const story = "pending active denied denied revoking revoked " + "pending active revoking revoked denied denied"
	s.told(strings.Join(events, " ") == story && len(lives) == 2, "complete", "each grant, each denial, each end, with its reason")
	return nil
}

// entry is a line of the audit log, as the operator's command prints it.
type entry struct {
	At      time.Time `json:"at"`
	Event   string    `json:"event"`
	Lease   string    `json:"lease"`
	Job     string    `json:"job"`
	Granted string    `json:"granted"`
	Reason  string    `json:"reason"`
}

func (s *story) auditLog() ([]entry, error) {
	c := s.command(context.Background(), "stepkey-exchange", "audit", "--json", "--config", filepath.Join(s.dir, "stepkey.yaml"))
	c.Stderr = &s.log
	out, err := c.Output()
	if err != nil {
		return nil, fmt.Errorf("reading the audit log: %w", err)
	}
	var entries []entry
	for lines := json.NewDecoder(bytes.NewReader(out)); lines.More(); {
		var e entry
		if err := lines.Decode(&e); err != nil {
			return nil, fmt.Errorf("reading the audit log: %w", err)
		}
		entries = append(entries, e)
	}
	return entries, nil
}

func (s *story) lastOf(event string) (entry, error) {
	entries, err := s.auditLog()
	for i := len(entries) - 1; i >= 0; i-- {
		if entries[i].Event == event {
			return entries[i], nil
		}
	}
	return entry{}, errors.Join(err, fmt.Errorf("the audit log has no entry %q", event))
}

// answer is what GitHub said.
type answer struct {
	status int
	body   []byte
}

func (a answer) words() string {
	var said struct {
		Message string `json:"message"`
	}
	text := fmt.Sprintf("%d %s", a.status, http.StatusText(a.status))
	if err := json.Unmarshal(a.body, &said); err == nil && said.Message != "" && said.Message != http.StatusText(a.status) {
		text += ", " + said.Message
	}
	return text
}

// github asks GitHub something with the credential.
func (s *story) github(ctx context.Context, method, url, body string) (answer, error) {
	r, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return answer{}, fmt.Errorf("asking GitHub: %w", err)
	}
	r.Header.Set("Authorization", "Bearer "+s.token)
	r.Header.Set("Content-Type", "application/octet-stream")
	got, err := s.http.Do(r)
	if err != nil {
		return answer{}, fmt.Errorf("asking GitHub: %w", err)
	}
	defer got.Body.Close()
	text, err := io.ReadAll(got.Body)
	if err != nil {
		return answer{}, fmt.Errorf("asking GitHub: %w", err)
	}
	return answer{got.StatusCode, text}, nil
}

// idToken finds the ID token in what the step printed to be masked: the runner
// hides these lines, but whoever reads the step's memory or pipe has them.
func idToken(log string) string {
	for _, line := range strings.Split(log, "\n") {
		if value, found := strings.CutPrefix(line, "::add-mask::"); found && strings.Count(value, ".") == 2 && strings.HasPrefix(value, "ey") {
			return value
		}
	}
	return ""
}

// maskedFirst reports whether the token stands in the log only where it is masked,
// and nothing that is no mask came before that.
func maskedFirst(log, token string) bool {
	before, _, found := strings.Cut(log, "::add-mask::"+token)
	for _, line := range strings.Split(strings.TrimSpace(before), "\n") {
		if line != "" && !strings.HasPrefix(line, "::add-mask::") {
			return false
		}
	}
	return found && token != "" && strings.Count(log, token) == 1
}

func contains(values map[string]string, part string) bool {
	for _, v := range values {
		if strings.Contains(v, part) {
			return true
		}
	}
	return false
}

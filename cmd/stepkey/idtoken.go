package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"

	"github.com/cenkalti/backoff/v5"
	"github.com/stepkey/stepkey/internal/secret"
)

const (
	idTokenTries     = 5
	maxIDTokenAnswer = 64 << 10 // bytes
)

// runnerService is the source that GitHub's runner offers, and Forgejo's: a service that
// makes an ID token for each request.
type runnerService struct{ *step }

func (runnerService) String() string            { return "github" }
func (runnerService) mints() bool               { return true }
func (runnerService) sent(secret.String, error) {}

func (r runnerService) ready() error {
	_, err := r.idTokenRequest(context.Background(), "")
	return err
}

// token tries again on any failure: the service's refusals cannot be told from those it
// gives while a job is just starting.
func (r runnerService) token(ctx context.Context, audience string) (secret.String, error) {
	req, err := r.idTokenRequest(ctx, audience)
	if err != nil {
		return secret.String{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, r.waits.idTokenAll)
	defer cancel()

	var last error
	token, err := backoff.Retry(ctx, func() (secret.String, error) {
		var token secret.String
		token, last = r.idTokenOnce(ctx, req)
		return token, last
	}, r.waits.pauses(), backoff.WithMaxTries(idTokenTries), backoff.WithMaxElapsedTime(r.waits.idTokenAll))
	if err != nil {
		return secret.String{}, &trouble{"no ID token", fmt.Sprintf("the runner's service gave no ID token: %v; run the job again, and if that does not help, look at the status page of your %s host", last, r.hostKind())}
	}
	return token, nil
}

// idTokenRequest adds the audience to the URL, which has a query already.
func (s *step) idTokenRequest(ctx context.Context, audience string) (*http.Request, error) {
	at, bearer := s.getenv("ACTIONS_ID_TOKEN_REQUEST_URL"), s.getenv("ACTIONS_ID_TOKEN_REQUEST_TOKEN")
	if at == "" || bearer == "" {
		return nil, &trouble{"no ID token", s.whyNoIDToken()}
	}
	u, err := url.Parse(at)
	if err != nil {
		return nil, &trouble{"no ID token", "ACTIONS_ID_TOKEN_REQUEST_URL is not a URL"}
	}
	query := u.Query()
	query.Set("audience", audience)
	u.RawQuery = query.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, &trouble{"no ID token", "ACTIONS_ID_TOKEN_REQUEST_URL is not a URL"}
	}
	req.Header.Set("Authorization", "Bearer "+bearer)
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "stepkey/"+version())
	return req, nil
}

func (s *step) idTokenOnce(ctx context.Context, req *http.Request) (secret.String, error) {
	ctx, cancel := context.WithTimeout(ctx, s.waits.idTokenTry)
	defer cancel()
	res, err := withoutRedirects(s.http).Do(req.WithContext(ctx)) //nolint:gosec // G704: the runner's own service, at the URL that it gave us
	if err != nil {
		return secret.String{}, withoutURL(err)
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusOK {
		return secret.String{}, fmt.Errorf("it answered %d", res.StatusCode)
	}
	var body struct {
		Value secret.String `json:"value"`
	}
	if err := json.NewDecoder(io.LimitReader(res.Body, maxIDTokenAnswer)).Decode(&body); err != nil || body.Value.Empty() {
		return secret.String{}, errors.New("its answer holds no token")
	}
	if err := s.mask(body.Value.Reveal()); err != nil { // before it is looked at: it may be a secret of another form
		return secret.String{}, backoff.Permanent(fmt.Errorf("the token cannot be masked: %w", err))
	}
	token, err := readIDToken(body.Value.Reveal())
	if err != nil {
		return secret.String{}, fmt.Errorf("its answer holds no token: %w", err)
	}
	return token, nil
}

// withoutRedirects keeps the bearer where it was meant to go.
func withoutRedirects(h *http.Client) *http.Client {
	own := *h
	own.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &own
}

// withoutURL takes the URL out of an error: the service's address says more about
// the runner than a log needs.
func withoutURL(err error) error {
	if outer, ok := errors.AsType[*url.Error](err); ok {
		return outer.Err
	}
	return err
}

// whyNoIDToken: the variables are simply absent, for two reasons that need
// different remedies.
func (s *step) whyNoIDToken() string {
	const permission = "the job lacks `permissions: id-token: write`: add it to the job (and to the calling job, if this is a reusable workflow)"
	const fork = "GitHub gives no ID token to workflows of pull requests from forks, nor to Dependabot's: run this step on `push` instead"
	switch {
	case s.hostKind() == "Forgejo":
		return "there is no ID token: add `enable-openid-connect: true` to the workflow or the job; Forgejo gives none to pull requests from forks"
	case s.hostKind() == "Gitea":
		return "there is no ID token: this Gitea gives its jobs none. Name another source with --id-token, such as file:PATH"
	case s.fromFork():
		return "there is no ID token, because this run is for a pull request from a fork; " + fork
	case s.getenv("GITHUB_ACTOR") == "dependabot[bot]":
		return "there is no ID token, because Dependabot started this run; " + fork
	case strings.HasPrefix(s.getenv("GITHUB_EVENT_NAME"), "pull_request"):
		return "there is no ID token. This pull request is not from a fork, so " + permission
	}
	return "there is no ID token (ACTIONS_ID_TOKEN_REQUEST_URL and ACTIONS_ID_TOKEN_REQUEST_TOKEN are not set). Either " + permission + "; or the run is for a fork: " + fork
}

// hostKind is whose runner this is: Forgejo's also says that it is Gitea's.
func (s *step) hostKind() string {
	switch {
	case s.getenv("FORGEJO_ACTIONS") == "true":
		return "Forgejo"
	case s.getenv("GITEA_ACTIONS") == "true":
		return "Gitea"
	}
	return "GitHub"
}

func (s *step) fromFork() bool {
	if !strings.HasPrefix(s.getenv("GITHUB_EVENT_NAME"), "pull_request") {
		return false
	}
	event, err := os.ReadFile(s.getenv("GITHUB_EVENT_PATH"))
	return err == nil && headIsFork(event)
}

// headIsFork reads a pull request's event. Head and base are compared because
// head.repo.fork is also true for pull requests inside a repository that is
// itself a fork.
func headIsFork(event []byte) bool {
	type repository struct {
		ID   int64 `json:"id"`
		Fork bool  `json:"fork"`
	}
	type side struct {
		Repo *repository `json:"repo"` // null once the fork is deleted
	}
	var read struct {
		PullRequest *struct {
			Head side `json:"head"`
			Base side `json:"base"`
		} `json:"pull_request"`
	}
	if json.Unmarshal(event, &read) != nil || read.PullRequest == nil {
		return false
	}
	head, base := read.PullRequest.Head.Repo, read.PullRequest.Base.Repo
	if head == nil || base == nil || head.ID == 0 || base.ID == 0 {
		return head == nil || head.Fork
	}
	return head.ID != base.ID
}

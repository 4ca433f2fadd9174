package githubsim_test

import (
	"context"
	"net/http"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stepkey/stepkey/internal/githubsim"
)

// What each fault leaves behind decides what a careful client has to do next.
func TestFaultsSayWhetherTheEffectHappened(t *testing.T) {
	s := newScene(t, githubsim.Options{})
	jwt := s.jwt(nil)
	header := http.Header{"Retry-After": {"7"}}
	for name, test := range map[string]struct {
		fault  githubsim.Fault
		status int // 0: the connection is cut
		made   int
	}{
		"none":        {githubsim.Fault{}, 201, 1},
		"before":      {githubsim.Fault{Before: 503, Header: header, Body: `{"message":"busy"}`}, 503, 0},
		"after":       {githubsim.Fault{After: 502, Header: header, Body: `{"message":"busy"}`}, 502, 1},
		"drop":        {githubsim.Fault{Drop: true}, 0, 1},
		"drop before": {githubsim.Fault{DropBefore: true}, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			s.hub.Fault(func(r *http.Request) *githubsim.Fault {
				if r.Method != "POST" || !strings.HasSuffix(r.URL.Path, "/access_tokens") {
					return nil
				}
				return &test.fault
			})
			before := len(s.hub.Issued())
			r, err := s.try("POST", s.tokens(), jwt, `{}`)
			if (err != nil) != (test.status == 0) || r.status != test.status {
				t.Errorf("answered %d, %v; want %d", r.status, err, test.status)
			}
			if test.status > 500 && (r.header.Get("Retry-After") != "7" || r.body != `{"message":"busy"}`) {
				t.Errorf("the fault's words are missing: %v %s", r.header, r.body)
			}
			if made := len(s.hub.Issued()) - before; made != test.made {
				t.Errorf("made %d tokens, want %d", made, test.made)
			}
			requests := s.hub.Requests()
			if last := requests[len(requests)-1]; last.Status != test.status || last.Authorization != "Bearer "+hash(jwt) {
				t.Errorf("recorded as %+v", last)
			}
		})
	}
}

func TestADelayedCreateLandsLateWhenItOutlastsItsClient(t *testing.T) {
	for name, outlast := range map[string]bool{"at the client's end": false, "after the client's end": true} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t, githubsim.Options{})
			arrived, release := make(chan struct{}), make(chan struct{})
			s.hub.Fault(func(*http.Request) *githubsim.Fault {
				close(arrived)
				return &githubsim.Fault{Delay: release, Outlast: outlast}
			})
			ctx, leave := context.WithCancel(t.Context())
			request, err := http.NewRequestWithContext(ctx, "POST", s.hub.URL()+s.tokens(), strings.NewReader(`{}`))
			if err != nil {
				t.Fatal(err)
			}
			request.Header.Set("Authorization", "Bearer "+s.jwt(nil))
			answered := make(chan error)
			go func() {
				response, err := http.DefaultClient.Do(request)
				if err == nil {
					response.Body.Close()
				}
				answered <- err
			}()
			<-arrived
			leave()
			if err := <-answered; err == nil {
				t.Fatal("the client got an answer")
			}
			if outlast {
				if made := len(s.hub.Issued()); made != 0 {
					t.Errorf("made %d tokens while it was held back", made)
				}
				close(release)
			}
			for len(s.hub.Issued()) == 0 { // ends, or the test's deadline does
				runtime.Gosched()
			}
		})
	}
}

func TestADelayedCreateThatComesTooLateNeverArrives(t *testing.T) {
	for name, c := range map[string]struct {
		left time.Duration
		made int
	}{
		"at the last moment": {0, 1},
		"after it":           {-time.Nanosecond, 0},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t, githubsim.Options{})
			jwt, release := s.jwt(nil), make(chan struct{})
			close(release)
			s.hub.Fault(func(*http.Request) *githubsim.Fault {
				return &githubsim.Fault{Delay: release, LandsBy: s.clock.Now().Add(c.left)}
			})
			request, err := http.NewRequestWithContext(t.Context(), "POST", s.hub.URL()+s.tokens(), strings.NewReader(`{}`))
			if err != nil {
				t.Fatal(err)
			}
			request.Header.Set("Authorization", "Bearer "+jwt)
			if response, err := http.DefaultClient.Do(request); err == nil {
				response.Body.Close()
			}
			requests := s.hub.Requests()
			if made, lost := len(s.hub.Issued()), requests[len(requests)-1].Lost; made != c.made || lost != (c.made == 0) {
				t.Errorf("made %d tokens and lost is %v, want %d", made, lost, c.made)
			}
		})
	}
}

func TestANewTokenIsRefusedInThreeWaysBeforeItWorks(t *testing.T) {
	s := newScene(t, githubsim.Options{FirstUseLag: 3})
	token := s.token(`{}`)
	wantReply(t, s.call("GET", "/repos/acme/widget", token, ""), 401, "Bad credentials")
	wantReply(t, s.call("GET", "/repos/acme/widget", token, ""), 404, "Not Found")
	wantReply(t, s.call("GET", "/repos/acme/widget", token, ""), 403, "Resource not accessible by integration")
	wantReply(t, s.call("GET", "/repos/acme/widget", token, ""), 200, "")

	early := s.token(`{}`)
	wantReply(t, s.call("DELETE", "/installation/token", early, ""), 401, "Bad credentials")
	if live := len(s.hub.LiveTokens()); live != 2 {
		t.Errorf("%d live tokens: the 401 of a new token must not end it", live)
	}
}

func TestTokensComeInBothFormats(t *testing.T) {
	s := newScene(t, githubsim.Options{})
	redactable := regexp.MustCompile(`^ghs_[A-Za-z0-9._-]{36,}$`)
	opaque := regexp.MustCompile(`^ghs_[A-Za-z0-9]{36}$`)
	stateless := s.token(`{}`)
	if len(stateless) < 500 || len(stateless) > 540 || strings.Count(stateless, ".") != 2 ||
		!strings.Contains(stateless, "-") || !redactable.MatchString(stateless) {
		t.Errorf("stateless: %d characters, %s", len(stateless), stateless)
	}
	r := s.call("POST", s.tokens(), s.jwt(nil), `{}`, "X-GitHub-Stateless-S2S-Token", "disabled")
	if token := r.field(t, "token").(string); !opaque.MatchString(token) {
		t.Errorf("asked for an opaque one: %s", token)
	}
	old := newScene(t, githubsim.Options{TokenFormat: githubsim.Opaque})
	if token := old.token(`{}`); !opaque.MatchString(token) {
		t.Errorf("opaque by option: %s", token)
	}
}

func TestManyClientsAtOnce(t *testing.T) {
	s := newScene(t, githubsim.Options{})
	job := s.hub.StartJob(githubsim.JobSpec{Repository: "acme/widget", IDToken: true})
	jwt, env := s.jwt(nil), job.Env()
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 5 {
				r, err := s.try("POST", s.tokens(), jwt, `{}`)
				if err != nil || r.status != http.StatusCreated {
					t.Errorf("create: %d, %v", r.status, err)
					return
				}
				token := r.field(t, "token").(string)
				_, _ = s.try("GET", "/repos/acme/widget", token, "")
				_, _ = s.try("GET", env["ACTIONS_ID_TOKEN_REQUEST_URL"], env["ACTIONS_ID_TOKEN_REQUEST_TOKEN"], "")
				if r, err := s.try("DELETE", "/installation/token", token, ""); err != nil || r.status != http.StatusNoContent {
					t.Errorf("end: %d, %v", r.status, err)
				}
				s.hub.LiveTokens()
				s.hub.Requests()
				job.Claims("")
			}
		})
	}
	s.hub.RotateKeys()
	job.Complete("success")
	all.Wait()
	if live, issued := len(s.hub.LiveTokens()), len(s.hub.Issued()); live != 0 || issued != 40 {
		t.Errorf("%d of %d tokens live", live, issued)
	}
}

func TestTheAnswersCarryTheClockAndTheBudget(t *testing.T) {
	s := newScene(t, githubsim.Options{})
	token := s.token(`{}`)
	first := s.call("GET", "/repos/acme/widget", token, "")
	if got := first.header.Get("Date"); got != "Mon, 23 Nov 2026 12:00:00 GMT" {
		t.Errorf("Date %s", got)
	}
	if used := first.header.Get("X-RateLimit-Used"); used != "1" {
		t.Errorf("used after one request: %s", used)
	}
	again := s.call("GET", "/repos/acme/widget", token, "", "If-None-Match", first.header.Get("ETag"))
	if used := again.header.Get("X-RateLimit-Used"); again.status != 304 || used != "1" {
		t.Errorf("a %d cost something: used %s", again.status, used)
	}
	limits, _, err := s.client(token).RateLimit.Get(t.Context())
	if err != nil || limits.Core.Limit != 5000 || limits.Core.Remaining != 4999 {
		t.Errorf("limits %+v, %v", limits, err)
	}
}

func TestListsComeInPages(t *testing.T) {
	s := newScene(t, githubsim.Options{})
	for _, name := range []string{"one", "two", "three"} {
		s.hub.AddRepository(githubsim.Repository{Owner: "big", Name: name, Private: true})
	}
	s.installation = s.hub.Install(s.app, "big")
	client := s.client(s.token(`{}`))
	page, response, err := client.Apps.ListRepos(t.Context(), nil)
	if err != nil || page.GetTotalCount() != 3 || response.NextPage != 0 {
		t.Fatalf("all: %d, next %d, %v", page.GetTotalCount(), response.NextPage, err)
	}
	r := s.call("GET", "/installation/repositories?per_page=2", s.token(`{}`), "")
	if link := r.header.Get("Link"); !strings.Contains(link, `page=2&per_page=2>; rel="next"`) {
		t.Errorf("Link %s", link)
	}
}

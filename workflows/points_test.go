package workflows_test

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stepkey/stepkey/internal/githubsim"
	"github.com/stepkey/stepkey/internal/runnersim"
)

// A job is stopped at each of twelve points of main, step and post, as GitHub's runner
// stops one that is cancelled, and as a machine stops that loses power.

// point is where a job is when it is stopped: at the start or the end of a half, or in
// the middle of one, while a request that it waits for is held back.
type point struct {
	name  string
	at    func(runnersim.Moment) bool // the start or the end of a half; nil: a request
	half  func(runnersim.Moment) bool // the end of the half that is in the middle
	post  bool                        // it is post, which goes on in a job that is cancelled
	hub   func(*http.Request) bool    // held on its way to GitHub
	ask   string                      // path at the exchange, held on its way there
	reply string                      // path at the exchange, whose answer is held on its way back
}

func mainDone(m runnersim.Moment) bool {
	return m.ID == "key" && m.Phase == runnersim.Main && m.Done
}

func points() []point {
	moment := func(id string, phase runnersim.Phase, done bool) func(runnersim.Moment) bool {
		return func(m runnersim.Moment) bool { return m.ID == id && m.Phase == phase && m.Done == done }
	}
	useDone, postDone := moment("use", runnersim.Main, true), moment("key", runnersim.Post, true)
	probes := func(r *http.Request) bool {
		return r.Method == http.MethodGet && strings.HasPrefix(r.URL.Path, "/api/v3/repositories/")
	}
	uses := func(r *http.Request) bool { return strings.HasSuffix(r.URL.Path, "/releases/tags/v1.2.3") }
	asksForIDToken := func(r *http.Request) bool { return strings.HasPrefix(r.URL.Path, "/_services/idtoken") }
	return []point{
		// First, since here the keeper may come first where jobs die: it has nothing else to do yet.
		{name: "GitHub is told to revoke", hub: ends, half: postDone, post: true},
		{name: "main is about to start", at: moment("key", runnersim.Main, false)},
		{name: "main asks for an ID token", hub: asksForIDToken, half: mainDone},
		{name: "main asks the exchange", ask: "/token", half: mainDone},
		{name: "GitHub has made the token", hub: probes, half: mainDone},
		// After the probe: a token that is made late is probed late, in the next job's time.
		{name: "GitHub is asked for a token", hub: creates, half: mainDone},
		{name: "the exchange has answered", reply: "/token", half: mainDone},
		{name: "main is done", at: mainDone},
		{name: "the step uses the token", hub: uses, half: useDone},
		{name: "the step is done", at: useDone},
		{name: "post is about to start", at: moment("key", runnersim.Post, false)},
		{name: "the exchange has answered post", reply: "/revoke", half: postDone, post: true},
	}
}

// gate stands between jobs and the exchange, under the exchange's own name. It holds back
// the requests and the answers of one path.
type gate struct {
	mu         sync.Mutex
	ask, reply string
	arrived    func()
	released   <-chan struct{}
}

func (g *gate) hold(p point, arrived func(), released <-chan struct{}) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.ask, g.reply, g.arrived, g.released = p.ask, p.reply, arrived, released
}

// pass waits until what is held is released, or nobody waits for it any more.
func (g *gate) pass(r *http.Request, held func() string) {
	g.mu.Lock()
	path, arrived, released := held(), g.arrived, g.released
	g.mu.Unlock()
	if path == "" || r.URL.Path != path {
		return
	}
	arrived()
	select {
	case <-released:
	case <-r.Context().Done():
	}
}

func (g *gate) serve(to *url.URL) http.Handler {
	forward := &httputil.ReverseProxy{
		Rewrite: func(p *httputil.ProxyRequest) { p.SetURL(to); p.Out.Host = p.In.Host },
		ModifyResponse: func(r *http.Response) error {
			g.pass(r.Request, func() string { return g.reply })
			return nil
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if g.pass(r, func() string { return g.ask }); r.Context().Err() == nil {
			forward.ServeHTTP(w, r)
		}
	})
}

// stopped is a world in containers whose jobs are stopped somewhere.
type stopped struct {
	*world
	gate *gate
}

func stoppable(t *testing.T, s setting) *stopped {
	t.Helper()
	w, files, network := inContainers(t, s)
	g := &gate{}
	front := httptest.NewUnstartedServer(nil)
	_ = front.Listener.Close() // it listens on loopback
	front.Listener = listen(t, network.Gateway)
	name := "http://" + front.Listener.Addr().String()
	w.exchange = serve(t, network.Gateway, func(_, listen string) map[string][]byte { return files(name, listen) })
	behind, err := url.Parse(w.exchange.url)
	if err != nil {
		t.Fatal(err)
	}
	front.Config.Handler = g.serve(behind)
	front.Start()
	t.Cleanup(front.Close)
	w.exchange.url = name
	return &stopped{w, g}
}

const stoppedJob = `on: push
permissions:
  id-token: write
jobs:
  publish:
    runs-on: ubuntu-latest
    environment: release
    steps:
      - id: key
        uses: stepkey/stepkey@v1
        with:
          exchange: ${{ vars.STEPKEY_EXCHANGE }}
          task: publish-release
      - id: use
        env:
          TOKEN: ${{ steps.key.outputs.token }}
        run: exec curl --silent --fail --oauth2-bearer "$TOKEN" "$GITHUB_API_URL/repos/acme/widget/releases/tags/v1.2.3"
`

// runUntil runs a job and calls stop when it is at the point. What is held back there is
// let go when its half is over, or the runner is dead.
func (w *stopped) runUntil(t *testing.T, p point, change func(*runnersim.Options, *runnersim.Job) (stop func())) *runnersim.Result {
	t.Helper()
	release := make(chan struct{})
	released := sync.OnceFunc(func() { close(release) })
	job := w.job(w.release(), stoppedJob)
	runner := w.runner
	stop := sync.OnceFunc(change(&runner, &job))
	reached := make(chan struct{})
	arrive := sync.OnceFunc(func() {
		close(reached)
		if stop(); p.post && job.Cancel != nil {
			released()
		}
	})
	w.gate.hold(p, arrive, release)
	if p.hub != nil {
		arrived := w.holdBack(p.hub, release)
		go func() {
			select {
			case <-arrived:
				arrive()
			case <-release:
			}
		}()
	}
	job.Watch = func(m runnersim.Moment) {
		if p.at != nil && p.at(m) {
			arrive()
		}
		if p.half != nil && p.half(m) {
			released()
		}
	}
	r := runOn(t, runner, job)
	released()
	w.gate.hold(point{}, nil, nil)
	w.holdBack(func(*http.Request) bool { return false }, release)
	select {
	case <-reached:
	default:
		t.Errorf("the job never got to the point; its log:\n%s", r.Log)
	}
	return r
}

// settled waits until every lease has ended, and returns the audit log.
func (w *stopped) settled(t *testing.T) []entry {
	t.Helper()
	late := time.After(patience)
	for {
		more := w.exchange.log.grows()
		log := w.exchange.audit(t)
		if count(log, "pending") == count(log, "revoked", "failed", "expired") {
			return log
		}
		select {
		case <-more:
		case <-late:
			t.Fatalf("not every lease has ended; the audit log has %q", events(log))
		}
	}
}

func count(log []entry, names ...string) int {
	return len(slices.DeleteFunc(slices.Clone(log), func(e entry) bool { return !slices.Contains(names, e.Event) }))
}

// wantAllRevoked: GitHub takes no token any more, and not because its hour is over.
func (w *stopped) wantAllRevoked(t *testing.T) {
	t.Helper()
	if live := w.gh.LiveTokens(); len(live) > 0 {
		t.Errorf("%d tokens live on: %+v", len(live), live)
	}
	if i := slices.IndexFunc(w.gh.Issued(), func(i githubsim.TokenInfo) bool { return !i.Revoked }); i >= 0 {
		t.Errorf("token %d was never revoked", i)
	}
}

// at once is a runner that leaves no time between SIGINT, SIGTERM and SIGKILL.
func atOnce(time.Duration) <-chan time.Time {
	now := make(chan time.Time, 1)
	now <- time.Time{}
	return now
}

// Nothing waits for the task's ten minutes: what a cancelled job had is gone with it,
// whether main had the time to clean up or post had to.
func TestACancelledJobLeavesNothingWhereverItIs(t *testing.T) {
	t.Parallel()
	w := stoppable(t, setting{})
	for _, grace := range []struct {
		name  string
		after func(time.Duration) <-chan time.Time
	}{{"cancelled", nil}, {"cancelled without grace", atOnce}} {
		for _, p := range points() {
			if grace.after != nil && (p.at != nil || p.post) {
				continue // nothing runs there that could be killed
			}
			t.Run(grace.name+" when "+p.name, func(t *testing.T) {
				r := w.runUntil(t, p, func(o *runnersim.Options, job *runnersim.Job) func() {
					cancel := make(chan struct{})
					o.After, job.Cancel = grace.after, cancel
					return func() { close(cancel) }
				})
				if r.Conclusion != runnersim.Cancelled {
					t.Errorf("the job is %s:\n%s", r.Conclusion, r.Log)
				}
				for _, e := range w.settled(t) {
					if strings.Contains(e.Reason, "its time was over") {
						t.Errorf("a lease ended at its deadline: %+v", e)
					}
				}
				w.wantAllRevoked(t)
			})
		}
	}
}

// The exchange ends what a dead machine leaves, at the task's deadline at the latest.
func TestADeadMachineLeavesNothingPastTheDeadline(t *testing.T) {
	t.Parallel()
	const ttl = 5 * time.Second
	w := stoppable(t, setting{ttl: ttl.String()})
	for _, p := range points() {
		t.Run(p.name, func(t *testing.T) {
			r := w.runUntil(t, p, func(_ *runnersim.Options, job *runnersim.Job) func() {
				die := make(chan struct{})
				job.Die = die
				return func() { close(die) }
			})
			if r.Conclusion != runnersim.Lost {
				t.Errorf("the job is %s:\n%s", r.Conclusion, r.Log)
			}
		})
	}
	began := map[string]time.Time{}
	log := w.settled(t)
	if n := count(log, "pending"); n < len(points())-3 { // three are before the exchange is asked
		t.Errorf("%d leases were begun; the audit log: %+v", n, log)
	}
	for _, e := range log {
		switch e.Event {
		case "pending":
			began[e.Job] = e.At
		case "revoking":
			if late := e.At.Sub(began[e.Job]) - ttl; late > patience/6 {
				t.Errorf("the end of %s began %v after its deadline", e.Job, late)
			}
		}
	}
	w.wantAllRevoked(t)
}

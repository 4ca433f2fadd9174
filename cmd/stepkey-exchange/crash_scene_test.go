package main

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stepkey/stepkey/exchange/client"
	"github.com/stepkey/stepkey/exchange/identity"
	"github.com/stepkey/stepkey/exchange/lease"
	"github.com/stepkey/stepkey/internal/githubsim"
	"github.com/stepkey/stepkey/internal/secret"
)

// What goes wrong in the first life, beside its end.
const (
	rerun          = "a newer attempt of a job's run asks"
	retry          = "a holder asks again"
	tripwire       = "a second holder asks"
	createsRefused = "every other create is refused"
	createsDropped = "every other create's answer is lost"
	creates500     = "every other create is done and answered 500"
	endedMeanwhile = "jobs give back while the creates are under way"
	clientsGone    = "clients go away while the creates are under way"
	deletesRefused = "deletes are answered 500"
	deletes500     = "deletes are done and answered 500"
	deletesDropped = "the deletes' answers are lost"
)

// wrongs are GitHub's part of that.
var wrongs = map[string]struct {
	kind  string
	fault githubsim.Fault
}{
	createsRefused: {"create", githubsim.Fault{Before: 401}},
	createsDropped: {"create", githubsim.Fault{Drop: true}},
	creates500:     {"create", githubsim.Fault{After: 500}},
	deletesRefused: {"delete", githubsim.Fault{Before: 500}},
	deletes500:     {"delete", githubsim.Fault{After: 500}},
	deletesDropped: {"delete", githubsim.Fault{Drop: true}},
}

// killers are the moments at GitHub: the process is killed when a request of that kind
// has arrived, and the request has its effect never, at once, or later.
var killers = map[string]struct{ kind, lands string }{
	"keys asked":                     {"keys", "never"},
	"installation asked":             {"installation", "never"},
	"create arrives":                 {"create", "never"},
	"create done":                    {"create", "at once"},
	"create lands after the restart": {"create", "after the restart"},
	"create lands when given up":     {"create", "when given up"},
	"delete arrives":                 {"delete", "never"},
	"delete done":                    {"delete", "at once"},
	"delete lands after the restart": {"delete", "after the restart"},
}

const (
	workloads = 4
	audience  = "http://lease.example.com"
	// latestLanding is how long after the intent a create still lands. The backend reckons
	// with two minutes.
	latestLanding = 110 * time.Second
	// heldBack is how long one that lands late is held back, from the kill on.
	heldBack = 90 * time.Second / haste
)

func kindOf(r *http.Request) string {
	switch {
	case strings.HasSuffix(r.URL.Path, "/access_tokens"):
		return "create"
	case r.Method == http.MethodDelete:
		return "delete"
	case strings.HasSuffix(r.URL.Path, "/installation"):
		return "installation"
	case strings.Contains(r.URL.Path, ".well-known"):
		return "keys"
	}
	return "other"
}

// world is a GitHub that serves one run after the other.
type world struct {
	gh    *githubsim.GitHub
	app   githubsim.App
	clock hastened
	runs  int
}

func newWorld(t *testing.T, clock hastened) *world {
	t.Helper()
	return worldAt(t, clock, clock.now)
}

func worldAt(t *testing.T, clock hastened, now func() time.Time) *world {
	t.Helper()
	gh, err := githubsim.Start(githubsim.Options{Now: now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(gh.Close)
	return &world{gh: gh, clock: clock, app: gh.AddApp(githubsim.App{ClientID: "Iv1.x", Permissions: map[string]string{"contents": "write"}})}
}

// crashRun is one point, store and seed.
type crashRun struct {
	t     *testing.T
	world *world
	point point
	seed  int

	dir, store   string
	installation int64
	jobs         []*crashJob
	stranger     *crashJob
	first        *process
	reader       *lease.Store
	ledger       ledger
	outcome      ledger
	kills        int
	missed       bool
	database     *fallible // nil where only the exchange is killed
	outside      *outside  // nil where the credentials are GitHub's

	letGo    gate // creates that were held back go on
	allThere gate // all creates have arrived
	restart  gate
	givenUp  gate

	mu      sync.Mutex
	arrived map[string]int    // requests, by kind
	given   map[string]string // hash of a credential -> lease, as clients got them
	back    int               // leases given back, confirmed
}

// gate is closed until it is opened, once or more.
type gate struct {
	once sync.Once
	c    chan struct{}
}

func (g *gate) open() { g.once.Do(func() { close(g.c) }) }

// crashJob is one job with its one subject token for the exchange.
type crashJob struct {
	*githubsim.Job
	key, name string
	subject   secret.String
	holder    *client.Key // nil for most: the exchange then knows them by their job alone
	nth       int         // of its job's subject tokens
	gives     string      // how it gives back: "", "by lease token", "by job"
	over      bool        // it has, and was told so
}

func (r *crashRun) stage(store string) {
	r.world.gh.Fault(nil)
	r.world.runs++
	r.dir, r.store = r.t.TempDir(), store
	for _, g := range []*gate{&r.letGo, &r.allThere, &r.restart, &r.givenUp} {
		g.c = make(chan struct{})
		r.t.Cleanup(g.open) // nothing of this run is left for the next
	}
	r.arrived, r.given = map[string]int{}, map[string]string{}
	owner := r.owner()
	repo := r.world.gh.AddRepository(githubsim.Repository{Owner: owner, Name: "widget", Private: true})
	r.world.gh.AddRepository(githubsim.Repository{Owner: owner, Name: "stranger", Private: true})
	r.installation = r.world.gh.Install(r.world.app, owner)
	if err := lease.CreateKeys(filepath.Join(r.dir, "stepkey.keys")); err != nil {
		r.t.Fatal(err)
	}
	write(r.t, r.dir, "app.pem", r.world.app.KeyPEM())
	backend := "github: {api: \"" + r.world.gh.URL() + "\", client_id: Iv1.x, private_key: app.pem}"
	credential := fmt.Sprintf("github: {repository_ids: [%d], permissions: {contents: read}}", repo.ID)
	if r.outside != nil {
		backend, credential = r.outside.takePlace(r)
	}
	write(r.t, r.dir, "tasks/brief.yaml", fmt.Appendf(nil, "task: brief\npurpose: Over in a moment.\nallow:\n  - issuer: github\n    claims: {repository_id: \"%d\", event_name: push}\n"+
		"credential:\n  %s\nlimits: {ttl: 20s}\n", repo.ID, credential))
	write(r.t, r.dir, "stepkey.yaml", []byte("url: "+audience+"\nlisten: 127.0.0.1:0\nadmin: 127.0.0.1:0\ntasks: tasks\nstore: "+store+"\nissuers:\n  github: {kind: github, url: \""+
		r.world.gh.IssuerURL()+"\", private_network: true, max_age: 6h}\nbackends:\n  "+backend+"\n"))
	r.stageJobs(owner)
}

// owner has the repositories of one run and no other.
func (r *crashRun) owner() string { return fmt.Sprintf("acme%d", r.world.runs) }

func (r *crashRun) stageJobs(owner string) {
	verifier, err := identity.New(audience, []identity.Issuer{{Name: "github", Kind: "github", URL: r.world.gh.IssuerURL(), MaxAge: 6 * time.Hour, Private: true}}, identity.Options{Now: r.world.clock.now})
	if err != nil {
		r.t.Fatal(err)
	}
	add := func(spec githubsim.JobSpec) *crashJob {
		j := &crashJob{Job: r.world.gh.StartJob(spec)}
		j.subject = secret.New(j.Sign(j.longClaims()))
		w, err := verifier.Verify(r.t.Context(), j.subject.Reveal())
		if err != nil {
			r.t.Fatal(err)
		}
		j.key, j.name = w.Job.Key, w.Job.Name
		return j
	}
	for n := range r.askers() {
		j := add(githubsim.JobSpec{Repository: owner + "/widget", IDToken: true})
		if (n+r.seed)%2 == 0 {
			j.gives = []string{"by lease token", "by job"}[(n/2+r.seed)%2]
		}
		r.jobs = append(r.jobs, j)
	}
	switch before := r.jobs[0]; r.point.goes {
	case rerun:
		r.jobs = append(r.jobs, add(githubsim.JobSpec{Repository: owner + "/widget", IDToken: true, RunID: before.RunID(), RunAttempt: 2}))
	case retry, tripwire:
		before.holder = r.newHolder()
		again := *before
		again.nth, again.subject = 1, secret.New(again.Sign(again.longClaims()))
		if r.point.goes == tripwire {
			again.holder = r.newHolder()
		}
		r.jobs = append(r.jobs, &again)
	}
	r.stranger = add(githubsim.JobSpec{Repository: owner + "/stranger", IDToken: true})
}

// askers are fewer where each message of one exchange has a row of its own.
func (r *crashRun) askers() int {
	if r.outside != nil {
		return 1
	}
	return workloads
}

func (r *crashRun) newHolder() *client.Key {
	k, err := client.NewKey()
	if err != nil {
		r.t.Fatal(err)
	}
	return k
}

// longClaims outlive a run: whether a token is used is asked at its end.
func (j *crashJob) longClaims() map[string]any {
	claims := j.Claims(audience)
	claims["exp"] = claims["iat"].(int64) + int64((5 * time.Hour).Seconds())
	return claims
}

func (j *crashJob) exchange(ctx context.Context, p *process) (*client.Grant, error) {
	return p.client.Token(ctx, client.TokenRequest{SubjectToken: j.subject, Task: "brief", Key: j.holder})
}

func (r *crashRun) fuse() *fuse {
	f := r.spent()
	f.Nth = r.nth()
	if _, atGitHub := killers[r.point.dies]; !atGitHub {
		f.Dies = r.point.dies
	}
	if r.point.lost != "" {
		f.Lost = []string{r.point.lost}
	}
	if r.point.falls != "" {
		f.Fells, f.fell = f.Dies, r.fall
	}
	if r.point.falls == alone {
		f.Dies = ""
	}
	return f
}

// spent is a fuse that ends nothing.
func (r *crashRun) spent() *fuse {
	if r.outside != nil {
		return &fuse{Clock: r.world.clock, Made: madeFile}
	}
	return &fuse{Clock: r.world.clock}
}

// nth is which time of getting there is the last. Who asks once more does so when all
// others have been answered, so its exchange is the one after theirs, and the first end
// of a lease is the one that it brings about.
func (r *crashRun) nth() int {
	switch {
	case r.point.hits > 0:
		return 1 + r.seed%r.point.hits
	case strings.HasSuffix(r.point.dies, "Begin"), strings.HasSuffix(r.point.dies, "Activate"), strings.HasPrefix(r.point.dies, "create"):
		return workloads + 1
	default:
		return 1
	}
}

// fault is asked by GitHub for each request. Later lives have a GitHub without faults.
func (r *crashRun) fault(q *http.Request) *githubsim.Fault {
	kind := kindOf(q)
	r.mu.Lock()
	r.arrived[kind]++
	n := r.arrived[kind]
	r.mu.Unlock()
	if r.first.over() || r.hasFallen() {
		return nil
	}
	if kind == "create" && n == workloads {
		r.allThere.open()
	}
	if killer := killers[r.point.dies]; kind == killer.kind && n == r.nth() {
		return r.strike(killer.lands)
	}
	if wrong := wrongs[r.point.goes]; kind == wrong.kind && (kind == "delete" || n%2 == 1) {
		return &wrong.fault
	}
	if kind == "create" && (r.point.goes == endedMeanwhile || r.point.goes == clientsGone) {
		return &githubsim.Fault{Delay: r.letGo.c, Outlast: true, LandsBy: r.landsBy()}
	}
	return nil
}

// strike kills the first life while its request is at GitHub.
func (r *crashRun) strike(lands string) *githubsim.Fault {
	if r.point.falls != "" {
		r.fall()
	}
	if r.point.falls == alone {
		return nil
	}
	r.first.kill()
	switch lands {
	case "at once":
		return nil
	case "after the restart":
		time.AfterFunc(heldBack, r.restart.open)
		return &githubsim.Fault{Delay: r.restart.c, Outlast: true, LandsBy: r.landsBy()}
	case "when given up":
		time.AfterFunc(heldBack, r.givenUp.open)
		return &githubsim.Fault{Delay: r.givenUp.c, Outlast: true, LandsBy: r.landsBy()}
	default:
		return &githubsim.Fault{DropBefore: true}
	}
}

// landsBy is when the creates that are under way have landed, or never do. A busy
// machine may be late to let one go; GitHub is not that late.
func (r *crashRun) landsBy() time.Time {
	oldest := r.world.clock.now()
	for _, j := range r.jobs {
		leases, err := r.reader.LivesOfJob(r.t.Context(), j.key)
		if err != nil {
			continue // the store is what is felled
		}
		for _, l := range leases {
			if l.State == lease.Pending && l.Created.Before(oldest) {
				oldest = l.Created
			}
		}
	}
	return oldest.Add(latestLanding)
}

// restarted opens what waits for a later life.
func (r *crashRun) restarted(p *process) {
	r.restart.open()
	if r.outside != nil {
		r.outside.lives(p)
	}
	go func() {
		select {
		case <-p.ended:
			r.givenUp.open()
		case <-p.gone:
		}
	}()
}

// lands waits, at the end, for creates that are still on their way, and looks again.
func (r *crashRun) lands() {
	r.givenUp.open()
	if killers[r.point.dies].lands == "never" || r.point.goes == createsRefused {
		return
	}
	r.mu.Lock()
	asked := r.arrived["create"]
	r.mu.Unlock()
	landed := func() (n int) {
		for _, token := range r.world.gh.Issued() {
			if token.InstallationID == r.installation {
				n++
			}
		}
		for _, q := range r.world.gh.Requests() {
			if q.Lost && q.Path == fmt.Sprintf("/app/installations/%d/access_tokens", r.installation) {
				n++
			}
		}
		return n
	}
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for giveUp := time.After(patience); landed() != asked; {
		select {
		case <-again.C:
		case <-giveUp:
			r.t.Fatalf("%d creates arrived, and %d were carried out or lost", asked, landed())
		}
	}
	r.look()
}

func (r *crashRun) openLedger() {
	where := r.store
	if !lease.IsPostgres(where) {
		where = filepath.Join(r.dir, where)
	}
	var err error
	if r.reader, err = lease.OpenToRead(r.t.Context(), where); err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = r.reader.Close() })
}

// note keeps what a client was given.
func (r *crashRun) note(g *client.Grant) (nth int) {
	sum := sha256.Sum256([]byte(g.Values["token"].Reveal()))
	r.mu.Lock()
	defer r.mu.Unlock()
	r.given[base64.StdEncoding.EncodeToString(sum[:])] = g.LeaseID
	return len(r.given)
}

func (r *crashRun) givenSoFar() map[string]string {
	r.mu.Lock()
	defer r.mu.Unlock()
	given := map[string]string{}
	for hash, id := range r.given {
		given[hash] = id
	}
	return given
}

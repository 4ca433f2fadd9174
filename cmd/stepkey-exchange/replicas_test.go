package main

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/rand/v2"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stepkey/stepkey/exchange/client"
	"github.com/stepkey/stepkey/exchange/lease"
	"github.com/stepkey/stepkey/internal/githubsim"
	"github.com/stepkey/stepkey/internal/needs"
	"github.com/stepkey/stepkey/internal/pgserver"
	"github.com/stepkey/stepkey/internal/runnersim"
	"github.com/stepkey/stepkey/internal/secret"
)

// chaosFor is how long replicas are killed, paused and cut off.
const chaosFor = time.Minute

// fleet is three replicas in containers on one PostgreSQL, with GitHub on the
// network's gateway.
type fleet struct {
	gh      *githubsim.GitHub
	store   string // the database, for looking
	network string
	gateway string
	names   []string
	clients []*client.Client
}

func TestThreeReplicasKeepThePromisesWhileTheyAreKilledPausedAndCutOff(t *testing.T) {
	needs.Working(t, "docker", "version")
	f := launch(t)
	t.Run("64 exchanges of one subject token", f.oneOfMany)

	ctx, over := context.WithTimeout(t.Context(), chaosFor)
	defer over()
	var asked, given atomic.Int64
	var load sync.WaitGroup
	for n := range 6 {
		load.Go(func() { f.ask(ctx, n, &asked, &given) })
	}
	seed := uint64(time.Now().UnixNano())
	harm := f.chaos(ctx, t, rand.New(rand.NewPCG(seed, 0)))
	load.Wait()
	f.heal(t)
	t.Logf("seed %d: %s; %d asked, %d given", seed, harm, asked.Load(), given.Load())
	if given.Load() == 0 {
		t.Error("nothing was given at all")
	}
	f.converge(t)
}

// oneOfMany exchanges one subject token many times at once, at all replicas.
func (f *fleet) oneOfMany(t *testing.T) {
	subject, err := f.job().IDToken("https://lease.example.com")
	if err != nil {
		t.Fatal(err)
	}
	before := len(f.gh.Issued())
	var won atomic.Int64
	var askers sync.WaitGroup
	for n := range 64 {
		askers.Go(func() {
			if _, err := f.clients[n%3].Token(t.Context(), client.TokenRequest{SubjectToken: secret.New(spelled(subject, n)), Task: "brief"}); err == nil {
				won.Add(1)
			}
		})
	}
	askers.Wait()
	if made := len(f.gh.Issued()) - before; won.Load() != 1 || made != 1 {
		t.Errorf("%d were answered, GitHub made %d", won.Load(), made)
	}
}

// spelled changes the four bits of the last character that carry nothing: the 16
// spellings of one signature that a lenient reader takes.
func spelled(token string, n int) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	last := strings.IndexByte(alphabet, token[len(token)-1])
	return token[:len(token)-1] + string(alphabet[last&^15|n%16])
}

// ask is one workload after another, until ctx ends. Some give back what they got,
// some die with it.
func (f *fleet) ask(ctx context.Context, n int, asked, given *atomic.Int64) {
	for i := 0; ctx.Err() == nil; i++ {
		subject, err := f.job().IDToken("https://lease.example.com")
		if err != nil {
			return
		}
		once, done := context.WithTimeout(ctx, 5*time.Second)
		asked.Add(1)
		grant, err := f.clients[(n+i)%3].Token(once, client.TokenRequest{SubjectToken: secret.New(subject), Task: "brief"})
		done()
		if err != nil {
			continue
		}
		given.Add(1)
		if i%3 == 0 {
			once, done := context.WithTimeout(ctx, 5*time.Second)
			_, _ = f.clients[(n+i+1)%3].Revoke(once, grant.LeaseToken) // the keeper's, if it does not arrive
			done()
		}
	}
}

// chaos harms one replica at a time, so that there is always somebody to ask.
func (f *fleet) chaos(ctx context.Context, t *testing.T, r *rand.Rand) string {
	harms := []struct {
		name     string
		do, undo []string
	}{
		{"kill", []string{"kill"}, []string{"start"}},
		{"pause", []string{"pause"}, []string{"unpause"}},
		{"cut off", []string{"network", "disconnect", f.network}, []string{"network", "connect", f.network}},
	}
	done := map[string]int{}
	again := time.NewTicker(time.Second)
	defer again.Stop()
	for ctx.Err() == nil {
		harm, victim := harms[r.IntN(len(harms))], f.names[r.IntN(len(f.names))]
		docker(t, append(harm.do, victim)...)
		done[harm.name]++
		for range 1 + r.IntN(3) {
			<-again.C
		}
		docker(t, append(harm.undo, victim)...)
		<-again.C
	}
	return fmt.Sprint(done)
}

// heal brings every replica back: an address may have changed, nothing else counts.
func (f *fleet) heal(t *testing.T) {
	t.Helper()
	for _, name := range f.names {
		docker(t, "restart", "-t", "0", name)
	}
}

// converge waits until no lease is due, and holds GitHub against the store.
func (f *fleet) converge(t *testing.T) {
	store, err := lease.OpenToRead(t.Context(), f.store)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	settled := func(lives map[lease.State]int) bool {
		return lives[lease.Active]+lives[lease.Pending]+lives[lease.Revoking] == 0
	}
	deadline := time.Now().Add(2 * time.Minute) // claims and creates in flight of the dead run out within half a minute
	again := time.NewTicker(200 * time.Millisecond)
	defer again.Stop()
	lives, err := store.Lives(t.Context())
	for ; err == nil && !settled(lives) && time.Now().Before(deadline); lives, err = store.Lives(t.Context()) {
		<-again.C
	}
	if err != nil || !settled(lives) {
		t.Fatalf("left: %v, %v", lives, err)
	}
	live := f.gh.LiveTokens()
	t.Logf("at the end: %d tokens were made, %d live at GitHub, leases %v", len(f.gh.Issued()), len(live), lives)
	if len(live) > lives[lease.Unconfirmed] {
		t.Errorf("%d tokens live, %d leases unconfirmed", len(live), lives[lease.Unconfirmed])
	}
	f.compare(t, store, live)
}

// compare: no credential that the audit log names as handed out is alive, since
// every lease that had one has ended; each lease was given at most one.
func (f *fleet) compare(t *testing.T, store *lease.Store, live []githubsim.TokenInfo) {
	entries, err := store.Audit(t.Context(), lease.AuditQuery{Limit: 1 << 30})
	if err != nil {
		t.Fatal(err)
	}
	given := map[string]string{}
	active := map[string]int{}
	for _, e := range entries {
		if e.Event == "active" {
			given[e.Credential] = e.Lease
			active[e.Lease]++
		}
	}
	for _, token := range live {
		if l := given[token.Hash]; l != "" {
			t.Errorf("the credential of %s outlived it", l)
		}
	}
	for l, n := range active {
		if n > 1 {
			t.Errorf("%s became active %d times", l, n)
		}
	}
	if len(given) == 0 || base64.StdEncoding.EncodedLen(sha256.Size) != len(firstKey(given)) {
		t.Error("the audit log names no credential")
	}
}

func firstKey(m map[string]string) string {
	for k := range m {
		return k
	}
	return ""
}

func (f *fleet) job() *githubsim.Job {
	return f.gh.StartJob(githubsim.JobSpec{Repository: "acme/widget", IDToken: true})
}

// launch builds an image of the service's own binary and starts three of it.
func launch(t *testing.T) *fleet {
	t.Helper()
	suffix := fmt.Sprint(os.Getpid())
	network, err := runnersim.NewNetwork(t.Context(), "stepkey-replicas-"+suffix)
	if err != nil {
		t.Fatal(err)
	}
	f := &fleet{network: network.Name, gateway: network.Gateway}
	t.Cleanup(func() {
		for _, name := range f.names {
			_ = exec.CommandContext(context.Background(), "docker", "rm", "-f", name).Run()
		}
		if err := network.Close(); err != nil {
			t.Error(err)
		}
	})
	pg, err := pgserver.StartOn(t.Context(), network.Gateway, pgserver.Quick)
	needs.Started(t, err)
	t.Cleanup(func() { _ = pg.Close() })
	if f.store, err = pg.Database(t.Context()); err != nil {
		t.Fatal(err)
	}
	if f.gh, err = githubsim.Start(githubsim.Options{Listen: network.Gateway + ":0"}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.gh.Close)
	f.gh.AddRepository(githubsim.Repository{ID: 456789, Owner: "acme", OwnerID: 123456, Name: "widget", Private: true})
	api := f.overTLS(t, network.Gateway)
	image := f.image(t, suffix, api)
	for n := range 3 {
		f.start(t, image, fmt.Sprintf("stepkey-replica-%s-%d", suffix, n))
	}
	return f
}

func (f *fleet) image(t *testing.T, suffix string, api *httptest.Server) string {
	t.Helper()
	dir := t.TempDir()
	app := f.gh.AddApp(githubsim.App{ClientID: "Iv1.x", Permissions: map[string]string{"contents": "write"}})
	f.gh.Install(app, "acme")
	write(t, dir, "app.pem", app.KeyPEM())
	write(t, dir, "ca.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: api.Certificate().Raw}))
	write(t, dir, "Dockerfile", []byte("FROM scratch\nCOPY . /\nENV SSL_CERT_FILE=/ca.pem\nENTRYPOINT [\"/stepkey-exchange\", \"serve\", \"/stepkey.yaml\"]\n"))
	write(t, dir, "tasks/brief.yaml", []byte("task: brief\npurpose: Over in a moment.\nallow:\n  - issuer: github\n    claims: {repository_id: \"456789\", event_name: push}\n"+
		"credential:\n  github: {repository_ids: [456789], permissions: {contents: read}}\nlimits: {ttl: 4s}\n"))
	write(t, dir, "stepkey.yaml", []byte("url: https://lease.example.com\nlisten: 0.0.0.0:8700\nadmin: 127.0.0.1:8701\ntasks: tasks\nstore: "+f.store+
		"&connect_timeout=5\nissuers:\n  github: {kind: github, url: \""+f.gh.IssuerURL()+"\", private_network: true}\nbackends:\n  github: {api: \"https://example.com:"+port(api)+"/api/v3\", client_id: Iv1.x, private_key: app.pem}\n"))
	build := exec.CommandContext(t.Context(), "go", "build", "-o", dir+"/", ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	output(t, dir, "./stepkey-exchange", "keys", "create", "stepkey.keys")
	tag := "stepkey-replica:" + suffix
	if _, err := runnersim.BuildImage(t.Context(), runnersim.Image{Dir: dir, Tag: tag}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = exec.CommandContext(context.Background(), "docker", "rmi", "-f", tag).Run() })
	return tag
}

// start runs one replica with a port of loopback, which it keeps over restarts.
func (f *fleet) start(t *testing.T, image, name string) {
	t.Helper()
	published := freePort(t)
	docker(t, "run", "-d", "--name", name, "--network", f.network, "--label", "runnersim", "--add-host", "example.com:"+f.gateway, "-p", published+":8700", image)
	f.names = append(f.names, name)
	c, err := client.New("http://"+published, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	f.clients = append(f.clients, c)
	ctx, done := context.WithTimeout(t.Context(), 30*time.Second)
	defer done()
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	for {
		if _, err := c.Introspect(ctx, secret.New("skl_unknown")); err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%s did not become ready:\n%s", name, docker(t, "logs", name))
		case <-again.C:
		}
	}
}

// overTLS puts a certificate in front of GitHub, since an App's tokens travel over
// nothing less. It is the test library's own, for example.com.
func (f *fleet) overTLS(t *testing.T, gateway string) *httptest.Server {
	t.Helper()
	to, err := url.Parse(f.gh.URL())
	if err != nil {
		t.Fatal(err)
	}
	to.Path = ""
	front := httptest.NewUnstartedServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(to) }})
	front.Listener.Close()
	if front.Listener, err = listen(t.Context(), gateway+":0"); err != nil {
		t.Fatal(err)
	}
	front.StartTLS()
	t.Cleanup(front.Close)
	return front
}

func port(s *httptest.Server) string {
	_, port, _ := strings.Cut(s.Listener.Addr().String(), ":")
	return port
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func docker(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(context.Background(), "docker", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("docker %v: %v\n%s", args, err, out)
	}
	return string(out)
}

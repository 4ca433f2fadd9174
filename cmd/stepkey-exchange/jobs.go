package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/stepkey/stepkey/exchange"
	"github.com/stepkey/stepkey/exchange/backend/github"
	"github.com/stepkey/stepkey/exchange/githubapp"
	"github.com/stepkey/stepkey/exchange/server"
	"github.com/stepkey/stepkey/internal/secret"
	"github.com/stepkey/stepkey/internal/yamlfile"
)

// webhooksConfig is who may tell us of events.
type webhooksConfig struct {
	GitHub *githubWebhookConfig `yaml:"github"`
}

type githubWebhookConfig struct {
	Issuer     string `yaml:"issuer,required"`      // whose jobs the events are about
	SecretFile string `yaml:"secret_file,required"` // what GitHub signs with
}

// reconcileConfig is how GitHub is asked which jobs are over. Without it, it is asked
// as the App of the backend github, where that is configured.
type reconcileConfig struct {
	Issuer        string `yaml:"issuer"`          // the only one of kind github unless given
	RunsPerMinute *int   `yaml:"runs_per_minute"` // 60 unless given; 0 asks nothing
}

const (
	runsPerMinute = 60
	minSecret     = 16 // characters; GitHub recommends a random text of high entropy
	maxSecretFile = 4 << 10
	closeFor      = 10 * time.Second
)

func (c config) runsPerMinute() int {
	if c.Reconcile == nil || c.Reconcile.RunsPerMinute == nil {
		return runsPerMinute
	}
	return *c.Reconcile.RunsPerMinute
}

func (c config) checkJobs(node yamlfile.Node) error {
	reconcile, hook := node.Get("reconcile"), node.Get("webhooks", "github")
	switch r := c.Reconcile; {
	case r == nil:
	case !c.Backends.Get("github").Exists():
		return reconcile.Errorf("GitHub is asked as the App of the backend github, which is not configured")
	case r.Issuer != "" && c.Issuers[r.Issuer].Kind != "github":
		return reconcile.Get("issuer").Errorf("there is no issuer %s of kind github", yamlfile.Quote(r.Issuer))
	case c.watched() == "":
		return reconcile.Errorf("name the issuer whose jobs the App of the backend github can read: the one of kind github on the same GitHub")
	case c.runsPerMinute() != 0 && c.runsPerMinute() < 2:
		return reconcile.Get("runs_per_minute").Errorf("runs_per_minute is at least 2, such as %d, or 0 to ask nothing", runsPerMinute)
	}
	if c.Webhooks.GitHub != nil && c.Issuers[c.Webhooks.GitHub.Issuer].Kind != "github" {
		return hook.Get("issuer").Errorf("there is no issuer %s of kind github", yamlfile.Quote(c.Webhooks.GitHub.Issuer))
	}
	return nil
}

// jobWatch is how the exchange learns that a job is over.
type jobWatch struct {
	webhook *server.GitHubWebhook // nil: none is taken
	issuer  string
	app     *githubapp.App  // nil without a backend github
	jobs    *githubapp.Jobs // nil: nobody is asked
	limit   int
	sweeps  *exchange.Reconciler
	unseen  atomic.Bool // nobody is asked which steps are over
	log     *slog.Logger

	unwatched []string // issuers that nobody can be asked about
}

// openJobs reads the webhook's secret. Jobs are read as app.
func (c config) openJobs(app *githubapp.App, log *slog.Logger) (*jobWatch, error) {
	w := &jobWatch{app: app, log: log, unwatched: c.unwatched()}
	var err error
	if w.webhook, err = c.webhook(); err != nil {
		return nil, err
	}
	w.issuer, w.limit = c.watched(), c.runsPerMinute()
	if w.limit == 0 || app == nil {
		return w, nil
	}
	if w.issuer == "" {
		log.Warn("GitHub is not asked which jobs are over: several issuers are of kind github, or none; name one under reconcile")
		return w, nil
	}
	w.jobs = app.Jobs()
	return w, nil
}

// openApp opens the App of the backend github for everything but credentials: to read
// jobs, what tasks require, and the task files of repositories. nil where there is no
// such backend. It touches no network.
func (c config) openApp() (*githubapp.App, error) {
	node := c.Backends.Get("github")
	if !node.Exists() {
		return nil, nil
	}
	var g github.Config
	if err := node.Decode(&g); err != nil {
		return nil, err
	}
	g.PrivateKey = c.beside(g.PrivateKey)
	app, err := g.App(c.now)
	if err != nil {
		return nil, fmt.Errorf("opening the App of the backend github: %w", err)
	}
	return app, nil
}

func (c config) webhook() (*server.GitHubWebhook, error) {
	hook := c.Webhooks.GitHub
	if hook == nil {
		return nil, nil
	}
	text, err := os.ReadFile(c.beside(hook.SecretFile))
	if err != nil {
		return nil, fmt.Errorf("reading the secret of the webhook: %w", err)
	}
	key := strings.TrimSpace(string(text))
	if len(key) < minSecret || len(key) > maxSecretFile {
		return nil, fmt.Errorf("the secret of the webhook in %s has %d characters; want at least %d, such as openssl rand -hex 32 prints, the same as on the App's settings page", hook.SecretFile, len(key), minSecret)
	}
	return &server.GitHubWebhook{Issuer: hook.Issuer, Secret: secret.New(key)}, nil
}

// watched is the issuer whose jobs the App can be asked about: the one that is named,
// or the only one of kind github. Of several, which one the App belongs to is for the
// operator to say.
func (c config) watched() string {
	if c.Reconcile != nil && c.Reconcile.Issuer != "" {
		return c.Reconcile.Issuer
	}
	only := ""
	for name, i := range c.Issuers {
		switch {
		case i.Kind != "github":
		case only != "":
			return ""
		default:
			only = name
		}
	}
	return only
}

// unwatched are the issuers of kinds whose jobs nobody is told of, or can ask about, when
// they are over.
func (c config) unwatched() (names []string) {
	for _, name := range c.issuerNames() {
		if c.Issuers[name].Kind != "github" {
			names = append(names, name)
		}
	}
	return names
}

// watch lets the exchange ask.
func (w *jobWatch) watch(x *exchange.Exchange) {
	if len(w.unwatched) > 0 {
		w.log.Info("nobody can be asked when jobs of these issuers are over, so their credentials end when they are given back, or at their deadlines", "issuers", w.unwatched)
	}
	if w.jobs == nil {
		w.unseen.Store(true)
		return
	}
	x.Jobs = map[string]exchange.Jobs{w.issuer: jobViews{w.jobs}}
	w.sweeps = &exchange.Reconciler{Exchange: x, Issuer: w.issuer, RunsPerMinute: w.limit, Now: x.Now, Log: x.Log}
}

// run asks until ctx ends. An App that may not ask is told about once: leases then
// live to their deadlines, as they do where no App is configured.
func (w *jobWatch) run(ctx context.Context) {
	if w.jobs == nil {
		return
	}
	permitted, err := w.jobs.Permitted(ctx)
	switch {
	case ctx.Err() != nil:
		return
	case err != nil:
		w.log.WarnContext(ctx, "cannot see whether the App may read jobs; trying as if it might", "error", err)
	case !permitted:
		w.log.WarnContext(ctx, "the App lacks the permission Actions: read, so that a job that is over does not end what it did not give back, before its deadline; give it to the App, have its owners accept, and start again, or set runs_per_minute under reconcile to 0")
		w.unseen.Store(true)
		w.promise(ctx, w.sweeps.Exchange.Policy())
		return
	}
	w.sweeps.Run(ctx)
}

// close revokes the tokens that jobs were read with.
func (w *jobWatch) close(ctx context.Context) {
	if w.jobs == nil {
		return
	}
	closing, done := context.WithTimeout(ctx, closeFor)
	defer done()
	if err := w.jobs.Close(closing); err != nil {
		w.log.WarnContext(ctx, "a token for reading jobs is not revoked; it can do nothing else and dies within the hour", "error", err)
	}
}

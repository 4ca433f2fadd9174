package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"

	"github.com/stepkey/stepkey/exchange"
	"github.com/stepkey/stepkey/exchange/backend/github"
	"github.com/stepkey/stepkey/exchange/githubapp"
	"github.com/stepkey/stepkey/exchange/identity"
	"github.com/stepkey/stepkey/exchange/policy"
	"github.com/stepkey/stepkey/internal/yamlfile"
)

// repositoryTasksConfig is whose repositories may keep tasks of their own. The App of
// the backend github reads them.
type repositoryTasksConfig struct {
	Issuer string   `yaml:"issuer,required"` // whose workloads may ask for them
	Owners []string `yaml:"owners,required"` // numeric ids: of the repositories, and of those who ask
}

func (c config) checkTasks(node yamlfile.Node) error {
	own := node.Get("repository_tasks")
	switch r := c.RepositoryTasks; {
	case r == nil:
	case !c.Backends.Get("github").Exists():
		return own.Errorf("repositories are read as the App of the backend github, which is not configured")
	case c.Issuers[r.Issuer].Kind != "github":
		return own.Get("issuer").Errorf("there is no issuer %s of kind github", yamlfile.Quote(r.Issuer))
	case len(r.Owners) == 0:
		return own.Get("owners").Errorf("no owner is listed, so nobody could have tasks in a repository")
	case slices.ContainsFunc(r.Owners, func(id string) bool { return id == "" || strings.Trim(id, "0123456789") != "" }):
		return own.Get("owners").Errorf("owners are numeric ids (repository_owner_id), since names can be taken over")
	}
	return nil
}

// taskSources are where tasks come from.
type taskSources struct {
	folder  *policy.Folder
	again   chan struct{} // read the folder at once
	hangups chan os.Signal
	served  atomic.Pointer[exchange.Exchange]

	changed func(context.Context, *policy.Set) // told of each set that comes into force

	files  *githubapp.TaskFiles // nil: repositories have none
	issuer identity.Issuer      // whose workloads may ask for those
	owners []string
	log    *slog.Logger
}

// openTasks loads the folder of task files. Those of repositories are read as app, later.
func (c config) openTasks(against policy.Check, app *githubapp.App, log *slog.Logger) (*taskSources, error) {
	s := &taskSources{again: make(chan struct{}, 1), hangups: make(chan os.Signal, 1), log: log}
	signal.Notify(s.hangups, syscall.SIGHUP) // now, so that an early one does not end the process
	path := c.beside(c.Tasks)
	var err error
	s.folder, err = policy.OpenFolder(os.DirFS(path), against, policy.FolderOptions{
		Now: c.now, Log: log.With("folder", path),
		Settled: func(ctx context.Context, set *policy.Set) { s.served.Load().EndTasksWithout(ctx, set) },
		Gone:    func(ctx context.Context, tasks []string) { s.served.Load().EndTasks(ctx, tasks) },
		Changed: func(ctx context.Context, set *policy.Set) { s.changed(ctx, set) },
	})
	if err != nil {
		return nil, fmt.Errorf("reading the task files in %s:\n%w", path, err)
	}
	if c.RepositoryTasks == nil {
		return s, nil
	}
	for _, issuer := range against.Issuers {
		if issuer.Name == c.RepositoryTasks.Issuer {
			s.issuer = issuer
		}
	}
	s.owners = c.RepositoryTasks.Owners
	s.files, err = app.TaskFiles(s.owners)
	return s, err
}

// serve makes x take its tasks from here.
func (s *taskSources) serve(x *exchange.Exchange) {
	s.served.Store(x)
	x.Policy = s.folder.Set
	if s.files == nil {
		return
	}
	x.Owned = &exchange.RepositoryTasks{
		Issuer: s.issuer.Name, Owners: s.owners, Files: taskFiles{s.files},
		Check: func(of policy.Repository) policy.Check {
			return policy.Check{
				Issuers:  []identity.Issuer{s.issuer},
				Backends: map[string]policy.Scoper{"github": github.New(github.Options{Owner: of.Owner})},
			}
		},
	}
}

// run looks after the folder until ctx ends; SIGHUP has it read at once.
func (s *taskSources) run(ctx context.Context) {
	looking := make(chan struct{})
	go func() {
		defer close(looking)
		s.folder.Run(ctx, s.again)
	}()
	s.heed(looking)
	signal.Stop(s.hangups)
}

// heed passes hangups on until over is closed.
func (s *taskSources) heed(over <-chan struct{}) {
	for {
		select {
		case <-s.hangups:
			select {
			case s.again <- struct{}{}:
			default: // it is asked for already
			}
		case <-over:
			return
		}
	}
}

// close revokes the tokens that repositories were read with.
func (s *taskSources) close(ctx context.Context) {
	if s.files == nil {
		return
	}
	closing, done := context.WithTimeout(ctx, closeFor)
	defer done()
	if err := s.files.Close(closing); err != nil {
		s.log.WarnContext(ctx, "a token for reading a repository's task files is not revoked; it can do nothing else and dies within the hour", "error", err)
	}
}

// taskFiles lets the exchange read repositories without knowing GitHub.
type taskFiles struct{ reader *githubapp.TaskFiles }

func (t taskFiles) Of(ctx context.Context, asker, owner, repository string) (exchange.TaskFolder, error) {
	read, err := t.reader.Of(ctx, asker, owner, repository)
	var answer *githubapp.Error
	switch {
	case err == nil:
		return exchange.TaskFolder{
			Repository: policy.Repository{ID: read.RepositoryID, Owner: read.Owner, Name: read.Name},
			Files:      maps.Clone(read.Files), Version: read.Version,
		}, nil
	case errors.Is(err, githubapp.ErrNoTaskFiles):
		return exchange.TaskFolder{}, fmt.Errorf("%w: %w", exchange.ErrNoTasks, err)
	case errors.As(err, &answer) && !answer.Temporary():
		return exchange.TaskFolder{}, err
	}
	return exchange.TaskFolder{}, fmt.Errorf("%w: %w", exchange.ErrTasksAway, err)
}

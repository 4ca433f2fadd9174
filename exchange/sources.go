package exchange

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/stepkey/stepkey/exchange/identity"
	"github.com/stepkey/stepkey/exchange/lease"
	"github.com/stepkey/stepkey/exchange/policy"
)

// TaskFiles reads the task files that repositories keep themselves.
type TaskFiles interface {
	// Of returns what the repository of that name keeps, at most a minute ago. asker is
	// the owner of the workload that asks. An error that wraps ErrTasksAway says that
	// nobody can tell now, one that wraps ErrNoTasks that there are none to be used; any
	// other is why those that are there are refused.
	Of(ctx context.Context, asker, owner, repository string) (TaskFolder, error)
}

// A TaskFolder is what a repository keeps. Nobody changes it.
type TaskFolder struct {
	Repository policy.Repository
	Files      map[string][]byte
	Version    string // another where anything of the above is
}

var (
	// ErrTasksAway: the task files of a repository cannot be read now.
	ErrTasksAway = errors.New("the repository's task files cannot be read now")
	// ErrNoTasks: the repository keeps none, or none that are used here.
	ErrNoTasks = errors.New("the repository has no tasks here")
)

// TaskLeases finds what is held of tasks.
type TaskLeases interface {
	LivesOfTask(ctx context.Context, task string) ([]lease.Lease, error)
	LiveTasks(ctx context.Context) ([]string, error)
}

// RepositoryTasks are the tasks that the owners of repositories keep there, named
// owner/name:task. Safe for concurrent use.
type RepositoryTasks struct {
	// Issuer is the one whose workloads may ask for them. Nobody else causes a request.
	Issuer string
	// Owners are the repository_owner_id values of those who may ask.
	Owners []string
	Files  TaskFiles
	// Check is what the files of a repository are held against.
	Check func(policy.Repository) policy.Check

	mu   sync.Mutex
	read map[string]generation // by owner/name in lower case
}

// generation is what became of one version of a repository's files.
type generation struct {
	version string
	tasks   *policy.Own
	fault   error
	before  *policy.Own // the last good ones
}

// generationsKept is as many as a reader of files keeps; beyond that it starts anew.
const generationsKept = 1000

// tasks is one generation of tasks. A request takes one and keeps it.
type tasks interface {
	Authorize(identity.Workload, policy.Asked) (policy.Grant, error)
}

// tasksFor is where the task that is asked for stands: in the folder of the exchange, or
// in a repository.
func (x *Exchange) tasksFor(ctx context.Context, w identity.Workload, task string) (tasks, error) {
	owner, repository, own := policy.RepositoryOf(task)
	if !own {
		return x.Policy(), nil
	}
	unknown := &policy.UnknownTask{Task: task}
	asker, _ := w.Claims.Text("repository_owner_id")
	switch {
	case x.Owned == nil:
		return nil, fmt.Errorf("%w: this exchange reads no task files of repositories; its operators can set that up", unknown)
	case w.Issuer != x.Owned.Issuer || !slices.Contains(x.Owned.Owners, asker):
		return nil, fmt.Errorf("%w: task files of repositories are not read for this workload's owner", unknown)
	}
	folder, err := x.Owned.Files.Of(ctx, asker, owner, repository)
	switch {
	case errors.Is(err, ErrTasksAway):
		return nil, err
	case errors.Is(err, ErrNoTasks):
		x.EndTasks(ctx, x.Owned.forget(owner, repository))
		return nil, fmt.Errorf("%w: %w", unknown, err)
	case err != nil:
		return nil, &policy.Broken{Repository: owner + "/" + repository, Err: err}
	}
	found, gone := x.Owned.of(folder)
	x.EndTasks(ctx, gone)
	if found.fault != nil {
		return nil, found.fault
	}
	return found.tasks, nil
}

// of reads a version once, and lists the tasks that it does not have any more.
func (t *RepositoryTasks) of(folder TaskFolder) (now generation, gone []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	key := strings.ToLower(folder.Repository.String())
	last := t.read[key]
	if last.version == folder.Version {
		return last, nil
	}
	now = generation{version: folder.Version, before: last.before}
	now.tasks, now.fault = policy.LoadOwn(folder.Files, folder.Repository, t.Check(folder.Repository))
	if now.fault == nil {
		if last.before != nil {
			gone = last.before.Gone(now.tasks)
		}
		now.before = now.tasks
	}
	if t.read == nil || len(t.read) >= generationsKept {
		t.read = map[string]generation{}
	}
	t.read[key] = now
	return now, gone
}

// forget drops a repository that has no tasks any more, and lists those that it had.
func (t *RepositoryTasks) forget(owner, repository string) []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	key := strings.ToLower(owner + "/" + repository)
	had := t.read[key].before
	delete(t.read, key)
	if had == nil {
		return nil
	}
	return had.Names()
}

// endsAtOnce bounds how many leases of a task that is gone are ended at a time.
const endsAtOnce = 8

// EndTasks ends what is held of tasks that are no more. What cannot be ended is logged;
// it ends at its deadline.
func (x *Exchange) EndTasks(ctx context.Context, gone []string) {
	for _, task := range gone {
		held, err := x.Leases.LivesOfTask(ctx, task)
		for some := range slices.Chunk(held, endsAtOnce) {
			_, fault := x.endEach(ctx, some, lease.ByTaskGone)
			err = errors.Join(err, fault)
		}
		if len(held) > 0 || err != nil {
			x.Log.WarnContext(ctx, "a task is gone, and so is what was held of it", "task", task, "leases", len(held), "error", err)
		}
	}
}

// EndTasksWithout ends what is held of tasks that the folder of the exchange does not
// have: those that went while the exchange was down.
func (x *Exchange) EndTasksWithout(ctx context.Context, there *policy.Set) {
	names, err := x.Leases.LiveTasks(ctx)
	if err != nil {
		x.Log.ErrorContext(ctx, "cannot see whether leases are held of tasks that are gone", "error", err)
	}
	x.EndTasks(ctx, slices.DeleteFunc(names, func(task string) bool {
		_, _, own := policy.RepositoryOf(task)
		return own || there.Has(task)
	}))
}

package githubapp

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Of task files that are kept in repositories.
const (
	tasksFresh   = 30 * time.Second // as long they are used without asking
	tasksStale   = time.Minute      // as old they may be where GitHub does not answer
	tasksNone    = time.Minute      // as long nobody is asked again about what is not there
	tasksPause   = 5 * time.Second  // before GitHub is asked again that did not answer
	tasksTake    = 15 * time.Second // all requests for one repository
	tasksLeave   = 10               // one part in so many of an installation's rate limit
	maxFolders   = 1000             // repositories in the cache, those without tasks too
	maxStrangers = 60               // repositories not in the cache that one asker may name in a minute
	maxTaskFiles = 100
	maxTaskFile  = 256 << 10 // bytes; as internal/yamlfile reads
	maxFolder    = 1 << 20   // bytes of all files of one repository
)

// ErrNoTaskFiles: the repository keeps none, or there is no such repository, or it is
// not one whose task files are read. Which of these is in the error's words.
var ErrNoTaskFiles = errors.New("no task files")

// TaskFiles reads the task files that repositories keep in .github/stepkey on their
// default branch, each with a token for that one repository and contents: read alone,
// which is revoked on Close. Safe for concurrent use; it reads one repository once at a
// time, however many ask for it.
//
// What it read is used for 30 s without asking. Then GitHub is asked whether anything
// changed, which costs nothing of its rate limit where nothing did. Where it does not
// answer, what was read serves until it is a minute old, and then nothing does.
//
// When a tenth of an installation's rate limit is left, that is for what the tokens of
// tasks do. Until the limit is reset GitHub is asked only whether anything changed; what
// did change, and a repository that was not read before, has to wait.
type TaskFiles struct {
	app    *App
	owners []int64
	share  share

	mu      sync.Mutex
	folders map[string]*taskFolder // by owner/name in lower case
	asked   map[string]*asking     // by asker
	closed  bool
	closing sync.WaitGroup
}

// asking counts the repositories that one asker named and that were not known.
type asking struct {
	since time.Time
	count int
}

// A TaskFolder is what a repository keeps, as of one moment. Nobody changes it.
type TaskFolder struct {
	RepositoryID int64
	OwnerID      int64
	Owner, Name  string // as GitHub spells them
	Files        map[string][]byte
	Version      string // another where anything of the above is
}

// TaskFiles returns a reader of the task files of repositories of these owners, by
// their numeric ids. Close it.
func (a *App) TaskFiles(owners []string) (*TaskFiles, error) {
	t := &TaskFiles{app: a, share: share{app: a, part: tasksLeave}, folders: map[string]*taskFolder{}, asked: map[string]*asking{}}
	for _, owner := range owners {
		id, err := strconv.ParseInt(owner, 10, 64)
		if err != nil || id <= 0 {
			return nil, refuse("reading task files of repositories", "an owner's id is a positive number")
		}
		t.owners = append(t.owners, id)
	}
	return t, nil
}

// Of returns the task files of the repository that has this name now. asker is whoever
// is to be held to a rate of repositories that were not asked for before: few values,
// none that a request makes up.
//
// An error that wraps ErrNoTaskFiles or is not Temporary is an answer; after any other,
// later may help.
func (t *TaskFiles) Of(ctx context.Context, asker, owner, name string) (*TaskFolder, error) {
	if !ValidOwner(owner) || !ValidRepository(name) {
		return nil, fmt.Errorf("%w: that is no name of an owner and a repository on GitHub", ErrNoTaskFiles)
	}
	f, err := t.folder(asker, owner, name)
	if err != nil {
		return nil, err
	}
	select {
	case f.turn <- struct{}{}:
		defer func() { <-f.turn }()
	case <-ctx.Done():
		return nil, &Error{Doing: f.doing, cause: context.Cause(ctx)}
	}
	return f.now(ctx)
}

// folder finds or makes the place for a repository.
func (t *TaskFiles) folder(asker, owner, name string) (*taskFolder, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.app.now()
	if t.closed {
		return nil, refuse("reading task files", "this exchange is stopping")
	}
	key := strings.ToLower(owner + "/" + name)
	if f := t.folders[key]; f != nil {
		f.used = now
		return f, nil
	}
	if until, much := t.tooMuch(asker, now); much {
		return nil, &Error{Doing: "reading task files", RetryAt: until, cause: fmt.Errorf("more than %d repositories were asked for within a minute", maxStrangers)}
	}
	if len(t.folders) >= maxFolders {
		t.evict()
	}
	f := newTaskFolder(t, owner, name)
	f.used = now
	t.folders[key] = f
	return f, nil
}

// tooMuch counts a repository that is not known. A believed workload can name as many
// as it likes with one subject token, and each costs a request.
func (t *TaskFiles) tooMuch(asker string, now time.Time) (time.Time, bool) {
	a := t.asked[asker]
	if a == nil || !now.Before(a.since.Add(time.Minute)) {
		a = &asking{since: now}
		t.asked[asker] = a
	}
	a.count++
	return a.since.Add(time.Minute), a.count > maxStrangers
}

// evict makes room by a tenth, of what was not asked for the longest. The caller has mu.
func (t *TaskFiles) evict() {
	var all []string
	for key := range t.folders {
		all = append(all, key)
	}
	slices.SortFunc(all, func(a, b string) int { return cmp.Compare(t.folders[a].used.UnixNano(), t.folders[b].used.UnixNano()) })
	for _, key := range all[:maxFolders/10] {
		f := t.folders[key]
		delete(t.folders, key)
		t.closing.Go(func() {
			bounded, done := context.WithTimeout(context.Background(), tasksTake) // nobody waits for it but Close
			defer done()
			_ = f.token.close(bounded)
		})
	}
}

// Close revokes the tokens and reads no more.
func (t *TaskFiles) Close(ctx context.Context) error {
	t.mu.Lock()
	t.closed = true
	folders := t.folders
	t.folders = nil
	t.mu.Unlock()
	faults := make(chan error, len(folders))
	for _, f := range folders {
		go func() { faults <- f.token.close(ctx) }()
	}
	var all error
	for range folders {
		all = errors.Join(all, <-faults)
	}
	t.closing.Wait()
	return all
}
